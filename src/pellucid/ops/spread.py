"""How far do numbers lie from their mean? The sum over axes of the squares of their distances.

An op of its own for its derivative. What reaches x through the mean is a sum of distances from the
mean, which is nothing: a rule for each of the parts cannot know that, and would sum once more over
all elements on the way back. Its value is that of `spelled_out`, step by step and bit for bit.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from pellucid.core.dtype import FLOATING
from pellucid.core.shape import Axes, product, static_shape
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import Array, Cost, Custom, define, moved_bytes, require_dtype
from pellucid.ops.elementwise import add, div, mul, sub
from pellucid.ops.movement import broadcast, full_like, reshape
from pellucid.ops.reduce import reduced_type, restore_axes, sum_


def distances(x: Value, axes: Axes, count: Value | None = None) -> Value:
    """Each element of x less the mean over `axes`, by their number or a `count` that is it."""
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    total = reshape(sum_(x, axes=axes), shape=kept)
    if count is None:
        gone = static_shape(tuple(x.shape[axis] for axis in axes), "spread")
        number = full_like(total, float(prod(gone)))
    else:
        number = broadcast(count, shape=kept, axes=())
    every = tuple(range(x.tensor.rank))
    return sub(x, broadcast(div(total, number), shape=x.shape, axes=every))


def spelled_out(x: Value, axes: Axes, count: Value | None = None) -> Value:
    """What `spread` means, by other ops; `count` may hold how many elements are summed."""
    apart = distances(x, axes, count)
    return sum_(mul(apart, apart), axes=axes)


def _reference(x: Array, *, axes: Axes) -> Array:
    with np.errstate(invalid="ignore"):
        count = np.prod([x.shape[axis] for axis in axes])
        apart = x - np.sum(x, axis=axes, keepdims=True) / x.dtype.type(count)
        return np.sum(apart * apart, axis=axes)


def _jvp(
    tangents: tuple[Value, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    (x,), (t,), axes = operands, tangents, attrs["axes"]
    return sum_(mul(distances(x, axes), add(t, t)), axes=axes)


def _vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value, ...]:
    (x,), axes = operands, attrs["axes"]
    return (mul(distances(x, axes), restore_axes(add(g, g), x, axes)),)


def _infer(x: TensorType, *, axes: Axes) -> TensorType:
    require_dtype("spread", x, FLOATING)
    return reduced_type("spread", x, axes)


def _batched(operands: tuple[Value, ...], mapped: tuple[bool, ...], *, axes: Axes) -> Value:
    return spread(operands[0], axes=tuple(axis + 1 for axis in axes))


def _cost(operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any) -> Cost:
    return Cost(4 * product(operands[0].shape), moved_bytes(operands) + moved_bytes(results))


spread = define(
    "spread",
    infer=_infer,
    reference=_reference,
    derivative=Custom(_jvp, _vjp),
    batch=_batched,
    cost=_cost,
    on=FLOATING,
    what="the sum over axes of the squared distances from their mean",
)
