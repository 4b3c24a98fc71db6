"""Is this a softmax over the columns of a matrix of scores? And which scores, seen where?

    weights = exp(s - top) / sum(exp(s - top))        s = where(mask, query . key * scale, -inf)

Read from the weights backward, whatever the spelling. The quotient may be a product with the
reciprocal. What is subtracted may be anything that is the same along a row, which changes no
softmax. The scale may be a factor or a divisor, and stand before or after the mask; the mask may be
chosen by `select` or added. `stop_gradient` is seen through in a mask and in what is subtracted,
nowhere else: a derivative taken afterwards must be that of what was written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pellucid.core.shape import long_sizes
from pellucid.ir.graph import Node, Value
from pellucid.passes.truths import Number, number_of, split

Hides = Callable[[Number], bool]
"""Whether a number in place of a score, or of its exponential, hides the column."""

LOW: Final = -1e4
"""A score of at most this hides a column."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A row sees a column where `predicate` is `holds`; it has the shape of the scores."""

    predicate: Value
    holds: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores: `product`, a dot_general's result, times `scale`, where all of `shown` let it be."""

    product: Value
    scale: float
    shown: tuple[Shown, ...]


def weights_scored(weights: Value, axis: int) -> Scored | None:
    """The scores of which these are the softmax along an axis, or None."""
    raised = _numerator(uncast(weights), axis)
    if raised is None:
        return None
    raised, shown = _chosen(raised, lambda number: number == 0)
    node = made(raised, "exp")
    if node is None:
        return None
    scores = uncast(node.operands[0])
    shifted = made(scores, "sub")
    if shifted is not None and is_same_along(shifted.operands[1], axis):
        scores = uncast(shifted.operands[0])
    found = _product(scores)
    return None if found is None else replace(found, shown=(*shown, *found.shown))


def made(value: Value, op: str) -> Node | None:
    """The node that made a value, if it is one of that op."""
    node = value.node
    return node if node is not None and node.op.name == op else None


def uncast(value: Value) -> Value:
    """The value before casts from float to float."""
    while (node := made(value, "cast")) is not None and node.operands[0].dtype.is_floating:
        value = node.operands[0]
    return value


def is_same_along(value: Value, axis: int) -> bool:
    """Whether a value was spread along an axis."""
    node = value.node
    if node is None:
        return False
    if node.op.name in ("cast", "stop_gradient"):
        return is_same_along(node.operands[0], axis)
    if node.op.name != "broadcast":
        return number_of(value) is not None
    axes: tuple[int, ...] = node.attr("axes")
    return axis not in axes or node.operands[0].shape[axes.index(axis)] == 1


def _numerator(weights: Value, axis: int) -> Value | None:
    """e of e / sum(e) or e * (1 / sum(e)), with the sums along an axis."""
    quotient = made(weights, "div")
    if quotient is not None:
        raised, total = quotient.operands
        fits = is_same_along(total, axis) and _is_sum(total, raised, axis)
        return uncast(raised) if fits else None
    product = made(weights, "mul")
    if product is None:
        return None
    for raised, by in (product.operands, product.operands[::-1]):
        inverse = made(_unspread(by), "div")
        if inverse is not None and number_of(inverse.operands[0]) == 1:
            total = inverse.operands[1]
            spread = is_same_along(by, axis) or is_same_along(total, axis)
            if spread and _is_sum(total, raised, axis):
                return uncast(raised)
    return None


def _is_sum(total: Value, raised: Value, axis: int) -> bool:
    """Whether a value is the sum of another along the axis, spread or not."""
    node = made(_unspread(total), "sum")
    if node is None or node.attr("axes") != (axis,):
        return False
    return uncast(node.operands[0]) is uncast(raised)


def _unspread(value: Value) -> Value:
    """What was spread, or only given axes of size 1, or cast."""
    value = uncast(value)
    while True:
        node = made(value, "broadcast") or made(value, "reshape")
        if node is None or not _keeps_order(node):
            return value
        value = uncast(node.operands[0])


def _keeps_order(node: Node) -> bool:
    """Whether a reshape only adds axes of size 1; a broadcast always keeps its axes in order."""
    if node.op.name == "broadcast":
        return True
    return long_sizes(node.operands[0].shape) == long_sizes(node.attr("shape"))


def _product(scores: Value) -> Scored | None:
    """Scores back to the product that they come from."""
    scale, shown = 1.0, list[Shown]()
    while True:
        low = LOW / scale
        scores, masks = _chosen(uncast(scores), lambda number, low=low: number <= low)
        shown += masks
        node = scores.node
        if node is None:
            return None
        if node.op.name == "dot_general":
            return Scored(scores, scale, tuple(shown))
        if node.op.name in ("mul", "div"):
            by, scores = _factor(node)
            if by is None or not 0.0 < by < float("inf"):
                return None
            scale *= by
        elif node.op.name == "add":
            found = _added(node, low)
            if found is None:
                return None
            scores, masks = found
            shown += masks
        elif not masks:
            return None


def _factor(node: Node) -> tuple[float | None, Value]:
    """The number by which a product or quotient scales, and what it scales."""
    lhs, rhs = node.operands
    by = number_of(rhs)
    if node.op.name == "div":
        return (1.0 / by if by else None), lhs
    if by is not None:
        return float(by), lhs
    by = number_of(lhs)
    return (None if by is None else float(by)), rhs


def _chosen(value: Value, hides: Hides) -> tuple[Value, list[Shown]]:
    """What a select shows, where elsewhere it gives a number that hides; or the value itself."""
    shown: list[Shown] = []
    while (node := made(value, "select")) is not None:
        where = split(node.operands[0])
        if where is None or where.predicate is None:
            return value, shown
        then, other = node.operands[1:]
        for hidden, kept, holds in ((other, then, True), (then, other, False)):
            number = number_of(hidden)
            if number is not None and hides(number):
                # The predicate is a truth, or its opposite.
                shown.append(Shown(where.predicate, holds == bool(where.then)))
                value = uncast(kept)
                break
        else:
            return value, shown
    return value, shown


def _added(node: Node, low: float) -> tuple[Value, list[Shown]] | None:
    """What a sum shows, one side of which is 0 or a number of at most `low`."""
    for kept, added in (node.operands, node.operands[::-1]):
        found = split(added)
        if found is None:
            continue
        if found.then == found.other == 0:
            return kept, []
        if found.predicate is None or {found.then, found.other} & {0} != {0}:
            continue
        if min(found.then, found.other) <= low:
            return kept, [Shown(found.predicate, found.then == 0)]
    return None
