"""What changes the shape and no number? Reshape, transpose, broadcast and their relatives."""

from __future__ import annotations

import operator
from typing import Any, Final, cast

from pellucid.core.error import OpAxisError, OpError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.ops import movement
from pellucid.tensor.arithmetic import broadcast_shapes, stretched
from pellucid.tensor.dispatch import apply, known_view, note_view, shapes_error
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import AxisArgument, Operand, Tensor


def reshape(x: Operand, /, shape: Any) -> Tensor:
    """The same elements, row-major, in another shape; one size may be -1 and is found.

    >>> print(reshape(as_tensor([1, 2, 3, 4]), (2, -1)))
    [[1 2]
     [3 4]]
    """
    tensor = as_tensor(x)
    # Told apart by what they are: a size may be anything that is a number.
    if type(shape) is not tuple or {type(size) for size in cast("tuple[Any]", shape)} - _INT:
        return _reshape(tensor, shape)
    key = ("reshape", tensor.layout, cast("tuple[int, ...]", shape))
    found = known_view(key, tensor)
    return note_view(key, tensor, _reshape(tensor, shape)) if found is None else found


_INT: Final = {int}


def _reshape(tensor: Tensor, shape: Any) -> Tensor:
    sizes = [shape] if isinstance(shape, int) else [int(size) for size in shape]
    if sizes.count(-1) == 1:
        known = 1
        for size in sizes:
            known *= 1 if size == -1 else size
        if known == 0 or tensor.size % known:
            raise shapes_error("reshape", f"{shape_text(tensor.shape)} does not fit {tuple(sizes)}")
        sizes[sizes.index(-1)] = tensor.size // known
    if any(size < 0 for size in sizes):
        raise shapes_error("reshape", f"expected sizes of at least 0, got {tuple(sizes)}")
    if tuple(sizes) == tensor.shape:
        return tensor
    return apply(movement.reshape, (tensor,), (("shape", tuple(sizes)),))


def permute_dims(x: Operand, /, axes: tuple[int, ...]) -> Tensor:
    """Axis i of the result is axis `axes[i]` of x.

    >>> permute_dims(as_tensor([[1, 2, 3]]), (1, 0)).shape
    (3, 1)
    """
    tensor = as_tensor(x)
    wanted = tuple(axis_of("permute_dims", axis, tensor.ndim) for axis in axes)
    return apply(movement.transpose, (tensor,), (("permutation", wanted),))


def transpose(x: Operand, /, axes: tuple[int, ...] | None = None) -> Tensor:
    """The axes in another order; in reverse where none is given."""
    tensor = as_tensor(x)
    if axes is not None:
        return permute_dims(tensor, axes)
    key = ("transpose", tensor.layout)
    found = known_view(key, tensor)
    if found is None:
        order = tuple(reversed(range(tensor.ndim)))
        return note_view(key, tensor, permute_dims(tensor, order))
    return found


def matrix_transpose(x: Operand, /) -> Tensor:
    """The last two axes exchanged."""
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise shapes_error("matrix_transpose", f"expected 2 axes, got {shape_text(tensor.shape)}")
    order = (*range(tensor.ndim - 2), tensor.ndim - 1, tensor.ndim - 2)
    return permute_dims(tensor, order)


def moveaxis(x: Operand, source: int, destination: int, /) -> Tensor:
    """One axis moved to another place, the others keeping their order."""
    tensor = as_tensor(x)
    start = axis_of("moveaxis", source, tensor.ndim)
    end = axis_of("moveaxis", destination, tensor.ndim)
    order = [axis for axis in range(tensor.ndim) if axis != start]
    order.insert(end, start)
    return tensor if start == end else permute_dims(tensor, tuple(order))


def broadcast_to(x: Operand, /, shape: tuple[int, ...]) -> Tensor:
    """x repeated to `shape` by NumPy's rule."""
    tensor = as_tensor(x)
    if broadcast_shapes("broadcast_to", tensor.shape, tuple(shape)) != tuple(shape):
        raise shapes_error(
            "broadcast_to", f"{shape_text(tensor.shape)} does not become {shape_text(shape)}"
        )
    return stretched(tensor, tuple(shape))


def broadcast_arrays(*arrays: Operand) -> tuple[Tensor, ...]:
    """All of them repeated to the shape in which they meet."""
    tensors = [as_tensor(one) for one in arrays]
    shape = broadcast_shapes("broadcast_arrays", *(one.shape for one in tensors))
    return tuple(stretched(one, shape) for one in tensors)


def expand_dims(x: Operand, /, *, axis: int = 0) -> Tensor:
    """A new axis of size 1 at `axis`."""
    tensor = as_tensor(x)
    place = axis_of("expand_dims", axis, tensor.ndim + 1)
    return reshape(tensor, (*tensor.shape[:place], 1, *tensor.shape[place:]))


def squeeze(x: Operand, /, axis: int | tuple[int, ...]) -> Tensor:
    """Axes of size 1 left out; raises OpShapeError where one is larger."""
    tensor = as_tensor(x)
    gone = axes_of("squeeze", axis, tensor.ndim)
    if any(tensor.shape[one] != 1 for one in gone):
        raise shapes_error(
            "squeeze", f"expected axes of size 1, got {gone} of {shape_text(tensor.shape)}"
        )
    return reshape(tensor, tuple(n for i, n in enumerate(tensor.shape) if i not in gone))


def flatten(x: Operand, /) -> Tensor:
    """All elements along one axis, row-major."""
    return reshape(x, (-1,)) if as_tensor(x).size else reshape(x, (0,))


def axis_of(name: str, axis: int, rank: int) -> int:
    """One axis counted from 0; raises OpAxisError, with the user's line, where it is wrong."""
    return axes_of(name, axis, rank)[0]


def axes_of(name: str, axis: AxisArgument, rank: int) -> tuple[int, ...]:
    """Axes counted from 0 and sorted; None means all of them."""
    if axis is None:
        return tuple(range(rank))
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    try:
        return movement.normal_axes(name, tuple(map(operator.index, axes)), rank)
    except TypeError:
        raise OpAxisError(
            f"{name}: expected whole numbers as axes, got {axis!r}{at_line(user_source())}"
        ) from None
    except OpError as error:
        raise OpAxisError(f"{error}{at_line(user_source())}") from None
