"""What brings many elements to one? Sums, means, extremes and their places."""

from __future__ import annotations

from math import prod as prod_of
from typing import Any

from pellucid.core.dtype import as_dtype, bool_, int8, int64, uint64
from pellucid.ops import elementwise, movement
from pellucid.ops import reduce as ops
from pellucid.ops.define import Op
from pellucid.ops.spread import spread
from pellucid.tensor.arithmetic import astype, bitwise_invert, constant, divide, floating, sqrt
from pellucid.tensor.dispatch import apply
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.shaping import axes_of, axis_of, broadcast_to, reshape
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import AxisArgument, Operand, Tensor


def sum(
    x: Operand, /, *, axis: AxisArgument = None, dtype: Any = None, keepdims: bool = False
) -> Tensor:
    """The sum over `axis` (all axes by default); bool and integers are summed in 64 bits.

    The order of the additions depends on the shape alone, so the bits are the same on any number
    of threads.

    >>> print(sum(as_tensor([[1, 2], [3, 4]]), axis=0))
    [4 6]
    """
    tensor = accumulated(as_tensor(x), dtype)
    return _reduce(ops.sum_, tensor, axes_of("sum", axis, tensor.ndim), keepdims)


def prod(
    x: Operand, /, *, axis: AxisArgument = None, dtype: Any = None, keepdims: bool = False
) -> Tensor:
    """The product over `axis`, dtypes as in `sum`; its derivative is right beside zeros too.

    >>> print(prod(as_tensor([[1, 2], [3, 4]]), axis=0))
    [3 8]
    """
    tensor = accumulated(as_tensor(x), dtype)
    return _reduce(ops.prod, tensor, axes_of("prod", axis, tensor.ndim), keepdims)


@rehearsed
def mean(x: Operand, /, *, axis: AxisArgument = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`; integers are averaged as float32. An empty mean is NaN."""
    tensor = floating(as_tensor(x))
    axes = axes_of("mean", axis, tensor.ndim)
    return divide(_reduce(ops.sum_, tensor, axes, keepdims), float(_count(tensor, axes)))


@rehearsed
def var(x: Operand, /, *, axis: AxisArgument = None, keepdims: bool = False) -> Tensor:
    """The mean of the squared distances from the mean."""
    tensor = floating(as_tensor(x))
    axes = axes_of("var", axis, tensor.ndim)
    total = apply(spread, (tensor,), (("axes", axes),))
    return divide(_kept(total, tensor, axes, keepdims), float(_count(tensor, axes)))


@rehearsed
def std(x: Operand, /, *, axis: AxisArgument = None, keepdims: bool = False) -> Tensor:
    """The square root of `var`."""
    return sqrt(var(x, axis=axis, keepdims=keepdims))


@rehearsed
def count_nonzero(x: Operand, /, *, axis: AxisArgument = None, keepdims: bool = False) -> Tensor:
    """How many elements are not zero."""
    return sum(astype(as_tensor(x), bool_), axis=axis, keepdims=keepdims)


def max(x: Operand, /, *, axis: AxisArgument = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axis`, NaN where there is one; ties share the gradient."""
    tensor = as_tensor(x)
    axes = axes_of("max", axis, tensor.ndim)
    if tensor.dtype is bool_:
        return astype(_reduce(ops.max_, astype(tensor, int8), axes, keepdims), bool_)
    return _reduce(ops.max_, tensor, axes, keepdims)


def min(x: Operand, /, *, axis: AxisArgument = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axis`, NaN where there is one; ties share the gradient."""
    tensor = as_tensor(x)
    axes = axes_of("min", axis, tensor.ndim)
    if tensor.dtype is bool_:
        return astype(_reduce(ops.min_, astype(tensor, int8), axes, keepdims), bool_)
    return _reduce(ops.min_, tensor, axes, keepdims)


@rehearsed
def any(x: Operand, /, *, axis: AxisArgument = None, keepdims: bool = False) -> Tensor:
    """Whether one element is true."""
    tensor = astype(as_tensor(x), bool_)
    if tensor.size == 0:
        return astype(sum(tensor, axis=axis, keepdims=keepdims), bool_)
    return max(tensor, axis=axis, keepdims=keepdims)


@rehearsed
def all(x: Operand, /, *, axis: AxisArgument = None, keepdims: bool = False) -> Tensor:
    """Whether every element is true."""
    tensor = apply(elementwise.logical_not, (astype(as_tensor(x), bool_),))
    return apply(elementwise.logical_not, (any(tensor, axis=axis, keepdims=keepdims),))


@rehearsed
def argmax(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The first place of the largest element along `axis` (of the flat tensor by default).

    >>> print(argmax(as_tensor([[1.0, 5.0, 5.0], [7.0, 0.0, 1.0]]), axis=1))
    [1 0]
    """
    tensor = as_tensor(x)
    if axis is None:
        flat = argmax(reshape(tensor, (tensor.size,)), axis=0)
        return reshape(flat, (1,) * tensor.ndim) if keepdims else flat
    place = axis_of("argmax", axis, tensor.ndim)
    if tensor.dtype is bool_:
        tensor = astype(tensor, int8)
    top = broadcast_to(max(tensor, axis=place, keepdims=True), tensor.shape)
    found = apply(elementwise.equal, (tensor, top))
    if tensor.dtype.is_floating:
        # NaN equals nothing: the first NaN is the place where x differs from itself.
        found = apply(
            elementwise.logical_or, (found, apply(elementwise.not_equal, (tensor, tensor)))
        )
    # The first place is the largest distance from the end.
    size = tensor.shape[place]
    last = constant(size - 1, int64, tensor.shape)
    distance = apply(elementwise.sub, (last, places(tensor.shape, place)))
    marked = apply(elementwise.select, (found, distance, constant(-1, int64, tensor.shape)))
    furthest = _reduce(ops.max_, marked, (place,), keepdims)
    return apply(elementwise.sub, (constant(size - 1, int64, furthest.shape), furthest))


@rehearsed
def argmin(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The first place of the smallest element along `axis`."""
    return argmax(_mirrored(as_tensor(x)), axis=axis, keepdims=keepdims)


def places(shape: tuple[int, ...], axis: int, dtype: Any = int64) -> Tensor:
    """Each element's place along `axis`."""
    attrs = (("axis", axis), ("dtype", as_dtype(dtype)), ("shape", shape))
    return apply(movement.iota, (), attrs)


def accumulated(tensor: Tensor, dtype: Any) -> Tensor:
    """The tensor in the dtype in which it is summed."""
    if dtype is not None:
        return astype(tensor, as_dtype(dtype))
    if tensor.dtype.is_floating:
        return tensor
    return astype(tensor, uint64 if tensor.dtype.kind == "uint" else int64)


def _mirrored(tensor: Tensor) -> Tensor:
    """The same elements in the opposite order of size; done twice it gives them back."""
    # For integers all bits are flipped: -1 - x has no overflow, where -x has.
    return -tensor if tensor.dtype.is_floating else bitwise_invert(tensor)


def _reduce(op: Op, tensor: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    result = tensor if not axes else apply(op, (tensor,), (("axes", axes),))
    return _kept(result, tensor, axes, keepdims)


def _kept(result: Tensor, tensor: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """What is left of a tensor whose axes went, which are kept as 1 where that is asked for."""
    if not keepdims:
        return result
    return reshape(result, tuple(1 if i in axes else n for i, n in enumerate(tensor.shape)))


def _count(tensor: Tensor, axes: tuple[int, ...]) -> int:
    """How many elements become one where these axes go."""
    return prod_of(tensor.shape[axis] for axis in axes)
