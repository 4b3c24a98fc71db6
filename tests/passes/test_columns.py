"""Do sums down the columns join what goes along the rows, where they share what they read?"""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.core.dtype import float32
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops.contract import dot_general
from pellucid.ops.control import evaluate, fusion
from pellucid.ops.elementwise import add, div, exp, mul, neg, sqrt, sub
from pellucid.ops.movement import broadcast, reshape, transpose
from pellucid.ops.reduce import max_, sum_
from pellucid.passes.fuse import fuse
from pellucid.passes.memory import reads_in_place
from pellucid.passes.pipeline import clean
from pellucid.passes.traffic import fewest_bytes
from pellucid.passes.views import value_bytes
from pellucid.transforms.vjp import vjp
from tests.graphs import same_bits


def graph_of(function: Any, *shapes: tuple[int, ...]) -> Graph:
    with building() as builder:
        results = function(*(builder.input(TensorType(float32, shape)) for shape in shapes))
        return builder.graph(results if isinstance(results, tuple | list) else [results])


def kinds(graph: Graph) -> list[str]:
    """The kind of each kernel, or the name of an op that is one alone."""
    return [str(n.attr("kind")) if n.op.name == "fusion" else n.op.name for n in graph.nodes]


def wide(x: Value, like: Value, axis: int) -> Value:
    return broadcast(x, shape=like.shape, axes=(axis,))


def norm(x: Value, scale: Value, bias: Value) -> Value:
    centre = sub(x, wide(sum_(x, axes=(1,)), x, 0))
    spread = sqrt(sum_(mul(centre, centre), axes=(1,)))
    return add(mul(div(centre, wide(spread, x, 0)), wide(scale, x, 1)), wide(bias, x, 1))


def softmax(x: Value) -> Value:
    e = exp(sub(x, wide(max_(x, axes=(1,)), x, 0)))
    return div(e, wide(sum_(e, axes=(1,)), x, 0))


def test_norm_and_its_three_gradients_are_one_kernel_that_moves_what_it_must() -> None:
    shapes = (1024, 32), (32,), (32,)
    graph = clean(vjp(graph_of(norm, *shapes), (0, 1, 2)))
    fused = fuse(graph)
    assert kinds(fused) == ["columns"]
    (node,) = fused.nodes
    moved = sum(map(value_bytes, (*node.operands, *fused.outputs)))
    assert moved <= fewest_bytes(graph, 1)


def test_gradient_of_a_bias_is_summed_where_its_rows_are_made() -> None:
    def function(x: Value, bias: Value) -> list[Value]:
        y = softmax(add(x, wide(bias, x, 1)))
        return [y, sub(bias, sum_(y, axes=(0,)))]

    assert kinds(fuse(graph_of(function, (1024, 32), (32,)))) == ["columns"]


def test_sum_of_what_a_loop_writes_is_made_by_the_loop() -> None:
    graph = graph_of(lambda x: [exp(x), sum_(exp(x), axes=(0, 1))], (4, 256, 32))
    assert kinds(fuse(clean(graph))) == ["columns"]


def test_sum_in_another_shape_is_made_beside_the_rows() -> None:
    def function(x: Value) -> list[Value]:
        y = softmax(x)
        return [y, sum_(reshape(y, shape=(8, 128, 32)), axes=(0, 1))]

    assert kinds(fuse(graph_of(function, (1024, 32)))) == ["columns"]


def test_sums_that_the_rows_wait_for_stay_apart() -> None:
    graph = graph_of(lambda x: exp(sub(x, wide(sum_(x, axes=(0,)), x, 1))), (1024, 32))
    assert kinds(fuse(graph)) == ["sum", "loop"]


def test_sums_over_other_rows_stay_apart() -> None:
    def transposed(x: Value) -> list[Value]:
        y = softmax(x)
        return [y, sum_(transpose(y, permutation=(1, 0)), axes=(0,))]

    def product(x: Value) -> list[Value]:
        y = dot_general(x, x, contract=((1,), (1,)), batch=((), ()))
        return [softmax(x), sum_(y, axes=(0,))]

    assert "columns" not in kinds(fuse(graph_of(transposed, (1024, 1024))))
    assert "columns" not in kinds(fuse(graph_of(product, (1024, 1024))))


def test_few_chunks_of_many_elements_stay_rows_for_the_threads_to_share() -> None:
    def function(x: Value) -> list[Value]:
        y = softmax(x)
        return [y, sum_(y, axes=(0,))]

    assert kinds(fuse(graph_of(function, (512, 4096)))) == ["rows", "sum"]
    assert kinds(fuse(graph_of(function, (512, 32)))) == ["columns"]


def test_rows_that_all_readers_make_again_leave_a_plain_sum() -> None:
    def function(x: Value, mean: Value) -> list[Value]:
        centre = sub(x, wide(mean, x, 1))
        scale = sqrt(sum_(mul(centre, centre), axes=(0,)))
        return [div(centre, wide(scale, x, 1))]

    assert kinds(fuse(graph_of(function, (1024, 32), (32,)))) == ["reduce", "loop"]


def test_kernel_of_columns_means_what_its_nodes_mean() -> None:
    graph = clean(vjp(graph_of(norm, (1024, 32), (32,), (32,)), (0, 1, 2)))
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs)
    for found, wanted in zip(evaluate(fuse(graph), arrays), evaluate(graph, arrays), strict=True):
        assert same_bits(found, wanted)


def test_each_half_of_a_kernel_of_columns_writes_over_what_the_other_is_done_with() -> None:
    def body(x: Value, scale: Value, row: Value) -> list[Value]:
        y = mul(x, wide(scale, x, 1))
        column = broadcast(row, shape=(1024,), axes=(0,))
        return [y, add(sum_(y, axes=(0,)), scale), add(sum_(x, axes=(0,)), column), neg(row)]

    graph = graph_of(body, (1024, 1024), (1024,), (1024,))
    with building() as builder:
        operands = [builder.input(value.type) for value in graph.inputs]
        results = fusion.many(*operands, body=graph, kind="columns")
        (node,) = builder.nodes
    x, scale, row = operands
    y, moved_scale, _, moved_row = results
    assert reads_in_place(node, x, y)
    # The rows have read all of it before the sums are there.
    assert reads_in_place(node, scale, moved_scale)
    # What is still to be read with the sums.
    assert not reads_in_place(node, row, moved_row)
