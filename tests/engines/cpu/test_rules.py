"""Kernels mean what the cards say, in the order that the bit contract states, on any schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import pytest

from pellucid.core.dtype import (
    DTYPES,
    NUMERIC,
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
    uint32,
    uint64,
)
from pellucid.core.error import OpShapeError, UnsupportedOpError
from pellucid.core.shape import sym
from pellucid.core.source import Source
from pellucid.engines.cpu.rules import UNSUPPORTED, body_of, realise, realise_graph, supported_ops
from pellucid.engines.llvm.jit import assembly
from pellucid.engines.llvm.target import AVX2, AVX512, SSE2, host_isa
from pellucid.engines.loops.draft import sizes_of
from pellucid.engines.loops.text import print_kernel
from pellucid.ir.graph import Node, TensorType, Value
from pellucid.ops.contract import dot_general
from pellucid.ops.control import evaluate
from pellucid.ops.define import REGISTRY
from pellucid.ops.elementwise import (
    add,
    cast,
    div,
    equal,
    exp,
    less,
    log,
    maximum,
    mul,
    neg,
    select,
    shift_right,
    sqrt,
    stop_gradient,
    sub,
    tanh,
)
from pellucid.ops.movement import broadcast, constant_array, full, iota, reshape, transpose
from pellucid.ops.random import random_bits
from pellucid.ops.reduce import max_, sum_
from tests.engines.cpu.orders import ordered_sum
from tests.engines.kernels import Kind, check, data, graph_of, run_graph

BOTH = (AVX512, AVX2, SSE2) if host_isa().vector_bits == 512 else (AVX2, SSE2)
"""Both classes of bits, the first with each width of vectors that this machine has."""

NARROW = replace(AVX2, vector_bits=128)
"""The instructions of AVX2 in vectors of half the width: other code, the same bits."""

SHAPES = [(), (1,), (3,), (64,), (1001,), (3, 5), (2, 3, 4), (1, 7, 1, 9), (2, 2, 3, 2, 2, 3)]

Build = Callable[..., Value | Sequence[Value]]


def ids(value: object) -> str:
    return str(value) if isinstance(value, DType) else "x".join(map(str, value))  # type: ignore[call-overload]


# The table.


def test_every_op_has_a_rule_or_a_reason() -> None:
    assert supported_ops() | set(UNSUPPORTED) == set(REGISTRY)
    assert not supported_ops() & set(UNSUPPORTED)


def test_an_unknown_op_is_an_error_with_the_user_s_line() -> None:
    class Strange:
        name = "strange"

        def result_types(self, operands: object, attrs: object) -> tuple[TensorType]:
            return (TensorType(float32, (2,)),)

    source = Source("model.py", 41)
    graph = graph_of([(float32, (2,))], neg)
    node = replace(graph.nodes[0], op=Strange(), source=source)
    odd = replace(graph, nodes=(node,), outputs=(Value(node.types[0], node),))
    with pytest.raises(UnsupportedOpError, match=r"strange.*cpu(.|\n)*model.py:41"):
        realise_graph(odd, AVX2)


def test_an_unknown_size_is_an_error() -> None:
    graph = graph_of([(float32, (sym("n"),))], neg)  # type: ignore[list-item]
    with pytest.raises(OpShapeError, match="n"):
        realise_graph(graph, AVX2)


def test_a_node_s_body_is_its_op_alone() -> None:
    graph = graph_of([(float32, (3,)), (float32, (3,))], lambda x, y: add(mul(x, y), y))
    node: Node = graph.nodes[1]
    assert [inner.op.name for inner in body_of(node).nodes] == ["add"]
    assert len(realise(node, AVX2).calls) == 1


# Elementwise.


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_elementwise_chains_of_any_rank_agree_with_the_reference(shape: tuple[int, ...]) -> None:
    def build(x: Value, y: Value) -> list[Value]:
        return [tanh(add(mul(x, y), x)), select(less(x, y), exp(x), neg(y)), less(x, y)]

    check([(float32, shape)] * 2, build, BOTH, slack=4)


@pytest.mark.parametrize("dtype", NUMERIC, ids=ids)
@pytest.mark.parametrize("size", [7, 333])
def test_every_dtype_adds_a_row_to_a_matrix(dtype: DType, size: int) -> None:
    def build(x: Value, row: Value) -> list[Value]:
        wide = broadcast(row, shape=(5, size), axes=(1,))
        return [add(x, wide), maximum(x, wide), equal(x, wide)]

    check([(dtype, (5, size)), (dtype, (size,))], build, BOTH)


def test_bools_are_bytes_of_0_and_1() -> None:
    graph = graph_of([(bool_, (77,))], lambda x: select(x, x, x))
    (found,) = run_graph(graph, data([(bool_, (77,))]))
    assert set(found.view(np.uint8).tolist()) == {0, 1}


def test_a_million_elements_on_many_threads() -> None:
    kinds: list[Kind] = [(float32, (1_000_003,))] * 2
    graph, arrays = graph_of(kinds, lambda x, y: add(mul(x, y), y)), data(kinds)
    bits = {run_graph(graph, arrays, AVX2, threads)[0].tobytes() for threads in (1, 2, 3, 5)}
    assert bits == {(arrays[0] * arrays[1] + arrays[1]).tobytes()}


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)], ids=ids)
def test_nothing_runs_for_an_empty_result(shape: tuple[int, ...]) -> None:
    graph = graph_of([(float32, shape)], exp)
    assert realise_graph(graph, AVX2).calls == ()


def test_16_bit_floats_are_rounded_after_every_op_of_a_fusion() -> None:
    x, y = data([(float16, (500,))] * 2)
    graph = graph_of([(float16, (500,))] * 2, lambda a, b: sub(add(mul(a, b), a), b))
    (found,) = run_graph(graph, (x, y))
    step = (x.astype(np.float32) * y).astype(np.float16)
    step = (step.astype(np.float32) + x).astype(np.float16)
    np.testing.assert_array_equal(found, (step.astype(np.float32) - y).astype(np.float16))


def test_products_and_sums_are_never_fused_into_one_rounding() -> None:
    x, y, z = data([(float32, (4000,))] * 3)
    graph = graph_of([(float32, (4000,))] * 3, lambda a, b, c: add(mul(a, b), c))
    (found,) = run_graph(graph, (x, y, z))
    np.testing.assert_array_equal(found, x * y + z)


# Movement, constants, random bits.


MOVED: dict[str, tuple[list[Kind], Build]] = {
    "transpose": ([(float32, (33, 70))], lambda x: neg(transpose(x, permutation=(1, 0)))),
    "permute": ([(int8, (3, 5, 7, 2))], lambda x: transpose(x, permutation=(2, 0, 3, 1))),
    "rows and columns": (
        [(float32, (9,)), (float32, (11,))],
        lambda x, y: add(
            broadcast(x, shape=(9, 11), axes=(0,)), broadcast(y, shape=(9, 11), axes=(1,))
        ),
    ),
    "stretch": (
        [(float32, (4, 1, 6))],
        lambda x: exp(broadcast(x, shape=(4, 5, 6), axes=(0, 1, 2))),
    ),
    "reshape": ([(float32, (40, 60))], lambda x: neg(reshape(x, shape=(50, 48)))),
    "reshape split": (
        [(float32, (60, 40))],
        lambda x: neg(reshape(transpose(x, permutation=(1, 0)), shape=(80, 30))),
    ),
    "reshape divided": (
        [(float64, (60, 40))],
        lambda x: neg(reshape(transpose(x, permutation=(1, 0)), shape=(48, 50))),
    ),
    "outer loop short": (
        [(float32, (2, 5000)), (float32, (2,))],
        lambda x, y: add(x, broadcast(y, shape=(2, 5000), axes=(0,))),
    ),
    "iota": ([(float32, (30, 50))], lambda x: add(x, iota(dtype=float32, shape=(30, 50), axis=1))),
    "iota of a row": ([], lambda: iota(dtype=int64, shape=(30, 50), axis=0)),
    "small iota": ([], lambda: iota(dtype=uint8, shape=(300,), axis=0)),
    "array": (
        [(float32, (2, 3))],
        lambda x: mul(x, constant_array(np.arange(6, dtype=np.float32).reshape(2, 3))),
    ),
    "number": ([(float64, (9,))], lambda x: mul(x, full((9,), 0.1, float64))),
    "copy": ([(uint8, (9,))], stop_gradient),
}


@pytest.mark.parametrize("name", MOVED)
def test_movement_agrees_with_the_reference(name: str) -> None:
    check(*MOVED[name], BOTH)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (1003,), (40, 64), (300, 500)], ids=ids)
def test_random_bits_are_the_reference_s(shape: tuple[int, ...]) -> None:
    check([(uint64, ()), (uint64, ())], lambda s, d: random_bits(s, d, shape=shape), BOTH)


def test_random_bits_in_a_fusion_are_the_reference_s() -> None:
    def dropout(seed: Value, draw: Value, x: Value) -> Value:
        bits = shift_right(random_bits(seed, draw, shape=(30, 20)), full((30, 20), 8, uint32))
        keep = less(cast(bits, dtype=float32), full((30, 20), 1e7, float32))
        return select(keep, broadcast(x, shape=(30, 20), axes=(0,)), full((30, 20), 0.0, float32))

    check([(uint64, ()), (uint64, ()), (float32, (30,))], dropout, BOTH)


# Reductions.


SPACES = [
    ((10,), (0,)),
    ((3, 1), (0, 1)),
    ((5, 1, 7), (1,)),
    ((4, 3), (1,)),
    ((40, 31), (1,)),
    ((40, 64), (1,)),
    ((9, 100), (1,)),
    ((9, 1000), (1,)),
    ((3, 8193), (1,)),
    ((2, 20000), (1,)),
    ((90, 100), (0, 1)),
    ((300, 100), (0, 1)),
    ((3, 20000), (0, 1)),
    ((100_003,), (0,)),
    ((5, 3, 40), (0, 2)),
    ((5, 3, 40, 2), (0, 2)),
    ((2, 300, 5), (1,)),
    ((1000, 70), (0,)),
    ((257, 8), (0,)),
    ((70_000, 3), (0,)),
    ((50, 40, 30), (0, 1)),
]


@pytest.mark.parametrize(("shape", "axes"), SPACES, ids=ids)
def test_a_sum_has_the_order_of_the_bit_contract(
    shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    (x,) = data([(float32, shape)])
    graph = graph_of([(float32, shape)], lambda v: sum_(v, axes=axes))
    expected = ordered_sum(x, axes)
    for isa in (*BOTH, NARROW):
        for threads in (1, 2, 3):
            (found,) = run_graph(graph, (x,), isa, threads)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", NUMERIC, ids=ids)
@pytest.mark.parametrize(("shape", "axes"), [((7, 133), (1,)), ((300, 9), (0,))], ids=ids)
def test_a_sum_of_any_dtype_has_that_order(
    dtype: DType, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    (x,) = data([(dtype, shape)])
    graph = graph_of([(dtype, shape)], lambda v: sum_(v, axes=axes))
    for isa in BOTH:
        np.testing.assert_array_equal(run_graph(graph, (x,), isa)[0], ordered_sum(x, axes))


@pytest.mark.parametrize("shape", [(4, 1), (4, 5), (4, 200), (40_000, 2)], ids=ids)
def test_a_sum_of_negative_zeros_is_negative(shape: tuple[int, ...]) -> None:
    x = np.full(shape, -0.0, np.float32)
    for axes in ((0,), (1,), (0, 1)):
        graph = graph_of([(float32, shape)], lambda v, axes=axes: sum_(v, axes=axes))
        assert np.signbit(run_graph(graph, (x,))[0]).all()


def test_an_empty_sum_is_positive_zero() -> None:
    graph = graph_of([(float32, (4, 0))], lambda v: sum_(v, axes=(1,)))
    (found,) = run_graph(graph, (np.empty((4, 0), np.float32),))
    assert found.tolist() == [0.0] * 4
    assert not np.signbit(found).any()


@pytest.mark.parametrize("dtype", NUMERIC, ids=ids)
@pytest.mark.parametrize(
    ("shape", "axes"), [((7, 133), (1,)), ((300, 9), (0,)), ((99, 200), (0, 1))], ids=ids
)
def test_a_max_of_any_dtype_is_the_reference_s(
    dtype: DType, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    check([(dtype, shape)], lambda v: [max_(v, axes=axes), max_(neg(v), axes=axes)], BOTH)


@pytest.mark.parametrize("at", [0, 5, 63, 64, 130, 132])
def test_a_max_hands_on_nan_from_anywhere(at: int) -> None:
    x = data([(float32, (3, 133))])[0]
    x[1, at] = np.nan
    for axes in ((0,), (1,)):
        graph = graph_of([(float32, x.shape)], lambda v, axes=axes: max_(v, axes=axes))
        np.testing.assert_array_equal(run_graph(graph, (x,))[0], np.max(x, axis=axes))


def log_sum_exp(x: Value, axis: int) -> Value:
    """Two reductions, one upon the other, with producers and an epilogue."""
    other = (1 - axis,)
    top = max_(x, axes=(axis,))
    shifted = exp(sub(x, broadcast(top, shape=x.shape, axes=other)))
    return add(log(sum_(shifted, axes=(axis,))), top)


@pytest.mark.parametrize("shape", [(7, 10), (7, 1000), (300, 10), (1000, 7)], ids=ids)
@pytest.mark.parametrize("axis", [0, 1])
def test_log_sum_exp_as_one_kernel(shape: tuple[int, ...], axis: int) -> None:
    check([(float32, shape)], lambda x: log_sum_exp(x, axis), (*BOTH, NARROW), slack=4)


def over(value: Value, axes: tuple[int, ...], back: Callable[[Value], Value]) -> Value:
    """The mean over axes, at each of the places it was taken over."""
    total = sum_(value, axes=axes)
    count = prod(sizes_of(value)) // prod(sizes_of(total))
    return back(mul(total, full(total.shape, 1 / count, total.dtype)))


def normed(x: Value, axes: tuple[int, ...]) -> list[Value]:
    """x at mean 0 and deviation 1 over axes, and the deviation."""
    kept = tuple(axis for axis in range(len(x.shape)) if axis not in axes)

    def back(row: Value) -> Value:
        return broadcast(row, shape=x.shape, axes=kept)

    centred = sub(x, over(x, axes, back))
    square = mul(centred, centred)
    return [div(centred, sqrt(over(square, axes, back))), sqrt(sum_(square, axes=axes))]


def softmax(x: Value) -> list[Value]:
    """The whole of it, and one number a row."""
    rows = tuple(range(len(x.shape) - 1))
    top = max_(x, axes=(len(rows),))
    raised = exp(sub(x, broadcast(top, shape=x.shape, axes=rows)))
    total = sum_(raised, axes=(len(rows),))
    return [add(log(total), top), div(raised, broadcast(total, shape=x.shape, axes=rows))]


@pytest.mark.parametrize("columns", [1, 5, 16, 63, 64, 65, 200, 8192, 9000])
@pytest.mark.parametrize("build", [softmax, lambda x: normed(x, (2,))], ids=["softmax", "norm"])
def test_rows_as_one_kernel(build: Callable[[Value], list[Value]], columns: int) -> None:
    check([(float32, (3, 4, columns))], build, (*BOTH, NARROW), slack=16)


@pytest.mark.parametrize("dtype", [float16, bfloat16, float64])
def test_rows_of_any_dtype(dtype: DType) -> None:
    check([(dtype, (9, 77))], softmax, BOTH, slack=16)


@pytest.mark.parametrize("axes", [(1, 3), (2, 3), (1, 2, 3), (0, 3)], ids=ids)
def test_norms_over_several_axes_as_one_kernel(axes: tuple[int, ...]) -> None:
    check([(float32, (3, 5, 4, 6))], lambda x: normed(x, axes), BOTH, slack=16)


def test_labels_beside_a_row_do_not_narrow_its_vectors() -> None:
    def picked(x: Value, label: Value) -> Value:
        wide = broadcast(label, shape=x.shape, axes=(0,))
        hit = equal(wide, iota(dtype=int64, shape=x.shape, axis=1))
        e = exp(x)
        return max_(select(hit, e, full(x.shape, 0.0, x.dtype)), axes=(1,))

    kinds = [(float32, (20, 300)), (int64, (20,))]
    (call,) = realise_graph(graph_of(kinds, picked), AVX2).calls
    assert call.kernel.bound("c", "vector") == 8
    check(kinds, picked, (*BOTH, NARROW))


# Contractions.


def product(x: Value, y: Value, left: int = 1, right: int = 0) -> Value:
    return dot_general(x, y, contract=((left,), (right,)), batch=((), ()))


def dense(x: Value, w: Value, bias: Value) -> list[Value]:
    """A layer with its pre-activation kept."""
    out = product(x, w)
    rows = add(out, broadcast(bias, shape=out.shape, axes=(1,)))
    return [maximum(rows, full(rows.shape, 0.0, rows.dtype)), rows]


PRODUCTS: dict[str, tuple[list[Kind], Build]] = {
    "layer": ([(float32, (33, 70)), (float32, (70, 40)), (float32, (40,))], dense),
    "ten classes": ([(float32, (13, 70)), (float32, (70, 10)), (float32, (10,))], dense),
    "first axes": ([(float32, (33, 70)), (float32, (33, 40))], lambda x, y: product(x, y, 0, 0)),
    "last axes": ([(float32, (33, 70)), (float32, (40, 70))], lambda x, y: product(x, y, 1, 1)),
    "transposed result": (
        [(float32, (33, 70)), (float32, (70, 40))],
        lambda x, y: neg(transpose(product(x, y), permutation=(1, 0))),
    ),
    "transposed operand": (
        [(float32, (33, 70)), (float32, (40, 70))],
        lambda x, y: product(x, transpose(y, permutation=(1, 0))),
    ),
    "matrix and vector": ([(float32, (33, 70)), (float32, (70,))], product),
    "vector and matrix": (
        [(float32, (70,)), (float32, (70, 33))],
        lambda x, y: neg(product(x, y, 0, 0)),
    ),
    "dot": ([(float32, (70,)), (float32, (70,))], lambda x, y: exp(product(x, y, 0, 0))),
    "outer": (
        [(float32, (7,)), (float32, (33,))],
        lambda x, y: dot_general(x, y, contract=((), ()), batch=((), ())),
    ),
    "batch": (
        [(float32, (4, 33, 7)), (float32, (4, 7, 20))],
        lambda x, y: dot_general(x, y, contract=((2,), (1,)), batch=((0,), (0,))),
    ),
    "batches apart": (
        [(float32, (4, 5, 9, 7)), (float32, (5, 4, 7, 20))],
        lambda x, y: dot_general(
            x, transpose(y, permutation=(1, 0, 2, 3)), contract=((3,), (2,)), batch=((0, 1), (0, 1))
        ),
    ),
    "three free axes": (
        [(float32, (6, 5, 3, 7)), (float32, (7, 20))],
        lambda x, y: product(x, y, 3, 0),
    ),
    "contracted apart": (
        [(float32, (6, 5, 3, 7)), (float32, (6, 3, 20))],
        lambda x, y: dot_general(x, y, contract=((0, 2), (0, 1)), batch=((), ())),
    ),
    "both apart": (
        [(float32, (6, 5, 3, 7)), (float32, (6, 3, 20, 7))],
        lambda x, y: dot_general(x, y, contract=((2, 0), (1, 0)), batch=((), ())),
    ),
    "itself and more": ([(float32, (5, 5))], lambda x: add(product(x, x), x)),
    "nothing to sum": ([(float32, (4, 0)), (float32, (0, 7))], product),
    "no rows": ([(float32, (0, 5)), (float32, (5, 7))], product),
    "residual": (
        [(float32, (33, 70)), (float32, (70, 40)), (float32, (33, 40)), (float32, (33,))],
        lambda x, y, z, r: mul(add(product(x, y), z), broadcast(r, shape=(33, 40), axes=(0,))),
    ),
    "cast": (
        [(float32, (33, 70)), (float32, (70, 40))],
        lambda x, y: cast(product(x, y), dtype=float16),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_contractions_agree_with_the_reference(name: str) -> None:
    check(*PRODUCTS[name], BOTH, slack=10)


@pytest.mark.parametrize("dtype", NUMERIC, ids=ids)
def test_contractions_of_any_dtype_agree_with_the_reference(dtype: DType) -> None:
    check([(dtype, (13, 9)), (dtype, (9, 21)), (dtype, (21,))], dense, BOTH, slack=10)


def test_a_contraction_s_bits_do_not_depend_on_its_epilogue() -> None:
    kinds: list[Kind] = [(float32, (33, 1070)), (float32, (1070, 41)), (float32, (41,))]
    arrays = data(kinds)
    plain = run_graph(graph_of(kinds[:2], product), arrays[:2])[0]
    for isa in (AVX2, NARROW):
        fused = run_graph(graph_of(kinds, dense), arrays, isa)[1]
        np.testing.assert_array_equal(fused, plain + arrays[2])


# Code for machines that are not here.


def test_code_for_avx512_has_its_registers() -> None:
    kinds: list[Kind] = [(float32, (40, 1000)), (float32, (1000,))]
    graph = graph_of(kinds, lambda x, y: add(exp(x), broadcast(y, shape=x.shape, axes=(1,))))
    (call,) = realise_graph(graph, AVX512).calls
    assert "zmm" in assembly(call.text(AVX512), AVX512)


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
def test_every_dtype_compiles_for_avx512(dtype: DType) -> None:
    graph = graph_of([(dtype, (5, 70))], lambda x: cast(select(equal(x, x), x, x), dtype=int32))
    for call in realise_graph(graph, AVX512).calls:
        assembly(call.text(AVX512), AVX512)


def test_equal_bodies_have_equal_texts() -> None:
    def text(scale: float) -> str:
        graph = graph_of([(float32, (9,))], lambda x: mul(x, full((9,), scale, float32)))
        return realise_graph(graph, AVX2).calls[0].text(AVX2)

    assert text(2.0) == text(2.0)
    assert text(2.0) != text(3.0)
    assert text(0.0) != text(-0.0)


def test_the_reference_agrees_with_the_order_in_the_tests() -> None:
    # The tests' own oracle is checked against the card's.
    (x,) = data([(float64, (30, 500))])
    graph = graph_of([(float64, (30, 500))], lambda v: sum_(v, axes=(0, 1)))
    np.testing.assert_allclose(ordered_sum(x, (0, 1)), evaluate(graph, (x,))[0], rtol=1e-12)


def test_a_kernel_reads_all_its_operands_before_it_writes() -> None:
    # A result may lie where an operand does that only another result needs.
    graph = graph_of([(float32, (9,)), (float32, (9,))], lambda x, y: [neg(x), exp(y)])
    (call,) = realise_graph(graph, AVX2).calls
    text = print_kernel(call.kernel)
    assert text.index("load x1") < text.index("store y0")
