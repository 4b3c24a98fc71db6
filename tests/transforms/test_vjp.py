"""Does reverse mode carry cotangents back? Against forward mode, and node by node in text."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.dtype import float32, float64, int32
from pellucid.core.error import DerivativeError
from pellucid.core.source import Source
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, TensorType, count_ops
from pellucid.ir.text import print_graph
from pellucid.ops.control import evaluate, fusion
from pellucid.ops.elementwise import add, cast, exp, mul, neg, stop_gradient, tanh
from pellucid.ops.movement import full
from pellucid.passes.pipeline import clean
from pellucid.transforms import gradient_graph, jvp, pull_back, vjp
from tests.transforms.functions import FUNCTIONS, Arrays, arrays_for, trace

F = TensorType(float32, (3,))


def everything(graph: Graph) -> tuple[int, ...]:
    return tuple(range(len(graph.inputs)))


def inner(lhs: Arrays, rhs: Arrays) -> float:
    return sum(float(np.sum(a * b)) for a, b in zip(lhs, rhs, strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vjp_is_the_transpose_of_jvp(name: str) -> None:
    graph = FUNCTIONS[name]
    x, t = arrays_for(graph, 0), arrays_for(graph, 1)
    found = evaluate(jvp(graph, everything(graph)), x + t)
    values, moved = found[: len(graph.outputs)], found[len(graph.outputs) :]
    g = tuple(np.random.default_rng(2).normal(size=y.shape) for y in values)
    back = evaluate(check(vjp(graph, everything(graph))), x + g)
    assert all(map(np.array_equal, back, values))
    assert inner(back[len(values) :], t) == pytest.approx(inner(g, moved), rel=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_reverse_over_reverse_equals_forward_over_reverse(name: str) -> None:
    graph = FUNCTIONS[name]
    first = vjp(graph, everything(graph))
    x = arrays_for(first, 3)
    count = len(first.inputs)
    forward = evaluate(jvp(first, everything(first)), x + arrays_for(first, 4))
    moved = forward[len(first.outputs) :]
    g = tuple(np.random.default_rng(5).normal(size=array.shape) for array in moved)
    second = evaluate(vjp(first, range(count)), x + g)[len(first.outputs) :]
    assert inner(second, arrays_for(first, 4)) == pytest.approx(inner(g, moved), rel=1e-8)


def test_fourth_derivative_of_a_polynomial_is_exact() -> None:
    graph = trace(lambda x: mul(mul(x, x), mul(x, x)), TensorType(float64, ()))
    for _ in range(4):
        with building() as builder:
            env = builder.copy(graph, [builder.input(graph.inputs[0].type)])
            one = full((), 1.0, float64)
            (found,) = pull_back(graph, env, {graph.outputs[0]: one}, graph.inputs)
            assert found is not None
            graph = builder.graph([found])
    assert evaluate(graph, (np.asarray(3.0),))[0] == 24.0


def test_only_what_is_asked_for_is_computed() -> None:
    graph = trace(lambda x, y: mul(tanh(x), exp(y)), F, F)
    ops = count_ops(clean(vjp(graph, (1,))))
    # y's gradient is g * tanh(x) * exp(y): tanh is not differentiated.
    assert ops == {"exp": 1, "mul": 3, "tanh": 1}


def test_nothing_is_computed_above_a_stop() -> None:
    graph = trace(lambda x, y: add(mul(stop_gradient(exp(x)), y), x), F, F)
    assert "exp" not in {
        node.op.name for node in gradient_graph(graph, graph.inputs, graph.outputs)[0].nodes
    }
    with building() as builder:
        env = {v: builder.input(v.type) for v in graph.numbering}
        g = builder.input(F)
        assert pull_back(graph, env, {graph.outputs[0]: g}, graph.inputs[:1]) == [g]
        assert builder.nodes == []


def test_shares_are_added_last_consumer_first() -> None:
    graph = trace(lambda x: add(add(exp(x), tanh(x)), neg(x)), F)
    swept, _ = gradient_graph(graph, graph.inputs, graph.outputs)
    # (-g + tanh's share) + exp's share
    names = [node.op.name for node in swept.nodes]
    assert names[0] == "neg"
    assert names[-1] == "add"
    last, total = swept.nodes[-1], swept.nodes[-3]
    assert (total.op.name, total.operands[0].node) == ("add", swept.nodes[0])
    assert last.operands == (swept.results[-3][0], swept.results[-2][0])


def test_an_output_given_twice_gets_both_cotangents() -> None:
    graph = trace(lambda x: [x, x], F)
    arrays = tuple(np.full(3, k, np.float32) for k in (0, 2, 3))
    assert evaluate(vjp(graph, (0,)), arrays)[2].tolist() == [5.0] * 3


def test_an_input_that_nothing_depends_on_gets_zero() -> None:
    graph = trace(lambda x, y: exp(x), F, F)
    arrays = tuple(np.ones(3, np.float32) for _ in range(3))
    assert evaluate(vjp(graph, (1,)), arrays)[1].tolist() == [0.0] * 3
    with building() as builder:
        env = {v: builder.input(v.type) for v in graph.numbering}
        g = builder.input(F)
        assert pull_back(graph, env, {graph.outputs[0]: g}, graph.inputs[1:]) == [None]


def test_whole_numbers_get_no_cotangent() -> None:
    graph = trace(lambda x: cast(cast(x, dtype=int32), dtype=float32), F)
    arrays = tuple(np.ones(3, np.float32) for _ in range(2))
    assert evaluate(vjp(graph, (0,)), arrays)[1].tolist() == [0.0] * 3
    with pytest.raises(DerivativeError, match="vjp: expected a floating input 0"):
        vjp(trace(lambda x: x, TensorType(int32, ())), (0,))


def test_gradient_graph_takes_only_the_values_it_needs() -> None:
    graph = trace(lambda x, y: tanh(add(exp(x), y)), F, F)
    swept, residuals = gradient_graph(graph, graph.inputs, graph.outputs)
    assert [graph.numbering[value] for value in residuals] == [2, 4]  # exp(x) and the tanh
    assert print_graph(check(swept)) == (
        "graph(%0: float32[3], %1: float32[3], %2: float32[3]) {\n"
        "  %3: float32[3] = constant() [dtype=float32, shape=(3,), value='1.0']\n"
        "  %4: float32[3] = mul(%1, %1)\n"
        "  %5: float32[3] = sub(%3, %4)\n"
        "  %6: float32[3] = mul(%2, %5)\n"
        "  %7: float32[3] = mul(%6, %0)\n"
        "  return %7, %6\n"
        "}"
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradient_graph_gives_what_vjp_gives(name: str) -> None:
    graph = FUNCTIONS[name]
    x = arrays_for(graph)
    swept, residuals = gradient_graph(graph, graph.inputs, graph.outputs)
    with_residuals = Graph(graph.inputs, graph.nodes, graph.results, (*graph.outputs, *residuals))
    values = evaluate(with_residuals, x)
    y, kept = values[: len(graph.outputs)], values[len(graph.outputs) :]
    g = tuple(np.random.default_rng(2).normal(size=array.shape) for array in y)
    wanted = evaluate(vjp(graph, everything(graph)), x + g)[len(y) :]
    assert all(map(np.array_equal, evaluate(swept, kept + g), wanted))


def test_gradients_of_values_on_the_way_can_be_asked_for() -> None:
    graph = trace(lambda x: exp(tanh(x)), F)
    middle = graph.results[0][0]
    swept, residuals = gradient_graph(graph, [middle], graph.outputs)
    assert residuals == (graph.outputs[0],)
    assert [node.op.name for node in swept.nodes] == ["mul"]


def test_a_node_without_derivative_names_op_reason_and_line() -> None:
    body = trace(exp, F)
    with building() as builder:
        x = builder.input(F)
        builder.source = Source("model.py", 41)
        graph = builder.graph([fusion(x, body=body, kind="loop")])
    with pytest.raises(DerivativeError, match=r"(?s)fusion: .*before fusing.*model\.py:41"):
        vjp(graph, (0,))


def test_gradient_nodes_carry_the_line_of_their_forward_node() -> None:
    with building() as builder:
        x = builder.input(F)
        builder.source = Source("model.py", 7)
        y = exp(x)
        builder.source = Source("model.py", 8)
        graph = builder.graph([tanh(y)])
    swept, _ = gradient_graph(graph, graph.inputs, graph.outputs)
    lines = [node.source.line for node in swept.nodes if node.source]
    assert lines == [8, 8, 8, 8, 7]
