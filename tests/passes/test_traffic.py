"""Are the fewest bytes of a program those that its definition names, one by one?"""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.core.dtype import float32
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, mul, neg, tanh
from pellucid.ops.movement import broadcast, transpose
from pellucid.ops.reduce import sum_
from pellucid.passes.pipeline import clean
from pellucid.passes.traffic import Traffic, fewest_bytes, flops_of

MATRIX = 4 * 10 * 10
"""The bytes of one matrix of these tests."""


def test_inputs_are_read_and_outputs_written_once() -> None:
    graph = graph_of(lambda x, y: [add(mul(x, y), mul(x, x)), neg(y)])
    assert fewest_bytes(graph, 2) == 4 * MATRIX


def test_inputs_that_nothing_uses_are_not_read() -> None:
    graph = graph_of(lambda x, y: [add(x, x)])
    assert fewest_bytes(graph, 1) == 2 * MATRIX


def test_what_only_the_forward_pass_reads_need_not_be_in_memory() -> None:
    graph = graph_of(lambda x, y: [total(product(product(x, y), y))])
    assert fewest_bytes(graph, 1) == 2 * MATRIX + 4


def test_what_the_rest_reads_is_written_and_read() -> None:
    def build(x: Value, y: Value) -> list[Value]:
        hidden = product(x, y)
        return [total(hidden), product(hidden, y)]

    assert fewest_bytes(graph_of(build), 1) == 2 * MATRIX + (4 + MATRIX) + 2 * MATRIX


def test_what_cheap_ops_make_again_is_not_kept() -> None:
    def build(x: Value, y: Value) -> list[Value]:
        hidden = product(x, y)
        bent = tanh(hidden)
        return [total(bent), product(mul(hidden, bent), neg(x))]

    # hidden is kept; bent comes from it again, and from no memory.
    assert fewest_bytes(graph_of(build), 1) == 2 * MATRIX + (4 + MATRIX) + 2 * MATRIX


def test_what_cheap_ops_make_of_what_is_gone_is_kept() -> None:
    def build(x: Value, y: Value) -> list[Value]:
        bent = tanh(product(x, y))
        return [total(bent), product(bent, y)]

    assert fewest_bytes(graph_of(build), 1) == 2 * MATRIX + (4 + MATRIX) + 2 * MATRIX


def test_of_a_broadcast_only_what_is_spread_is_kept() -> None:
    def build(x: Value, y: Value) -> list[Value]:
        spread = broadcast(total(product(x, y)), shape=(10, 10), axes=())
        return [total(tanh(spread)), product(spread, y)]

    assert fewest_bytes(graph_of(build), 1) == 2 * MATRIX + (4 + MATRIX) + 2 * 4


def test_an_output_that_is_kept_is_not_written_twice() -> None:
    def build(x: Value, y: Value) -> list[Value]:
        hidden = product(x, y)
        return [hidden, product(hidden, y)]

    assert fewest_bytes(graph_of(build), 1) == 2 * MATRIX + 2 * MATRIX + MATRIX


def test_flops_are_those_of_the_cards() -> None:
    graph = graph_of(lambda x, y: [product(x, transpose(y, permutation=(1, 0)))])
    assert flops_of(graph.nodes) == 2 * 10**3


def test_the_text_compares_what_moves_with_the_fewest() -> None:
    text = str(Traffic(launches=3, kernels=2, moved_bytes=3000, fewest_bytes=1000, flops=5))
    assert text == "3 launches of 2 kernels, 5 flops, 3,000 bytes moved, 3.00 times the fewest"
    assert str(Traffic(0, 0, 0, 0, 0)).endswith("0 bytes moved, 1.00 times the fewest")


def graph_of(build: object) -> Graph:
    with building() as builder:
        inputs = [builder.input(TensorType(float32, (10, 10))) for _ in range(2)]
        outputs: Sequence[Value] = build(*inputs)  # type: ignore[operator]
        return clean(builder.graph(outputs))


def product(x: Value, y: Value) -> Value:
    return dot_general(x, y, contract=((1,), (0,)), batch=((), ()))


def total(x: Value) -> Value:
    return sum_(x, axes=(0, 1))
