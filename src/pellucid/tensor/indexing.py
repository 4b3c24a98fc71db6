"""What does x[...] mean? NumPy's rules: numbers, slices, None, ..., masks and arrays of integers.

Numbers and slices give views of the same memory; what is indexed by arrays is gathered. An index
out of range is an error where numbers are at hand. In a traced function, where they are not, it
reads 0; a negative one counts from the end.
"""

# A key may hold anything until it is looked at, and a slice has no types of its own.
# pyright: reportPrivateUsage=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from pellucid.core.dtype import bool_, int64
from pellucid.core.error import OpIndexError, OpShapeError, OpTypeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.ops import index as ops
from pellucid.ops import parts
from pellucid.tensor.arithmetic import add, astype, broadcast_shapes, less, stretched, where
from pellucid.tensor.dispatch import apply, known_view, note_view
from pellucid.tensor.memory import copy_array
from pellucid.tensor.reducing import places
from pellucid.tensor.shaping import axis_of, permute_dims, reshape
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Operators, Tensor, traced_value_error

Part = int | slice | Tensor | None
"""One part of a key; a Tensor holds whole numbers."""


def take(x: Operand, indices: Operand, /, *, axis: int | None = None) -> Tensor:
    """The elements (or slices) at `indices` along `axis`, of the flat tensor by default.

    Their shape takes the place of the axis. Integers of any dtype; negative ones count from the
    end. Raises OpIndexError where one is out of range; in a traced function such a one reads 0.

    >>> print(take(as_tensor([[1, 2], [3, 4]]), as_tensor([1, 1, 0]), axis=0))
    [[3 4]
     [3 4]
     [1 2]]
    """
    tensor = as_tensor(x)
    if axis is None:
        tensor, axis = reshape(tensor, (tensor.size,)), 0
    place = axis_of("take", axis, tensor.ndim)
    return getitem(tensor, (*[slice(None)] * place, as_tensor(indices)))


def take_along_axis(x: Operand, indices: Operand, /, *, axis: int = -1) -> Tensor:
    """For each row along `axis` the elements at that row's own indices.

    `indices` has x's number of axes, and the same sizes (or 1) beside `axis`.

    >>> print(take_along_axis(as_tensor([[1, 2], [3, 4]]), as_tensor([[0], [1]]), axis=1))
    [[1]
     [4]]
    """
    tensor, index = as_tensor(x), as_tensor(indices)
    place = axis_of("take_along_axis", axis, tensor.ndim)
    if index.ndim != tensor.ndim:
        raise OpShapeError(
            f"take_along_axis: expected indices with {tensor.ndim} axes, got "
            f"{shape_text(index.shape)}{at_line(user_source())}"
        )
    beside = tuple(1 if axis == place else n for axis, n in enumerate(tensor.shape))
    shape = broadcast_shapes("take_along_axis", index.shape, beside)
    index = stretched(_normal("take_along_axis", index, tensor.shape[place]), shape)
    whole = tuple(n for axis, n in enumerate(tensor.shape) if axis != place)
    if whole != tuple(n for axis, n in enumerate(shape) if axis != place):
        raise OpShapeError(
            f"take_along_axis: sizes beside axis {place} differ, {shape_text(tensor.shape)} and "
            f"{shape_text(indices.shape if isinstance(indices, Tensor) else index.shape)}"
            f"{at_line(user_source())}"
        )
    found = [index if axis == place else places(shape, axis) for axis in range(tensor.ndim)]
    return _gather(tensor, found, tuple(range(tensor.ndim)))


def getitem(x: Operand, key: Any) -> Tensor:
    """x[key] by NumPy's rules.

    >>> x = as_tensor([[1, 2, 3], [4, 5, 6]])
    >>> print(getitem(x, (slice(None), slice(None, None, -1))), getitem(x, (1, -1)))
    [[3 2 1]
     [6 5 4]] 6
    >>> print(getitem(x, as_tensor([1, 0, 1])).shape)
    (3, 3)
    """
    tensor = as_tensor(x)
    plain = _plain(key)
    if plain is None:
        return _getitem(tensor, key)
    name = ("getitem", tensor._layout, plain)
    found = known_view(name, tensor)
    return note_view(name, tensor, _getitem(tensor, key)) if found is None else found


def _plain(key: Any) -> Any:
    """A key of whole numbers, slices of such, None and `...`, as something hashable; else None."""
    kind = type(key)
    if kind is int or key is Ellipsis:
        return key
    if key is None:
        return "new axis"
    if kind is tuple:
        parts = tuple([_plain(part) for part in key])
        return None if None in parts else parts
    if kind is slice:
        ends = (key.start, key.stop, key.step)
        return (slice, *ends) if all(end is None or type(end) is int for end in ends) else None
    return None


def _getitem(tensor: Tensor, key: Any) -> Tensor:
    found = _parts(tensor, key if isinstance(key, tuple) else (key,))
    basic = _sliced(tensor, [part for part in found if part is not None])
    arrays = [part for part in found if isinstance(part, Tensor)]
    shape = _shape_after(found, basic.shape)
    if not arrays:
        return reshape(basic, shape)
    axes = tuple(
        axis
        for axis, part in enumerate(part for part in found if part is not None)
        if isinstance(part, Tensor)
    )
    met = broadcast_shapes("indexing", *(array.shape for array in arrays))
    gathered = _gather(basic, [stretched(array, met) for array in arrays], axes)
    before, kept = _arrays_place(found)
    order = (
        *range(len(met), len(met) + before),
        *range(len(met)),
        *range(len(met) + before, gathered.ndim),
    )
    moved = gathered if order == tuple(range(gathered.ndim)) else permute_dims(gathered, order)
    return reshape(moved, (*shape[:kept], *met, *shape[kept:]))


def iterate(x: Operand) -> Iterator[Tensor]:
    """x[0], x[1], ...; raises TypeError where x has no axes."""
    tensor = as_tensor(x)
    if not tensor.ndim:
        raise TypeError(f"a tensor without axes cannot be iterated over{at_line(user_source())}")
    return (getitem(tensor, number) for number in range(tensor.shape[0]))


def sliced(
    tensor: Tensor, start: tuple[int, ...], stop: tuple[int, ...], strides: tuple[int, ...]
) -> Tensor:
    """The box from `start` up to `stop`; the tensor itself where that is all of it."""
    if stop == tensor.shape and not any(start) and all(step == 1 for step in strides):
        return tensor
    return apply(parts.slice, (tensor,), (("start", start), ("stop", stop), ("strides", strides)))


def _parts(tensor: Tensor, key: tuple[Any, ...]) -> list[Part]:
    """The key without `...` and masks, one part for each axis (and None for new ones)."""
    given = [_array_or_same(part) for part in key]
    used = sum(_axes_used(part) for part in given)
    if used > tensor.ndim or sum(part is Ellipsis for part in given) > 1:
        raise OpIndexError(
            f"indexing: expected at most {tensor.ndim} indices and one `...` for a tensor of shape "
            f"{shape_text(tensor.shape)}, got {used}{at_line(user_source())}"
        )
    if not any(part is Ellipsis for part in given):
        given.append(Ellipsis)
    found: list[Part] = []
    axis = 0
    for part in given:
        if part is Ellipsis:
            found += [slice(None)] * (tensor.ndim - used)
            axis += tensor.ndim - used
        elif isinstance(part, Tensor) and part.dtype is bool_:
            found += _mask_places(part, tensor.shape[axis : axis + part.ndim])
            axis += part.ndim
        elif isinstance(part, Tensor):
            found.append(_normal("indexing", part, tensor.shape[axis]))
            axis += 1
        else:
            found.append(part if part is None or isinstance(part, slice) else operator.index(part))
            axis += part is not None
    return found


def _array_or_same(part: Any) -> Any:
    """An array, list or Variable as a Tensor; a number that is known as an int."""
    if part is None or part is Ellipsis or isinstance(part, slice):
        return part
    if isinstance(part, bool | np.bool_):
        raise OpTypeError(
            f"indexing: a single truth is no index{at_line(user_source())}\n  write "
            "pe.expand_dims(x, axis=0), or use an array of truths as a mask"
        )
    if isinstance(part, list):
        part = np.asarray(part) if part else np.zeros(0, np.int64)
    if isinstance(part, Operators) or hasattr(part, "__array__"):
        array = as_tensor(part)
        known = array.ndim == 0 and array.dtype.is_integer and array._storage is not None
        return int(array.item()) if known else _checked(array)
    try:
        return operator.index(part)
    except TypeError:
        raise OpTypeError(
            f"indexing: expected whole numbers, slices, None, `...` or arrays, got {part!r}"
            f"{at_line(user_source())}"
        ) from None


def _checked(array: Tensor) -> Tensor:
    if not array.dtype.is_integer and (array.dtype is not bool_ or not array.ndim):
        raise OpTypeError(
            f"indexing: expected whole numbers or a mask, got {array._layout.type}"
            f"{at_line(user_source())}"
        )
    return array


def _axes_used(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, Tensor) and part.dtype is bool_ else 1


def _mask_places(mask: Tensor, shape: tuple[int, ...]) -> list[Part]:
    """Where a mask is true, as an index for each of its axes."""
    if mask.shape != shape:
        raise OpShapeError(
            f"indexing: expected a mask of shape {shape_text(shape)}, got "
            f"{shape_text(mask.shape)}{at_line(user_source())}"
        )
    if mask._storage is None:
        error = traced_value_error(mask, "the number of true elements")
        raise type(error)(
            f"{error}\n  x[mask] has a size that depends on numbers: keep the shape, with "
            "pe.where(mask, x, 0)"
        )
    return [copy_array(np.ascontiguousarray(axis)) for axis in np.nonzero(mask.numpy())]


def _normal(name: str, index: Tensor, size: int) -> Tensor:
    """The indices counted from 0; those that are known are checked."""
    if not index.dtype.is_integer:
        raise OpTypeError(
            f"{name}: expected whole numbers as indices, got {index._layout.type}"
            f"{at_line(user_source())}"
        )
    if index._storage is not None and index.size:
        array = index.numpy()
        low, high = int(array.min()), int(array.max())
        if low < -size or high >= size:
            wrong = high if high >= size else low
            raise _out_of_range(name, wrong, size)
        if low >= 0:
            return index
    if index.dtype.kind == "uint":
        return index
    wide = astype(index, int64)
    return where(less(wide, 0), add(wide, size), wide)


def _out_of_range(name: str, index: int, size: int) -> OpIndexError:
    return OpIndexError(
        f"{name}: index {index} is out of range for an axis of size {size}{at_line(user_source())}"
    )


def _sliced(tensor: Tensor, found: list[Any]) -> Tensor:
    """The numbers and slices of a key applied; a number leaves an axis of size 1."""
    start: list[int] = []
    stop: list[int] = []
    strides: list[int] = []
    turned: list[int] = []
    for axis, (part, size) in enumerate(zip(found, tensor.shape, strict=True)):
        low, high, step = _bounds(part, size)
        if step < 0:
            turned.append(axis)
        start.append(low)
        stop.append(high)
        strides.append(abs(step))
    box = sliced(tensor, tuple(start), tuple(stop), tuple(strides))
    return apply(parts.reverse, (box,), (("axes", tuple(turned)),)) if turned else box


def _bounds(part: Any, size: int) -> tuple[int, int, int]:
    """Start, stop and step of a part, the first two in rising order."""
    if isinstance(part, Tensor):
        return 0, size, 1
    if isinstance(part, int):
        if not -size <= part < size:
            raise _out_of_range("indexing", part, size)
        return part % size, part % size + 1, 1
    try:
        low, high, step = part.indices(size)
    except TypeError:
        raise OpTypeError(
            f"indexing: expected whole numbers in a slice, got {part}{at_line(user_source())}"
        ) from None
    count = len(range(low, high, step))
    if not count:
        return 0, 0, 1
    last = low + (count - 1) * step
    return (low, last + 1, step) if step > 0 else (last, low + 1, step)


def _shape_after(found: list[Part], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of the axes that slices keep and None makes."""
    rest = iter(sizes)
    shape: list[int] = []
    for part in found:
        size = 1 if part is None else next(rest)
        if part is None or isinstance(part, slice):
            shape.append(size)
    return tuple(shape)


def _arrays_place(found: list[Part]) -> tuple[int, int]:
    """How many of the axes not gathered, and of those kept, come before what arrays index.

    NumPy puts the arrays' own axes where the first array (or number) stood if all of these stand
    side by side, else in front.
    """
    advanced = [at for at, part in enumerate(found) if isinstance(part, int | Tensor)]
    if any(right - left > 1 for left, right in pairwise(advanced)):
        return 0, 0
    ahead = found[: advanced[0]]
    return sum(part is not None for part in ahead), len(ahead)


def _gather(tensor: Tensor, indices: list[Tensor], axes: tuple[int, ...]) -> Tensor:
    return apply(ops.gather, (tensor, *indices), (("axes", axes),))
