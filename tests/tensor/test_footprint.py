"""Is what a call holds in memory known to the byte before it runs?

The engine's blocks are counted while the call runs; the plan said how many bytes they would be.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.core.error import DeviceError
from pellucid.engines import find_engine
from pellucid.engines.cpu.storage import block_bytes, live_bytes, metered
from pellucid.ir.build import building
from pellucid.ir.graph import TensorType
from pellucid.ops.elementwise import mul
from pellucid.ops.movement import constant_array
from pellucid.tensor.dispatch import evaluate
from tests.programs import program
from tests.tensor.training import training_step


class Block(nn.Module):
    """A small transformer's block, of pre-norm form, between a table and an output layer."""

    def __init__(self) -> None:
        self.tokens, self.output = nn.Embedding(50, 16), nn.Dense(50)
        self.first, self.second = nn.LayerNorm(), nn.LayerNorm()
        self.attention = nn.MultiHeadAttention(4)
        self.up, self.down = nn.Dense(64, activation="gelu"), nn.Dense(16)

    def forward(self, ids: Any) -> Any:
        x = self.tokens(ids)
        x = x + self.attention(self.first(x), causal=True)
        return self.output(x + self.down(self.up(self.second(x))))


def perceptron() -> tuple[Any, tuple[pe.Tensor, ...]]:
    model = nn.Sequential([nn.Dense(64, activation="relu"), nn.Dense(10)])
    return model, (drawn(32, 100), labels(32))


def convolutions() -> tuple[Any, tuple[pe.Tensor, ...]]:
    layers = [nn.Conv2D(8, 3, activation="relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(10)]
    return nn.Sequential(layers), (drawn(4, 10, 10, 1), labels(4))


def transformer() -> tuple[Any, tuple[pe.Tensor, ...]]:
    return Block(), (labels(2, 12), labels(2, 12))


MODELS: dict[str, Callable[[], tuple[Any, tuple[pe.Tensor, ...]]]] = {
    "perceptron": perceptron,
    "convolutions": convolutions,
    "transformer": transformer,
}


@pytest.fixture(autouse=True)
def after_a_step():
    """Begin after an optimizer's step: gradients left over are part of what is compiled."""
    parameter = pe.Parameter(1.0)
    (parameter * 1.0).backward()
    optim.SGD(parameter, learning_rate=0.0).step()


@pytest.mark.parametrize("kind", MODELS)
def test_a_training_step_takes_what_was_planned_to_the_byte(kind: str):
    model, arguments = MODELS[kind]()
    step = pe.jit(training_step(model, optim.Adam(model)))
    assert_planned(step, arguments)


def test_the_calls_of_a_step_that_makes_its_state_work_in_one_arena():
    model, arguments = perceptron()
    step = pe.jit(training_step(model, optim.Adam(model)))
    gc.disable()
    try:
        step(*arguments)
        with counted() as (before, meter):
            step(*arguments)
        assert meter.peak - before < step.memory(*arguments).arena
    finally:
        gc.enable()


@pytest.mark.parametrize("seed", range(12))
def test_a_random_graph_takes_what_was_planned_to_the_byte(seed: int):
    graph, arrays = program(seed)
    run = pe.jit(lambda *tensors: evaluate(graph, tensors))
    assert_planned(run, tuple(map(pe.asarray, arrays)))


@pytest.mark.parametrize("kind", MODELS)
def test_the_arena_of_a_training_step_has_no_gaps(kind: str):
    plan = compiled_step(kind).executable.plan
    assert plan.arena_bytes == plan.peak_bytes == sum(one.bytes for one in plan.held)


def test_constants_are_held_from_the_compilation_on():
    table = np.arange(700, dtype=np.float32)
    with building() as builder:
        x = builder.input(TensorType(pe.float32, (700,)))
        graph = builder.graph([mul(x, constant_array(table))])
    with counted() as (before, _):
        executable = find_engine("cpu").compile(graph, {})
        assert executable.memory.constants == block_bytes(table.nbytes)
        assert live_bytes() - before == executable.memory.constants


def test_a_cell_that_somebody_holds_takes_memory_for_its_new_value():
    cell = pe.Variable(np.zeros(1000, np.float32))
    step = pe.jit(lambda: cell.assign(cell + 1.0))
    planned = step.memory()
    step()
    with counted() as (before, meter):
        step()
        assert meter.peak - before == planned.call == 0
    held = cell.value
    with counted() as (before, meter):
        step()
        assert meter.peak - before == block_bytes(4000)
    assert float(held[0]) == 2.0


def test_gradients_that_a_call_leaves_are_among_its_results():
    w = pe.Parameter(np.ones(500, np.float32))

    @pe.jit
    def step(x: pe.Tensor) -> None:
        (w * x).sum().backward()

    x = drawn(500)
    planned = step.memory(x)
    assert planned.results == block_bytes(2000)
    step(x)
    w.grad = None
    with counted() as (before, _):
        step(x)
        assert live_bytes() - before == planned.results


def test_the_peak_is_the_sum_of_its_parts():
    w = pe.Parameter(np.ones((300, 200), np.float32))
    planned = pe.jit(lambda x: pe.tanh(x @ w) @ w.T).memory(pe.spec((50, 300), pe.float32))
    assert planned.arguments == 50 * 300 * 4
    assert planned.state == 300 * 200 * 4
    assert planned.results == block_bytes(50 * 300 * 4)
    assert planned.arena == block_bytes(50 * 200 * 4)
    parts = (planned.arguments, planned.state, planned.results, planned.arena, planned.constants)
    assert planned.peak == sum(parts)


def test_what_is_held_says_its_line_its_type_and_its_lifetime():
    @pe.jit
    def double(x: pe.Tensor) -> pe.Tensor:
        hidden = pe.tanh(x @ x)
        return hidden @ hidden

    planned = double.memory(pe.spec((40, 40), pe.float32))
    (held,) = planned.held
    assert (held.bytes, held.first, held.last) == (6400, 0, 1)
    assert held.source is not None
    assert held.source.code == "hidden = pe.tanh(x @ x)"
    assert re.search(
        r"float32\[40, 40\] 6,400 bytes, nodes 0 to 1, test_footprint.py:", f"{planned}"
    )


def test_the_largest_are_named_and_the_rest_are_summed():
    def many(x: pe.Tensor) -> pe.Tensor:
        found = [pe.tanh(x * float(n)) @ x for n in range(30)]
        return pe.stack([one @ x for one in found])

    planned = pe.jit(many).memory(pe.spec((20, 20), pe.float32))
    lines = f"{planned}".splitlines()
    assert len(planned.held) > 20
    assert len(lines) == 4 + 20 + 1
    assert lines[-1].startswith(f"  and {len(planned.held) - 20} smaller, ")


def test_an_engine_that_plans_nothing_says_so():
    with pe.device("reference"):
        run = pe.jit(lambda x: x + x)
        with pytest.raises(
            DeviceError, match=r"'reference' does not plan it(.|\n)*device\('cpu'\)"
        ):
            run.memory(drawn(3))


@cache
def compiled_step(kind: str) -> Any:
    """The compiled training step of a model; for tests that only look at it."""
    model, arguments = MODELS[kind]()
    return pe.jit(training_step(model, optim.Adam(model))).compile(*arguments)


def drawn(*shape: int) -> pe.Tensor:
    return pe.asarray(np.random.default_rng(0).random(shape, dtype=np.float32))


def labels(*shape: int) -> pe.Tensor:
    return pe.asarray(np.random.default_rng(1).integers(0, 10, shape))


@contextmanager
def counted() -> Iterator[tuple[int, Any]]:
    """The bytes held now, and a meter; no collection of garbage lets go of any inside."""
    gc.collect()
    gc.disable()
    try:
        with metered() as meter:
            yield live_bytes(), meter
    finally:
        gc.enable()


def assert_planned(function: Any, arguments: tuple[pe.Tensor, ...]) -> None:
    """The first call takes results and an arena, the next ones results, as the plan says."""
    planned = function.memory(*arguments)
    with counted() as (before, meter):
        results = [function(*arguments)]
        assert meter.peak - before == planned.call
        assert live_bytes() - before == planned.call
        results.append(function(*arguments))
        assert meter.peak - before == planned.call + planned.results
        results.clear()
        assert live_bytes() - before == planned.arena
