"""Adam: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

from typing import Any

from pellucid.core.dtype import float64
from pellucid.core.error import StateError
from pellucid.optim.optimizer import Optimizer, working_dtype
from pellucid.tensor.arithmetic import sqrt
from pellucid.tensor.state import Buffer, Parameter, Variable
from pellucid.tensor.tensor import Tensor


class Adam(Optimizer):
    """Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.

        m = b1 * m + (1 - b1) * g        v = b2 * v + (1 - b2) * g * g
        p -= rate / (1 - b1**t) * m / (sqrt(v) / sqrt(1 - b2**t) + epsilon)

    The corrections 1 - b**t are kept in float64: they are small differences at first.

    >>> from pellucid import Parameter
    >>> p = Parameter(1.0)
    >>> (p * 3.0).backward()
    >>> Adam(p, learning_rate=0.1).step()
    >>> print(f"{p:.2f}")
    0.90
    """

    def __init__(
        self,
        target: Any,
        learning_rate: float | Variable = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        lr: float | Variable | None = None,
    ) -> None:
        super().__init__(target, learning_rate, lr)
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise StateError(f"Adam: expected betas from 0 to below 1, got {betas}")
        self.betas = (float(betas[0]), float(betas[1]))
        self.epsilon = epsilon
        self.powers = [Buffer(1.0, dtype=float64, name=f"beta{i}**t") for i in (1, 2)]

    def update(self, pairs: list[tuple[Parameter, Tensor]]) -> None:
        """One step for every Parameter that has a gradient."""
        for power, beta in zip(self.powers, self.betas, strict=True):
            power.assign(power * beta)
        first, second = (1.0 - power for power in self.powers)
        rate, scale = self.learning_rate / first, sqrt(second)
        for parameter, gradient in pairs:
            dtype = working_dtype(parameter)
            self._update_one(
                parameter, gradient.astype(dtype), rate.astype(dtype), scale.astype(dtype)
            )

    def _update_one(self, p: Parameter, gradient: Tensor, rate: Tensor, scale: Tensor) -> None:
        b1, b2 = self.betas
        mean, square = self.slot("mean", p), self.slot("square", p)
        m = mean * b1 + gradient * (1.0 - b1)
        v = square * b2 + gradient * gradient * (1.0 - b2)
        mean.assign(m)
        square.assign(v)
        p.assign(p.astype(rate.dtype) - rate * m / (sqrt(v) / scale + self.epsilon))
