"""What reads or writes at places that are numbers themselves? Gather, scatter, dynamic slices.

gather(x, *indices, axes)                result[s, r] = x[indices[0][s] on axes[0], .., r elsewhere]
scatter(x, updates, *indices, axes, mode)  x with updates[s, r] brought to these places
dynamic_slice(x, *starts, sizes)         the box of these sizes that begins at `starts`
dynamic_update_slice(x, update, *starts)   x with that box replaced

The indices of a gather or scatter have one shape S, and the axes that are not indexed come after
it: NumPy's rule for integer arrays. An index out of range reads 0 and writes nothing, so that the
two stay each other's transpose; negative numbers are out of range (counting from the end is done
above). Where several updates meet at one place they come one after the other, in row-major order of
S: a "set" leaves the last, an "add" rounds after each. A box that would reach outside is moved in.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from itertools import product as every
from typing import Any

import numpy as np

from pellucid.core.dtype import DTYPES, NUMERIC, int64
from pellucid.core.error import OpAxisError, OpShapeError, OpTypeError
from pellucid.core.shape import Axes, Shape, shape_text
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import Array, Cost, Custom, define, moved_bytes, require_dtype
from pellucid.ops.elementwise import add, cast, div, equal, maximum, minimum, mul, select
from pellucid.ops.movement import broadcast, full, full_like, iota, normal_axes, reshape, transpose
from pellucid.ops.parts import repeated

MODES = ("set", "add", "max", "min")


def _gathered_shape(
    name: str, x: TensorType, indices: tuple[TensorType, ...], axes: Axes
) -> tuple[Shape, Shape]:
    """The shape of the indices, and that of the axes not indexed."""
    if not indices or len(indices) != len(axes):
        raise OpTypeError(f"{name}: expected an index for each of the axes {tuple(axes)}")
    if tuple(axes) != normal_axes(name, axes, x.rank):
        raise OpAxisError(f"{name}: expected increasing axes from 0, got {tuple(axes)}")
    for index in indices:
        _require_index(name, index)
        if index.shape != indices[0].shape:
            shapes = f"{shape_text(indices[0].shape)} and {shape_text(index.shape)}"
            raise OpShapeError(f"{name}: the shapes of the indices differ, {shapes}")
    return indices[0].shape, tuple(n for axis, n in enumerate(x.shape) if axis not in axes)


def _require_index(name: str, index: TensorType) -> None:
    if not index.dtype.is_integer:
        raise OpTypeError(f"{name}: expected whole numbers as indices, got {index.message()}")


def _gather_infer(x: TensorType, *indices: TensorType, axes: Axes) -> TensorType:
    found, rest = _gathered_shape("gather", x, indices, axes)
    return TensorType(x.dtype, (*found, *rest))


def _within(x: Array, indices: tuple[Array, ...], axes: Axes) -> tuple[Array, tuple[Array, ...]]:
    """Which places are inside, and the indices with 0 in place of those that are not."""
    inside = np.ones(indices[0].shape, np.bool_)
    for index, axis in zip(indices, axes, strict=True):
        inside &= (index >= 0) & (index < x.shape[axis])
    return inside, tuple(np.where(inside, index, 0).astype(np.int64) for index in indices)


def _first(x: Array, axes: Axes) -> Array:
    """x with its indexed axes in front."""
    return np.moveaxis(x, axes, range(len(axes)))


def _gather_reference(x: Array, *indices: Array, axes: Axes) -> Array:
    inside, places = _within(x, indices, axes)
    rest = tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
    result = np.zeros((*inside.shape, *rest), x.dtype)
    at = tuple(index[inside] for index in places)
    result[inside] = _first(x, axes)[at]
    return result


def _read_cost(
    operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any
) -> Cost:
    return Cost(0, moved_bytes(operands[1:]) + 2 * moved_bytes(results))


def _zeros(x: Value) -> Value:
    return full(x.shape, 0.0, x.dtype)


def _gather_jvp(
    tangents: tuple[Value, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    return gather(tangents[0], *operands[1:], **attrs)


def _gather_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value | None, ...]:
    x, *indices = operands
    share = scatter(_zeros(x), g, *indices, axes=attrs["axes"], mode="add")
    return (share, *(None for _ in indices))


def _numbered(index: Value) -> Value:
    """For indices with a leading batch axis: the number of each one's example."""
    return iota(dtype=int64, shape=index.shape, axis=0)


def _next(axes: Axes) -> Axes:
    return tuple(axis + 1 for axis in axes)


def _gather_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], *, axes: Axes) -> Value:
    x, *indices = operands
    if mapped[0] and not any(mapped[1:]):
        # (S, B, rest) -> (B, S, rest)
        found = gather(x, *indices, axes=_next(axes))
        before = indices[0].tensor.rank
        others = (axis for axis in range(found.tensor.rank) if axis != before)
        return transpose(found, permutation=(before, *others))
    spread = repeated(tuple(indices), mapped[1:])
    if not mapped[0]:
        return gather(x, *spread, axes=axes)
    return gather(x, _numbered(spread[0]), *spread, axes=(0, *_next(axes)))


gather = define(
    "gather",
    infer=_gather_infer,
    reference=_gather_reference,
    derivative=Custom(_gather_jvp, _gather_vjp),
    batch=_gather_batch,
    cost=_read_cost,
    kind="gather",
    what="the elements at places",
)


def _scatter_infer(
    x: TensorType, updates: TensorType, *indices: TensorType, axes: Axes, mode: str
) -> TensorType:
    if mode not in MODES:
        raise OpTypeError(f"scatter: expected a mode of {', '.join(MODES)}, got {mode!r}")
    require_dtype("scatter", x, DTYPES if mode == "set" else NUMERIC)
    found, rest = _gathered_shape("scatter", x, indices, axes)
    wanted = TensorType(x.dtype, (*found, *rest))
    if updates != wanted:
        raise OpShapeError(
            f"scatter: expected updates {wanted.message()}, got {updates.message()} "
            f"(into {x.message()}, axes {tuple(axes)})"
        )
    return x


def _scatter_reference(x: Array, updates: Array, *indices: Array, axes: Axes, mode: str) -> Array:
    result = np.array(x)
    inside, places = _within(x, indices, axes)
    view = _first(result, axes)
    combine = {"add": np.add, "max": np.maximum, "min": np.minimum}.get(mode)
    for at in every(*map(range, inside.shape)):
        if inside[at]:
            place = tuple(index[at] for index in places)
            new = updates[at] if combine is None else combine(view[place], updates[at])
            view[place] = new
    return result


def _scatter_jvp(
    tangents: tuple[Value | None, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    x, updates, *indices = operands
    moved = tangents[0] or _zeros(x), tangents[1] or _zeros(updates)
    if attrs["mode"] in ("set", "add"):
        return scatter(*moved, *indices, **attrs)
    shares = _extreme_shares(y, operands, attrs)
    weighted = (mul(share, tangent) for share, tangent in zip(shares, moved, strict=True))
    return scatter(*weighted, *indices, axes=attrs["axes"], mode="add")


def _scatter_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value | None, ...]:
    x, updates, *indices = operands
    axes, none = attrs["axes"], [None for _ in indices]
    back = gather(g, *indices, axes=axes)
    if attrs["mode"] == "add":
        return (g, back, *none)
    if attrs["mode"] == "set":
        kept = scatter(g, _zeros(updates), *indices, axes=axes, mode="set")
        return (kept, select(_wins(x, updates, indices, axes), back, _zeros(updates)), *none)
    own, others = _extreme_shares(y, operands, attrs)
    return (mul(own, g), mul(others, back), *none)


def _wins(x: Value, updates: Value, indices: list[Value], axes: Axes) -> Value:
    """Whether an update is the last one at its place: each leaves its number there."""
    shape = indices[0].shape
    count = 1
    for size in shape:
        count = count * size
    number = reshape(iota(dtype=int64, shape=(count,), axis=0), shape=shape)
    numbers = broadcast(number, shape=updates.shape, axes=tuple(range(len(shape))))
    left = scatter(full(x.shape, -1, int64), numbers, *indices, axes=axes, mode="set")
    return equal(gather(left, *indices, axes=axes), numbers)


def _extreme_shares(
    y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value, Value]:
    """How much of a largest (smallest) element is x's, and each update's: ties share equally."""
    x, updates, *indices = operands
    axes = attrs["axes"]
    own = cast(equal(x, y), dtype=x.dtype)
    others = cast(equal(updates, gather(y, *indices, axes=axes)), dtype=x.dtype)
    count = scatter(own, others, *indices, axes=axes, mode="add")
    # Out of range the gathered count is 0, and so is what comes back there.
    met = gather(count, *indices, axes=axes)
    return div(own, count), div(others, maximum(met, full_like(met, 1.0)))


def _scatter_batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, axes: Axes, mode: str
) -> Value:
    x, updates, *indices = repeated(operands, mapped)
    return scatter(x, updates, _numbered(indices[0]), *indices, axes=(0, *_next(axes)), mode=mode)


scatter = define(
    "scatter",
    infer=_scatter_infer,
    reference=_scatter_reference,
    derivative=Custom(_scatter_jvp, _scatter_vjp),
    batch=_scatter_batch,
    what="elements set, added, or maximum or minimum taken, at places",
)


def _require_starts(name: str, x: TensorType, starts: tuple[TensorType, ...]) -> None:
    if len(starts) != x.rank:
        raise OpAxisError(f"{name}: expected {x.rank} starts for {x.message()}, got {len(starts)}")
    for start in starts:
        _require_index(name, start)
        if start.rank:
            raise OpShapeError(f"{name}: expected single numbers as starts, got {start.message()}")


def _dynamic_slice_infer(x: TensorType, *starts: TensorType, sizes: Shape) -> TensorType:
    _require_starts("dynamic_slice", x, starts)
    _require_box("dynamic_slice", x, tuple(sizes))
    return TensorType(x.dtype, tuple(sizes))


def _require_box(name: str, x: TensorType, box: Shape) -> None:
    pairs = list(zip(x.shape, box, strict=False))
    numbers = [(n, b) for n, b in pairs if isinstance(n, int) and isinstance(b, int)]
    if len(box) != x.rank or any(not 0 <= part <= size for size, part in numbers):
        raise OpShapeError(
            f"{name}: expected a box that fits into {x.message()}, got {shape_text(box)}"
        )


def _box(x: Array, starts: tuple[Array, ...], sizes: tuple[int, ...]) -> tuple[slice, ...]:
    each = zip(x.shape, starts, sizes, strict=True)
    first = [min(max(int(start), 0), n - size) for n, start, size in each]
    return tuple(slice(at, at + size) for at, size in zip(first, sizes, strict=True))


def _dynamic_slice_jvp(
    tangents: tuple[Value, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    return dynamic_slice(tangents[0], *operands[1:], **attrs)


def _dynamic_slice_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value | None, ...]:
    x, *starts = operands
    return (dynamic_update_slice(_zeros(x), g, *starts), *(None for _ in starts))


def _box_indices(starts: list[Value], box: Shape, shape: Shape) -> list[Value]:
    """For a start of each example, (B,) each: the index along each axis, of shape (B, *box)."""
    found: list[Value] = []
    for axis, (start, part, size) in enumerate(zip(starts, box, shape, strict=True)):
        full_shape = (start.shape[0], *box)
        wide = cast(start, dtype=int64)
        room = size - part
        if not isinstance(room, int):
            raise OpShapeError(f"dynamic_slice: batched starts need known sizes, got {room}")
        last = full(wide.shape, room, int64)
        first = minimum(maximum(wide, full_like(wide, 0)), last)
        spread = broadcast(first, shape=full_shape, axes=(0,))
        found.append(add(spread, iota(dtype=int64, shape=full_shape, axis=axis + 1)))
    return found


def _dynamic_slice_batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, sizes: Shape
) -> Value:
    x, *starts = operands
    if not any(mapped[1:]):
        whole = full((), 0, int64)
        return dynamic_slice(x, whole, *starts, sizes=(x.shape[0], *sizes))
    shape = x.shape[1:] if mapped[0] else x.shape
    indices = _box_indices(repeated(tuple(starts), mapped[1:]), sizes, shape)
    if not mapped[0]:
        return gather(x, *indices, axes=tuple(range(x.tensor.rank)))
    return gather(x, _numbered(indices[0]), *indices, axes=tuple(range(x.tensor.rank)))


dynamic_slice = define(
    "dynamic_slice",
    infer=_dynamic_slice_infer,
    reference=lambda x, *starts, sizes: x[_box(x, starts, sizes)],
    derivative=Custom(_dynamic_slice_jvp, _dynamic_slice_vjp),
    batch=_dynamic_slice_batch,
    cost=_read_cost,
    kind="gather",
    what="a box whose start is computed",
)


def _update_infer(x: TensorType, update: TensorType, *starts: TensorType) -> TensorType:
    _require_starts("dynamic_update_slice", x, starts)
    if update.dtype is not x.dtype:
        raise OpTypeError(
            f"dynamic_update_slice: operand dtypes differ, {x.dtype} and {update.dtype}"
        )
    _require_box("dynamic_update_slice", x, update.shape)
    return x


def _update_reference(x: Array, update: Array, *starts: Array) -> Array:
    result = np.array(x)
    result[_box(x, starts, update.shape)] = update
    return result


def _update_jvp(
    tangents: tuple[Value | None, ...], y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> Value:
    x, update, *starts = operands
    return dynamic_update_slice(tangents[0] or _zeros(x), tangents[1] or _zeros(update), *starts)


def _update_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value | None, ...]:
    _, update, *starts = operands
    kept = dynamic_update_slice(g, _zeros(update), *starts)
    return (kept, dynamic_slice(g, *starts, sizes=update.shape), *(None for _ in starts))


def _update_batch(operands: tuple[Value, ...], mapped: tuple[bool, ...]) -> Value:
    if not any(mapped[2:]):
        x, update = repeated(operands[:2], mapped[:2])
        return dynamic_update_slice(x, update, full((), 0, int64), *operands[2:])
    x, update, *starts = repeated(operands, mapped)
    if not starts:
        return update
    indices = _box_indices(starts, update.shape[1:], x.shape[1:])
    axes = tuple(range(x.tensor.rank))
    return scatter(x, update, _numbered(indices[0]), *indices, axes=axes, mode="set")


dynamic_update_slice = define(
    "dynamic_update_slice",
    infer=_update_infer,
    reference=_update_reference,
    derivative=Custom(_update_jvp, _update_vjp),
    batch=_update_batch,
    what="a box put in at a computed start",
)
