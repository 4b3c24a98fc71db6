"""What does a pass leave behind? A stage of its name, and an error where it broke the graph."""

from __future__ import annotations

import pytest

from pellucid.core.dtype import float32, int32
from pellucid.core.error import GraphError
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node, TensorType
from pellucid.ir.record import recording
from pellucid.ir.text import print_graph
from pellucid.ops.elementwise import exp, neg
from pellucid.passes.cse import cse
from pellucid.passes.dce import dce
from pellucid.passes.fold import fold
from pellucid.passes.fuse import fuse
from pellucid.passes.simplify import simplify
from pellucid.passes.stage import staged

F = TensorType(float32, (3,))


def graph_with_dead_node() -> Graph:
    with building() as builder:
        x = builder.input(F)
        exp(x)
        return builder.graph([neg(x)])


@pytest.mark.parametrize("run", [dce, cse, fold, simplify, fuse])
def test_file_function_and_stage_share_one_name(run: object) -> None:
    name = getattr(run, "__name__", "")
    with recording() as record:
        run(graph_with_dead_node())  # type: ignore[operator]
    (stage,) = record.stages
    assert getattr(run, "__module__", "") == f"pellucid.passes.{name}"
    assert (stage.name, stage.made_by) == (name, f"passes/{name}")
    assert stage.seconds >= 0


def test_the_text_says_what_went_and_prints_the_graph() -> None:
    with recording() as record:
        after = dce(graph_with_dead_node())
    assert record.stages[0].text == f"dce: 2 nodes -> 1\n{print_graph(after)}"


def broken(graph: Graph) -> Graph:
    (node,) = graph.nodes
    wrong = Node(node.op, node.operands, node.attrs, (TensorType(int32, (3,)),))
    return Graph(graph.inputs, (wrong,), graph.results, graph.outputs)


def test_a_pass_that_breaks_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = dce(graph_with_dead_node())
    staged(broken)(graph)
    monkeypatch.setenv("PELLUCID_CHECK", "1")
    with pytest.raises(GraphError, match=r"after broken: .*neg"):
        staged(broken)(graph)
    with pytest.raises(GraphError, match="before dce"):
        dce(broken(graph))
