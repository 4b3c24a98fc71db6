"""Does a value that somebody holds ever change? Donation, aliases, and several threads at once."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from tests.tensor.training import assert_same_bits, data, small_model, training_step

SIZE = 1000


def counter() -> tuple[pe.Variable, Any]:
    """A large cell, and a compiled step that adds 1 to it."""
    cell = pe.Variable(np.zeros(SIZE, np.float32))
    step = pe.jit(lambda: cell.assign(cell + 1.0))
    step()
    step()
    return cell, step


def address(cell: pe.Variable) -> int:
    return int(cell.numpy().ctypes.data)


def test_a_cell_that_nobody_else_holds_is_written_in_place():
    cell, step = counter()
    before = address(cell)
    step()
    step()
    assert address(cell) == before
    assert cell.numpy()[0] == 4.0


@pytest.mark.parametrize(
    "hold",
    [
        lambda cell: cell.value,
        lambda cell: cell.numpy(),
        lambda cell: np.asarray(cell)[3:5],
        lambda cell: pe.reshape(cell, (10, 100)),
        lambda cell: memoryview(np.asarray(cell)),
        lambda cell: np.from_dlpack(cell.value),
        lambda cell: pe.Variable(cell),
    ],
    ids=["tensor", "array", "slice", "view", "memoryview", "dlpack", "variable"],
)
def test_what_is_held_across_a_step_keeps_its_value(hold: Callable[[pe.Variable], Any]):
    cell, step = counter()
    held = hold(cell)
    before = np.array(held)
    for _ in range(3):
        step()
    np.testing.assert_array_equal(np.asarray(held), before)
    assert cell.numpy()[0] == 5.0


def test_once_the_alias_is_gone_the_cell_is_written_in_place_again():
    cell, step = counter()
    held = cell.value
    step()
    del held
    step()
    before = address(cell)
    step()
    assert address(cell) == before
    assert cell.numpy()[0] == 5.0


def test_an_alias_made_between_two_steps_is_seen():
    cell, step = counter()
    seen = []
    for _ in range(4):
        step()
        seen.append(cell.value)
    assert [float(np.asarray(one)[0]) for one in seen] == [3.0, 4.0, 5.0, 6.0]


def test_a_tensor_that_was_assigned_does_not_change():
    cell, step = counter()
    given = pe.zeros((SIZE,))
    cell.assign(given)
    step()
    assert float(given.max()) == 0.0
    assert cell.numpy()[0] == 1.0


def test_a_result_is_not_the_cell():
    cell = pe.Variable([1.0, 2.0])

    @pe.jit
    def step() -> pe.Tensor:
        cell.assign(cell * 2.0)
        return cell.value

    results = [step() for _ in range(3)]
    assert [one.tolist() for one in results] == [[2.0, 4.0], [4.0, 8.0], [8.0, 16.0]]


def test_the_cells_own_value_as_an_argument():
    cell, _ = counter()
    add = pe.jit(lambda x: cell.assign(cell + x))
    for _ in range(3):
        add(cell.value)
    assert cell.numpy()[0] == 16.0


def test_the_tape_keeps_the_values_of_the_forward_pass():
    w = pe.Parameter([2.0, 3.0])
    double = pe.jit(lambda: w.assign(w * 2.0))
    double()
    double()
    loss = (w * w).sum()
    double()
    loss.backward()
    assert w.grad.tolist() == [16.0, 24.0]


def test_a_parameter_assigned_between_two_reads_counts_twice():
    w = pe.Parameter(2.0)
    first = w * 3.0
    w.assign(10.0)
    (first * w).backward()
    # d/dw of (3 a) * b at a = 2, b = 10, both of them values of w.
    assert float(w.grad) == 3.0 * 10.0 + 6.0


def test_split_values_do_not_change_with_training():
    model = small_model()
    x, y = data()
    step = pe.jit(training_step(model, optim.SGD(model, 0.5)))
    step(x, y)
    _, values = nn.split(model)
    before = {name: np.array(value) for name, value in values.items()}
    step(x, y)
    assert_same_bits(values, before)


def run_in_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 (raised again by the test)
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]


def test_threads_that_infer_with_one_executable_do_not_disturb_each_other():
    model = small_model()
    run = pe.jit(lambda x: model(x))
    inputs = [pe.asarray(np.full((3, 4), i, np.float32)) for i in range(4)]
    run(inputs[0])
    expected = [np.array(run(x)) for x in inputs]

    def work(number: int) -> None:
        for _ in range(50):
            assert_same_bits(run(inputs[number]), expected[number])

    run_in_threads(4, work)


def test_threads_that_train_one_model_lose_no_step():
    cell, step = counter()

    def work(number: int) -> None:
        for _ in range(50):
            step()

    run_in_threads(4, work)
    np.testing.assert_array_equal(cell.numpy(), np.full(SIZE, 202.0))


def test_whoever_reads_while_another_thread_trains_sees_whole_steps():
    # Both cells are always equal; a torn read would show different numbers.
    left, right = (pe.Variable(np.zeros(SIZE, np.float32)) for _ in range(2))

    @pe.jit
    def step() -> None:
        left.assign(left + 1.0)
        right.assign(right + 1.0)

    difference = pe.jit(lambda: pe.max(pe.abs(left - right)))
    step()
    difference()

    def work(number: int) -> None:
        for _ in range(60):
            if number == 0:
                step()
            elif number == 1:
                assert float(difference()) == 0.0
            else:
                held = left.numpy()
                assert held.min() == held.max()

    run_in_threads(4, work)


def test_assigning_from_another_thread_during_steps_is_safe():
    cell, step = counter()

    def work(number: int) -> None:
        for turn in range(60):
            if number:
                cell.assign(np.full(SIZE, float(turn), np.float32))
            else:
                step()

    run_in_threads(3, work)
    held = cell.numpy()
    assert held.min() == held.max()


def test_two_threads_that_call_first_at_once_build_one_model():
    pe.random.seed(0)
    model = small_model()
    run = pe.jit(lambda x: model(x))
    x, _ = data()
    found: list[Any] = [None] * 4

    def work(number: int) -> None:
        found[number] = np.asarray(run(x))

    run_in_threads(4, work)
    for one in found:
        assert_same_bits(one, found[0])
    assert len(model.parameters()) == 4


def test_eager_threads_have_a_tape_mode_and_an_engine_of_their_own():
    seen: dict[int, bool] = {}
    w = pe.Parameter(1.0)

    def work(number: int) -> None:
        seen[number] = (w * 2.0).requires_grad

    with pe.no_grad():
        run_in_threads(2, work)
        assert not (w * 2.0).requires_grad
    assert seen == {0: True, 1: True}


def test_dropped_models_are_freed():
    import weakref

    def make() -> weakref.ref[Any]:
        model = small_model()
        step = pe.jit(training_step(model, optim.Adam(model)))
        x, y = data()
        step(x, y)
        step(x, y)
        return weakref.ref(model)

    ref = make()
    gc.collect()
    assert ref() is None


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_an_interrupt_during_a_step_leaves_whole_steps():
    left, right = (pe.Variable(np.zeros(200_000, np.float32)) for _ in range(2))

    @pe.jit
    def step() -> None:
        left.assign(left + 1.0)
        right.assign(right + 1.0)

    step()
    step()
    before = signal.getsignal(signal.SIGINT)
    interrupted, ready = 0, threading.Event()

    def poke() -> None:
        # Never two at once: the next one is sent when the last one was caught.
        for _ in range(20):
            if not ready.wait(timeout=60):
                return
            ready.clear()
            time.sleep(0.003)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=poke)
    thread.start()
    try:
        while thread.is_alive():
            try:
                ready.set()
                while thread.is_alive():
                    step()
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert interrupted
    assert_same_bits(left.numpy(), right.numpy())
    assert left.numpy().min() == left.numpy().max()
    count = float(left.numpy()[0])
    step()
    assert float(left.numpy()[0]) == count + 1.0
