"""Adam and AdamW: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

from typing import Any

from pellucid.core.dtype import float64
from pellucid.core.error import StateError
from pellucid.optim.optimizer import Optimizer
from pellucid.optim.schedules import Schedule
from pellucid.tensor.arithmetic import sqrt
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.state import Buffer, Parameter, Variable
from pellucid.tensor.tensor import Tensor


class Moments(Optimizer):
    """What Adam and AdamW share: the two running means, and the step that they give.

    The corrections 1 - b**t are kept in float64: they are small differences at first.
    """

    def __init__(
        self,
        target: Any,
        learning_rate: float | Variable | Schedule,
        betas: tuple[float, float],
        epsilon: float,
        weight_decay: float,
        lr: float | Variable | Schedule | None,
    ) -> None:
        super().__init__(target, learning_rate, lr)
        name = type(self).__name__
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise StateError(f"{name}: expected betas from 0 to below 1, got {betas}")
        if not weight_decay >= 0.0:
            raise StateError(f"{name}: expected a weight decay of at least 0, got {weight_decay}")
        self.betas = (float(betas[0]), float(betas[1]))
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.powers = [Buffer(1.0, dtype=float64, name=f"beta{i}**t") for i in (1, 2)]

    def update(self, pairs: list[tuple[Parameter, Tensor]]) -> None:
        """One step for every Parameter that has a gradient."""
        first, second = self.powers
        power1, power2, rate, scale = _corrected(
            first.value, second.value, self.learning_rate.value, *self.betas
        )
        first.assign(power1)
        second.assign(power2)
        settings = (*self.betas, self.epsilon, self.weight_decay)
        for p, gradient in pairs:
            mean, square = self.slot("mean", p), self.slot("square", p)
            decayed, m, v = _moved(
                p.value, gradient, mean.value, square.value,
                rate, scale, self.learning_rate.value, *settings,
            )  # fmt: skip
            mean.assign(m)
            square.assign(v)
            p.assign(decayed)


@rehearsed
def _corrected(
    power1: Tensor, power2: Tensor, rate: Tensor, b1: float, b2: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """b1**t and b2**t of the next step, the rate over 1 - b1**t, and the root of 1 - b2**t."""
    power1, power2 = power1 * b1, power2 * b2
    first, second = 1.0 - power1, 1.0 - power2
    return power1, power2, rate / first, sqrt(second)


@rehearsed
def _moved(
    value: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rate: Tensor,
    scale: Tensor,
    plain_rate: Tensor,
    b1: float,
    b2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """A Parameter's next value, and its two means, all in the means' dtype."""
    dtype = mean.dtype
    gradient, rate, scale = gradient.astype(dtype), rate.astype(dtype), scale.astype(dtype)
    m = mean * b1 + gradient * (1.0 - b1)
    v = square * b2 + gradient * gradient * (1.0 - b2)
    value = value.astype(dtype)
    if weight_decay:
        value = value * (1.0 - plain_rate.astype(dtype) * weight_decay)
    return value - rate * m / (sqrt(v) / scale + epsilon), m, v


class Adam(Moments):
    """Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.

        m = b1 * m + (1 - b1) * g        v = b2 * v + (1 - b2) * g * g
        p -= rate / (1 - b1**t) * m / (sqrt(v) / sqrt(1 - b2**t) + epsilon)

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
        learning_rate: float | Variable | Schedule = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        lr: float | Variable | Schedule | None = None,
    ) -> None:
        super().__init__(target, learning_rate, betas, epsilon, 0.0, lr)


class AdamW(Moments):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019).

    Before Adam's step, p *= 1 - rate * weight_decay: the decay does not pass through the means.

    >>> from pellucid import Parameter
    >>> p = Parameter(1.0)
    >>> (p * 3.0).backward()
    >>> AdamW(p, learning_rate=0.1, weight_decay=0.5).step()
    >>> print(f"{p:.2f}")
    0.85
    """

    def __init__(
        self,
        target: Any,
        learning_rate: float | Variable | Schedule = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        lr: float | Variable | Schedule | None = None,
    ) -> None:
        super().__init__(target, learning_rate, betas, epsilon, weight_decay, lr)
