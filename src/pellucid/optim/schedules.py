"""Which learning rate at which step? Schedules: functions of the number of steps already made.

    opt = optim.Adam(model, learning_rate=optim.schedules.Cosine(1e-3, steps=10_000))

A schedule is computed where the step is, from the optimizer's own count: inside the compiled graph,
so that no step is traced for its rate. Any function from that count to a number serves as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from pellucid.core.dtype import float64
from pellucid.core.error import StateError
from pellucid.core.spelling import unknown_name
from pellucid.tensor import arithmetic as pe
from pellucid.tensor.elementary import cos, floor_divide, pow
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor

Schedule = Callable[[Operand], Operand]


@dataclass(frozen=True)
class Constant:
    """The same rate at every step; what `WarmUp` is often put before.

    >>> print(Constant(0.1)(7))
    0.1
    """

    rate: float

    def __post_init__(self) -> None:
        _require_rate("Constant", self.rate)

    def __call__(self, step: Operand) -> Tensor:
        """The rate after `step` steps, float64."""
        return pe.add(pe.multiply(_count(step), 0.0), self.rate)


@dataclass(frozen=True)
class StepDecay:
    """rate * factor ** (step // every): the rate falls after each `every` steps.

    >>> decay = StepDecay(1.0, every=10, factor=0.5)
    >>> print(*(f"{decay(step):.2f}" for step in (9, 10, 20)))
    1.00 0.50 0.25
    """

    rate: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _require_rate("StepDecay", self.rate)
        _require_steps("StepDecay", self.every)
        if not self.factor > 0:
            raise StateError(f"StepDecay: expected a factor above 0, got {self.factor}")

    def __call__(self, step: Operand) -> Tensor:
        """The rate after `step` steps, float64."""
        falls = floor_divide(_count(step), self.every)
        return pe.multiply(pow(self.factor, falls), self.rate)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `rate` down to `final` over `steps` steps, and `final` from there on.

        final + (rate - final) * (1 + cos(pi * step / steps)) / 2

    Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.

    >>> print(*(Cosine(1.0, steps=10)(step) for step in (0, 5, 10, 99)))
    1.0 0.5 0.0 0.0
    """

    rate: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _require_rate("Cosine", self.rate)
        _require_rate("Cosine", self.final)
        _require_steps("Cosine", self.steps)

    def __call__(self, step: Operand) -> Tensor:
        """The rate after `step` steps, float64."""
        part = pe.minimum(pe.divide(_count(step), self.steps), 1.0)
        height = pe.multiply(pe.add(cos(pe.multiply(part, math.pi)), 1.0), 0.5)
        return pe.add(pe.multiply(height, self.rate - self.final), self.final)


@dataclass(frozen=True)
class WarmUp:
    """Rises evenly to the first rate of `then` over `steps` steps, and then follows it.

    The first step has 1 / steps of that rate, for a rate of 0 would teach nothing.

    >>> print(*(WarmUp(4, Constant(1.0))(step) for step in range(6)))
    0.25 0.5 0.75 1.0 1.0 1.0
    """

    steps: int
    then: Schedule

    def __post_init__(self) -> None:
        _require_steps("WarmUp", self.steps)

    def __call__(self, step: Operand) -> Tensor:
        """The rate after `step` steps, float64."""
        count = _count(step)
        later = as_tensor(self.then(pe.maximum(pe.subtract(count, self.steps), 0.0)))
        rise = pe.minimum(pe.divide(pe.add(count, 1.0), self.steps), 1.0)
        return pe.multiply(later, rise)


def _count(step: Operand) -> Tensor:
    return pe.astype(as_tensor(step), float64)


def _require_rate(name: str, rate: float) -> None:
    if not rate >= 0:
        raise StateError(f"{name}: expected a rate of at least 0, got {rate}")


def _require_steps(name: str, steps: int) -> None:
    if steps < 1:
        raise StateError(f"{name}: expected at least 1 step, got {steps}")


_REWRITES = {
    "CosineAnnealingLR": "schedules.Cosine(rate, steps)",
    "CosineDecay": "schedules.Cosine(rate, steps)",
    "ExponentialDecay": "schedules.StepDecay(rate, every, factor)",
    "ExponentialLR": "schedules.StepDecay(rate, every=1, factor=gamma)",
    "LinearLR": "schedules.WarmUp(steps, then)",
    "StepLR": "schedules.StepDecay(rate, every, factor)",
}


def __getattr__(name: str) -> NoReturn:
    raise unknown_name("pellucid.optim.schedules", name, _REWRITES)
