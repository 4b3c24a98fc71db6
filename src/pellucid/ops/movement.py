"""What moves or makes elements without arithmetic? Constants, iota, broadcast, reshape, transpose.

broadcast(x, shape, axes)   axis i of x becomes axes[i] of the result; a size of 1 stretches
transpose(x, permutation)   axis i of the result is axis permutation[i] of x
reshape(x, shape)           the same elements in row-major order
"""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import numpy as np

from pellucid.core.dtype import NUMERIC, DType, as_dtype, bool_, integer_range
from pellucid.core.error import OpAxisError, OpShapeError, OpTypeError
from pellucid.core.shape import Axes, Shape, Size, product, shape_text, static_shape
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import Array, Multilinear, NoBatch, define, lookup

CONSTANT_BYTES = 4096
"""The largest array that is written into a graph; larger ones are graph inputs."""


def literal(value: bool | int | float, dtype: DType) -> str:
    """A number as a constant keeps it: a text, so that -0.0, 0.0 and nan are told apart.

    Raises OpTypeError where an integer dtype cannot hold the number.
    """
    if dtype is bool_:
        return str(bool(value))
    if dtype.is_floating:
        return repr(float(np.float64(value)))
    low, high = integer_range(dtype)
    if int(value) != value or not low <= value <= high:
        raise OpTypeError(f"constant: {value} does not fit in {dtype} ({low} to {high})")
    return str(int(value))


def literal_number(text: str, dtype: DType) -> bool | int | float:
    """The number that a constant's text stands for."""
    if dtype is bool_:
        return text == "True"
    return float(text) if dtype.is_floating else int(text)


def full(shape: Shape, value: bool | int | float, dtype: DType) -> Value:
    """A constant of one number everywhere."""
    return constant(dtype=dtype, shape=shape, value=literal(value, dtype))


def full_like(x: Value, value: bool | int | float) -> Value:
    """A constant of x's shape and dtype with one number everywhere."""
    return full(x.shape, value, x.dtype)


def constant_array(array: Array) -> Value:
    """A small array as a constant; raises OpShapeError above CONSTANT_BYTES."""
    dtype = as_dtype(array.dtype)
    if array.ndim == 0:
        return full((), array.item() if dtype.is_floating is False else float(array), dtype)
    if array.nbytes > CONSTANT_BYTES:
        raise OpShapeError(f"constant: {array.nbytes} bytes are more than {CONSTANT_BYTES}")
    return constant(dtype=dtype, shape=array.shape, value=np.ascontiguousarray(array).tobytes())


def normal_axes(name: str, axes: Axes, rank: int) -> Axes:
    """Axes counted from 0 and sorted; raises OpAxisError where one is wrong or named twice."""
    for axis in axes:
        if not -rank <= axis < rank:
            raise OpAxisError(f"{name}: axis {axis} is out of range for rank {rank}")
    found = tuple(sorted(axis % rank for axis in axes))
    if len(set(found)) != len(found):
        raise OpAxisError(f"{name}: an axis is named twice in {tuple(axes)}")
    return found


def require_sizes(name: str, shape: Shape) -> None:
    """Raise OpShapeError where a size is negative."""
    if any(isinstance(size, int) and size < 0 for size in shape):
        raise OpShapeError(f"{name}: expected sizes from 0, got {shape_text(shape)}")


def _constant_infer(*, dtype: DType, shape: Shape, value: str | bytes) -> TensorType:
    require_sizes("constant", shape)
    if isinstance(value, bytes):
        expected = product(shape) * dtype.bytes
        if len(value) != expected:
            raise OpShapeError(f"constant: expected {expected} bytes, got {len(value)}")
    else:
        literal(literal_number(value, dtype), dtype)
    return TensorType(dtype, tuple(shape))


def _constant_reference(*, dtype: DType, shape: Shape, value: str | bytes) -> Array:
    sizes = static_shape(shape, "evaluating a constant")
    if isinstance(value, bytes):
        return np.frombuffer(value, dtype.numpy).reshape(sizes)
    return np.full(sizes, literal_number(value, dtype), dtype.numpy)


_NEVER = NoBatch("without operands it is the same for every example")


constant = define(
    "constant",
    infer=_constant_infer,
    reference=_constant_reference,
    derivative=Multilinear(()),
    batch=_NEVER,
    what="the same numbers always",
)


def _iota_infer(*, dtype: DType, shape: Shape, axis: int) -> TensorType:
    require_sizes("iota", shape)
    if (axis,) != normal_axes("iota", (axis,), len(shape)):
        raise OpAxisError(f"iota: expected an axis counted from 0, got {axis}")
    if dtype is bool_:
        raise OpTypeError("iota: expected a number dtype, got bool")
    return TensorType(dtype, tuple(shape))


def _iota_reference(*, dtype: DType, shape: Shape, axis: int) -> Array:
    sizes = static_shape(shape, "evaluating an iota")
    column = [-1 if i == axis else 1 for i in range(len(sizes))]
    return np.broadcast_to(np.arange(sizes[axis]).reshape(column), sizes).astype(dtype.numpy)


iota = define(
    "iota",
    infer=_iota_infer,
    reference=_iota_reference,
    derivative=Multilinear(()),
    batch=_NEVER,
    on=NUMERIC,
    what="each place along an axis",
)


def _broadcast_infer(x: TensorType, *, shape: Shape, axes: Axes) -> TensorType:
    require_sizes("broadcast", shape)
    if len(axes) != x.rank:
        raise OpAxisError(f"broadcast: expected {x.rank} axes for {x.message()}, got {axes}")
    if tuple(axes) != normal_axes("broadcast", axes, len(shape)):
        raise OpAxisError(f"broadcast: expected increasing axes from 0, got {axes}")
    for size, axis in zip(x.shape, axes, strict=True):
        if size != shape[axis] and size != 1:
            shapes = f"{shape_text(x.shape)} to {shape_text(shape)}"
            raise OpShapeError(f"broadcast: size {size} cannot become {shape[axis]} ({shapes})")
    return TensorType(x.dtype, tuple(shape))


def _broadcast_reference(x: Array, *, shape: Shape, axes: Axes) -> Array:
    sizes = static_shape(shape, "evaluating a broadcast")
    column = [1] * len(sizes)
    for size, axis in zip(x.shape, axes, strict=True):
        column[axis] = size
    return np.broadcast_to(x.reshape(column), sizes)


def _broadcast_transpose(g: Value, x: Value, *, shape: Shape, axes: Axes) -> Value:
    kept = {a for a, size in zip(axes, x.shape, strict=True) if size == shape[a]}
    summed = tuple(axis for axis in range(len(shape)) if axis not in kept)
    # Broadcast and sum are each other's transpose; sum's card stands above, so it is looked up.
    total = lookup("sum")(g, axes=summed) if summed else g
    return total if total.shape == x.shape else reshape(total, shape=x.shape)


def _broadcast_batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, shape: Shape, axes: Axes
) -> Value:
    (x,) = operands
    return broadcast(x, shape=(x.shape[0], *shape), axes=(0, *(axis + 1 for axis in axes)))


broadcast = define(
    "broadcast",
    infer=_broadcast_infer,
    reference=_broadcast_reference,
    derivative=Multilinear((_broadcast_transpose,)),
    batch=_broadcast_batch,
    kind="movement",
    what="repeated along new axes, or those of size 1",
)


def _reshape_infer(x: TensorType, *, shape: Shape) -> TensorType:
    require_sizes("reshape", shape)
    if product(shape) != x.size:
        raise OpShapeError(
            f"reshape: {shape_text(x.shape)} has {x.size} elements, "
            f"{shape_text(shape)} has {product(shape)}"
        )
    return TensorType(x.dtype, tuple(shape))


def _reshape_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], *, shape: Shape) -> Value:
    size: Size = operands[0].shape[0]
    return reshape(operands[0], shape=(size, *shape))


reshape = define(
    "reshape",
    infer=_reshape_infer,
    reference=lambda x, *, shape: x.reshape(shape),
    derivative=Multilinear((lambda g, x, *, shape: reshape(g, shape=x.shape),)),
    batch=_reshape_batch,
    kind="movement",
    what="the same elements in another shape",
)


def _transpose_infer(x: TensorType, *, permutation: Axes) -> TensorType:
    if sorted(permutation) != list(range(x.rank)):
        raise OpAxisError(
            f"transpose: expected each axis of {x.message()} once, got {tuple(permutation)}"
        )
    return TensorType(x.dtype, tuple(x.shape[axis] for axis in permutation))


def inverse(permutation: Axes) -> Axes:
    """The permutation that undoes another."""
    return tuple(permutation.index(axis) for axis in range(len(permutation)))


def _transpose_batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, permutation: Axes
) -> Value:
    return transpose(operands[0], permutation=(0, *(axis + 1 for axis in permutation)))


transpose = define(
    "transpose",
    infer=_transpose_infer,
    reference=lambda x, *, permutation: x.transpose(permutation),
    derivative=Multilinear(
        (lambda g, x, *, permutation: transpose(g, permutation=inverse(permutation)),)
    ),
    batch=_transpose_batch,
    kind="movement",
    what="the axes in another order",
)
