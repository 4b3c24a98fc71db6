"""Every scalar op on every dtype it takes gives the reference's numbers, also at the edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import DTYPES, FLOATING, INTEGERS, NUMERIC, DType, bool_, integer_range
from pellucid.engines.llvm.elementwise import supports
from pellucid.engines.llvm.target import AVX2, SSE2, Isa
from pellucid.ir.graph import Value
from pellucid.ops import elementwise as ops
from pellucid.ops.control import evaluate
from pellucid.ops.define import REGISTRY
from tests.engines.kernels import assert_close, graph_of, run_graph

Array = NDArray[Any]
ISAS = pytest.mark.parametrize("isa", [AVX2, SSE2], ids=lambda isa: isa.name)


def edges(dtype: DType) -> Array:
    """Values where ops go wrong, and some ordinary ones."""
    if dtype is bool_:
        return np.array([False, True, True, False, True])
    if dtype.is_integer:
        low, high = integer_range(dtype)
        values = [0, 1, 2, 3, 7, 100, low, high, high - 1, low + 1, high // 2]
        return np.array(values, dtype.numpy)
    info = np.finfo(np.float32) if dtype.bits == 16 else np.finfo(dtype.numpy)
    tiny, huge = (6e-8, 6e4) if dtype.bits == 16 else (float(info.tiny) / 4, float(info.max))
    values = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.7, 100.3, tiny, -tiny, huge, -huge]
    return np.array([*values, np.inf, -np.inf, np.nan], np.float64).astype(dtype.numpy)


def pairs(dtype: DType) -> tuple[Array, Array]:
    """Every edge with every edge."""
    values = edges(dtype)
    lhs, rhs = (grid.ravel() for grid in np.meshgrid(values, values))
    return np.ascontiguousarray(lhs), np.ascontiguousarray(rhs)


def compare(
    dtypes: tuple[DType, ...],
    arrays: tuple[Array, ...],
    build: Callable[..., Value | list[Value]],
    isa: Isa,
) -> None:
    graph = graph_of([(d, a.shape) for d, a in zip(dtypes, arrays, strict=True)], build)
    expected = evaluate(graph, arrays)
    found = run_graph(graph, arrays, isa)
    for mine, right, value in zip(found, expected, graph.outputs, strict=True):
        assert_close(mine, right, value.dtype)
        if value.dtype.is_floating:
            zero = (right.astype(np.float64) == 0) & (mine.astype(np.float64) == 0)
            signs = np.signbit(mine.astype(np.float64)) == np.signbit(right.astype(np.float64))
            assert signs[zero].all(), "a zero has the wrong sign"


@ISAS
@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_arithmetic_and_comparisons_agree_with_the_reference(dtype: DType, isa: Isa) -> None:
    def build(lhs: Value, rhs: Value) -> list[Value]:
        binary = [ops.add, ops.sub, ops.mul, *([ops.div] if dtype.is_floating else [])]
        compared = [ops.equal, ops.not_equal, ops.less, ops.less_equal]
        unary = [ops.neg(lhs), ops.abs_(lhs), ops.select(ops.less(lhs, rhs), lhs, rhs)]
        return [*(op(lhs, rhs) for op in (*binary, *compared)), *unary]

    compare((dtype, dtype), pairs(dtype), build, isa)


@ISAS
@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_maximum_and_minimum_hand_on_nan(dtype: DType, isa: Isa) -> None:
    lhs, rhs = pairs(dtype)
    # Of two zeros of different sign either may be the larger one.
    keep = ~((lhs == 0) & (rhs == 0))
    compare(
        (dtype, dtype),
        (lhs[keep], rhs[keep]),
        lambda a, b: [ops.maximum(a, b), ops.minimum(a, b)],
        isa,
    )


@ISAS
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_functions_agree_with_the_reference(dtype: DType, isa: Isa) -> None:
    values = edges(dtype)
    compare(
        (dtype,),
        (np.concatenate([values, np.linspace(-9, 9, 50).astype(dtype.numpy)]),),
        lambda x: [ops.sqrt(x), ops.exp(x), ops.log(x), ops.tanh(x)],
        isa,
    )


@ISAS
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_bits_and_shifts_agree_with_the_reference(dtype: DType, isa: Isa) -> None:
    compare(
        (dtype, dtype),
        pairs(dtype),
        lambda a, b: [
            ops.bit_and(a, b),
            ops.bit_or(a, b),
            ops.bit_xor(a, b),
            ops.shift_right(a, b),
        ],
        isa,
    )


@ISAS
def test_logic_agrees_with_the_reference(isa: Isa) -> None:
    compare(
        (bool_, bool_),
        pairs(bool_),
        lambda a, b: [
            *(op(a, b) for op in (ops.logical_and, ops.logical_or, ops.equal, ops.not_equal)),
            ops.logical_not(a),
            ops.select(a, b, a),
        ],
        isa,
    )


@ISAS
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts_agree_with_the_reference(source: DType, isa: Isa) -> None:
    values = edges(source)
    if source.is_floating:
        near = np.array([126.6, 127.5, 128.0, 255.5, 32767.9, -128.9, 2.0**31, -(2.0**31), 2.0**63])
        with np.errstate(over="ignore"):
            values = np.concatenate([values, near.astype(source.numpy)])
    targets = [dtype for dtype in DTYPES if dtype is not source]
    compare((source,), (values,), lambda x: [ops.cast(x, dtype=dtype) for dtype in targets], isa)


def test_float64_is_rounded_to_16_bits_once() -> None:
    # Just above the middle between two bfloat16 numbers, but below what float32 can tell from it.
    values = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8, 1 + 2.0**-8 - 2.0**-40])
    compare((DTYPES[-1],), (values,), lambda x: [ops.cast(x, dtype=d) for d in FLOATING[:2]], AVX2)
    graph = graph_of([(DTYPES[-1], (3,))], lambda x: ops.cast(x, dtype=FLOATING[1]))
    (found,) = run_graph(graph, (values,), AVX2)
    assert found.astype(np.float64).tolist() == [1 + 2.0**-7, 1.0, 1.0]


def test_every_elementwise_card_has_its_instruction() -> None:
    names = [name for name, op in REGISTRY.items() if op.kind == "elementwise"]
    assert [name for name in names if not supports(name)] == ["stop_gradient"]
