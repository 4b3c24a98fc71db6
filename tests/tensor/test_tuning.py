"""Does tuning a function leave its state and its results as they were, and say what it did?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.core.error import ConfigError, DeviceError, TraceError
from pellucid.engines.llvm import cache


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache."""
    monkeypatch.setattr(cache, "_caches", {})
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(tmp_path / "kernels"))


class Training:
    """A small model with its optimizer, and a jitted step."""

    def __init__(self) -> None:
        pe.random.seed(3)
        self.model = nn.Sequential([nn.Dense(50, activation="relu"), nn.Dense(7)])
        self.optimizer = optim.Adam(self.model)
        self.x = pe.asarray(np.linspace(-1, 1, 33 * 20, dtype=np.float32).reshape(33, 20))
        self.y = pe.asarray(np.arange(33) % 7)

    @pe.jit
    def step(self) -> pe.Tensor:
        loss = nn.losses.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss

    def state(self) -> list[bytes]:
        return [np.asarray(one.value).tobytes() for one in self.model.parameters()]


def begun() -> Training:
    """After two steps, so that all state is there."""
    training = Training()
    training.step()
    training.step()
    return training


def test_tuning_a_training_step_changes_no_state_and_no_bit() -> None:
    alike, tuned = begun(), begun()
    before = tuned.state()
    report = pe.tune(tuned.step, seconds=1.0)
    assert report.kernels
    assert tuned.state() == before
    for _ in range(3):
        assert np.asarray(alike.step()).tobytes() == np.asarray(tuned.step()).tobytes()
    assert alike.state() == tuned.state()


def test_tuned_function_is_not_traced_again() -> None:
    calls: list[int] = []

    @pe.jit
    def double(x: pe.Tensor) -> pe.Tensor:
        calls.append(1)
        return x @ x

    x = pe.ones((40, 40))
    double(x)
    pe.tune(double, x, seconds=0.1)
    double(x)
    assert len(calls) == 1


def test_plain_function_can_be_tuned_for_a_spec() -> None:
    report = pe.tune(lambda x: pe.exp(x), pe.spec((1000,), pe.float32), seconds=0.1)
    assert [kernel.name for kernel in report.kernels] == ["exp"]
    assert "of 1 kernels faster than by default" in str(report)


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan"), True])
def test_time_must_be_a_number_above_zero(seconds: float) -> None:
    with pytest.raises(ConfigError, match="tune: expected a number of seconds above 0"):
        pe.tune(lambda x: x, pe.ones((3,)), seconds=seconds)


def test_nothing_is_tuned_while_tracing_or_on_the_reference() -> None:
    with pytest.raises(TraceError, match="tune: a function is being traced"):
        pe.jit(lambda x: pe.tune(lambda y: y + y, x))(pe.ones((3,)))
    with pe.device("reference"), pytest.raises(DeviceError, match="no schedules"):
        pe.tune(lambda x: x + x, pe.ones((3,)))
