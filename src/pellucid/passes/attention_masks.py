"""What hides columns from rows, as the op `attention` takes it: causal, or a mask of four axes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from pellucid.core.dtype import int64
from pellucid.core.shape import Axes, Shape, static_shape
from pellucid.ir.graph import Value
from pellucid.ops.elementwise import logical_and, logical_not
from pellucid.ops.movement import broadcast, full, reshape, transpose
from pellucid.passes.scored import Shown
from pellucid.passes.truths import conjuncts, plane


@dataclass(frozen=True, slots=True)
class Frame:
    """Which axes of the scores are batch, rows (the last of them; others are groups) and columns.

    The last batch axis, if there is one, is that of the heads of key and value.
    """

    shape: Shape
    batch: Axes
    rows: Axes
    column: int

    @property
    def groups(self) -> int:
        """How many query heads there are for each head of key and value."""
        return prod(self.extents(self.rows[:-1]))

    @property
    def scores(self) -> int:
        """How many scores a head has."""
        return prod(self.extents((*self.rows[-1:], self.column)))

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Batch, query heads and rows."""
        batch, heads, rows, _ = (prod(self.extents(axes)) for axes in self.parts)
        return batch, heads, rows

    @property
    def parts(self) -> tuple[Axes, Axes, Axes, Axes]:
        """The axes that are batch, heads, rows and columns of the op."""
        heads = (*self.batch[-1:], *self.rows[:-1])
        return self.batch[:-1], heads, self.rows[-1:], (self.column,)

    def extents(self, axes: Axes) -> tuple[int, ...]:
        """The sizes of some axes."""
        return static_shape(tuple(self.shape[axis] for axis in axes), "an attention")


@dataclass(frozen=True, slots=True)
class Looks:
    """What a row may look at: up to itself, where `mask` is true, among the first `lengths`."""

    causal: bool = False
    mask: Value | None = None
    lengths: Value | None = None


def looks(shown: Sequence[Shown], frame: Frame) -> Looks:
    """All that is shown, as the op takes it."""
    masks, diagonals = list[Shown](), dict[int, Shown]()
    each = [conjunct for one in shown for conjunct in conjuncts(one.predicate, one.holds)]
    for one in (Shown(*conjunct) for conjunct in each):
        ahead = _ahead(one, frame)
        if ahead is None:
            masks.append(one)
        else:
            diagonals[ahead] = one
    batch, _, rows = frame.sizes
    (columns,) = frame.extents((frame.column,))
    ahead = min(diagonals, default=columns)
    if ahead >= columns - 1:
        return Looks(mask=_joined(masks, frame))
    if ahead == 0:
        return Looks(causal=True, mask=_joined(masks, frame))
    if ahead == columns - rows:
        # With lengths, rows and columns end together.
        lengths = full((batch,), columns, int64)
        return Looks(causal=True, mask=_joined(masks, frame), lengths=lengths)
    return Looks(mask=_joined([*masks, diagonals[ahead]], frame))


def _ahead(one: Shown, frame: Frame) -> int | None:
    """How many columns after its own a row sees, if all up to there and no others; or None."""
    found = plane(one.predicate)
    if found is None:
        return None
    found = found if one.holds else found.opposite
    factors = dict(found.factors)
    row, column = factors.pop(frame.rows[-1], 0) if frame.rows else 0, factors.pop(frame.column, 0)
    # by * row - by * column + offset >= 0
    if factors or row != -column or row <= 0:
        return None
    return found.offset // row


def _joined(masks: Sequence[Shown], frame: Frame) -> Value | None:
    """What all masks show, as (batch, heads, rows, columns), each of which may be 1."""
    if not masks:
        return None
    each = [_mask(one, frame) for one in masks]
    shape = tuple(max(sizes) for sizes in zip(*(mask.shape for mask in each), strict=True))
    first, *others = (_spread(mask, shape) for mask in each)
    for other in others:
        first = logical_and(first, other)
    return first


def _mask(one: Shown, frame: Frame) -> Value:
    """What one mask shows, in the four axes."""
    value, there = one.predicate, tuple(range(len(frame.shape)))
    node = value.node
    if node is not None and node.op.name == "broadcast":
        (value,), there = node.operands, node.attr("axes")
    places = [axis for axes in frame.parts for axis in axes]
    order = sorted(range(len(there)), key=lambda axis: places.index(there[axis]))
    if order != list(range(len(order))):
        value = transpose(value, permutation=tuple(order))
    sizes = dict(zip((there[axis] for axis in order), value.shape, strict=True))
    value = reshape(value, shape=tuple(sizes.get(axis, 1) for axis in places))
    # Axes that become one are all spread, or all of size 1.
    at, wide, merged = 0, list[int](), list[int]()
    for axes in frame.parts:
        own = static_shape(value.shape[at : at + len(axes)], "a mask")
        own = own if prod(own) == 1 else frame.extents(axes)
        wide, merged, at = [*wide, *own], [*merged, prod(own)], at + len(axes)
    value = reshape(_spread(value, tuple(wide)), shape=tuple(merged))
    return value if one.holds else logical_not(value)


def _spread(value: Value, shape: Shape) -> Value:
    """The value in a shape of as many axes, each its own or spread from 1."""
    if value.shape == shape:
        return value
    return broadcast(value, shape=shape, axes=tuple(range(len(shape))))
