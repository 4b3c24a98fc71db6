"""Does a tile fetch what comes next, where the hardware could not foresee it?"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pellucid.core.dtype import DType, bfloat16, float32, int8
from pellucid.core.machine import cache_bytes
from pellucid.engines.cpu.rules import realise
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.product import define_product
from pellucid.engines.llvm.target import AVX2, AVX512, Isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.tile_choice import choose_tiling, fetched_rows
from pellucid.engines.llvm.tiling import (
    ProductSpec,
    Strides,
    Tables,
    Tiling,
    chunk_length,
    static_cut,
)
from pellucid.ops.contract import dot_general
from tests.engines.kernels import graph_of
from tests.engines.llvm.test_product import HERE, KERNEL, multiply, scratch_code, spec_of

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


def product(m: int, k: int, n: int, dtype: DType = float32) -> ProductSpec:
    lhs, rhs, out = Strides((), k, 1), Strides((), n, 1), Strides((), n, 1)
    return ProductSpec(dtype, (), m, n, k, lhs, rhs, out)


@pytest.mark.parametrize("isa", WIDE, ids=["avx512", "avx2"])
def test_tiles_fetch_what_is_packed_next_a_line_for_each_k(isa: Isa) -> None:
    assert choose_tiling(product(256, 1000, 1000), isa).pack_rhs
    assert fetches(product(256, 1000, 1000), isa) == 1
    assert fetches(product(256, 1000, 100), isa) == 0


NOTE = """
define internal void @note(ptr %p) {{
  %address = ptrtoint ptr %p to i64
  %at = sub i64 %address, {base}
  %inside = icmp ult i64 %at, {size}
  br i1 %inside, label %yes, label %no
yes:
  %table = inttoptr i64 {noted} to ptr
  %place = getelementptr i8, ptr %table, i64 %at
  store i8 1, ptr %place
  br label %no
no:
  ret void
}}
"""


def lines_fetched(isa: Isa, tiling: Tiling, lhs: Any, rhs: Any, out: Any) -> Any:
    """Which lines of rhs a product asks for: each prefetch is made to note where it points."""
    spec = spec_of(lhs, rhs, out)
    one = replace(tiling, block=-(-lhs.shape[0] // tiling.rows), group=rhs.shape[1])
    made, noted = static_cut(spec, one), np.zeros(rhs.nbytes, np.uint8)
    module = Module(isa)
    define_product(module, "product", spec, one)
    text = re.sub(r"@llvm\.prefetch\.p0\((ptr %\w+), [^)]*\)\n", r"@note(\1)\n", module.text())
    text += NOTE.format(base=rhs.ctypes.data, size=rhs.nbytes, noted=noted.ctypes.data)
    code = jit.load(jit.compile_text(text, isa), ["product"])
    scratch = np.zeros(made.scratch_bytes + 64, np.uint8)
    aligned = scratch.ctypes.data + -scratch.ctypes.data % 64
    context = np.array([scratch_code(isa)["scratch"], aligned, 0], np.int64)
    pointers = np.array([array.ctypes.data for array in (lhs, rhs, out)], np.int64)
    assert made.tasks == 1
    KERNEL(code["product"])(pointers.ctypes.data, None, 0, 1, context.ctypes.data)
    return noted.reshape(rhs.shape[0], -1, 64).any(-1)


@pytest.mark.parametrize("dtype", [float32, int8, bfloat16], ids=str)
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_all_that_is_packed_later_is_fetched_before(isa: Isa, dtype: DType) -> None:
    # Rows of rhs are far apart; there are tiles enough to fetch each of their lines.
    memory = np.zeros(700 * 1024 * dtype.bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    rhs = memory[start : start + 700 * 1024 * dtype.bytes].view(dtype.numpy).reshape(700, 1024)
    lhs, out = np.ones((140, 700), dtype.numpy), np.zeros((140, 1024), dtype.numpy)
    tiling = choose_tiling(spec_of(lhs, rhs, out), isa)
    assert tiling.fetched
    left = ~lines_fetched(isa, tiling, lhs, rhs, out)
    # Before the very first panels nothing is at work.
    first = -(-tiling.slab * tiling.columns * dtype.bytes // 64)
    left[: chunk_length(700, tiling.chain), :first] = False
    assert not left.any()


@pytest.mark.parametrize("dtype", [float32, int8, bfloat16], ids=str)
def test_fetching_changes_no_bit(dtype: DType) -> None:
    rng = np.random.default_rng(0)
    lhs, rhs = (rng.integers(-9, 9, s).astype(dtype.numpy) for s in ((40, 1030), (1030, 600)))
    tiling = choose_tiling(spec_of(lhs, rhs, np.empty((40, 600), dtype.numpy)), HERE[0])
    found = [
        multiply(lhs, rhs, tiling=replace(tiling, pack_rhs=True, fetched=fetched, ahead=0))
        for fetched in (False, True)
    ]
    np.testing.assert_array_equal(*(one.view(np.uint8) for one in found))


def asks_for_results(m: int, k: int, n: int) -> bool:
    """Whether the kernel of a product asks for the lines that it writes."""
    pair = {"contract": ((1,), (0,)), "batch": ((), ())}
    kinds = [(float32, (m, k)), (float32, (k, n))]
    graph = graph_of(kinds, lambda x, y: dot_general(x, y, **pair))
    (call,) = realise(graph.nodes[0], AVX512).calls
    return "i32 1, i32 3, i32 1)" in call.text(AVX512)


def test_results_larger_than_a_core_holds_are_asked_for_while_their_tile_is_at_work() -> None:
    many = 2 * cache_bytes(2) // (4 * 256)
    assert asks_for_results(many, 512, 256)
    assert not asks_for_results(64, 512, 256)
    # Tiles over few k's have no time for it.
    assert not asks_for_results(many, 16, 256)
