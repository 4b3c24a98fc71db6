"""What joins tensors, or cuts, repeats and moves their parts? Concat, stack, split, roll, pad."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pellucid.core.dtype import promote
from pellucid.core.error import OpTypeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.ops import parts
from pellucid.ops.movement import literal
from pellucid.tensor.arithmetic import astype, stretched
from pellucid.tensor.dispatch import apply, shapes_error
from pellucid.tensor.indexing import sliced, take
from pellucid.tensor.memory import copy_array
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.shaping import axes_of, axis_of, expand_dims, flatten, reshape, squeeze
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import AxisArgument, Operand, Tensor


def concat(arrays: Sequence[Operand], /, *, axis: int | None = 0) -> Tensor:
    """The arrays one after the other along `axis`; made flat first where that is None.

    >>> print(concat([as_tensor([1, 2]), as_tensor([3])]))
    [1 2 3]
    """
    return _concat(axis, *[as_tensor(one) for one in arrays])


@rehearsed
def _concat(axis: int | None, *arrays: Tensor) -> Tensor:
    tensors = _alike("concat", arrays)
    if axis is None:
        tensors, axis = [flatten(one) for one in tensors], 0
    place = axis_of("concat", axis, tensors[0].ndim)
    for one in tensors[1:]:
        if _beside(one, place) != _beside(tensors[0], place):
            shapes = f"{shape_text(tensors[0].shape)} and {shape_text(one.shape)}"
            raise shapes_error("concat", f"sizes beside axis {place} differ, {shapes}")
    if len(tensors) == 1:
        return tensors[0]
    return apply(parts.concatenate, tuple(tensors), (("axis", place),))


def stack(arrays: Sequence[Operand], /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape along a new axis.

    >>> print(stack([as_tensor([1, 2]), as_tensor([3, 4])], axis=1))
    [[1 3]
     [2 4]]
    """
    return _stack(axis, *[as_tensor(one) for one in arrays])


@rehearsed
def _stack(axis: int, *arrays: Tensor) -> Tensor:
    tensors = _alike("stack", arrays)
    for one in tensors:
        if one.shape != tensors[0].shape:
            shapes = f"{shape_text(tensors[0].shape)} and {shape_text(one.shape)}"
            raise shapes_error("stack", f"the shapes differ, {shapes}")
    return concat([expand_dims(one, axis=axis) for one in tensors], axis=axis)


def unstack(x: Operand, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along an axis, which goes."""
    tensor = as_tensor(x)
    place = axis_of("unstack", axis, tensor.ndim)
    cuts = range(tensor.shape[place] + 1)
    return tuple(squeeze(_between(tensor, place, a, b), place) for a, b in pairwise(cuts))


def split(
    x: Operand, indices_or_sections: int | Sequence[int], /, *, axis: int = 0
) -> tuple[Tensor, ...]:
    """x cut along an axis: into so many equal parts, or before each of these indices.

    >>> [part.shape for part in split(as_tensor([1, 2, 3, 4]), 2)]
    [(2,), (2,)]
    >>> [part.tolist() for part in split(as_tensor([1, 2, 3, 4]), [1, 3])]
    [[1], [2, 3], [4]]
    """
    tensor = as_tensor(x)
    place = axis_of("split", axis, tensor.ndim)
    size = tensor.shape[place]
    if isinstance(indices_or_sections, int):
        count = indices_or_sections
        if count < 1 or size % count:
            raise shapes_error("split", f"an axis of size {size} has no {count} equal parts")
        inner = list(range(size // count, size, size // count)) if size else [0] * (count - 1)
    else:
        inner = [slice(at).indices(size)[1] for at in indices_or_sections]
    ends = pairwise((0, *inner, size))
    return tuple(_between(tensor, place, low, max(low, high)) for low, high in ends)


def flip(x: Operand, /, *, axis: AxisArgument = None) -> Tensor:
    """The elements last first along `axis` (all axes by default).

    >>> print(flip(as_tensor([1, 2, 3])))
    [3 2 1]
    """
    tensor = as_tensor(x)
    axes = axes_of("flip", axis, tensor.ndim)
    return apply(parts.reverse, (tensor,), (("axes", axes),)) if axes else tensor


def roll(
    x: Operand, /, shift: int | tuple[int, ...], *, axis: int | tuple[int, ...] | None = None
) -> Tensor:
    """The elements moved along, those that fall off coming in at the other end.

    >>> print(roll(as_tensor([1, 2, 3, 4]), 1))
    [4 1 2 3]
    """
    tensor = as_tensor(x)
    if axis is None:
        if not isinstance(shift, int):
            raise shapes_error("roll", f"expected one shift for the flat tensor, got {shift}")
        return reshape(roll(flatten(tensor), shift, axis=0), tensor.shape)
    axes = axis if isinstance(axis, tuple) else (axis,)
    shifts = shift if isinstance(shift, tuple) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise shapes_error("roll", f"expected a shift for each axis, got {shifts} and {axes}")
    for one, by in zip(axes, shifts, strict=True):
        place = axis_of("roll", one, tensor.ndim)
        size = tensor.shape[place]
        cut = size - by % size if size else 0
        if cut % max(size, 1):
            ends = _between(tensor, place, cut, size), _between(tensor, place, 0, cut)
            tensor = concat(ends, axis=place)
    return tensor


def pad(x: Operand, pad_width: Any, /, *, constant_values: bool | int | float = 0) -> Tensor:
    """x with a constant around it.

    `pad_width` is how many elements come before and after: one number, one pair for all axes, or a
    pair for each axis.

    >>> print(pad(as_tensor([1, 2]), (1, 2)))
    [0 1 2 0 0]
    """
    tensor = as_tensor(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (tensor.ndim, 2))
    except ValueError:
        widths = np.full((1, 2), -1)
    if widths.dtype.kind not in "iu" or (widths < 0).any():
        raise shapes_error(
            "pad",
            f"expected numbers from 0, or pairs of them for {tensor.ndim} axes, got {pad_width!r}",
        )
    low, high = (tuple(int(n) for n in widths[:, side]) for side in (0, 1))
    try:
        value = literal(constant_values, tensor.dtype)
    except OpTypeError as error:
        raise OpTypeError(f"{error}{at_line(user_source())}") from None
    none = (0,) * tensor.ndim
    attrs = (("high", high), ("interior", none), ("low", low), ("value", value))
    return apply(parts.pad, (tensor,), attrs) if any((*low, *high)) else tensor


def tile(x: Operand, repetitions: int | tuple[int, ...], /) -> Tensor:
    """x repeated as a whole, so many times along each axis.

    >>> print(tile(as_tensor([1, 2]), (2, 2)))
    [[1 2 1 2]
     [1 2 1 2]]
    """
    tensor = as_tensor(x)
    counts = (repetitions,) if isinstance(repetitions, int) else tuple(repetitions)
    if any(count < 0 for count in counts):
        raise shapes_error("tile", f"expected numbers from 0, got {counts}")
    rank = max(len(counts), tensor.ndim)
    counts = (*(1 for _ in range(rank - len(counts))), *counts)
    sizes = (*(1 for _ in range(rank - tensor.ndim)), *tensor.shape)
    pairs = list(zip(counts, sizes, strict=True))
    apart = reshape(tensor, tuple(n for size in sizes for n in (1, size)))
    spread = stretched(apart, tuple(n for pair in pairs for n in pair))
    return reshape(spread, tuple(count * size for count, size in pairs))


def repeat(x: Operand, repeats: int | Sequence[int], /, *, axis: int | None = None) -> Tensor:
    """Each element repeated, so many times or as often as `repeats` says for each.

    >>> print(repeat(as_tensor([1, 2]), 2))
    [1 1 2 2]
    """
    tensor = as_tensor(x)
    if axis is None:
        return repeat(flatten(tensor), repeats, axis=0)
    place = axis_of("repeat", axis, tensor.ndim)
    size = tensor.shape[place]
    if not isinstance(repeats, int):
        if len(repeats) != size or any(count < 0 for count in repeats):
            raise shapes_error("repeat", f"expected {size} numbers from 0, got {repeats}")
        rows = np.repeat(np.arange(size), np.asarray(repeats))
        return take(tensor, copy_array(rows), axis=place)
    if repeats < 0:
        raise shapes_error("repeat", f"expected a number from 0, got {repeats}")
    before, after = tensor.shape[: place + 1], tensor.shape[place + 1 :]
    spread = stretched(reshape(tensor, (*before, 1, *after)), (*before, repeats, *after))
    return reshape(spread, (*before[:-1], size * repeats, *after))


def _between(tensor: Tensor, axis: int, low: int, high: int) -> Tensor:
    """The part of a tensor from `low` up to `high` along an axis."""
    start = tuple(low if at == axis else 0 for at in range(tensor.ndim))
    stop = tuple(high if at == axis else n for at, n in enumerate(tensor.shape))
    return sliced(tensor, start, stop, (1,) * tensor.ndim)


def _beside(tensor: Tensor, axis: int) -> tuple[int, ...]:
    """The sizes of all axes but one."""
    return (*tensor.shape[:axis], *tensor.shape[axis + 1 :])


def _alike(name: str, arrays: Sequence[Operand]) -> list[Tensor]:
    """At least one Tensor, all of the dtype in which they meet."""
    tensors = [as_tensor(one) for one in arrays]
    if not tensors:
        raise shapes_error(name, "expected at least one array")
    dtype = tensors[0].dtype
    for one in tensors[1:]:
        dtype = promote(dtype, one.dtype)
    return [astype(one, dtype) for one in tensors]
