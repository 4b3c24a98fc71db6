"""Is what seldom changes computed once, and again whenever it changed?"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.tensor.compiled import Compiled


def scaled() -> tuple[pe.Variable, Any]:
    """A function whose exponentials of a Variable are kept."""
    weights = pe.Variable(np.zeros(8, np.float32))
    return weights, pe.jit(lambda x: x * pe.exp(weights))


def compiled(function: Any, *args: Any) -> Compiled:
    return function.compile(*args)


def launched(function: Any, *args: Any) -> int:
    """How many kernels a call runs: those of its steady part, if that runs, are among them."""
    with pe.recording(timed=True) as record:
        function(*args)
    return sum(len(run.steps) for run in record.runs)


X = pe.ones((8,))


def test_what_did_not_change_is_not_computed_again() -> None:
    with pe.device("cpu"):
        _, function = scaled()
        assert [launched(function, X) for _ in range(3)] == [2, 1, 1]


def test_an_assigned_cell_is_noticed() -> None:
    weights, function = scaled()
    assert np.asarray(function(X)).tolist() == [1.0] * 8
    weights.assign(np.full(8, np.log(2.0), np.float32))
    assert np.allclose(function(X), 2.0)


def test_reading_a_cell_changes_nothing() -> None:
    with pe.device("cpu"):
        weights, function = scaled()
        function(X)
        _ = np.asarray(weights)
        assert launched(function, X) == 1


def test_a_compiled_step_that_writes_in_place_is_noticed() -> None:
    weights, function = scaled()
    step = pe.jit(lambda: weights.assign(weights + 1.0))
    for count in range(4):
        assert np.allclose(function(X), np.exp(count), rtol=1e-6)
        step()


def test_a_function_that_assigns_other_cells_keeps_its_steady_part() -> None:
    with pe.device("cpu"):
        weights = pe.Variable(np.ones(8, np.float32))
        count = pe.Variable(0)

        @pe.jit
        def counted(x: pe.Tensor) -> pe.Tensor:
            count.assign(count + 1)
            return x * pe.exp(weights)

        numbers = [launched(counted, X) for _ in range(3)]
        assert numbers[0] - 1 == numbers[1] == numbers[2]
        weights.assign(np.zeros(8, np.float32))
        assert np.asarray(counted(X)).tolist() == [1.0] * 8
        assert int(count) == 4


def test_what_the_function_assigns_itself_is_not_steady() -> None:
    weights = pe.Variable(np.zeros(8, np.float32))

    @pe.jit
    def step(x: pe.Tensor) -> pe.Tensor:
        result = x * pe.exp(weights)
        weights.assign(weights + 1.0)
        return result

    assert compiled(step, X).program.steady is None
    assert [float(np.asarray(step(X))[0]) for _ in range(2)] == [1.0, pytest.approx(np.e)]


def test_borrowed_memory_is_not_steady() -> None:
    memory = np.zeros(8, np.float32)
    borrowed = pe.asarray(memory, copy=False)
    function = pe.jit(lambda x: x * pe.exp(borrowed))
    assert np.asarray(function(X)).tolist() == [1.0] * 8
    memory[:] = 1.0
    assert np.allclose(function(X), np.e)


def test_a_network_that_answers_between_steps_of_training_is_up_to_date() -> None:
    pe.random.seed(0)
    model = nn.Sequential([nn.Dense(6), nn.BatchNorm(), nn.Dense(1)])
    x = pe.asarray(np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32))
    model(x)
    answer, optimizer = pe.jit(lambda x: model(x)), optim.SGD(model, learning_rate=0.1)

    @pe.jit
    def step(x: pe.Tensor) -> None:
        pe.mean(model(x) ** 2).backward()
        optimizer.step()

    for _ in range(3):
        model.train()
        step(x)
        model.eval()
        assert np.array_equal(np.asarray(answer(x)), np.asarray(model(x)))
    assert compiled(answer, x).program.steady is not None


def test_gradients_go_through_it() -> None:
    weights, function = scaled()
    weights.trainable = True
    pe.sum(function(X)).backward()
    assert weights.grad is not None
    assert np.asarray(weights.grad).tolist() == [1.0] * 8


def test_what_is_kept_is_among_the_constants_of_the_footprint() -> None:
    with pe.device("cpu"):
        weights = pe.Variable(np.zeros(1000, np.float32))
        kept = pe.jit(lambda x: x * pe.exp(weights)).memory(pe.ones((1000,)))
        plain = pe.jit(lambda x: x * weights).memory(pe.ones((1000,)))
        assert kept.constants - plain.constants == 4032
        assert kept.call == plain.call


def test_the_record_says_what_is_kept() -> None:
    with pe.recording() as record, pe.device("cpu"):
        _, function = scaled()
        function(X)
    (stage,) = record.named("steady")
    assert stage.text.startswith("steady: 1 value computed once")
    assert "exp" not in record.named("fuse")[-1].text


def test_threads_see_one_value_or_the_other() -> None:
    weights, function = scaled()
    function(X)
    seen: list[np.ndarray] = []

    def call() -> None:
        seen.extend(np.asarray(function(X)) for _ in range(300))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(100):
        weights.assign(np.full(8, float(number % 2), np.float32))
    for thread in threads:
        thread.join()
    known = [np.asarray(pe.exp(pe.full((8,), value, dtype=pe.float32))) for value in (0.0, 1.0)]
    assert len(seen) == 600
    assert all(any(np.array_equal(one, each) for each in known) for one in seen)
