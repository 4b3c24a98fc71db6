"""Does forward mode say how outputs move? Against differences, of every order tried."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.dtype import bool_, float32, int32
from pellucid.core.error import DerivativeError
from pellucid.core.source import Source
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import TensorType
from pellucid.ir.text import print_graph
from pellucid.ops.control import evaluate, fusion
from pellucid.ops.elementwise import cast, equal, exp, less, mul, neg, select, stop_gradient
from pellucid.transforms import jvp
from tests.transforms.functions import FUNCTIONS, arrays_for, trace

F = TensorType(float32, (3,))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jvp_equals_differences(name: str) -> None:
    graph = FUNCTIONS[name]
    wrt = tuple(range(len(graph.inputs)))
    x, t = arrays_for(graph, 0), arrays_for(graph, 1)
    found = evaluate(check(jvp(graph, wrt)), x + t)
    h = 1e-6
    ahead, behind = (
        evaluate(graph, tuple(a + s * b for a, b in zip(x, t, strict=True))) for s in (h, -h)
    )
    for index, moved in enumerate(found[len(graph.outputs) :]):
        wanted = (ahead[index] - behind[index]) / (2 * h)
        np.testing.assert_allclose(moved, wanted, rtol=1e-6, atol=1e-7)


def test_third_derivative_of_exp_is_exp() -> None:
    graph = trace(exp, F)
    for _ in range(3):
        graph = jvp(graph, (0,))
    x, one = np.array([0, 1, 2], np.float32), np.ones(3, np.float32)
    found = evaluate(graph, (x, one, one, one))
    np.testing.assert_allclose(found[-1], np.exp(x), rtol=1e-6)


def test_only_what_moves_has_tangent_work() -> None:
    graph = trace(lambda x, y: [mul(x, y), exp(y)], F, F)
    assert print_graph(jvp(graph, (0,))) == (
        "graph(%0: float32[3], %1: float32[3], %2: float32[3]) {\n"
        "  %3: float32[3] = mul(%0, %1)\n"
        "  %4: float32[3] = exp(%1)\n"
        "  %5: float32[3] = mul(%2, %1)\n"
        "  %6: float32[3] = constant() [dtype=float32, shape=(3,), value='0.0']\n"
        "  return %3, %4, %5, %6\n"
        "}"
    )


def test_an_input_named_twice_moves_by_both_tangents() -> None:
    found = evaluate(
        jvp(trace(neg, F), (0, 0)), tuple(np.full(3, k, np.float32) for k in (0, 2, 3))
    )
    assert found[1].tolist() == [-5.0] * 3


def test_whole_numbers_and_stopped_values_do_not_move() -> None:
    graph = trace(
        lambda x: [stop_gradient(x), cast(cast(x, dtype=int32), dtype=float32), less(x, x)], F
    )
    moved = jvp(graph, (0,))
    assert len(moved.outputs) == 5
    found = evaluate(moved, (np.ones(3, np.float32), np.ones(3, np.float32)))
    assert [array.tolist() for array in found[3:]] == [[0.0] * 3] * 2


def test_select_moves_with_the_branch_taken() -> None:
    graph = trace(
        lambda c, x: select(c, x, stop_gradient(x)),
        TensorType(bool_, (2,)),
        TensorType(float32, (2,)),
    )
    x = np.ones(2, np.float32)
    found = evaluate(jvp(graph, (1,)), (np.array([True, False]), x, x))
    assert found[1].tolist() == [1.0, 0.0]


def test_a_whole_number_is_no_place_to_start() -> None:
    with pytest.raises(DerivativeError, match=r"jvp: expected a floating input 0, got int32\[3\]"):
        jvp(trace(lambda x: equal(x, x), TensorType(int32, (3,))), (0,))


def test_a_node_without_derivative_names_op_reason_and_line() -> None:
    body = trace(exp, F)
    with building() as builder:
        x = builder.input(F)
        builder.source = Source("model.py", 41)
        graph = builder.graph([fusion(x, body=body, kind="loop")])
    with pytest.raises(DerivativeError, match=r"(?s)fusion: .*before fusing.*model\.py:41"):
        jvp(graph, (0,))


def test_tangents_carry_the_line_of_their_node() -> None:
    with building() as builder:
        x = builder.input(F)
        builder.source = Source("model.py", 7)
        graph = builder.graph([exp(x)])
    assert {node.source for node in jvp(graph, (0,)).nodes} == {Source("model.py", 7)}
