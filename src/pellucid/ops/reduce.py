"""What brings many elements to one? Sum, product, max and min over axes, which go from the shape.

The order of the additions is part of the bit contract: it depends on the logical shape and the
axes alone (see the design page on numerics).
"""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable
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
from pellucid.ops.movement import broadcast, full_like, inverse, normal_axes, reshape, transpose
from pellucid.ops.parts import concatenate, slice


def restore_axes(reduced: Value, like: Value, axes: Axes) -> Value:
    """A reduced value spread again over the axes that went."""
    kept = tuple(axis for axis in range(like.tensor.rank) if axis not in axes)
    return broadcast(reduced, shape=like.shape, axes=kept)


def reduced_type(name: str, x: TensorType, axes: Axes) -> TensorType:
    """The type of what is left of x where `axes` go; raises OpError in the name of an op."""
    require_dtype(name, x, NUMERIC)
    gone = normal_axes(name, axes, x.rank)
    if tuple(axes) != gone:
        raise OpShapeError(f"{name}: expected increasing axes from 0, got {tuple(axes)}")
    return TensorType(x.dtype, tuple(s for i, s in enumerate(x.shape) if i not in gone))


def _sum_infer(x: TensorType, *, axes: Axes) -> TensorType:
    return reduced_type("sum", x, axes)


def _sum_reference(x: Array, *, axes: Axes) -> Array:
    # Starting at -0.0 keeps the sign of a sum of negative zeros; an empty sum is 0.0.
    count = math.prod(x.shape[axis] for axis in axes)
    start = -0.0 if x.dtype.kind == "f" and count else 0
    return np.sum(x, axis=axes, dtype=x.dtype, initial=start)


def _extreme_infer(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, *, axes: Axes) -> TensorType:
        result = reduced_type(name, x, axes)
        if any(x.shape[axis] == 0 for axis in axes):
            raise OpShapeError(
                f"{name}: an axis of size 0 has no {name}imum ({x.message()}, {axes})"
            )
        return result

    return infer


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
    on=NUMERIC,
    what="the sum over axes",
)


def _extreme_share(y: Value, x: Value, axes: Axes) -> Value:
    """The share of each element that is the extreme one: 1 over the number of elements that tie."""
    tied = cast(equal(x, restore_axes(y, x, axes)), dtype=x.dtype)
    return div(tied, restore_axes(sum_(tied, axes=axes), x, axes))


def _extreme_jvp(
    tangents: tuple[Value, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    (x,), axes = operands, attrs["axes"]
    return sum_(mul(_extreme_share(y, x, axes), tangents[0]), axes=axes)


def _extreme_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value, ...]:
    (x,), axes = operands, attrs["axes"]
    return (mul(_extreme_share(y, x, axes), restore_axes(g, x, axes)),)


max_ = define(
    "max",
    infer=_extreme_infer("max"),
    reference=lambda x, *, axes: np.max(x, axis=axes),
    derivative=Custom(_extreme_jvp, _extreme_vjp),
    batch=lambda operands, mapped, *, axes: max_(operands[0], axes=_shifted(axes)),
    cost=_reduce_cost,
    kind="reduce",
    on=NUMERIC,
    what="the largest over axes",
)

min_ = define(
    "min",
    infer=_extreme_infer("min"),
    reference=lambda x, *, axes: np.min(x, axis=axes),
    derivative=Custom(_extreme_jvp, _extreme_vjp),
    batch=lambda operands, mapped, *, axes: min_(operands[0], axes=_shifted(axes)),
    cost=_reduce_cost,
    kind="reduce",
    on=NUMERIC,
    what="the smallest over axes",
)


def _others(x: Value, axes: Axes) -> Value:
    """At each place the product of all other elements that are reduced with it.

    A tree of products goes up by halves and comes down again, so that nothing is divided: what
    is next to a zero comes out right, and so do derivatives of any order.
    """
    rank = x.tensor.rank
    order = (*(axis for axis in range(rank) if axis not in axes), *axes)
    turned = transpose(x, permutation=order)
    kept = turned.shape[: rank - len(axes)]
    count = product(turned.shape[len(kept) :])
    found = _others_in_rows(reshape(turned, shape=(*kept, count)))
    back = reshape(found, shape=turned.shape)
    return transpose(back, permutation=inverse(order))


def _others_in_rows(x: Value) -> Value:
    size, last = x.shape[-1], x.tensor.rank - 1
    if not isinstance(size, int):
        raise OpShapeError(f"prod: the derivative needs a known size, got {size}")
    if size < 2:
        return full_like(x, 1.0)
    half = size // 2
    left, right, rest = (
        _part(x, *ends) for ends in ((0, half), (half, 2 * half), (2 * half, size))
    )
    above = _others_in_rows(concatenate(mul(left, right), rest, axis=last))
    pairs, alone = _part(above, 0, half), _part(above, half, size - half)
    return concatenate(mul(pairs, right), mul(pairs, left), alone, axis=last)


def _part(x: Value, low: int, high: int) -> Value:
    start, stop = (0,) * (x.tensor.rank - 1), x.shape[:-1]
    return slice(x, start=(*start, low), stop=(*stop, high), strides=(1,) * x.tensor.rank)


def _prod_jvp(
    tangents: tuple[Value, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    (x,), axes = operands, attrs["axes"]
    return sum_(mul(_others(x, axes), tangents[0]), axes=axes)


def _prod_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value, ...]:
    (x,), axes = operands, attrs["axes"]
    return (mul(_others(x, axes), restore_axes(g, x, axes)),)


prod = define(
    "prod",
    infer=lambda x, *, axes: reduced_type("prod", x, axes),
    reference=lambda x, *, axes: np.prod(x, axis=axes, dtype=x.dtype),
    derivative=Custom(_prod_jvp, _prod_vjp),
    batch=lambda operands, mapped, *, axes: prod(operands[0], axes=_shifted(axes)),
    cost=_reduce_cost,
    kind="reduce",
    on=NUMERIC,
    what="the product over axes",
)
