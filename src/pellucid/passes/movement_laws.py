"""Which laws of axes hold? Movements in a row are one, and a product takes its axes as they lie."""

from __future__ import annotations

from typing import Any

from pellucid.core.shape import Axes, Shape, product
from pellucid.ir.graph import Node, Value
from pellucid.ops.attention import attention, attention_gradient
from pellucid.ops.attention_forms import HEADS_AND_ROWS
from pellucid.ops.contract import dot_general, free_axes
from pellucid.ops.define import lookup
from pellucid.ops.movement import broadcast, reshape, transpose
from pellucid.ops.parts import slice
from pellucid.passes.law import ANY, law, made_by, producer


@law("transpose", ANY)
def transpose_nothing(node: Node, x: Value) -> Value | None:
    """transpose(x, (0, 1, ..)) = x"""
    return x if node.attr("permutation") == tuple(range(x.tensor.rank)) else None


@law("transpose", made_by("transpose"))
def transpose_twice(node: Node, turned: Value) -> Value:
    """transpose(transpose(x, p), q) = transpose(x, p[q])"""
    first = producer(turned)
    permutation = tuple(first.attr("permutation")[axis] for axis in node.attr("permutation"))
    return transpose(first.operands[0], permutation=permutation)


@law("transpose", made_by("broadcast"))
def transpose_broadcast(node: Node, spread: Value) -> Value | None:
    """transpose(broadcast(x)) = broadcast(x) to the turned shape, where x keeps its axes' order"""
    first = producer(spread)
    permutation: Axes = node.attr("permutation")
    axes = tuple(permutation.index(axis) for axis in first.attr("axes"))
    if list(axes) != sorted(axes):
        return None
    shape = tuple(spread.shape[axis] for axis in permutation)
    return broadcast(first.operands[0], shape=shape, axes=axes)


@law("reshape", ANY)
def reshape_nothing(node: Node, x: Value) -> Value | None:
    """reshape(x, shape of x) = x"""
    return x if node.attr("shape") == x.shape else None


@law("reshape", made_by("reshape"))
def reshape_twice(node: Node, x: Value) -> Value:
    """reshape(reshape(x, s), t) = reshape(x, t)"""
    return reshape(producer(x).operands[0], shape=node.attr("shape"))


@law("reshape", made_by("broadcast"))
def reshape_one_number(node: Node, spread: Value) -> Value | None:
    """reshape(broadcast(scalar), t) = broadcast(scalar, t)"""
    (x,) = producer(spread).operands
    return None if x.shape else broadcast(x, shape=node.attr("shape"), axes=())


@law("broadcast", ANY)
def broadcast_nothing(node: Node, x: Value) -> Value | None:
    """broadcast(x, shape of x) = x"""
    return x if node.attr("shape") == x.shape else None


@law("broadcast", ANY)
def broadcast_to_ones(node: Node, x: Value) -> Value | None:
    """broadcast(x) = reshape(x), where it only adds axes of size one"""
    shape, axes = node.attr("shape"), node.attr("axes")
    added = [size for axis, size in enumerate(shape) if axis not in axes]
    same = tuple(shape[axis] for axis in axes) == x.shape
    return reshape(x, shape=shape) if same and all(size == 1 for size in added) else None


@law("broadcast", made_by("broadcast"))
def broadcast_twice(node: Node, spread: Value) -> Value:
    """broadcast(broadcast(x, s, a), t, b) = broadcast(x, t, b[a])"""
    first = producer(spread)
    axes = tuple(node.attr("axes")[axis] for axis in first.attr("axes"))
    return broadcast(first.operands[0], shape=node.attr("shape"), axes=axes)


@law("broadcast", made_by("reshape"))
def broadcast_reshaped(node: Node, shaped: Value) -> Value | None:
    """broadcast(reshape(x)) = broadcast(x), where the reshape only adds axes of size one"""
    (x,) = producer(shaped).operands
    places = _places_among_ones(x.shape, shaped.shape)
    if places is None:
        return None
    axes = tuple(node.attr("axes")[place] for place in places)
    return broadcast(x, shape=node.attr("shape"), axes=axes)


@law("sum", ANY)
@law("max", ANY)
def reduce_ones(node: Node, x: Value) -> Value | None:
    """sum(x, axes) = sum of x without its axes of size one; over no axes it is x"""
    axes: Axes = node.attr("axes")
    ones = tuple(axis for axis in axes if x.shape[axis] == 1)
    if not ones and axes:
        return None
    kept = tuple(axis for axis in range(x.tensor.rank) if axis not in ones)
    left = tuple(index for index, axis in enumerate(kept) if axis in axes)
    narrow = reshape(x, shape=tuple(x.shape[axis] for axis in kept)) if ones else x
    return lookup(node.op.name)(narrow, axes=left) if left else narrow


@law("dot_general", made_by("transpose"), ANY)
def dot_of_turned_lhs(node: Node, lhs: Value, rhs: Value) -> Value | None:
    """dot_general(transpose(x), y) = dot_general(x, y) over the axes where they lie in x"""
    return _absorb(node, (lhs, rhs), 0)


@law("dot_general", ANY, made_by("transpose"))
def dot_of_turned_rhs(node: Node, lhs: Value, rhs: Value) -> Value | None:
    """dot_general(x, transpose(y)) = dot_general(x, y) over the axes where they lie in y"""
    return _absorb(node, (lhs, rhs), 1)


@law("transpose", made_by("dot_general"), once=True)
def turned_product(node: Node, product: Value) -> Value | None:
    """(x y)^T = y^T x^T: each product of two numbers, and so each chain over k, is the same"""
    dot = producer(product)
    lhs, rhs = dot.operands
    contract, batch = dot.attr("contract"), dot.attr("batch")
    mine = len(free_axes(lhs.tensor.rank, contract[0], batch[0]))
    start, rank = len(batch[0]), product.tensor.rank
    exchanged = (*range(start), *range(start + mine, rank), *range(start, start + mine))
    if node.attr("permutation") != exchanged:
        return None
    pairs = {**dict(dot.attrs), "contract": contract[::-1], "batch": batch[::-1]}
    return dot_general(rhs, lhs, **pairs)


@law("attention", ANY, ANY, ANY)
@law("attention", ANY, ANY, ANY, ANY)
@law("attention", ANY, ANY, ANY, ANY, ANY)
@law("attention", ANY, ANY, ANY, ANY, ANY, ANY)
@law("attention", ANY, ANY, ANY, ANY, ANY, ANY, ANY)
def attention_of_turned(node: Node, *operands: Value) -> Value | None:
    """attention(transpose(x), ..) = attention(x, ..) with its heads first, or no longer"""
    first = list(node.attr("heads_first"))
    turned = [at for at in range(3) if _exchanges_heads(operands[at])]
    if not turned:
        return None
    found = list(operands)
    for at in turned:
        first[at] = not first[at]
        found[at] = producer(operands[at]).operands[0]
    return attention(*found, **{**dict(node.attrs), "heads_first": tuple(first)})


@law("transpose", made_by("attention"), once=True)
def turned_attention(node: Node, found: Value) -> Value | None:
    """transpose(attention(..)) = attention(..) with the result's heads first, or no longer"""
    if node.attr("permutation") != HEADS_AND_ROWS:
        return None
    inner = producer(found)
    *others, last = inner.attr("heads_first")
    attrs = {**dict(inner.attrs), "heads_first": (*others, not last)}
    return attention(*inner.operands, **attrs)


@law("slice", made_by("attention_gradient"))
def share_of_turned(node: Node, packed: Value) -> Value | None:
    """A share of attention_gradient(transpose(x), ..) is turned in that of (x, ..), heads first

    All shares of a gradient lie as its operands do: each of its slices finds the same new one.
    """
    inner = producer(packed)
    attrs, operands = dict(inner.attrs), list(inner.operands)
    first, sizes = list(inner.attr("heads_first")), [product(x.shape) for x in operands[:3]]
    turned = [at for at in range(4) if _exchanges_heads(operands[at])]
    bounds = {(sum(sizes[:at]), sum(sizes[: at + 1])): at for at in range(3)}
    share = bounds.get((*node.attr("start"), *node.attr("stop")))
    if not turned or share is None or node.attr("strides") != (1,):
        return None
    for at in turned:
        first[at] = not first[at]
        operands[at] = producer(operands[at]).operands[0]
    packed = attention_gradient(*operands, **{**attrs, "heads_first": tuple(first)})
    found = slice(packed, **dict(node.attrs))
    if share not in turned:
        return found
    whole = reshape(found, shape=operands[share].shape)
    return reshape(transpose(whole, permutation=HEADS_AND_ROWS), shape=found.shape)


def _exchanges_heads(value: Value) -> bool:
    node = value.node
    return (
        node is not None and node.op is transpose and (node.attr("permutation") == HEADS_AND_ROWS)
    )


def _absorb(node: Node, operands: tuple[Value, Value], side: int) -> Value | None:
    """The product over the untransposed operand; None where its free axes would change order."""
    turned = producer(operands[side])
    (x,), permutation = turned.operands, turned.attr("permutation")
    contract, batch = node.attr("contract"), node.attr("batch")
    free = free_axes(len(permutation), contract[side], batch[side])
    if list(_mapped(free, permutation)) != sorted(_mapped(free, permutation)):
        return None
    pairs: dict[str, Any] = dict(node.attrs)
    for name, pair in (("contract", contract), ("batch", batch)):
        mapped = _mapped(pair[side], permutation)
        pairs[name] = (mapped, pair[1]) if side == 0 else (pair[0], mapped)
    return dot_general(*((x, operands[1]) if side == 0 else (operands[0], x)), **pairs)


def _mapped(axes: Axes, permutation: Axes) -> Axes:
    return tuple(permutation[axis] for axis in axes)


def _places_among_ones(inner: Shape, outer: Shape) -> Axes | None:
    """Where each axis of `inner` stands in `outer`, which has more axes of size one; or None."""
    places: list[int] = []
    for axis, size in enumerate(outer):
        if len(places) < len(inner) and size == inner[len(places)]:
            places.append(axis)
        elif size != 1:
            return None
    return tuple(places) if len(places) == len(inner) else None
