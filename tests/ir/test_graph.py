"""Are graphs compared by structure, whoever built them and wherever?"""

from __future__ import annotations

import pytest

from pellucid.core.dtype import float32, int32
from pellucid.core.error import GraphError, OpTypeError
from pellucid.core.shape import sym
from pellucid.core.source import Source
from pellucid.ir.build import Builder, building, current_builder
from pellucid.ir.graph import Graph, TensorType, Token, count_ops, walk
from pellucid.ops.control import fusion
from pellucid.ops.elementwise import add, cast, exp, neg

F = TensorType(float32, (3,))


def build(line: int = 1, swap: bool = False) -> Graph:
    with building() as builder:
        x, y = builder.input(F), builder.input(F)
        builder.source = Source("model.py", line)
        return builder.graph([add(y, exp(x)) if swap else add(x, exp(x))])


def test_equal_structure_is_equal_whatever_the_line() -> None:
    assert build(1) == build(99)
    assert hash(build(1)) == hash(build(99))
    assert build(1).nodes[0].source != build(99).nodes[0].source


def test_other_operands_attributes_types_or_outputs_differ() -> None:
    graphs = [build(), build(swap=True)]
    for dtype in (float32, int32):
        for outputs in (1, 2):
            with building() as builder:
                x = builder.input(F)
                graphs.append(builder.graph([cast(x, dtype=dtype)] * outputs))
    assert len(set(graphs)) == len(graphs)


def test_values_are_numbered_inputs_first() -> None:
    graph = build()
    values = [*graph.inputs, *(v for values in graph.results for v in values)]
    assert [graph.numbering[value] for value in values] == [0, 1, 2, 3]


def test_uses_count_operands_and_outputs() -> None:
    graph = build()
    x, y = graph.inputs
    assert (graph.uses[x], graph.uses[y], graph.uses[graph.outputs[0]]) == (2, 0, 1)


def test_nodes_inside_bodies_are_walked_and_counted() -> None:
    with building() as inner:
        x = inner.input(F)
        body = inner.graph([neg(exp(x))])
    with building() as builder:
        x = builder.input(F)
        graph = builder.graph([fusion(exp(x), body=body, kind="loop")])
    assert [node.op.name for node in walk(graph)] == ["exp", "fusion", "exp", "neg"]
    assert count_ops(graph) == {"exp": 2, "fusion": 1, "neg": 1}


def test_types_read_as_in_messages() -> None:
    assert str(TensorType(float32, (2, sym("n")))) == "float32[2, n]"
    assert TensorType(float32, (2,)).message() == "float32 (2,)"
    assert str(Token()) == "token"
    assert TensorType(float32, (2, sym("n"))).size == 2 * sym("n")


def test_ops_need_an_open_builder() -> None:
    (x, *_) = build().inputs
    with pytest.raises(GraphError, match="outside `with building"):
        exp(x)


def test_builders_nest_and_close_after_an_error() -> None:
    with building() as outer:
        with pytest.raises(OpTypeError), building() as inner:
            exp(inner.input(Token()))
        assert current_builder() is outer


def test_a_token_is_no_operand_of_an_op() -> None:
    with building() as builder, pytest.raises(OpTypeError, match="expected a tensor, got a token"):
        exp(builder.input(Token()))


def test_inlining_copies_nodes_over_other_inputs() -> None:
    graph = build(line=5)
    builder = Builder()
    x = builder.input(F)
    builder.source = Source("outer.py", 1)
    outputs = builder.inline(graph, [x, x])
    again = builder.graph(outputs)
    assert [node.op.name for node in again.nodes] == ["exp", "add"]
    assert {node.source for node in again.nodes} == {Source("model.py", 5)}
    assert builder.source == Source("outer.py", 1)


def test_a_value_of_a_deep_graph_is_shown_in_a_line() -> None:
    with building() as builder:
        x = builder.input(F)
        for _ in range(60):
            x = add(x, x)
        assert len(repr(x)) < 400
