"""What slides a window of weights over an array? `convolution`, in any number of spatial axes.

    lhs (batch, spatial axes, channels)  *  rhs (window axes, channels / groups, features)
      -> (batch, spatial axes, features)

    out[n, o, f] = sum over w, c of rhs[w, c, f] * lhs[n, o * stride + w * dilation - low, c]

k runs over the window, row-major, then over the channels (channels first with `channels_outer`);
its sums are the chains of dot_general. Places of the window that fall into gaps of lhs are no terms
of them; those in the padding are zeros. With `flip` the window is read backwards. Features come in
`feature_groups`, each of which sees its own channels; or the batch comes in `batch_groups`, each of
which meets its own features. So the transposes in both operands are convolutions again. `dtype` and
`precision` may be given and are those of dot_general.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pellucid.core.dtype import NUMERIC, DType
from pellucid.core.error import OpAxisError, OpShapeError, OpTypeError
from pellucid.core.shape import Size, exact_quotient, product, shape_text
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.contract import require_wider
from pellucid.ops.define import Array, Cost, Multilinear, define, moved_bytes, require_dtype
from pellucid.ops.elementwise import cast
from pellucid.ops.movement import full_like, reshape, transpose
from pellucid.ops.precision import as_read, require_precision
from pellucid.ops.windows import Padding, Sizes, Windows, dilated, spatial_sizes

_WINDOWS = ("strides", "padding", "lhs_dilation", "rhs_dilation")


def windows_of(rhs: TensorType, attrs: dict[str, Any]) -> Windows:
    """How the windows of a convolution lie."""
    window = spatial_sizes("convolution", rhs.shape[:-2])
    return Windows(window, *(attrs[name] for name in _WINDOWS))


def plain_attrs(rank: int) -> dict[str, Any]:
    """Attributes of the simplest convolution over `rank` axes.

    >>> plain_attrs(1)["strides"], plain_attrs(1)["padding"]
    ((1,), ((0, 0),))
    """
    ones = (1,) * rank
    return {
        "strides": ones, "padding": ((0, 0),) * rank, "lhs_dilation": ones, "rhs_dilation": ones,
        "feature_groups": 1, "batch_groups": 1, "flip": False, "channels_outer": False,
    }  # fmt: skip


def _infer(lhs: TensorType, rhs: TensorType, **attrs: Any) -> TensorType:
    unknown = (set(attrs) - {"dtype", "precision"}) ^ set(plain_attrs(1))
    if unknown:
        raise OpTypeError(f"convolution: unknown or missing attributes {sorted(unknown)}")
    for type in (lhs, rhs):
        require_dtype("convolution", type, NUMERIC)
    if lhs.dtype != rhs.dtype:
        raise OpTypeError(f"convolution: operand dtypes differ, {lhs.dtype} and {rhs.dtype}")
    require_wider("convolution", lhs.dtype, attrs.get("dtype"))
    require_precision("convolution", lhs.dtype, attrs.get("precision"))
    shapes = f"(lhs {shape_text(lhs.shape)}, rhs {shape_text(rhs.shape)})"
    if lhs.rank != rhs.rank or lhs.rank < 2:
        raise OpAxisError(f"convolution: expected equal ranks from 2 {shapes}")
    windows = windows_of(rhs, attrs)
    windows.check("convolution", lhs.rank - 2)
    groups, batches = attrs["feature_groups"], attrs["batch_groups"]
    if groups < 1 or batches < 1 or (groups > 1 and batches > 1):
        raise OpShapeError(f"convolution: {groups} feature groups with {batches} batch groups")
    if lhs.shape[-1] != rhs.shape[-2] * groups:
        wanted = f"{rhs.shape[-2]} x {groups} groups"
        raise OpShapeError(f"convolution: expected {wanted} channels, got {lhs.shape[-1]} {shapes}")
    _require_divisible(rhs.shape[-1], groups * batches, f"features {shapes}")
    _require_divisible(lhs.shape[0], batches, f"examples {shapes}")
    batch = exact_quotient(lhs.shape[0], batches)
    sizes = windows.result_sizes(spatial_sizes("convolution", lhs.shape[1:-1]))
    return TensorType(attrs.get("dtype", lhs.dtype), (batch, *sizes, rhs.shape[-1]))


def _require_divisible(size: Size, by: int, what: str) -> None:
    if by > 1 and (not isinstance(size, int) or size % by):
        raise OpShapeError(f"convolution: {size} {what} are not {by} equal groups")


def _reference(lhs: Array, rhs: Array, **attrs: Any) -> Array:
    """Each phase is a convolution without gaps, of the places that it meets."""
    rank, batches = lhs.ndim - 2, attrs["batch_groups"]
    lhs, rhs = (as_read(x, attrs.get("precision")) for x in (lhs, rhs))
    windows = Windows(rhs.shape[:-2], *(attrs[name] for name in _WINDOWS))
    weights = rhs[(slice(None, None, -1 if attrs["flip"] else 1),) * rank]
    sizes = windows.result_sizes(lhs.shape[1:-1])
    found = np.zeros((lhs.shape[0] // batches, *sizes, rhs.shape[-1]), lhs.dtype)
    for phase in windows.phases(lhs.shape[1:-1]):
        met = weights[phase.places()]
        groups = attrs["feature_groups"], batches
        found[(slice(None), *phase.positions())] = _without_gaps(lhs, met, phase.windows, *groups)
    return found


def _without_gaps(lhs: Array, rhs: Array, windows: Windows, groups: int, batches: int) -> Array:
    window, sizes = windows.window, windows.result_sizes(lhs.shape[1:-1])
    if not math.prod(window):
        return np.zeros((lhs.shape[0] // batches, *sizes, rhs.shape[-1]), lhs.dtype)
    # (place in the window, batch group, example, position, feature group, channel)
    held = np.stack(list(windows.elements(lhs, 0)))
    batch, places = lhs.shape[0] // batches, math.prod(sizes)
    held = held.reshape(math.prod(window), batches, batch, places, groups, rhs.shape[-2])
    features = rhs.shape[-1] // (groups * batches)
    weights = rhs.reshape(math.prod(window), rhs.shape[-2], batches, groups, features)
    found = np.einsum("wbnpgc,wcbgf->npbgf", held, weights)
    return found.reshape(batch, *sizes, rhs.shape[-1])


# Transposes.


def _to_lhs(g: Value, lhs: Value, rhs: Value, **attrs: Any) -> Value:
    return _in_dtype(_lhs_share(g, lhs, _in_dtype(rhs, g.dtype), **attrs), lhs.dtype)


def _to_rhs(g: Value, lhs: Value, rhs: Value, **attrs: Any) -> Value:
    return _in_dtype(_rhs_share(g, _in_dtype(lhs, g.dtype), rhs, **attrs), rhs.dtype)


def _in_dtype(x: Value, dtype: DType) -> Value:
    return x if x.dtype is dtype else cast(x, dtype=dtype)


def _read(attrs: dict[str, Any]) -> dict[str, Any]:
    """How the transposes read their operands."""
    return {"precision": attrs["precision"]} if "precision" in attrs else {}


def _lhs_share(g: Value, lhs: Value, rhs: Value, **attrs: Any) -> Value:
    """The window read the other way, over the cotangent; channels and features change roles."""
    rank, groups, batches = lhs.tensor.rank - 2, attrs["feature_groups"], attrs["batch_groups"]
    windows = windows_of(rhs.tensor, attrs)
    back = windows.transposed(spatial_sizes("convolution", lhs.shape[1:-1]))
    weights = _swapped_groups(rhs, groups * batches)
    changed = _attrs(back, flip=not attrs["flip"], feature_groups=groups * batches)
    out = convolution(g, weights, **changed, **_read(attrs))
    if batches == 1:
        return out
    # Each group of features belongs to its group of examples.
    split = reshape(out, shape=(*out.shape[:-1], batches, lhs.shape[-1]))
    front = transpose(split, permutation=(rank + 1, *range(rank + 1), rank + 2))
    return reshape(front, shape=lhs.shape)


def _swapped_groups(rhs: Value, groups: int) -> Value:
    """(window, c, groups * f) to (window, f, groups * c)."""
    rank = rhs.tensor.rank - 2
    *window, channels, features = rhs.shape
    if groups == 1:
        return transpose(rhs, permutation=(*range(rank), rank + 1, rank))
    each = exact_quotient(features, groups)
    split = reshape(rhs, shape=(*window, channels, groups, each))
    turned = transpose(split, permutation=(*range(rank), rank + 2, rank + 1, rank))
    return reshape(turned, shape=(*window, each, groups * channels))


def _rhs_share(g: Value, lhs: Value, rhs: Value, **attrs: Any) -> Value:
    """A convolution over the batch, whose window is the cotangent; if flipped, the operand."""
    windows = windows_of(rhs.tensor, attrs)
    sizes = spatial_sizes("convolution", lhs.shape[1:-1])
    counts = windows.result_sizes(sizes)
    if not all((*sizes, *counts)):
        return full_like(rhs, 0)
    groups, batches = attrs["feature_groups"], attrs["batch_groups"]
    low = tuple(low for low, _ in windows.padding)
    if attrs["flip"]:
        # Place W - 1 - w of the window is where the result of this convolution stands at w.
        reach = zip(windows.window, windows.rhs_dilation, low, strict=True)
        low = tuple(dilated(w, step) - 1 - pad for w, step, pad in reach)
        first, second = g, _features_by_group(lhs, batches)
        steps = windows.strides, windows.lhs_dilation
        groups, batches, sizes, counts = groups * batches, 1, counts, sizes
    else:
        first, second = lhs, g
        steps = windows.lhs_dilation, windows.strides
    padding = _exact_padding(windows, low, sizes, counts, steps)
    roles = Windows(counts, windows.rhs_dilation, padding, *steps)
    changed = _attrs(roles, feature_groups=batches, batch_groups=groups, channels_outer=True)
    out = convolution(_batch_last(first), _as_window(second), **changed, **_read(attrs))
    return _regrouped(out, groups, rhs) if attrs["flip"] else _as_window(out)


def _exact_padding(
    windows: Windows, low: Sizes, sizes: Sizes, counts: Sizes, steps: tuple[Sizes, Sizes]
) -> Padding:
    """The padding with which windows of `counts` over `sizes` have a result for each weight.

    `steps` are the dilations of the sizes and of the counts.
    """
    pairs: list[tuple[int, int]] = []
    for axis, before in enumerate(low):
        size, count = (
            dilated(n[axis], s[axis]) for n, s in zip((sizes, counts), steps, strict=True)
        )
        last = (windows.window[axis] - 1) * windows.rhs_dilation[axis]
        pairs.append((before, last - before - size + count))
    return tuple(pairs)


def _batch_last(x: Value) -> Value:
    """(n, positions, c) to (c, positions, n)."""
    last = x.tensor.rank - 1
    return transpose(x, permutation=(last, *range(1, last), 0))


def _as_window(x: Value) -> Value:
    """(n, positions, c) to (positions, n, c)."""
    last = x.tensor.rank - 1
    return transpose(x, permutation=(*range(1, last), 0, last))


def _features_by_group(x: Value, batches: int) -> Value:
    """(batches * n, positions, c) to (n, positions, batches * c)."""
    if batches == 1:
        return x
    count, *sizes, channels = x.shape
    split = reshape(x, shape=(batches, exact_quotient(count, batches), *sizes, channels))
    rank = len(sizes)
    turned = transpose(split, permutation=(*range(1, rank + 2), 0, rank + 2))
    return reshape(turned, shape=(*turned.shape[:-2], channels * batches))


def _regrouped(out: Value, groups: int, rhs: Value) -> Value:
    """(f, window, groups * c) to (window, c, groups * f)."""
    features, *window, channels = out.shape
    rank = len(window)
    each = exact_quotient(channels, groups)
    split = reshape(out, shape=(features, *window, groups, each))
    turned = transpose(split, permutation=(*range(1, rank + 1), rank + 2, rank + 1, 0))
    return reshape(turned, shape=rhs.shape)


def _attrs(windows: Windows, **others: Any) -> dict[str, Any]:
    found = plain_attrs(len(windows.window))
    return found | {name: getattr(windows, name) for name in _WINDOWS} | others


# Batching.


def _batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], **attrs: Any) -> Value:
    lhs, rhs = operands
    if all(mapped):
        return _batch_both(lhs, rhs, attrs)
    return _batch_lhs(lhs, rhs, attrs) if mapped[0] else _batch_rhs(lhs, rhs, attrs)


def _batch_lhs(lhs: Value, rhs: Value, attrs: dict[str, Any]) -> Value:
    """More examples, in each batch group."""
    many, count, *rest = lhs.shape
    groups = attrs["batch_groups"]
    if groups > 1:
        each = exact_quotient(count, groups)
        split = reshape(lhs, shape=(many, groups, each, *rest))
        lhs = transpose(split, permutation=(1, 0, *range(2, len(split.shape))))
        count = each
    examples = reshape(lhs, shape=(groups * (many * count), *rest))
    out = convolution(examples, rhs, **attrs)
    return reshape(out, shape=(many, count, *out.shape[1:]))


def _batch_rhs(lhs: Value, rhs: Value, attrs: dict[str, Any]) -> Value:
    """More features, in each group."""
    many, *window, channels, features = rhs.shape
    groups = attrs["feature_groups"] * attrs["batch_groups"]
    each = exact_quotient(features, groups)
    rank = len(window)
    split = reshape(rhs, shape=(many, *window, channels, groups, each))
    turned = transpose(split, permutation=(*range(1, rank + 3), 0, rank + 3))
    weights = reshape(turned, shape=(*window, channels, many * features))
    out = convolution(lhs, weights, **attrs)
    apart = reshape(out, shape=(*out.shape[:-1], groups, many, each))
    front = transpose(apart, permutation=(rank + 2, *range(rank + 2), rank + 3))
    return reshape(front, shape=(*front.shape[:-2], features))


def _batch_both(lhs: Value, rhs: Value, attrs: dict[str, Any]) -> Value:
    """More groups: of the examples where there are some, else of the features."""
    many, *_, features = rhs.shape
    if not isinstance(many, int):
        raise OpShapeError(f"convolution: expected a known number of examples, got {many}")
    rank = rhs.tensor.rank - 1
    turned = transpose(rhs, permutation=(*range(1, rank), 0, rank))
    weights = reshape(turned, shape=(*turned.shape[:-2], many * features))
    if attrs["batch_groups"] > 1:
        examples = reshape(lhs, shape=(many * lhs.shape[1], *lhs.shape[2:]))
        attrs = attrs | {"batch_groups": attrs["batch_groups"] * many}
    else:
        last = transpose(lhs, permutation=(*range(1, rank), 0, rank))
        examples = reshape(last, shape=(*last.shape[:-2], many * lhs.shape[-1]))
        attrs = attrs | {"feature_groups": attrs["feature_groups"] * many}
    out = convolution(examples, weights, **attrs)
    apart = reshape(out, shape=(*out.shape[:-1], many, features))
    return transpose(apart, permutation=(rank - 1, *range(rank - 1), rank))


def _cost(operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any) -> Cost:
    lhs, rhs = operands
    windows = windows_of(rhs, attrs)
    phases = windows.phases(spatial_sizes("convolution", lhs.shape[1:-1]))
    met = sum(math.prod((*phase.count, *phase.windows.window)) for phase in phases)
    terms = results[0].shape[0] * met * product(rhs.shape[-2:])
    return Cost(2 * terms, moved_bytes(operands) + moved_bytes(results))


convolution = define(
    "convolution",
    infer=_infer,
    reference=_reference,
    derivative=Multilinear((_to_lhs, _to_rhs)),
    batch=_batch,
    cost=_cost,
    kind="contract",
    on=NUMERIC,
    what="a window of weights moved over an image",
)
