"""Does a tile that tables serve fetch what comes next, where the hardware could not foresee it?"""

from __future__ import annotations

import re

import pytest

from pellucid.core.dtype import float32
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.product import define_product
from pellucid.engines.llvm.target import AVX2, AVX512, Isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.tile_choice import choose_tiling, fetched_rows
from pellucid.engines.llvm.tiling import (
    ProductSpec,
    Strides,
    Tables,
)

WIDE = [AVX512, AVX2]


def convolution(side: int, channels: int, features: int, along: int = 1) -> ProductSpec:
    """A 3x3 convolution of an image whose padding was copied in; k goes on by `along`."""
    line = (side + 2) * channels
    tables = Tables((side, side), (3, 3 * channels), (line, channels), (line, along))
    lhs, rhs, out = Strides((), 0, 0), Strides((), features, 1), Strides((), features, 1)
    depth = 9 * channels
    return ProductSpec(float32, (), side * side, features, depth, lhs, rhs, out, tables=tables)


def hot_loop(spec: ProductSpec, isa: Isa) -> list[str]:
    """The lines of assembly of the innermost loop."""
    module = Module(isa)
    define_product(module, "product", spec, choose_tiling(spec, isa))
    text = jit.assembly(module.text(), isa)
    blocks = [block.splitlines() for block in re.split(r"^\S+:.*$", text, flags=re.MULTILINE)]
    return max(blocks, key=lambda lines: sum("vfmadd" in line for line in lines))


def fetches(spec: ProductSpec, isa: Isa) -> int:
    return sum("prefetch" in line for line in hot_loop(spec, isa))


@pytest.mark.parametrize("isa", WIDE, ids=["avx512", "avx2"])
def test_a_tile_fetches_a_line_of_the_next_rows_and_of_the_next_panel(isa):
    assert fetches(convolution(7, 32, 96), isa) == 2


@pytest.mark.parametrize("isa", WIDE, ids=["avx512", "avx2"])
def test_rows_are_not_fetched_where_k_does_not_run_along_memory(isa):
    assert fetches(convolution(7, 32, 96, along=64), isa) == 1


def test_rows_go_to_the_cache_that_can_hold_a_line_of_each():
    # 14 rows of two tiles: 512 channels are two lines in 4 KiB, which are 16 places of the nearest.
    levels = {64: 1, 256: 1, 512: 2, 1024: 2}
    for channels, level in levels.items():
        spec = convolution(14, channels, 64)
        assert fetched_rows(spec, choose_tiling(spec, AVX512)) == level


@pytest.mark.parametrize("side", [5, 7, 9, 11])
def test_tiles_of_few_short_lines_have_few_rows_too_many(side):
    rows, places = choose_tiling(convolution(side, 64, 64), AVX512).rows, side * side
    assert -places % rows <= 3
