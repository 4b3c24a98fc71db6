"""How are elements put in order? By their places: what is sorted is what is taken from there."""

from __future__ import annotations

from pellucid.ops import sort as ops
from pellucid.tensor.dispatch import apply
from pellucid.tensor.indexing import take_along_axis
from pellucid.tensor.shaping import axis_of
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


def argsort(
    x: Operand, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """The places of the elements along `axis` in their order; NaN comes last either way.

    Equal elements keep their order (with `stable=False` they may as well).

    >>> print(argsort(as_tensor([3.0, 1.0, 2.0])))
    [1 2 0]
    """
    tensor = as_tensor(x)
    place = axis_of("argsort", axis, tensor.ndim)
    return apply(ops.argsort, (tensor,), (("axis", place), ("descending", bool(descending))))


def sort(x: Operand, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements along `axis` in their order; gradients go back to where each came from.

    >>> print(sort(as_tensor([3.0, 1.0, 2.0]), descending=True))
    [3. 2. 1.]
    """
    tensor = as_tensor(x)
    places = argsort(tensor, axis=axis, descending=descending, stable=stable)
    return take_along_axis(tensor, places, axis=axis)
