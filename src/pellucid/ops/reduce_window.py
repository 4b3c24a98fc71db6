"""What brings each window over an array to one element? Sum, max, and where the maximum is.

Operands are (batch, spatial axes, channels); the window slides over the spatial axes.

window_sum(x)               what a window holds, added; padding adds nothing
window_max(x)               the largest; NaN if there is one; -inf (an integer's least) of nothing
window_argmax(x)            the place in the window, row-major, of the first maximum, as int32
window_pick(x, place)       what each window holds at its place; 0 where that lies in the padding
window_scatter(g, place)    its transpose: each window's number goes to its place, and is added

The sums of a result run over the window row-major; those of window_scatter over the windows that
meet an element, in row-major order.
"""

from __future__ import annotations

from itertools import product as pairs
from typing import Any

import numpy as np

from pellucid.core.dtype import NUMERIC, int32, integer_range
from pellucid.core.error import OpAxisError, OpShapeError, OpTypeError
from pellucid.core.shape import Shape, product
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import (
    Array,
    Cost,
    Custom,
    Multilinear,
    NoDerivative,
    define,
    moved_bytes,
    require_dtype,
    type_of,
)
from pellucid.ops.movement import broadcast, reshape
from pellucid.ops.windows import Padding, Sizes, Windows, spatial_sizes


def pooling_windows(window: Sizes, strides: Sizes, padding: Padding) -> Windows:
    """Windows without gaps over an operand without gaps."""
    ones = (1,) * len(window)
    return Windows(window, strides, padding, ones, ones)


def _result_shape(name: str, x: TensorType, windows: Windows) -> Shape:
    require_dtype(name, x, NUMERIC)
    if x.rank < 2:
        raise OpAxisError(f"{name}: expected (batch, spatial axes, channels), got {x.message()}")
    windows.check(name, x.rank - 2)
    sizes = windows.result_sizes(spatial_sizes(name, x.shape[1:-1]))
    return (x.shape[0], *sizes, x.shape[-1])


def _require_places(name: str, places: TensorType, shape: Shape) -> None:
    if places.dtype is not int32 or places.shape != shape:
        wanted = TensorType(int32, shape).message()
        raise OpTypeError(f"{name}: expected places {wanted}, got {places.message()}")


def _one_batch(*operands: Value, mapped: tuple[bool, ...]) -> tuple[list[Value], Shape]:
    """The operands with the mapped axis as part of the batch, and the two sizes that it joins."""
    many = next(x.shape[0] for x, m in zip(operands, mapped, strict=True) if m)
    found: list[Value] = []
    for x, m in zip(operands, mapped, strict=True):
        rank = x.tensor.rank
        full = x if m else broadcast(x, shape=(many, *x.shape), axes=tuple(range(1, rank + 1)))
        found.append(reshape(full, shape=(many * full.shape[1], *full.shape[2:])))
    first = operands[0]
    return found, (many, first.shape[1] if mapped[0] else first.shape[0])


def _apart(x: Value, sizes: Shape) -> Value:
    return reshape(x, shape=(*sizes, *x.shape[1:]))


def _cost(operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any) -> Cost:
    turns = product(attrs["window"]) * product(results[0].shape)
    return Cost(turns, moved_bytes(operands) + moved_bytes(results))


# Sum.


def _sum_infer(x: TensorType, **attrs: Any) -> TensorType:
    return TensorType(x.dtype, _result_shape("window_sum", x, _sum_windows(**attrs)))


def _sum_windows(
    *, window: Sizes, strides: Sizes, padding: Padding, lhs_dilation: Sizes
) -> Windows:
    return Windows(window, strides, padding, lhs_dilation, (1,) * len(window))


def _sum_reference(x: Array, **attrs: Any) -> Array:
    windows = _sum_windows(**attrs)
    total = np.zeros((x.shape[0], *windows.result_sizes(x.shape[1:-1]), x.shape[-1]), x.dtype)
    for held in windows.elements(x, 0):
        total = total + held
    return total


def _sum_transpose(g: Value, x: Value, **attrs: Any) -> Value:
    sizes = spatial_sizes("window_sum", x.shape[1:-1])
    back = _sum_windows(**attrs).transposed(sizes)
    return window_sum(
        g,
        window=back.window,
        strides=back.strides,
        padding=back.padding,
        lhs_dilation=back.lhs_dilation,
    )


def _sum_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], **attrs: Any) -> Value:
    (x,), sizes = _one_batch(*operands, mapped=mapped)
    return _apart(window_sum(x, **attrs), sizes)


window_sum = define(
    "window_sum",
    infer=_sum_infer,
    reference=_sum_reference,
    derivative=Multilinear((_sum_transpose,)),
    batch=_sum_batch,
    cost=_cost,
    kind="window",
    on=NUMERIC,
    what="the sum of each window",
)


# Max, and where it is.


def _max_infer(x: TensorType, **attrs: Any) -> TensorType:
    return TensorType(x.dtype, _result_shape("window_max", x, pooling_windows(**attrs)))


def _least(x: Array) -> float:
    dtype = type_of(x).dtype
    return float("-inf") if dtype.is_floating else integer_range(dtype)[0]


def _max_reference(x: Array, **attrs: Any) -> Array:
    windows = pooling_windows(**attrs)
    return np.max(np.stack(list(windows.elements(x, _least(x)))), axis=0)


def _argmax_infer(x: TensorType, **attrs: Any) -> TensorType:
    return TensorType(int32, _result_shape("window_argmax", x, pooling_windows(**attrs)))


def _argmax_reference(x: Array, **attrs: Any) -> Array:
    windows = pooling_windows(**attrs)
    held = np.stack(list(windows.elements(x, _least(x))))
    return np.argmax(held, axis=0).astype(np.int32)


def _argmax_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], **attrs: Any) -> Value:
    (x,), sizes = _one_batch(*operands, mapped=mapped)
    return _apart(window_argmax(x, **attrs), sizes)


window_argmax = define(
    "window_argmax",
    infer=_argmax_infer,
    reference=_argmax_reference,
    derivative=NoDerivative("a place is a whole number"),
    batch=_argmax_batch,
    cost=_cost,
    kind="window",
    on=NUMERIC,
    what="the place of the largest of each window",
)


def _max_jvp(
    tangents: tuple[Value, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    return window_pick(tangents[0], window_argmax(operands[0], **attrs), **attrs)


def _max_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value, ...]:
    (x,) = operands
    places = window_argmax(x, **attrs)
    return (window_scatter(g, places, sizes=x.shape[1:-1], **attrs),)


def _max_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], **attrs: Any) -> Value:
    (x,), sizes = _one_batch(*operands, mapped=mapped)
    return _apart(window_max(x, **attrs), sizes)


window_max = define(
    "window_max",
    infer=_max_infer,
    reference=_max_reference,
    derivative=Custom(_max_jvp, _max_vjp),
    batch=_max_batch,
    cost=_cost,
    kind="window",
    on=NUMERIC,
    what="the largest of each window",
)


# Reading and writing at a place.


def _pick_infer(x: TensorType, places: TensorType, **attrs: Any) -> TensorType:
    shape = _result_shape("window_pick", x, pooling_windows(**attrs))
    _require_places("window_pick", places, shape)
    return TensorType(x.dtype, shape)


def _pick_reference(x: Array, places: Array, **attrs: Any) -> Array:
    windows = pooling_windows(**attrs)
    found = np.zeros(places.shape, x.dtype)
    for place, held in enumerate(windows.elements(x, 0)):
        found = np.where(places == place, held, found)
    return found


def _pick_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], **attrs: Any) -> Value:
    (x, places), sizes = _one_batch(*operands, mapped=mapped)
    return _apart(window_pick(x, places, **attrs), sizes)


def _no_share(g: Value, x: Value, places: Value, **attrs: Any) -> Value:
    raise AssertionError("places are integers, of which no cotangent is asked")


def _pick_share(g: Value, x: Value, places: Value, **attrs: Any) -> Value:
    return window_scatter(g, places, sizes=x.shape[1:-1], **attrs)


window_pick = define(
    "window_pick",
    infer=_pick_infer,
    reference=_pick_reference,
    derivative=Multilinear((_pick_share, _no_share)),
    batch=_pick_batch,
    cost=_cost,
    kind="window",
    on=NUMERIC,
    what="the element at a place in each window",
)


def _scatter_infer(g: TensorType, places: TensorType, *, sizes: Sizes, **attrs: Any) -> TensorType:
    windows = pooling_windows(**attrs)
    windows.check("window_scatter", len(sizes))
    operand = TensorType(g.dtype, (g.shape[0], *sizes, g.shape[-1]))
    shape = _result_shape("window_scatter", operand, windows)
    if g.shape != shape:
        wanted = TensorType(g.dtype, shape).message()
        raise OpShapeError(f"window_scatter: expected {wanted}, got {g.message()}")
    _require_places("window_scatter", places, shape)
    return operand


def _scatter_reference(g: Array, places: Array, *, sizes: Sizes, **attrs: Any) -> Array:
    windows = pooling_windows(**attrs)
    total = np.zeros((g.shape[0], *sizes, g.shape[-1]), g.dtype)
    for position in pairs(*map(range, g.shape[1:-1])):
        for number, place in enumerate(pairs(*map(range, windows.window))):
            at = tuple(
                o * s + w - low
                for o, s, w, (low, _) in zip(
                    position, windows.strides, place, windows.padding, strict=True
                )
            )
            if all(0 <= one < size for one, size in zip(at, sizes, strict=True)):
                here = (slice(None), *position)
                total[(slice(None), *at)] += np.where(places[here] == number, g[here], 0)
    return total


def _scatter_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], **attrs: Any) -> Value:
    (g, places), sizes = _one_batch(*operands, mapped=mapped)
    return _apart(window_scatter(g, places, **attrs), sizes)


def _scatter_share(g: Value, x: Value, places: Value, *, sizes: Sizes, **attrs: Any) -> Value:
    return window_pick(g, places, **attrs)


window_scatter = define(
    "window_scatter",
    infer=_scatter_infer,
    reference=_scatter_reference,
    derivative=Multilinear((_scatter_share, _no_share)),
    batch=_scatter_batch,
    cost=_cost,
    kind="window",
    on=NUMERIC,
    what="elements added at a place in each window",
)
