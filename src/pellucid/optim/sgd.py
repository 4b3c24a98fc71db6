"""Stochastic gradient descent, with momentum if asked."""

from __future__ import annotations

from typing import Any

from pellucid.core.error import StateError
from pellucid.optim.optimizer import Optimizer, working_dtype
from pellucid.optim.schedules import Schedule
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.state import Parameter, Variable
from pellucid.tensor.tensor import Tensor


class SGD(Optimizer):
    """p -= rate * g; with momentum m: v = m * v + g, p -= rate * v.

    Nesterov's form uses g + m * v (Sutskever et al., ICML 2013); `weight_decay` w adds w * p to g.

    >>> from pellucid import Parameter
    >>> p = Parameter(1.0)
    >>> (p * 3.0).backward()
    >>> SGD(p, learning_rate=0.1).step()
    >>> print(f"{p:.2f}")
    0.70
    """

    def __init__(
        self,
        target: Any,
        learning_rate: float | Variable | Schedule = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        lr: float | Variable | Schedule | None = None,
    ) -> None:
        super().__init__(target, learning_rate, lr)
        if not 0.0 <= momentum < 1.0:
            raise StateError(f"SGD: expected a momentum from 0 to below 1, got {momentum}")
        if nesterov and momentum == 0.0:
            raise StateError("SGD: Nesterov's form needs a momentum; write momentum=0.9")
        if not weight_decay >= 0.0:
            raise StateError(f"SGD: expected a weight decay of at least 0, got {weight_decay}")
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    def update(self, pairs: list[tuple[Parameter, Tensor]]) -> None:
        """One step for every Parameter that has a gradient."""
        settings = (self.momentum, self.nesterov, self.weight_decay)
        for p, gradient in pairs:
            rate = self.learning_rate.value
            if not self.momentum:
                p.assign(_moved(p.value, gradient, rate, None, *settings)[0])
                continue
            velocity = self.slot("velocity", p)
            value, moved = _moved(p.value, gradient, rate, velocity.value, *settings)
            velocity.assign(moved)
            p.assign(value)


@rehearsed
def _moved(
    value: Tensor,
    gradient: Tensor,
    rate: Tensor,
    velocity: Tensor | None,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> tuple[Tensor, Tensor]:
    """A Parameter's next value in its working dtype, and its velocity; without one, the change."""
    dtype = working_dtype(value)
    value, rate, change = value.astype(dtype), rate.astype(dtype), gradient.astype(dtype)
    if weight_decay:
        change = change + value * weight_decay
    moved = change
    if velocity is not None:
        moved = velocity * momentum + change
        change = change + moved * momentum if nesterov else moved
    return value - change * rate, moved
