"""Small models and data that the tests of state, jit and optimizers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import pellucid as pe
from pellucid import nn, optim
from pellucid.tensor.cells import cells_of


def data(rows: int = 6, features: int = 4, classes: int = 3) -> tuple[pe.Tensor, pe.Tensor]:
    """Some inputs and labels, always the same."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    return pe.asarray(x), pe.asarray(rng.integers(0, classes, rows))


def small_model(classes: int = 3) -> nn.Sequential:
    """Two layers, whose sizes are not known yet; the same numbers each time."""
    pe.random.seed(7)
    return nn.Sequential([nn.Dense(5, activation="tanh"), nn.Dense(classes)])


def training_step(model: Any, opt: optim.Optimizer) -> Callable[..., pe.Tensor]:
    """The usual step, not compiled."""

    def step(x: pe.Tensor, y: pe.Tensor) -> pe.Tensor:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return step


def numbers_of(root: Any) -> dict[str, np.ndarray[Any, Any]]:
    """A copy of everything that a model or optimizer holds, by path."""
    return {path: np.array(cell.value) for path, cell in cells_of(root).items()}


def assert_same_bits(found: Any, expected: Any) -> None:
    """Trees of arrays that agree in every bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_same_bits(found[name], expected[name])
        return
    left, right = np.asarray(found), np.asarray(expected)
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert left.tobytes() == right.tobytes(), (left, right)


@contextmanager
def counting_traces(function: Any) -> Iterator[list[str]]:
    """Why a jitted function was traced again while this is open."""
    first = len(function.why)
    reasons: list[str] = []
    yield reasons
    reasons += function.why[first:]
