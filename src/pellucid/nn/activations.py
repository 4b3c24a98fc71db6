"""Which functions stand between layers? Each takes a tensor of any shape and gives one like it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pellucid.core.error import StateError
from pellucid.tensor import arithmetic as pe
from pellucid.tensor.elementary import erf, expm1, log1p
from pellucid.tensor.reducing import max as maximum_over
from pellucid.tensor.reducing import sum as sum_over
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.shaping import broadcast_to
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor

Activation = Callable[[Any], Tensor]


def identity(x: Operand) -> Tensor:
    """x itself."""
    return as_tensor(x)


@rehearsed
def relu(x: Operand) -> Tensor:
    """x where it is positive, else 0; its derivative at 0 is 0, and NaN stays NaN.

    >>> print(relu(as_tensor([-1.0, 2.0])))
    [0. 2.]
    """
    return pe.where(pe.less_equal(x, 0.0), 0.0, x)


def tanh(x: Operand) -> Tensor:
    """The hyperbolic tangent."""
    return pe.tanh(x)


@rehearsed
def sigmoid(x: Operand) -> Tensor:
    """1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which cannot overflow."""
    return pe.add(pe.multiply(pe.tanh(pe.multiply(x, 0.5)), 0.5), 0.5)


@rehearsed
def silu(x: Operand) -> Tensor:
    """x * sigmoid(x) (Elfwing et al., 2018), also called swish."""
    return pe.multiply(x, sigmoid(x))


@rehearsed
def relu6(x: Operand) -> Tensor:
    """x, but not below 0 nor above 6."""
    return pe.where(pe.less_equal(6.0, x), 6.0, relu(x))


@rehearsed
def leaky_relu(x: Operand, slope: float = 0.01) -> Tensor:
    """x where it is positive, else slope * x (Maas et al., 2013).

    >>> print(leaky_relu(as_tensor([-1.0, 2.0]), slope=0.5))
    [-0.5  2. ]
    """
    return pe.where(pe.less_equal(x, 0.0), pe.multiply(x, slope), x)


@rehearsed
def elu(x: Operand, alpha: float = 1.0) -> Tensor:
    """x where it is positive, else alpha * (exp(x) - 1) (Clevert et al., ICLR 2016)."""
    below = pe.less_equal(x, 0.0)
    # The other branch is computed, too: of 0, so that it cannot overflow.
    curve = pe.multiply(expm1(pe.where(below, x, 0.0)), alpha)
    return pe.where(below, curve, x)


@rehearsed
def selu(x: Operand) -> Tensor:
    """elu scaled so that layers keep mean 0 and variance 1 (Klambauer et al., NeurIPS 2017)."""
    return pe.multiply(elu(x, 1.6732632423543772), 1.0507009873554805)


@rehearsed
def softplus(x: Operand) -> Tensor:
    """log(1 + exp(x)), which cannot overflow: max(x, 0) + log1p(exp(-|x|)).

    >>> print(f"{softplus(0.0):.4f}")
    0.6931
    """
    tensor = pe.floating(as_tensor(x))
    small = pe.exp(pe.where(pe.less(0.0, tensor), pe.negative(tensor), tensor))
    return pe.add(relu(tensor), log1p(small))


@rehearsed
def softsign(x: Operand) -> Tensor:
    """x / (1 + |x|)."""
    return pe.divide(x, pe.add(pe.absolute(x), 1.0))


@rehearsed
def mish(x: Operand) -> Tensor:
    """x * tanh(softplus(x)) (Misra, BMVC 2020)."""
    return pe.multiply(x, pe.tanh(softplus(x)))


@rehearsed
def gelu(x: Operand) -> Tensor:
    """x times the normal distribution function (Hendrycks and Gimpel, 2016).

        x * (1 + erf(x / sqrt(2))) / 2

    >>> print(f"{gelu(1.0):.4f}")
    0.8413
    """
    # Not by erfc, which is good to the last digit far below 0, where gelu is nearly 0, and twice
    # as slow.
    part = pe.add(pe.multiply(erf(pe.multiply(x, math.sqrt(0.5))), 0.5), 0.5)
    return pe.multiply(x, part)


@rehearsed
def gelu_tanh(x: Operand) -> Tensor:
    """The first approximation of `gelu`, by tanh, with which GPT-2 and others were trained.

        x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2

    It differs from the exact one by less than 0.0005.

    >>> print(f"{gelu_tanh(1.0):.4f}")
    0.8412
    """
    cube = pe.multiply(pe.multiply(pe.square(x), x), 0.044715)
    angle = pe.multiply(pe.add(cube, x), math.sqrt(2.0 / math.pi))
    return pe.multiply(x, pe.add(pe.multiply(pe.tanh(angle), 0.5), 0.5))


@rehearsed
def hard_tanh(x: Operand) -> Tensor:
    """x, but not below -1 nor above 1."""
    return _between(as_tensor(x), -1.0, 1.0)


@rehearsed
def hard_sigmoid(x: Operand) -> Tensor:
    """x / 6 + 1/2, but not below 0 nor above 1."""
    return _between(pe.add(pe.divide(x, 6.0), 0.5), 0.0, 1.0)


@rehearsed
def hard_silu(x: Operand) -> Tensor:
    """x * hard_sigmoid(x) (Howard et al., ICCV 2019), also called hard swish."""
    return pe.multiply(x, hard_sigmoid(x))


@rehearsed
def log_softmax(x: Operand, axis: int = -1) -> Tensor:
    """The logarithm of softmax, without computing softmax: no overflow, no log of 0."""
    shifted = _shifted(x, axis)
    total = sum_over(pe.exp(shifted), axis=axis, keepdims=True)
    return pe.subtract(shifted, pe.log(total))


@rehearsed
def softmax(x: Operand, axis: int = -1) -> Tensor:
    """exp(x) scaled so that it sums to 1 along `axis`.

    >>> print(softmax(as_tensor([0.0, 0.0])))
    [0.5 0.5]
    """
    raised = pe.exp(_shifted(x, axis))
    return pe.divide(raised, sum_over(raised, axis=axis, keepdims=True))


ACTIVATIONS: dict[str, Activation] = {
    "linear": identity,
    "relu": relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": silu,
    "swish": silu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "softplus": softplus,
    "softsign": softsign,
    "mish": mish,
    "hard_tanh": hard_tanh,
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": hard_silu,
    "softmax": softmax,
    "log_softmax": log_softmax,
}


def find_activation(spec: str | Activation | None) -> Activation:
    """The activation of this name, or the function itself; None is no activation."""
    if spec is None:
        return identity
    if callable(spec):
        return spec
    if spec not in ACTIVATIONS:
        raise StateError(f"no activation is called {spec!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[spec]


def _between(x: Tensor, low: float, high: float) -> Tensor:
    # Comparisons, for a derivative of 0 at both ends; NaN stays NaN.
    raised = pe.where(pe.less_equal(x, low), low, x)
    return pe.where(pe.less_equal(high, x), high, raised)


def _shifted(x: Operand, axis: int) -> Tensor:
    # The largest element goes to 0. Shifting changes nothing, so it has no gradient.
    tensor = pe.floating(as_tensor(x))
    top = pe.stop_gradient(maximum_over(tensor, axis=axis, keepdims=True))
    return pe.subtract(tensor, broadcast_to(top, tensor.shape))
