"""What brings many elements to one? Sum and max over axes, which then go from the shape.

The order of the additions is part of the bit contract: it depends on the logical shape and the
axes alone (see the design page on numerics).
"""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pellucid.core.dtype import NUMERIC
from pellucid.core.error import OpShapeError
from pellucid.core.shape import Axes, product
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import (
    Array,
    Cost,
    Custom,
    Multilinear,
    define,
    moved_bytes,
    require_dtype,
)
from pellucid.ops.elementwise import cast, div, equal, mul
from pellucid.ops.movement import broadcast, normal_axes


def restore_axes(reduced: Value, like: Value, axes: Axes) -> Value:
    """A reduced value spread again over the axes that went."""
    kept = tuple(axis for axis in range(like.tensor.rank) if axis not in axes)
    return broadcast(reduced, shape=like.shape, axes=kept)


def _reduced(name: str, x: TensorType, axes: Axes) -> TensorType:
    require_dtype(name, x, NUMERIC)
    gone = normal_axes(name, axes, x.rank)
    if tuple(axes) != gone:
        raise OpShapeError(f"{name}: expected increasing axes from 0, got {tuple(axes)}")
    return TensorType(x.dtype, tuple(s for i, s in enumerate(x.shape) if i not in gone))


def _sum_infer(x: TensorType, *, axes: Axes) -> TensorType:
    return _reduced("sum", x, axes)


def _sum_reference(x: Array, *, axes: Axes) -> Array:
    # Starting at -0.0 keeps the sign of a sum of negative zeros; an empty sum is 0.0.
    count = math.prod(x.shape[axis] for axis in axes)
    start = -0.0 if x.dtype.kind == "f" and count else 0
    return np.sum(x, axis=axes, dtype=x.dtype, initial=start)


def _max_infer(x: TensorType, *, axes: Axes) -> TensorType:
    result = _reduced("max", x, axes)
    if any(x.shape[axis] == 0 for axis in axes):
        raise OpShapeError(f"max: an axis of size 0 has no maximum ({x.message()}, axes {axes})")
    return result


def _shifted(axes: Axes) -> Axes:
    return tuple(axis + 1 for axis in axes)


def _reduce_cost(
    operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any
) -> Cost:
    return Cost(product(operands[0].shape), moved_bytes(operands) + moved_bytes(results))


sum_ = define(
    "sum",
    infer=_sum_infer,
    reference=_sum_reference,
    derivative=Multilinear((lambda g, x, *, axes: restore_axes(g, x, axes),)),
    batch=lambda operands, mapped, *, axes: sum_(operands[0], axes=_shifted(axes)),
    cost=_reduce_cost,
    kind="reduce",
)


def _max_share(y: Value, x: Value, axes: Axes) -> Value:
    """Each maximal element's share: 1 over the number of elements that tie."""
    tied = cast(equal(x, restore_axes(y, x, axes)), dtype=x.dtype)
    return div(tied, restore_axes(sum_(tied, axes=axes), x, axes))


def _max_jvp(
    tangents: tuple[Value, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    (x,), axes = operands, attrs["axes"]
    return sum_(mul(_max_share(y, x, axes), tangents[0]), axes=axes)


def _max_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value, ...]:
    (x,), axes = operands, attrs["axes"]
    return (mul(_max_share(y, x, axes), restore_axes(g, x, axes)),)


max_ = define(
    "max",
    infer=_max_infer,
    reference=lambda x, *, axes: np.max(x, axis=axes),
    derivative=Custom(_max_jvp, _max_vjp),
    batch=lambda operands, mapped, *, axes: max_(operands[0], axes=_shifted(axes)),
    cost=_reduce_cost,
    kind="reduce",
)
