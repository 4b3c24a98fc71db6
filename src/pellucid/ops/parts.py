"""What takes parts of a tensor, or makes one of parts? Slice, reverse, pad, concatenate.

slice(x, start, stop, strides)      per axis the places start, start + stride, ... below stop
reverse(x, axes)                    the same elements, last first along these axes
pad(x, value, low, high, interior)  per axis `low` elements before, `high` after (negative: so many
                                    taken away), `interior` between neighbours; all are `value`
concatenate(*xs, axis)              one after the other along an axis

Each one's derivative is made of the others: a slice's cotangent is padded back, and so on.
"""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import builtins
from itertools import pairwise
from typing import Any

import numpy as np

from pellucid.core.error import OpAxisError, OpShapeError, OpTypeError
from pellucid.core.shape import Axes, Shape, Size, shape_text, static_shape
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import Array, Custom, Multilinear, define
from pellucid.ops.movement import broadcast, full, literal, literal_number, normal_axes

Sizes = tuple[int, ...]


def _require_rank(name: str, x: TensorType, **given: Shape) -> None:
    for attr, numbers in given.items():
        if len(numbers) != x.rank:
            raise OpAxisError(
                f"{name}: expected {x.rank} numbers as {attr} for {x.message()}, got {numbers}"
            )


def _slice_infer(x: TensorType, *, start: Shape, stop: Shape, strides: Sizes) -> TensorType:
    _require_rank("slice", x, start=start, stop=stop, strides=strides)
    shape: list[Size] = []
    for size, low, high, step in zip(x.shape, start, stop, strides, strict=True):
        if step < 1 or not _is_ordered(0, low, high, size):
            raise OpShapeError(
                f"slice: expected 0 <= start <= stop <= {size} and a stride from 1, "
                f"got {low}, {high}, {step} ({x.message()})"
            )
        shape.append(high - low if step == 1 else -((low - high) // step))
    return TensorType(x.dtype, tuple(shape))


def _is_ordered(*sizes: Size) -> bool:
    """Whether no known size is larger than the next known one."""
    known = [size for size in sizes if isinstance(size, int)]
    return known == sorted(known)


def _slice_reference(x: Array, *, start: Sizes, stop: Sizes, strides: Sizes) -> Array:
    return x[tuple(builtins.slice(*one) for one in zip(start, stop, strides, strict=True))]


def _slice_transpose(g: Value, x: Value, *, start: Sizes, stop: Sizes, strides: Sizes) -> Value:
    if any(size == 0 for size in g.shape):
        return full(x.shape, 0.0, x.dtype)
    high: list[Size] = []
    for size, count, low, step in zip(x.shape, g.shape, start, strides, strict=True):
        high.append(size - low - ((count - 1) * step + 1))
    return pad(g, value="0.0", low=start, high=high, interior=[step - 1 for step in strides])


def _slice_batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, start: Shape, stop: Shape,
    strides: Sizes,
) -> Value:  # fmt: skip
    (x,) = operands
    return slice(x, start=(0, *start), stop=(x.shape[0], *stop), strides=(1, *strides))


slice = define(
    "slice",
    infer=_slice_infer,
    reference=_slice_reference,
    derivative=Multilinear((_slice_transpose,)),
    batch=_slice_batch,
    kind="movement",
    what="every so many from a start to a stop",
)


def _reverse_infer(x: TensorType, *, axes: Axes) -> TensorType:
    if tuple(axes) != normal_axes("reverse", axes, x.rank):
        raise OpAxisError(f"reverse: expected increasing axes from 0, got {tuple(axes)}")
    return x


def _reverse_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], *, axes: Axes) -> Value:
    return reverse(operands[0], axes=tuple(axis + 1 for axis in axes))


reverse = define(
    "reverse",
    infer=_reverse_infer,
    reference=lambda x, *, axes: np.flip(x, axes),
    derivative=Multilinear((lambda g, x, *, axes: reverse(g, axes=axes),)),
    batch=_reverse_batch,
    kind="movement",
    what="last first along axes",
)


def _spread(size: Size, interior: int) -> Size:
    """The size of an axis with `interior` elements between neighbours."""
    return size if size == 0 else (size - 1) * (interior + 1) + 1


def _pad_infer(
    x: TensorType, *, value: str, low: Shape, high: Shape, interior: Sizes
) -> TensorType:
    _require_rank("pad", x, low=low, high=high, interior=interior)
    literal(literal_number(value, x.dtype), x.dtype)
    if any(between < 0 for between in interior):
        raise OpShapeError(f"pad: expected interior numbers from 0, got {tuple(interior)}")
    parts = zip(x.shape, low, high, interior, strict=True)
    shape = tuple(_spread(n, between) + before + after for n, before, after, between in parts)
    if any(isinstance(size, int) and size < 0 for size in shape):
        raise OpShapeError(f"pad: more is taken away than is there ({x.message()}, {shape})")
    return TensorType(x.dtype, shape)


def _pad_reference(x: Array, *, value: str, low: Sizes, high: Sizes, interior: Sizes) -> Array:
    parts = list(zip(x.shape, low, high, interior, strict=True))
    shape = static_shape(
        (_spread(n, between) + before + after for n, before, after, between in parts),
        "evaluating a pad",
    )
    kind = np.bool_ if x.dtype == np.bool_ else np.int64 if x.dtype.kind in "iu" else np.float64
    number: Any = value == "True" if kind is np.bool_ else kind(value)
    result = np.full(shape, number, x.dtype)
    sources: list[Array] = []
    targets: list[Array] = []
    for (n, before, _, between), size in zip(parts, shape, strict=True):
        places = before + np.arange(n) * (between + 1)
        inside = np.flatnonzero((places >= 0) & (places < size))
        sources.append(inside)
        targets.append(places[inside])
    result[np.ix_(*targets)] = x[np.ix_(*sources)]
    return result


def _pad_jvp(
    tangents: tuple[Value, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    return pad(tangents[0], **{**attrs, "value": "0.0"})


def _pad_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value, ...]:
    (x,) = operands
    if any(size == 0 for size in x.shape):
        return (full(x.shape, 0.0, x.dtype),)
    none = (0,) * x.tensor.rank
    low, high = ([-number for number in attrs[name]] for name in ("low", "high"))
    inner = pad(g, value="0.0", low=low, high=high, interior=none)
    steps = tuple(between + 1 for between in attrs["interior"])
    return (slice(inner, start=none, stop=inner.shape, strides=steps),)


def _pad_batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, value: str, low: Shape, high: Shape,
    interior: Sizes,
) -> Value:  # fmt: skip
    (x,) = operands
    return pad(x, value=value, low=(0, *low), high=(0, *high), interior=(0, *interior))


pad = define(
    "pad",
    infer=_pad_infer,
    reference=_pad_reference,
    derivative=Custom(_pad_jvp, _pad_vjp),
    batch=_pad_batch,
    what="a number around the elements and between them",
)


def _concatenate_infer(*xs: TensorType, axis: int) -> TensorType:
    if not xs:
        raise OpTypeError("concatenate: expected at least one operand")
    first = xs[0]
    if (axis,) != normal_axes("concatenate", (axis,), first.rank):
        raise OpAxisError(f"concatenate: expected an axis counted from 0, got {axis}")
    total: Size = 0
    for x in xs:
        if x.dtype is not first.dtype:
            raise OpTypeError(f"concatenate: operand dtypes differ, {first.dtype} and {x.dtype}")
        if (*x.shape[:axis], *x.shape[axis + 1 :]) != (
            *first.shape[:axis], *first.shape[axis + 1 :],
        ):  # fmt: skip
            raise OpShapeError(
                f"concatenate: sizes beside axis {axis} differ, "
                f"{shape_text(first.shape)} and {shape_text(x.shape)}"
            )
        total = total + x.shape[axis]
    return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _concatenate_jvp(
    tangents: tuple[Value | None, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    pairs = zip(tangents, operands, strict=True)
    return concatenate(*(t or full(x.shape, 0.0, x.dtype) for t, x in pairs), **attrs)


def _concatenate_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value, ...]:
    axis: int = attrs["axis"]
    ends: list[Size] = [0]
    for x in operands:
        ends.append(ends[-1] + x.shape[axis])
    shares: list[Value] = []
    for low, high in pairwise(ends):
        before, after = g.shape[:axis], g.shape[axis + 1 :]
        start = (*(0 for _ in before), low, *(0 for _ in after))
        stop = (*before, high, *after)
        shares.append(slice(g, start=start, stop=stop, strides=[1] * g.tensor.rank))
    return tuple(shares)


def repeated(operands: tuple[Value, ...], mapped: tuple[bool, ...]) -> list[Value]:
    """The operands with a leading axis each: those not mapped are the same for every example."""
    size = next(v.shape[0] for v, m in zip(operands, mapped, strict=True) if m)
    return [v if m else _repeat(v, size) for v, m in zip(operands, mapped, strict=True)]


def _repeat(value: Value, size: Size) -> Value:
    axes = tuple(range(1, value.tensor.rank + 1))
    return broadcast(value, shape=(size, *value.shape), axes=axes)


concatenate = define(
    "concatenate",
    infer=_concatenate_infer,
    reference=lambda *xs, axis: np.concatenate(xs, axis),
    derivative=Custom(_concatenate_jvp, _concatenate_vjp),
    batch=lambda operands, mapped, *, axis: concatenate(*repeated(operands, mapped), axis=axis + 1),
    what="one after the other along an axis",
)
