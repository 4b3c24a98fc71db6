"""Is an operand whose k's lie folded read where it lies, with the bits of the plain product?"""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.dtype import DType, bfloat16, float32, int8, int16, int32, uint8
from pellucid.engines.cpu.rules import realise_graph
from pellucid.engines.llvm.folded import fold_in_memory
from pellucid.engines.llvm.target import ISAS, Isa, host_isa
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.ir.graph import Graph, Value
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add
from pellucid.ops.movement import reshape
from pellucid.ops.parts import slice
from tests.engines.kernels import Array, data, graph_of, run_graph

HOST = host_isa()
HERE = ISAS[ISAS.index(HOST) :]
FOLDS = [(bfloat16, 2), (int16, 2), (int8, 4), (uint8, 4)]
NARROW = pytest.mark.parametrize(("dtype", "fold"), FOLDS, ids=lambda one: str(one))
WIDE = {bfloat16: float32, int16: int32, int8: int32, uint8: int32}
NONE = ((), ())


def plain(dtype: DType, m: int, k: int, n: int) -> Graph:
    """x (m, k) times w (k, n)."""
    kinds = [(dtype, (m, k)), (dtype, (k, n))]
    pairs = ((1,), (0,))
    return graph_of(
        kinds, lambda x, w: dot_general(x, w, contract=pairs, batch=NONE, dtype=WIDE[dtype])
    )


def folded(dtype: DType, fold: int, m: int, k: int, n: int, first: bool = False) -> Graph:
    """The same of x and w as (k / fold, n, fold); or w times x, if w comes first."""
    kinds = [(dtype, (m, k)), (dtype, (k // fold, n, fold))]

    def build(x: Value, w: Value) -> Value:
        cut, wide = reshape(x, shape=(m, k // fold, fold)), WIDE[dtype]
        pairs = ((1, 2), (0, 2))
        if first:
            return dot_general(w, cut, contract=pairs[::-1], batch=NONE, dtype=wide)
        return dot_general(cut, w, contract=pairs, batch=NONE, dtype=wide)

    return graph_of(kinds, build)


def operands(dtype: DType, fold: int, m: int, k: int, n: int) -> tuple[Array, Array, Array]:
    """x, w, and w folded."""
    x, w = data([(dtype, (m, k)), (dtype, (k, n))])
    if dtype in (int8, uint8):
        x.flat[:3], w.flat[:3] = (-128, -128) if dtype is int8 else (255, 255)
    return x, w, np.ascontiguousarray(w.reshape(k // fold, fold, n).transpose(0, 2, 1))


def assert_folding_changes_nothing(isa: Isa, dtype: DType, fold: int, m: int, k: int, n: int):
    x, w, laid = operands(dtype, fold, m, k, n)
    (wanted,) = run_graph(plain(dtype, m, k, n), (x, w), isa)
    for threads in (1, 2, 3):
        (found,) = run_graph(folded(dtype, fold, m, k, n), (x, laid), isa, threads)
        assert found.tobytes() == wanted.tobytes(), threads


# 2104 k's are several chunks of each dtype, and 301 columns whole panels and a part of one.


@NARROW
@pytest.mark.parametrize("rows", [1, 3, 8, 32])
def test_few_rows_have_the_bits_of_the_plain_product(dtype: DType, fold: int, rows: int) -> None:
    assert_folding_changes_nothing(HOST, dtype, fold, rows, 2104, 301)


@NARROW
@pytest.mark.parametrize("isa", HERE[1:], ids=lambda isa: isa.name)
def test_so_have_other_instruction_sets_that_may_not_fold(
    dtype: DType, fold: int, isa: Isa
) -> None:
    assert_folding_changes_nothing(isa, dtype, fold, 3, 136, 61)


@NARROW
@pytest.mark.parametrize(("k", "n"), [(8, 3), (4, 64), (520, 1), (64, 16)])
def test_small_and_whole_panels_too(dtype: DType, fold: int, k: int, n: int) -> None:
    assert_folding_changes_nothing(HOST, dtype, fold, 5, k, n)


@NARROW
def test_the_folded_operand_may_come_first(dtype: DType, fold: int) -> None:
    for m in (1, 5):
        x, w, laid = operands(dtype, fold, m, 136, 61)
        (wanted,) = run_graph(plain(dtype, m, 136, 61), (x, w))
        (found,) = run_graph(folded(dtype, fold, m, 136, 61, first=True), (x, laid))
        assert found.T.tobytes() == wanted.tobytes()


@NARROW
def test_columns_in_two_axes_and_a_turned_lhs(dtype: DType, fold: int) -> None:
    x, w, laid = operands(dtype, fold, 3, 64, 96)
    wide, pairs = WIDE[dtype], ((0, 1), (0, 3))

    def build(x: Value, w: Value, bias: Value) -> Value:
        cut = reshape(x, shape=(64 // fold, fold, 3))
        return add(dot_general(cut, w, contract=pairs, batch=NONE, dtype=wide), bias)

    kinds = [(dtype, (64, 3)), (dtype, (64 // fold, 4, 24, fold)), (wide, (3, 4, 24))]
    bias = np.zeros((3, 4, 24), wide.numpy)
    arrays = (x.T, laid.reshape(64 // fold, 4, 24, fold), bias)
    (found,) = run_graph(graph_of(kinds, build), arrays)
    (wanted,) = run_graph(plain(dtype, 3, 64, 96), (x, w))
    np.testing.assert_array_equal(found.reshape(3, 96), wanted)


@NARROW
def test_every_other_column(dtype: DType, fold: int) -> None:
    x, w, laid = operands(dtype, fold, 3, 64, 100)
    wide, pairs, stop = WIDE[dtype], ((1, 2), (0, 2)), (64 // fold, 100, fold)

    def build(x: Value, w: Value) -> Value:
        cut = reshape(x, shape=(3, 64 // fold, fold))
        seen = slice(w, start=(0, 0, 0), stop=stop, strides=(1, 2, 1))
        return dot_general(cut, seen, contract=pairs, batch=NONE, dtype=wide)

    kinds = [(dtype, (3, 64)), (dtype, stop)]
    (found,) = run_graph(graph_of(kinds, build), (x, laid))
    (wanted,) = run_graph(plain(dtype, 3, 64, 50), (x, w[:, ::2]))
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
@NARROW
def test_nothing_is_copied_where_the_machine_folds_so(dtype: DType, fold: int, isa: Isa) -> None:
    calls = realise_graph(folded(dtype, fold, 4, 64, 96), isa).calls
    assert len(calls) == (1 if fold_in_memory(dtype, isa) == fold else 2)


def test_the_text_of_its_loops_says_how_it_lies() -> None:
    (call,) = realise_graph(folded(int16, 2, 4, 64, 96), HOST).calls
    text = print_kernel(call.kernel)
    assert "k0 < 32, k1 < 2 of lhs[64*i + 2*k0 + k1] * rhs[192*k0 + 2*j + k1]" in text
    assert parse_kernel(text) == call.kernel
