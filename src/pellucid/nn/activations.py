"""Which functions stand between layers? Each takes a tensor of any shape and gives one like it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pellucid.core.error import StateError
from pellucid.tensor import arithmetic as pe
from pellucid.tensor.reducing import max as maximum_over
from pellucid.tensor.reducing import sum as sum_over
from pellucid.tensor.shaping import broadcast_to
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor

Activation = Callable[[Any], Tensor]


def identity(x: Operand) -> Tensor:
    """x itself."""
    return as_tensor(x)


def relu(x: Operand) -> Tensor:
    """x where it is positive, else 0; its derivative at 0 is 0, and NaN stays NaN.

    >>> print(relu(as_tensor([-1.0, 2.0])))
    [0. 2.]
    """
    return pe.where(pe.less_equal(x, 0.0), 0.0, x)


def tanh(x: Operand) -> Tensor:
    """The hyperbolic tangent."""
    return pe.tanh(x)


def sigmoid(x: Operand) -> Tensor:
    """1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which cannot overflow."""
    return pe.add(pe.multiply(pe.tanh(pe.multiply(x, 0.5)), 0.5), 0.5)


def silu(x: Operand) -> Tensor:
    """x * sigmoid(x) (Elfwing et al., 2018), also called swish."""
    return pe.multiply(x, sigmoid(x))


def log_softmax(x: Operand, axis: int = -1) -> Tensor:
    """The logarithm of softmax, without computing softmax: no overflow, no log of 0."""
    shifted = _shifted(x, axis)
    total = sum_over(pe.exp(shifted), axis=axis, keepdims=True)
    return pe.subtract(shifted, pe.log(total))


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
    "softmax": softmax,
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


def _shifted(x: Operand, axis: int) -> Tensor:
    # The largest element goes to 0. Shifting changes nothing, so it has no gradient.
    tensor = pe.floating(as_tensor(x))
    top = pe.stop_gradient(maximum_over(tensor, axis=axis, keepdims=True))
    return pe.subtract(tensor, broadcast_to(top, tensor.shape))
