"""Is a single row the row of many, bit for bit, and is rhs read in the lines memory likes?"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pellucid.core.dtype import float32
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.product import define_product
from pellucid.engines.llvm.target import AVX2, AVX512, Isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.tile_choice import choose_tiling
from pellucid.engines.llvm.tiling import ProductSpec, Strides, Tiling, static_cut
from pellucid.ops.contract import dot_general
from tests.engines.kernels import graph_of, run_graph
from tests.engines.llvm.test_product import (
    FEW,
    HERE,
    HOST,
    before_a_wall,
    contract,
    hot_loop,
    laid_out,
    multiply,
    random,
    same,
    spec_of,
)

DTYPES = ["float32", "float64", "int32", "uint64"]


def numbers(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    """Random numbers of a dtype; whole ones wrap when they are multiplied."""
    if dtype.startswith("float"):
        return random(shape, np.dtype(dtype), seed)
    return np.random.default_rng(seed).integers(0, 2**31, shape).astype(dtype)


def product(k: int, n: int, m: int = 1, along: str = "n") -> ProductSpec:
    """A product of dense operands in float32; rows of rhs lie along n, or its columns along k."""
    rhs = Strides((), n, 1) if along == "n" else Strides((), 1, k)
    return ProductSpec(float32, (), m, n, k, Strides((), k, 1), rhs, Strides((), n, 1))


def assembly(spec: ProductSpec, isa: Isa) -> list[str]:
    """The innermost loop of a product; it can be made for machines that this one is not."""
    module = Module(isa)
    define_product(module, "product", spec, choose_tiling(spec, isa))
    return hot_loop(jit.assembly(module.text(), isa))


@pytest.mark.parametrize("isa", FEW, ids=lambda isa: isa.name)
@pytest.mark.parametrize("layouts", ["NN", "SN", "NT", "ST"])
@pytest.mark.parametrize("shape", [(300, 7), (1000, 530), (515, 8), (48, 45), (2080, 0)], ids=str)
def test_each_result_is_the_chain_of_the_contract(shape: Any, layouts: str, isa: Isa) -> None:
    n, k = shape
    lhs, rhs = random((1, k)), random((k, n), seed=1)
    strided = laid_out(lhs, layouts[0]), laid_out(rhs, layouts[1])
    same(multiply(*strided, isa), contract(lhs, rhs, isa.fused))


@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["N", "T"])
def test_a_row_alone_has_the_bits_of_a_row_among_others(layout: str, dtype: str, isa: Isa) -> None:
    lhs, rhs = numbers((2, 550), dtype, 0), numbers((550, 301), dtype, 1)
    alone = multiply(lhs[1:], laid_out(rhs, layout), isa)
    same(alone, multiply(lhs, rhs, isa)[1:])


@pytest.mark.parametrize("along", ["n", "k"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 600, 2501), (1, 1024, 700), (130, 1024, 100)])
def test_any_number_of_threads_gives_the_chain(m: int, k: int, n: int, along: str) -> None:
    lhs, rhs = random((m, k)), random((k, n), seed=1)
    lies = rhs if along == "n" else np.ascontiguousarray(rhs.T)
    pair = {"contract": ((1,), (0 if along == "n" else 1,)), "batch": ((), ())}
    kinds = [(float32, lhs.shape), (float32, lies.shape)]
    graph = graph_of(kinds, lambda x, y: dot_general(x, y, **pair))
    expected = contract(lhs, rhs, HOST.fused)
    for threads in (1, 2, 3):
        (found,) = run_graph(graph, (lhs, lies), threads=threads)
        same(found, expected)


def test_batches_of_rows() -> None:
    lhs, rhs = random((3, 1, 40)), random((3, 40, 290), seed=1)
    expected = contract(lhs, rhs, HOST.fused)
    same(multiply(lhs, rhs), expected)
    same(multiply(lhs, laid_out(rhs, "T")), expected)


@pytest.mark.parametrize("vectors", [1, 3, 40])
@pytest.mark.parametrize("ahead", [0, 8])
def test_neither_lines_nor_fetching_ahead_change_a_bit(vectors: int, ahead: int) -> None:
    lhs, rhs = random((1, 600)), random((600, 611), seed=1)
    chosen = choose_tiling(spec_of(lhs, rhs, np.empty((1, 611), np.float32)), HOST)
    assert chosen.streamed
    tiling = replace(chosen, vectors=vectors, ahead=ahead, group=1)
    same(multiply(lhs, rhs, tiling=tiling), multiply(lhs, rhs))


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect as Linux has it")
@pytest.mark.parametrize("layout", ["N", "T"])
@pytest.mark.parametrize("shape", [(261, 9), (272, 33), (289, 16)], ids=str)
def test_nothing_beyond_the_operands_is_read(shape: tuple[int, int], layout: str) -> None:
    n, k = shape
    lhs, rhs = random((1, k)), random((k, n), seed=1)
    expected = multiply(lhs, rhs)
    walled = before_a_wall(rhs.T).T if layout == "T" else before_a_wall(rhs)
    same(multiply(before_a_wall(lhs), walled, out=before_a_wall(expected * 0)), expected)


def test_a_wide_row_is_summed_in_memory_and_a_narrow_one_in_registers() -> None:
    assert choose_tiling(product(512, 512), AVX512).streamed
    assert not choose_tiling(product(512, 256), AVX512).streamed
    assert not choose_tiling(product(512, 512, m=2), AVX512).streamed


def test_a_row_that_is_streamed_asks_for_no_room_to_pack_rhs() -> None:
    spec = product(4096, 4096)
    made = static_cut(spec, choose_tiling(spec, AVX512))
    assert made.scratch_bytes <= 4 * 4096


def test_rows_from_far_are_fetched_ahead() -> None:
    near, far = (choose_tiling(product(side, side), AVX512) for side in (512, 8192))
    assert far.ahead
    assert not near.ahead


@pytest.mark.parametrize("isa", [AVX512, AVX2], ids=lambda isa: isa.name)
def test_eight_rows_share_a_load_and_a_store_of_each_sum(isa: Isa) -> None:
    lines = assembly(product(1024, 1024), isa)
    assert sum("vfmadd" in line for line in lines) == 8
    assert sum("vmovup" in line and line.endswith(")") for line in lines) == 1


@pytest.mark.parametrize(("isa", "steps"), [(AVX512, 16), (AVX2, 16)], ids=["avx512", "avx2"])
def test_columns_along_k_are_turned_in_registers(isa: Isa, steps: int) -> None:
    lines = assembly(product(512, 1024, along="k"), isa)
    assert sum("vfmadd" in line for line in lines) == steps
    assert not any("%rsp" in line for line in lines)


@pytest.mark.parametrize("n", [10, 20, 50, 100, 200])
@pytest.mark.parametrize("k", [256, 512, 1024, 1536, 4096])
@pytest.mark.parametrize("isa", [AVX512, AVX2], ids=lambda isa: isa.name)
def test_a_tile_has_no_more_rows_than_the_nearest_cache_holds_lines_of(
    isa: Isa, k: int, n: int
) -> None:
    tiling = choose_tiling(product(k, n, m=128), isa)
    assert not tiling.pack_lhs
    # 64 sets of 8 lines of 64 bytes: a row's place in each set, for a line at any k.
    sets = [4 * k * row // 64 % 64 for row in range(tiling.rows)]
    assert max(map(sets.count, sets)) <= 8


@pytest.mark.parametrize("isa", [AVX512, AVX2], ids=lambda isa: isa.name)
@pytest.mark.parametrize("n", [10, 32, 48, 64, 100])
def test_sums_of_a_low_tile_stay_in_registers(n: int, isa: Isa) -> None:
    spec = product(1024, n, m=128)
    tiling = choose_tiling(spec, isa)
    lines = assembly(spec, isa)
    assert sum("vfmadd" in line for line in lines) == tiling.rows * tiling.vectors
    assert not any("mm" in line and "%rsp" in line for line in lines)


def test_low_tiles_change_no_bit() -> None:
    lhs, rhs = random((37, 1024)), random((1024, 100), seed=1)
    expected = contract(lhs, rhs, HOST.fused)
    same(multiply(lhs, rhs), expected)
    even = Tiling(5, 1, HOST.lanes(32), False, False, True, 2, 2)
    same(multiply(lhs, np.ascontiguousarray(rhs), tiling=even), expected)
