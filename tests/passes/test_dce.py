"""Does what nobody needs go, and nothing else?"""

from __future__ import annotations

from pellucid.core.dtype import float32, uint64
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, TensorType
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops import lookup
from pellucid.ops.control import evaluate, fusion
from pellucid.ops.elementwise import add, exp, neg
from pellucid.ops.movement import full
from pellucid.ops.random import random_bits
from pellucid.passes.dce import dce
from tests.graphs import random_graph, same_bits

F = TensorType(float32, (3,))


def test_unused_nodes_go() -> None:
    before = parse_graph(
        """graph(%0: float32[3], %1: float32[3]) {
          %2: float32[3] = exp(%0)
          %3: float32[3] = neg(%2)
          %4: float32[3] = neg(%0)
          return %4
        }""",
        lookup,
    )
    assert print_graph(dce(before)) == (
        "graph(%0: float32[3], %1: float32[3]) {\n  %2: float32[3] = neg(%0)\n  return %2\n}"
    )


def test_an_unused_draw_goes_and_shifts_no_other() -> None:
    with building() as builder:
        seed = full((), 7, uint64)
        _, second = (random_bits(seed, full((), k, uint64), shape=(4,)) for k in range(2))
        graph = builder.graph([second])
    pruned = dce(graph)
    assert len(pruned.nodes) == 3
    assert same_bits(evaluate(graph, ())[0], evaluate(pruned, ())[0])


def test_unused_nodes_inside_a_body_go() -> None:
    with building() as inner:
        x = inner.input(F)
        exp(x)
        body = inner.graph([neg(x)])
    with building() as builder:
        y = builder.input(F)
        graph = builder.graph([fusion(y, body=body, kind="loop")])
    (node,) = check(dce(graph)).nodes
    kept: Graph = node.attr("body")
    assert [n.op.name for n in kept.nodes] == ["neg"]


def test_an_input_may_be_an_output() -> None:
    with building() as builder:
        x = builder.input(F)
        add(x, x)
        graph = builder.graph([x, x])
    assert dce(graph).nodes == ()
    assert dce(graph).outputs == (x, x)


def test_every_node_left_is_needed() -> None:
    for seed in range(20):
        graph, _ = random_graph(seed)
        pruned = dce(graph)
        assert all(any(pruned.uses[value] for value in results) for results in pruned.results)
