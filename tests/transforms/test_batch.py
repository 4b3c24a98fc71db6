"""Is a batch the loop over its examples? Also through derivatives, and of derivatives."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pellucid.core.dtype import float32, uint64
from pellucid.core.shape import sym
from pellucid.core.source import Source
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, TensorType
from pellucid.ir.text import print_graph
from pellucid.ops.control import evaluate
from pellucid.ops.elementwise import add, exp, mul
from pellucid.ops.movement import full
from pellucid.ops.random import random_bits
from pellucid.transforms import batch, jvp, vjp
from tests.transforms.functions import FUNCTIONS, Arrays, arrays_for, trace

F = TensorType(float32, (3,))


def assert_batch_is_loop(graph: Graph, mapped: tuple[bool, ...], size: int = 3) -> None:
    rows = tuple(
        np.stack([arrays_for(graph, seed)[i] for seed in range(size)]) if flag else x
        for i, (flag, x) in enumerate(zip(mapped, arrays_for(graph, 9), strict=True))
    )
    found = evaluate(check(batch(graph, mapped, size)), rows)
    for k in range(size):
        one: Arrays = tuple(x[k] if flag else x for x, flag in zip(rows, mapped, strict=True))
        for many, alone in zip(found, evaluate(graph, one), strict=True):
            np.testing.assert_allclose(many[k], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batch_equals_loop(name: str) -> None:
    graph = FUNCTIONS[name]
    for mapped in product((False, True), repeat=len(graph.inputs)):
        assert_batch_is_loop(graph, mapped)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batch_of_derivatives_equals_loop(name: str) -> None:
    graph = FUNCTIONS[name]
    for derived in (jvp(graph, (0,)), vjp(graph, range(len(graph.inputs)))):
        assert_batch_is_loop(derived, (True,) * len(derived.inputs))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batch_of_a_batch_equals_loops(name: str) -> None:
    graph = FUNCTIONS[name]
    once = batch(graph, (True,) * len(graph.inputs), 2)
    assert_batch_is_loop(once, (True,) * len(graph.inputs))


def test_derivative_of_a_batch_equals_batch_of_the_derivative() -> None:
    graph = FUNCTIONS["log_softmax"]
    lhs = vjp(batch(graph, (True,), 4), (0,))
    rhs = batch(vjp(graph, (0,)), (True, True), 4)
    arrays = arrays_for(lhs)
    for one, other in zip(evaluate(lhs, arrays), evaluate(rhs, arrays), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_what_no_example_changes_is_computed_once() -> None:
    graph = trace(lambda x, y: add(mul(x, x), exp(y)), F, F)
    assert print_graph(batch(graph, (False, True), 5)) == (
        "graph(%0: float32[3], %1: float32[5, 3]) {\n"
        "  %2: float32[3] = mul(%0, %0)\n"
        "  %3: float32[5, 3] = exp(%1)\n"
        "  %4: float32[5, 3] = broadcast(%2) [axes=(1,), shape=(5, 3)]\n"
        "  %5: float32[5, 3] = add(%4, %3)\n"
        "  return %5\n"
        "}"
    )


def test_an_output_that_is_the_same_for_all_is_repeated() -> None:
    graph = trace(lambda x, y: [exp(y), x], F, F)
    shapes = [value.shape for value in batch(graph, (True, False), 2).outputs]
    assert shapes == [(2, 3), (2, 3)]


def test_a_draw_outside_the_batch_is_one_draw() -> None:
    def noise(x):
        word = full((), 3, uint64)
        return random_bits(word, word, shape=(4,))

    bits = evaluate(batch(trace(noise, F), (True,), 2), (np.zeros((2, 3), np.float32),))[0]
    assert bits[0].tolist() == bits[1].tolist()


def test_a_batch_of_nothing_is_empty() -> None:
    (found,) = evaluate(batch(trace(exp, F), (True,), 0), (np.zeros((0, 3), np.float32),))
    assert found.shape == (0, 3)


def test_the_size_may_be_unknown() -> None:
    n = sym("n")
    assert batch(trace(exp, F), (True,), n).outputs[0].shape == (n, 3)


def test_nodes_keep_their_line() -> None:
    with building() as builder:
        x = builder.input(F)
        builder.source = Source("model.py", 7)
        graph = builder.graph([exp(x)])
    assert batch(graph, (True,), 2).nodes[0].source == Source("model.py", 7)
