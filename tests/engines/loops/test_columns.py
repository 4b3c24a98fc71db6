"""Are sums down the columns made beside the rows, in the order of a sum, whatever the rows?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pellucid.core.dtype import DType, bfloat16, float16, float32, float64, int32
from pellucid.engines.cpu.rules import realise_graph
from pellucid.engines.llvm.target import host_isa
from pellucid.engines.loops.ir import Kernel
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.ir.graph import Value
from pellucid.ops.elementwise import add, exp, mul, sub
from pellucid.ops.movement import broadcast, reshape
from pellucid.ops.reduce import max_, min_, prod, sum_
from tests.engines.cpu.orders import ordered_sum
from tests.engines.kernels import Kind, data, graph_of, run_graph
from tests.graphs import same_bits

SHAPES = [
    ((4, 20), (0,)),
    ((256, 16), (0,)),
    ((512, 33), (0,)),
    ((800, 40), (0,)),
    ((4, 256, 24), (0, 1)),
    ((8, 128, 20), (0, 1)),
    ((5, 128, 20), (0, 1)),
    ((9, 7, 7, 18), (0, 1, 2)),
    ((300, 1, 4, 6), (0,)),
    ((70000, 16), (0,)),
]


def centred(x: Value) -> Value:
    """x less the mean-like sum of each row, so that there is something to go along rows for."""
    last = len(x.shape) - 1
    kept = tuple(range(last))
    return sub(x, broadcast(sum_(x, axes=(last,)), shape=x.shape, axes=kept))


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
@pytest.mark.parametrize("along", [centred, lambda x: mul(x, x)], ids=["rows", "loop"])
def test_sums_beside_the_rows_have_the_order_of_a_sum(
    shape: tuple[int, ...], axes: tuple[int, ...], along: Callable[[Value], Value]
) -> None:
    graph = graph_of([(float32, shape)], lambda x: [along(x), sum_(along(x), axes=axes)])
    alone = graph_of([(float32, shape)], along)
    (x,) = data([(float32, shape)])
    (whole,) = run_graph(alone, [x])
    for threads in (1, 3):
        found, total = run_graph(graph, [x], threads=threads)
        assert same_bits(found, whole)
        assert same_bits(total, ordered_sum(whole, axes))


@pytest.mark.parametrize("dtype", [float16, bfloat16, float64, int32], ids=str)
def test_sums_of_every_dtype_are_rounded_at_their_end(dtype: DType) -> None:
    kinds: list[Kind] = [(dtype, (700, 40))]
    graph = graph_of(kinds, lambda x: [mul(x, x), sum_(x, axes=(0,))])
    (x,) = data(kinds)
    _, total = run_graph(graph, [x])
    assert same_bits(total, ordered_sum(x, (0,)))


@pytest.mark.parametrize(("op", "peer"), [(max_, np.max), (min_, np.min), (prod, np.prod)])
def test_other_reductions_go_down_the_columns_too(
    op: Callable[..., Value], peer: Callable[..., np.ndarray]
) -> None:
    kinds: list[Kind] = [(int32, (600, 20))]
    graph = graph_of(kinds, lambda x: [mul(x, x), op(x, axes=(0,))])
    (x,) = data(kinds)
    _, found = run_graph(graph, [x])
    with np.errstate(over="ignore"):
        assert same_bits(found, peer(x, axis=0, dtype=np.int32) if op is prod else peer(x, axis=0))


def test_columns_of_negative_zeros_keep_their_sign() -> None:
    graph = graph_of([(float32, (600, 20))], lambda x: [exp(x), sum_(x, axes=(0,))])
    _, total = run_graph(graph, [np.full((600, 20), -0.0, np.float32)])
    assert np.signbit(total).all()


def test_what_follows_the_sums_and_a_number_a_row_are_made_too() -> None:
    kinds: list[Kind] = [(float32, (600, 20)), (float32, (20,))]

    def function(x: Value, w: Value) -> list[Value]:
        row = sum_(x, axes=(1,))
        total = sum_(mul(x, broadcast(row, shape=x.shape, axes=(0,))), axes=(0,))
        return [row, add(mul(total, w), w), reshape(exp(x), shape=(30, 20, 20)), total]

    graph = graph_of(kinds, function)
    x, w = data(kinds)
    row, changed, shown, total = run_graph(graph, [x, w], threads=2)
    assert same_bits(row, ordered_sum(x, (1,)))
    assert same_bits(total, ordered_sum(x * row[:, None], (0,)))
    assert same_bits(changed, total * w + w)
    assert shown.shape == (30, 20, 20)


def test_rows_that_only_the_sums_need_are_not_written() -> None:
    kinds: list[Kind] = [(float32, (600, 40))]
    graph = graph_of(kinds, lambda x: sum_(centred(x), axes=(0,)))
    (x,) = data(kinds)
    (whole,) = run_graph(graph_of(kinds, centred), [x])
    (total,) = run_graph(graph, [x], threads=2)
    assert same_bits(total, ordered_sum(whole, (0,)))
    first, _ = realise_graph(graph, host_isa()).calls
    assert [buffer.name for buffer in first.kernel.buffers] == ["x0", "p0"]


def test_numbers_a_column_that_need_no_sum_are_made_with_those_that_do() -> None:
    kinds: list[Kind] = [(float32, (600, 20)), (float32, (20,))]

    def function(x: Value, w: Value) -> list[Value]:
        half = mul(w, w)
        return [exp(x), half, add(sum_(x, axes=(0,)), half)]

    x, w = data(kinds)
    _, half, total = run_graph(graph_of(kinds, function), [x, w])
    assert same_bits(half, w * w)
    assert same_bits(total, ordered_sum(x, (0,)) + w * w)


def test_rows_and_columns_are_two_launches_whose_tasks_are_chunks() -> None:
    graph = graph_of([(float32, (800, 768))], lambda x: [centred(x), sum_(centred(x), axes=(0,))])
    first, second = realise_graph(graph, host_isa()).calls
    assert first.tasks == 4
    assert second.tasks == 1
    for call in (first, second):
        assert parse_kernel(print_kernel(call.kernel)) == call.kernel


def test_numbers_a_column_are_found_without_dividing_whatever_axes_the_rows_have() -> None:
    def function(x: Value, scale: Value) -> list[Value]:
        scaled = mul(x, broadcast(scale, shape=x.shape, axes=(3,)))
        return [scaled, sum_(scaled, axes=(0, 1, 2))]

    graph = graph_of([(float32, (9, 7, 8, 16)), (float32, (16,))], function)
    rows = realise_graph(graph, host_isa()).calls[0].kernel
    assert isinstance(rows, Kernel)
    assert "remainder" not in print_kernel(rows)
