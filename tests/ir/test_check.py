"""Is every broken rule of the IR found and named?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pellucid.core.dtype import float32, int32
from pellucid.core.error import GraphError
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ops.control import fusion
from pellucid.ops.elementwise import exp, neg
from tests.graphs import random_graph

F = TensorType(float32, (3,))


def graph() -> Graph:
    with building() as builder:
        x = builder.input(F)
        return builder.graph([neg(exp(x))])


@pytest.mark.parametrize("seed", range(10))
def test_what_ops_build_passes(seed: int) -> None:
    built, _ = random_graph(seed)
    assert check(built) is built


def test_an_input_twice_is_found() -> None:
    good = graph()
    with pytest.raises(GraphError, match="after fuse: an input stands twice"):
        check(replace(good, inputs=good.inputs * 2), "after fuse")


def test_nodes_out_of_order_are_found() -> None:
    good = graph()
    turned = replace(good, nodes=good.nodes[::-1], results=good.results[::-1])
    with pytest.raises(GraphError, match="neg uses a value that is not made before it"):
        check(turned)


def test_a_foreign_output_is_found() -> None:
    with pytest.raises(GraphError, match="an output is not made by the graph"):
        check(replace(graph(), outputs=(Value(F),)))


def test_a_wrong_type_is_found_with_its_node() -> None:
    good = graph()
    wrong = Node(good.nodes[0].op, good.nodes[0].operands, (), (TensorType(int32, (3,)),))
    with pytest.raises(
        GraphError, match=r"%1: float32\[3\] = exp\(%0\): the op gives float32\[3\]"
    ):
        check(replace(good, nodes=(wrong, good.nodes[1])))


def test_a_node_that_its_op_refuses_is_found() -> None:
    good = graph()
    wrong = Node(good.nodes[0].op, (), (), good.nodes[0].types)
    with pytest.raises(GraphError, match="exp: expected 1 operands, got 0"):
        check(replace(good, nodes=(wrong, good.nodes[1])))


def test_a_broken_body_is_found() -> None:
    good = graph()
    body = replace(good, nodes=good.nodes[::-1], results=good.results[::-1])
    with building() as builder:
        x = builder.input(F)
        outer = builder.graph([fusion(x, body=body, kind="loop")])
    with pytest.raises(GraphError, match="graph: body of fusion: neg uses"):
        check(outer)
