"""Is a profile what happened: each kernel once, what it had to do, and nothing else changed?"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.explain import Profile, graph_of, profiles, summaries


def profiled(function: Callable[..., Any], *args: Any, runs: int = 1) -> tuple[Profile, ...]:
    with pe.device("cpu"), pe.recording(timed=True) as record:
        for _ in range(runs):
            function(*args)
    return profiles(record)


class Pupil:
    """A model with all kinds of state (weights, Adam's slots, random draws) and its step."""

    def __init__(self) -> None:
        pe.random.seed(3)
        self.x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
        self.y = np.arange(4) % 3
        self.model = nn.Sequential([nn.Dense(8, activation="relu"), nn.Dropout(0.5), nn.Dense(3)])
        self.adam = optim.Adam(self.model, learning_rate=1e-2)
        self.step = pe.jit(self._step)

    def _step(self, x: pe.Tensor, y: pe.Tensor) -> pe.Tensor:
        loss = nn.losses.cross_entropy(self.model(x), y)
        loss.backward()
        self.adam.step()
        return loss

    def learn(self) -> bytes:
        return self.step(self.x, self.y).numpy().tobytes()

    def state(self) -> list[bytes]:
        """Every bit that a step leaves behind, the generator's included."""
        cells = {**self.model.variables(), **self.adam.variables()}
        drawn = pe.random.uniform((4,)).numpy()
        return [*(cell.numpy().tobytes() for cell in cells.values()), drawn.tobytes()]


@pytest.mark.parametrize("steps_before", [0, 1, 3])
def test_a_profiled_step_leaves_the_state_of_one_step_bit_for_bit(steps_before: int):
    with pe.device("cpu"):
        plain = Pupil()
        wanted = [plain.learn() for _ in range(steps_before + 1)]
        left = plain.state()
        timed = Pupil()
        found = [timed.learn() for _ in range(steps_before)]
        with pe.recording(timed=True) as record:
            found.append(timed.learn())
        assert found == wanted
        assert timed.state() == left
    assert len(record.runs) == 1


def test_each_kernel_of_the_graph_has_its_time():
    def f(x: pe.Tensor) -> pe.Tensor:
        return pe.sum(pe.exp(x @ x)) + pe.sum(x)

    with pe.device("cpu"), pe.recording(timed=True) as record:
        pe.jit(f)(pe.ones((9, 9)))
    (profile,) = profiles(record)
    kernels = summaries(graph_of(record.named("fuse")[-1]))
    assert [one.kernel for one in profile.kernels] == list(kernels)
    assert [one.number for one in profile.kernels] == list(range(len(kernels)))
    assert all(one.seconds > 0 for one in profile.kernels)


def test_the_kernels_take_no_longer_than_the_call():
    work = pe.jit(lambda x: pe.tanh(x @ x) @ x)
    x = pe.ones((300, 300))
    profiled(work, x)
    start = time.perf_counter()
    (profile,) = profiled(work, x)
    assert 0 < profile.seconds < time.perf_counter() - start


def test_flops_and_bytes_are_those_of_the_work():
    (profile,) = profiled(pe.jit(lambda x, w: x @ w), pe.ones((5, 7)), pe.ones((7, 11)))
    (product,) = profile.kernels
    assert product.flops == 2 * 5 * 7 * 11
    assert product.bytes == 4 * (5 * 7 + 7 * 11 + 5 * 11)
    assert product.flops_per_second == product.flops / product.seconds
    assert product.bytes_per_second == product.bytes / product.seconds


def test_every_step_of_a_run_is_in_some_kernel():
    convolve = pe.jit(lambda x, w: nn.functional.conv(x, w, padding="same"))
    with pe.device("cpu"), pe.recording(timed=True) as record:
        convolve(pe.ones((2, 8, 8, 4)), pe.ones((3, 3, 4, 4)))
    (profile,), (run,) = profiles(record), record.runs
    assert sum(one.launches for one in profile.kernels) == len(run.steps)
    assert profile.seconds == pytest.approx(sum(step.seconds for step in run.steps))


def test_a_copy_that_the_plan_needs_is_in_the_profile_without_a_number():
    (profile,) = profiled(pe.jit(lambda x: (x, pe.exp(x))), pe.ones((6,)))
    by_number = {one.number: one for one in profile.kernels}
    assert set(by_number) == {None, 0}
    assert (by_number[None].flops, by_number[None].bytes) == (0, 2 * 4 * 6)


def test_of_many_runs_each_kernel_has_the_median():
    double = pe.jit(pe.exp)
    with pe.device("cpu"), pe.recording(timed=True) as record:
        for _ in range(5):
            double(pe.ones((50,)))
    (profile,) = profiles(record)
    times = sorted(run.steps[0].seconds for run in record.runs)
    assert (profile.runs, profile.kernels[0].seconds) == (5, times[2])


def test_two_functions_have_a_profile_each_in_the_order_of_running():
    def both(x: pe.Tensor) -> None:
        first(x)
        second(x)

    first, second = pe.jit(pe.exp), pe.jit(pe.tanh)
    found = profiled(both, pe.ones((3,)), runs=2)
    assert [str(one.kernels[0].kernel.work) for one in found] == ["exp", "tanh"]
    assert [one.runs for one in found] == [2, 2]


def test_what_other_threads_run_is_not_in_it():
    work, x = pe.jit(pe.exp), pe.ones((3,))
    thread = threading.Thread(target=work, args=(x,))

    def elsewhere() -> None:
        thread.start()
        thread.join()

    assert profiled(elsewhere) == ()


def test_without_a_timed_recording_nothing_is_timed():
    with pe.device("cpu"), pe.recording() as record:
        pe.jit(pe.exp)(pe.ones((3,)))
    assert profiles(record) == ()


def test_the_engine_that_cannot_tell_gives_no_profile():
    with pe.device("reference"), pe.recording(timed=True) as record:
        pe.jit(pe.exp)(pe.ones((3,)))
    assert profiles(record) == ()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_has_its_width_and_its_columns_under_their_titles(width: int):
    (profile,) = profiled(pe.jit(lambda x: pe.sum(pe.exp(x @ x)) + x), pe.ones((40, 40)))
    lines = profile.table(10, width).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= width
    assert len(lines) == len(profile.kernels) + 2


def test_the_smaller_kernels_share_a_line_and_the_sum_stays_whole():
    (profile,) = profiled(pe.jit(lambda x: (pe.sum(x @ x), pe.sum(x, axis=0))), pe.ones((40, 40)))
    assert len(profile.kernels) == 3
    whole, short = profile.table(9).splitlines(), profile.table(1).splitlines()
    assert [re.split(r" {2,}", line.strip())[1] for line in short[1:-1]] == [
        "dot_general",
        "2 smaller ones",
    ]
    assert short[-1] == whole[-1]
    assert str(profile).splitlines() == whole
