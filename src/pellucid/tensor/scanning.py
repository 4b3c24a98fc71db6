"""What has each element met so far? Running sums and products, and differences of neighbours.

A running sum of n elements is made in log2(n) steps: each adds the tensor, moved along by 1, 2, 4,
... places, to itself. So every sum is a tree whose shape depends on its place alone, in every
program, and it is as exact as pairwise summation.
"""

from __future__ import annotations

from typing import Any

from pellucid.core.error import OpAxisError, OpShapeError
from pellucid.core.source import at_line, user_source
from pellucid.ops import elementwise, parts
from pellucid.ops.define import Op
from pellucid.ops.movement import literal
from pellucid.tensor.arithmetic import not_equal, subtract
from pellucid.tensor.dispatch import apply
from pellucid.tensor.indexing import sliced
from pellucid.tensor.joining import concat
from pellucid.tensor.reducing import accumulated
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.shaping import axis_of
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


@rehearsed
def cumulative_sum(
    x: Operand, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """The sums of the elements up to each place along `axis` (which a vector need not name).

    bool and integers are summed in 64 bits. With `include_initial` a 0 comes first, and the axis
    is longer by 1. Raises OpAxisError where there are several axes and none is named.

    >>> print(cumulative_sum(as_tensor([1, 2, 3])))
    [1 3 6]
    """
    tensor = accumulated(as_tensor(x), dtype)
    # -0.0 changes no float; 0.0 would turn -0.0 into 0.0.
    neutral = -0.0 if tensor.dtype.is_floating else 0
    return _scan("cumulative_sum", elementwise.add, tensor, axis, neutral, 0, include_initial)


@rehearsed
def cumulative_prod(
    x: Operand, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """The products of the elements up to each place, as `cumulative_sum` has the sums.

    >>> print(cumulative_prod(as_tensor([1, 2, 3]), include_initial=True))
    [1 1 2 6]
    """
    tensor = accumulated(as_tensor(x), dtype)
    return _scan("cumulative_prod", elementwise.mul, tensor, axis, 1, 1, include_initial)


def diff(
    x: Operand, /, *, axis: int = -1, n: int = 1, prepend: Operand | None = None,
    append: Operand | None = None,
) -> Tensor:  # fmt: skip
    """Each element less the one before it along `axis`, `n` times over.

    `prepend` and `append` are joined to x first. For bool, whether neighbours differ.

    >>> print(diff(as_tensor([1, 4, 9, 16]), n=2))
    [2 2]
    """
    if n < 0:
        raise OpShapeError(f"diff: expected n from 0, got {n}{at_line(user_source())}")
    tensor = as_tensor(x)
    place = axis_of("diff", axis, tensor.ndim)
    joined = [as_tensor(one) for one in (prepend, tensor, append) if one is not None]
    tensor = concat(joined, axis=place)
    subtracted = not_equal if tensor.dtype.kind == "bool" else subtract
    for _ in range(min(n, tensor.shape[place])):
        size = tensor.shape[place]
        tensor = subtracted(_between(tensor, place, 1, size), _between(tensor, place, 0, size - 1))
    return tensor


def _scan(
    name: str,
    op: Op,
    tensor: Tensor,
    axis: int | None,
    neutral: float,
    initial: float,
    include_initial: bool,
) -> Tensor:
    if axis is None and tensor.ndim != 1:
        raise OpAxisError(
            f"{name}: expected an axis for a tensor of {tensor.ndim} axes{at_line(user_source())}"
        )
    place = axis_of(name, 0 if axis is None else axis, tensor.ndim)
    step = 1
    while step < tensor.shape[place]:
        tensor = apply(op, (tensor, _moved(tensor, place, step, -step, neutral)))
        step *= 2
    return _moved(tensor, place, 1, 0, initial) if include_initial else tensor


def _moved(tensor: Tensor, place: int, low: int, high: int, value: float) -> Tensor:
    """With so many of a number in front along an axis, and so many more (or fewer) at the end."""
    none = (0,) * tensor.ndim
    lows, highs = (
        tuple(count if axis == place else 0 for axis in range(tensor.ndim)) for count in (low, high)
    )
    number = literal(value, tensor.dtype)
    attrs = (("high", highs), ("interior", none), ("low", lows), ("value", number))
    return apply(parts.pad, (tensor,), attrs)


def _between(tensor: Tensor, place: int, start: int, stop: int) -> Tensor:
    low = tuple(start if axis == place else 0 for axis in range(tensor.ndim))
    high = tuple(stop if axis == place else n for axis, n in enumerate(tensor.shape))
    return sliced(tensor, low, high, (1,) * tensor.ndim)
