"""Does a rule change what it names and nothing else?"""

from __future__ import annotations

import pytest

from pellucid.core.dtype import float32, int32
from pellucid.core.source import Source
from pellucid.ir.build import building, current_builder
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ir.rewrite import copy_node, map_subgraphs, prune, rewrite_nodes
from pellucid.ir.text import print_graph
from pellucid.ops.control import fusion
from pellucid.ops.elementwise import abs_, cast, exp, neg
from tests.graphs import random_graph

F = TensorType(float32, (3,))


def chain() -> Graph:
    with building() as builder:
        x = builder.input(F)
        builder.source = Source("model.py", 3)
        return builder.graph([exp(neg(neg(x)))])


def without_neg(node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...] | None:
    return operands if node.op is neg else None


def test_consumers_see_what_replaced_their_operands() -> None:
    assert print_graph(rewrite_nodes(chain(), without_neg)) == (
        "graph(%0: float32[3]) {\n"
        "  %1: float32[3] = exp(%0)\n"
        "  return %1\n"
        "}"
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_a_rule_that_keeps_everything_gives_an_equal_graph(seed: int) -> None:
    graph, _ = random_graph(seed)
    assert check(rewrite_nodes(graph, lambda node, operands: None)) == graph


@pytest.mark.parametrize("seed", range(10))
def test_what_a_rule_leaves_alone_is_not_made_again(seed: int) -> None:
    graph, _ = random_graph(seed)
    assert rewrite_nodes(graph, lambda node, operands: None) is graph
    assert rewrite_nodes(chain(), without_neg) != chain()
    # The first node that a rule replaces ends what is shared; it is the last here.
    last = graph.nodes[-1]
    changed = rewrite_nodes(
        graph, lambda n, v: copy_node(current_builder(), n, v) if n is last else None
    )
    assert changed == graph
    assert changed.nodes[:-1] == graph.nodes[:-1]
    assert changed.nodes[-1] is not last


def test_a_graph_of_which_all_is_needed_is_pruned_to_itself() -> None:
    graph = chain()
    assert prune(graph) is graph


def test_new_nodes_have_the_line_of_what_they_replace() -> None:
    graph = rewrite_nodes(chain(), lambda n, v: (abs_(*v),) if n.op is neg else None)
    assert {node.op.name for node in graph.nodes} == {"abs", "exp"}
    assert {node.source for node in graph.nodes} == {Source("model.py", 3)}


def test_a_rule_that_changes_a_type_is_stopped() -> None:
    with pytest.raises(AssertionError, match="neg changed its type"):
        rewrite_nodes(chain(), lambda n, v: (cast(*v, dtype=int32),) if n.op is neg else None)


def test_bodies_are_changed_where_they_stand() -> None:
    with building() as builder:
        x = builder.input(F)
        graph = builder.graph([fusion(neg(x), body=chain(), kind="loop")])
    changed = map_subgraphs(graph, lambda body: prune(rewrite_nodes(body, without_neg)))
    assert [node.op.name for node in changed.nodes] == ["neg", "fusion"]
    assert [node.op.name for node in changed.nodes[1].attr("body").nodes] == ["exp"]


def test_pruning_keeps_inputs_and_what_outputs_need() -> None:
    with building() as builder:
        x, y = builder.input(F), builder.input(F)
        exp(y)
        graph = builder.graph([neg(x)])
    pruned = prune(graph)
    assert (pruned.inputs, [n.op.name for n in pruned.nodes]) == (graph.inputs, ["neg"])
