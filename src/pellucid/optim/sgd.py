"""Stochastic gradient descent, with momentum if asked."""

from __future__ import annotations

from typing import Any

from pellucid.core.error import StateError
from pellucid.optim.optimizer import Optimizer, working_dtype
from pellucid.tensor.state import Parameter, Variable
from pellucid.tensor.tensor import Tensor


class SGD(Optimizer):
    """p -= rate * g; with momentum m: v = m * v + g, p -= rate * v.

    Nesterov's form uses g + m * v (Sutskever et al., ICML 2013); `weight_decay` w adds w * p to g.

    >>> from pellucid import Parameter, Variable
    >>> p = Parameter(1.0)
    >>> (p * 3.0).backward()
    >>> SGD(p, learning_rate=0.1).step()
    >>> print(f"{p:.2f}")
    0.70
    """

    def __init__(
        self,
        target: Any,
        learning_rate: float | Variable = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        lr: float | Variable | None = None,
    ) -> None:
        super().__init__(target, learning_rate, lr)
        if not 0.0 <= momentum < 1.0:
            raise StateError(f"SGD: expected a momentum from 0 to below 1, got {momentum}")
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    def update(self, pairs: list[tuple[Parameter, Tensor]]) -> None:
        """One step for every Parameter that has a gradient."""
        for parameter, gradient in pairs:
            dtype = working_dtype(parameter)
            value, rate = parameter.astype(dtype), self.learning_rate.astype(dtype)
            change = gradient.astype(dtype)
            if self.weight_decay:
                change = change + value * self.weight_decay
            if self.momentum:
                change = self._with_momentum(parameter, change)
            parameter.assign(value - change * rate)

    def _with_momentum(self, parameter: Parameter, gradient: Tensor) -> Tensor:
        velocity = self.slot("velocity", parameter)
        moved = velocity * self.momentum + gradient
        velocity.assign(moved)
        return gradient + moved * self.momentum if self.nesterov else moved
