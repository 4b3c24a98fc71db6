"""Where does a graph spell out an attention? There it becomes the op of that name.

    softmax(query . key * scale, where a mask lets it look) . value   ->   attention(...)

Only where `fast=True` asked for it: the op has an order of its own, and gives zeros for a row that
sees nothing, where a softmax gives NaN or the mean of values.
Before: any graph that checks; transforms may follow if they could before. After: no product of two
such factors is left, unless the scores or weights are needed elsewhere too, weights are changed in
between (by dropout), what is added to scores is no mask that is plain from how it is made, the two
products read float32 in different precisions, sizes are unknown, or a head has fewer than
LEAST_SCORES.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from pellucid.core.dtype import DType, bfloat16, float32, float64
from pellucid.core.shape import Axes, Shape, is_static
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ir.rewrite import rewrite_values
from pellucid.ops.attention import attention
from pellucid.ops.contract import dot_general, free_axes
from pellucid.ops.elementwise import cast
from pellucid.ops.movement import broadcast, reshape, transpose
from pellucid.passes.attention_masks import Frame, Looks, looks
from pellucid.passes.scored import Scored, made, uncast, weights_scored
from pellucid.passes.stage import staged
from pellucid.passes.truths import number_of

HEADS_FIRST = (True, True, True, True)

LEAST_SCORES = 8192
"""The scores of a head from which the op is faster: with fewer, whole matrices stay in a cache."""


@staged
def recognise_attention(graph: Graph) -> Graph:
    """softmax(q . k * scale) . v = attention(q, k, v), up to rounding."""
    return recognised(graph)[0]


def recognised(graph: Graph) -> tuple[Graph, dict[Value, Value]]:
    """The graph after the pass, and what each value of the old graph is in the new one."""
    found = _outputs(graph)

    def rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value] | None:
        if node not in found:
            return None
        parts = _parts(node, operands)
        return None if parts is None else (_emitted(node, parts),)

    return rewrite_values(graph, rule)


def _outputs(graph: Graph) -> set[Node]:
    """The nodes that end an attention whose scores nothing else needs."""
    users: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.operands:
            users.setdefault(value, []).append(node)
    results = dict(zip(graph.nodes, graph.results, strict=True))
    kept = set(graph.outputs)

    def escapes(value: Value, end: Node) -> bool:
        """Whether anything but `end` needs a value."""
        stack, seen = [value], {value}
        while stack:
            value = stack.pop()
            if value in kept:
                return True
            after = [r for user in users.get(value, []) if user is not end for r in results[user]]
            stack += [one for one in after if one not in seen]
            seen.update(after)
        return False

    found: set[Node] = set()
    # What reading a mask writes down is of no use here.
    with building():
        for node in graph.nodes:
            parts = _parts(node, node.operands) if node.op is dot_general else None
            if parts is not None and not escapes(parts.scored.product, node):
                found.add(node)
    return found


@dataclass(frozen=True, slots=True)
class _Operand:
    """One operand: which of its axes are batch, in the order of the scores', rows, and the last."""

    value: Value
    batch: Axes
    rows: Axes
    last: int

    @property
    def order(self) -> Axes:
        """Its axes, in the order batch, rows, last."""
        return (*self.batch, *self.rows, self.last)


@dataclass(frozen=True, slots=True)
class _Parts:
    """An attention as it is spelled: operands, scores, and the order of the result's axes.

    `frame` says which axes of the scores are batch, rows and columns, `precision` in which both
    products read their operands, where that is not as they are.
    """

    query: _Operand
    key: _Operand
    value: _Operand
    scored: Scored
    frame: Frame
    order: Axes
    precision: DType | None


def _parts(node: Node, operands: tuple[Value, ...]) -> _Parts | None:
    """The parts of the attention that a product ends, or None."""
    for side in (0, 1):
        parts = _parts_of(node, operands, side)
        if parts is not None:
            return parts
    return None


def _parts_of(node: Node, operands: tuple[Value, ...], side: int) -> _Parts | None:
    """As `_parts`, where the weights are operand `side`."""
    contract: tuple[Axes, Axes] = node.attr("contract")
    batch: tuple[Axes, Axes] = node.attr("batch")
    weights, values = operands[side], uncast(operands[1 - side])
    if len(contract[side]) != 1 or not is_static(weights.shape) or not is_static(values.shape):
        return None
    axes: Axes = tuple(range(weights.tensor.rank))
    turned = made(uncast(weights), "transpose")
    if turned is not None:
        weights, axes = turned.operands[0], turned.attr("permutation")
    column = axes[contract[side][0]]
    scored = weights_scored(weights, column)
    if scored is None:
        return None
    frame, query, key = _scores_parts(scored.product, column)
    paired = dict(zip((axes[axis] for axis in batch[side]), batch[1 - side], strict=True))
    free = free_axes(values.tensor.rank, contract[1 - side], batch[1 - side])
    if frame is None or query is None or key is None or len(free) != 1:
        return None
    if set(paired) != set(frame.batch) or frame.scores < LEAST_SCORES:
        return None
    assert scored.product.node is not None, "scores are a product's"
    precisions = _precisions(scored.product.node) | _precisions(node)
    if len(precisions) > 1:
        return None
    value = _Operand(values, tuple(paired[a] for a in frame.batch), contract[1 - side], free[0])
    # The result has its batch axes, then those free in lhs, then those free in rhs.
    mine = [axes[a] for a in free_axes(len(axes), contract[side], batch[side])]
    places = (*frame.batch, *frame.rows)
    own, features = tuple(map(places.index, mine)), (len(places),)
    first = tuple(places.index(axes[axis]) for axis in batch[side])
    order = (*first, *own, *features) if side == 0 else (*first, *features, *own)
    return _Parts(query, key, value, scored, frame, order, *precisions or (None,))


def _precisions(product: Node) -> set[DType | None]:
    """In which precision a product reads its operands, None if as they are.

    Empty where these are narrow and so is its result: whatever reads them has digits enough.
    """
    (type,), own = product.types, product.operands[0].dtype
    assert isinstance(type, TensorType), "a product is a tensor"
    if own is bfloat16:
        return {own} if type.dtype is float32 else set()
    return {dict(product.attrs).get("precision")}


def _scores_parts(
    product: Value, column: int
) -> tuple[Frame | None, _Operand | None, _Operand | None]:
    """Which axes of the scores are what, and the operands whose product they are."""
    node = product.node
    assert node is not None, "scores are a product's"
    contract: tuple[Axes, Axes] = node.attr("contract")
    batch: tuple[Axes, Axes] = node.attr("batch")
    ranks = [operand.tensor.rank for operand in node.operands]
    free = [free_axes(ranks[side], contract[side], batch[side]) for side in (0, 1)]
    start = len(batch[0])
    first = tuple(range(start, start + len(free[0])))
    second = tuple(range(start + len(free[0]), product.tensor.rank))
    side = 1 if column in second else 0
    rows, columns = (first, second) if side == 1 else (second, first)
    if columns != (column,) or len(contract[0]) != 1:
        return None, None, None
    frame = Frame(product.shape, tuple(range(start)), rows, column)
    query, key = (
        _Operand(node.operands[at], batch[at], free[at], contract[at][0]) for at in (1 - side, side)
    )
    return frame, query, key


def _emitted(node: Node, parts: _Parts) -> Value:
    """The attention, with its operands brought into the op's form, and its result out of it."""
    frame = parts.frame
    (type,) = node.types
    assert isinstance(type, TensorType), "a product is a tensor"
    dtype = float64 if float64 in (type.dtype, parts.scored.product.dtype) else float32
    (rows, by), (columns, times) = (_unscaled(one.value) for one in (parts.query, parts.key))
    query, key = replace(parts.query, value=rows), replace(parts.key, value=columns)
    key, value, groups = _shared(key, parts.value, frame)
    batch, heads, rows = frame.sizes
    shared = heads // max(groups, frame.groups)
    columns, size = frame.shape[frame.column], query.value.shape[query.last]
    features = value.value.shape[value.last]
    laid_out = [
        _laid_out(query, (batch, heads, rows, size), dtype),
        _laid_out(key, (batch, shared, columns, size), dtype),
        _laid_out(value, (batch, shared, columns, features), dtype),
    ]
    seen: Looks = looks(parts.scored.shown, frame)
    laid_out += [] if seen.mask is None else [seen.mask]
    laid_out += [] if seen.lengths is None else [seen.lengths]
    found = attention(
        *laid_out,
        scale=parts.scored.scale * by * times,
        causal=seen.causal,
        mask=seen.mask is not None,
        lengths=seen.lengths is not None,
        dropout=0.0,
        heads_first=HEADS_FIRST,
        **({} if parts.precision is None else {"precision": parts.precision}),
    )
    outer = tuple(frame.shape[axis] for axis in (*frame.batch, *frame.rows))
    whole = reshaped(found, (*outer, features))
    turned = transposed(whole, parts.order)
    return turned if turned.dtype is type.dtype else cast(turned, dtype=type.dtype)


def _laid_out(one: _Operand, shape: Shape, dtype: DType) -> Value:
    """An operand as (batch, heads, rows or columns, size), in a dtype."""
    value = one.value if one.value.dtype is dtype else cast(one.value, dtype=dtype)
    return reshaped(transposed(value, one.order), shape)


def _unscaled(value: Value) -> tuple[Value, float]:
    """A value before it was multiplied by a number, and that number."""
    value = uncast(value)
    turned, node = made(value, "transpose"), made(value, "mul") or made(value, "div")
    if turned is not None:
        inner, by = _unscaled(turned.operands[0])
        return (value if by == 1.0 else transpose(inner, **dict(turned.attrs))), by
    if node is None:
        return value, 1.0
    lhs, rhs = node.operands
    by = number_of(rhs)
    if by is None and node.op.name == "mul":
        lhs, by = rhs, number_of(lhs)
    if not by or abs(by) == float("inf"):
        return value, 1.0
    inner, other = _unscaled(lhs)
    return inner, other * by if node.op.name == "mul" else other / by


def _shared(key: _Operand, value: _Operand, frame: Frame) -> tuple[_Operand, _Operand, int]:
    """Key and value with the heads that were there before each was repeated so many times."""
    if not frame.batch or frame.groups > 1:
        return key, value, 1
    found = [_unrepeated(one.value, one.batch[-1]) for one in (key, value)]
    (keys, times), (values, others) = found
    if times != others:
        return key, value, 1
    return replace(key, value=keys), replace(value, value=values), times


def _unrepeated(value: Value, axis: int) -> tuple[Value, int]:
    """A value that repeats each element along an axis, with each but once; how many times."""
    node = value.node
    if node is not None and node.op.name == "transpose":
        permutation: Axes = node.attr("permutation")
        inner, times = _unrepeated(node.operands[0], permutation[axis])
        return (transpose(inner, permutation=permutation), times) if times > 1 else (value, 1)
    if node is not None and node.op.name == "broadcast":
        return _unspread(node, value, axis)
    if node is not None and node.op.name == "reshape":
        wide = node.operands[0]
        spread, shape = made(wide, "broadcast"), value.shape
        # (.., h, g, ..) to (.., h * g, ..)
        merged = (*wide.shape[:axis], prod(wide.shape[axis : axis + 2]), *wide.shape[axis + 2 :])
        if spread is not None and wide.tensor.rank == len(shape) + 1 and merged == shape:
            inner, times = _unspread(spread, wide, axis + 1)
            heads = (*shape[:axis], wide.shape[axis], *shape[axis + 1 :])
            return (reshape(inner, shape=heads), times) if times > 1 else (value, 1)
    return value, 1


def _unspread(node: Node, value: Value, axis: int) -> tuple[Value, int]:
    """What a broadcast gives, but only once along an axis."""
    (x,), axes, shape = node.operands, node.attr("axes"), value.shape
    times = shape[axis]
    if not isinstance(times, int) or (axis in axes and x.shape[axes.index(axis)] == times):
        return value, 1
    return broadcast(x, shape=(*shape[:axis], 1, *shape[axis + 1 :]), axes=axes), times


def transposed(value: Value, order: Axes) -> Value:
    """The value with its axes in this order."""
    return value if order == tuple(range(len(order))) else transpose(value, permutation=order)


def reshaped(value: Value, shape: Shape) -> Value:
    """The value in this shape."""
    return value if value.shape == shape else reshape(value, shape=shape)
