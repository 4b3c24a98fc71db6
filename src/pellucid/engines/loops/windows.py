"""How do windows that may reach beyond their operand become lines? By guarded places.

Along each axis a place in the operand is computed, with whether it exists where that is not
certain; the element is loaded from the nearest place that does, and replaced by what padding
holds. A result's window is a chain of elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pellucid.core.dtype import DType, bool_, int32, int64, integer_range
from pellucid.core.shape import static_shape
from pellucid.engines.loops.ir import (
    Accumulator,
    Affine,
    Apply,
    Axis,
    Const,
    Expression,
    Index,
    Quotient,
    Remainder,
    accumulation_dtype,
)
from pellucid.engines.loops.space import ZERO, Place, plus, row_major, times, variable
from pellucid.ir.graph import Node, Value

Sizes = tuple[int, ...]
Element = Callable[[Place, tuple[str, ...]], str]
"""What stands at a place, of which these conditions say whether it exists."""


class Asking(Protocol):
    """What these rules need of the writer of a draft."""

    extents: dict[str, int]

    def ask(self, value: Value, where: Place) -> str:
        """The name of an element."""
        ...

    def let(self, dtype: DType, expression: Expression) -> str:
        """A name for an expression."""
        ...

    def name(self, prefix: str) -> str:
        """A new name."""
        ...

    def placed(self, where: Any, shape: Sizes) -> Place:
        """A place as one index an axis."""
        ...

    def once(self, key: Hashable, make: Callable[[], str]) -> str:
        """The name that `make` gives; the same name for the same key."""
        ...

    def reduction(self, key: Hashable, rows: tuple[Axis, ...]) -> list[Accumulator]:
        """The results of a reduction."""
        ...


# The rules.


def window_sum(writer: Asking, node: Node, value: Value, where: Any) -> str:
    """What a window holds, added."""
    place, zero = writer.placed(where, shape_of(value)), zero_of(value.dtype)

    def element(at: Place) -> str:
        return _held(writer, node, place, at, zero)

    return _chain(writer, node, place, "sum", value.dtype, element)


def window_max(writer: Asking, node: Node, value: Value, where: Any) -> str:
    """The largest that a window holds."""
    place = writer.placed(where, shape_of(value))
    return _largest(writer, node, place, node.operands[0].dtype)


def window_argmax(writer: Asking, node: Node, value: Value, where: Any) -> str:
    """The least place that holds the maximum: the largest of the negative places that do."""
    (x,), window = node.operands, cast(Sizes, node.attr("window"))
    place = writer.placed(where, shape_of(value))
    most = _largest(writer, node, place, x.dtype)
    beyond = writer.let(int32, Const(-integer_range(int32)[1]))

    def element(at: Place) -> str:
        held = _held(writer, node, place, at, _least(x.dtype))
        first = writer.let(bool_, Apply("equal", (held, most)))
        if x.dtype.is_floating:
            nan = writer.let(bool_, Apply("not_equal", (held, held)))
            first = writer.let(bool_, Apply("logical_or", (first, nan)))
        number = writer.let(int32, Index(_row_major(at, window)))
        negative = writer.let(int32, Apply("neg", (number,)))
        return writer.let(int32, Apply("select", (first, negative, beyond)))

    found = _chain(writer, node, place, "max", int32, element)
    return writer.let(int32, Apply("neg", (found,)))


def window_pick(writer: Asking, node: Node, value: Value, where: Any) -> str:
    """What a window holds at its own place."""
    x, places = node.operands
    window = cast(Sizes, node.attr("window"))
    place = writer.placed(where, shape_of(value))
    number = writer.let(int64, Apply("cast", (writer.ask(places, place),)))
    count = _number(writer, math.prod(window))
    exists = _within(writer, number, count)
    at = _unravelled(writer, _clamped(writer, number, count), window)
    return _held(writer, node, place, at, zero_of(x.dtype), (exists,))


def window_scatter(writer: Asking, node: Node, value: Value, where: Any) -> str:
    """What the windows that meet an element have for its place, added."""
    g, _ = node.operands
    if not math.prod(shape_of(g)):
        return writer.let(value.dtype, Const(zero_of(value.dtype)))
    place = writer.placed(where, shape_of(value))
    window, strides = (cast(Sizes, node.attr(name)) for name in ("window", "strides"))
    reach = tuple(-(-w // stride) for w, stride in zip(window, strides, strict=True))

    def element(at: Place) -> str:
        return _sent(writer, node, place, at, reach)

    return _chain(writer, node, place, "sum", value.dtype, element, reach)


def _sent(writer: Asking, node: Node, place: Place, turn: Place, reach: Sizes) -> str:
    """What the window `turn` of those that meet an element has for it."""
    g, places = node.operands
    window, strides = (cast(Sizes, node.attr(name)) for name in ("window", "strides"))
    padding = cast(tuple[tuple[int, int], ...], node.attr("padding"))
    positions, inner, conditions = list[Affine](), list[Affine](), list[str]()
    for axis, size in enumerate(shape_of(g)[1:-1]):
        # Windows o with o * stride <= p + low < o * stride + window; the last one comes last.
        moved = writer.let(int64, Index(_plus_number(writer, place[axis + 1], padding[axis][0])))
        first = _clamped(writer, moved, None)
        last = writer.let(int64, Quotient(variable(first), strides[axis]))
        index = plus(variable(last), turn[axis])
        number = writer.let(int64, Index(_plus_number(writer, index, 1 - reach[axis])))
        count = _number(writer, size)
        within = Index(plus(variable(moved), variable(number, -strides[axis])))
        offset = writer.let(int64, within)
        conditions += [
            _within(writer, moved, None),
            _within(writer, number, count),
            _within(writer, offset, _number(writer, window[axis])),
        ]
        positions.append(_known(writer, _clamped(writer, number, count), size))
        inner.append(variable(offset))
    where = (place[0], *positions, place[-1])
    wanted = writer.let(int32, Index(_row_major(inner, window)))
    hit = writer.let(bool_, Apply("equal", (writer.ask(places, where), wanted)))
    return _guarded(writer, g.dtype, writer.ask(g, where), (*conditions, hit), zero_of(g.dtype))


# Chains over a window.


def _largest(writer: Asking, node: Node, place: Place, dtype: DType) -> str:
    """The maximum of a window, found once for it and for its place."""

    def element(at: Place) -> str:
        return _held(writer, node, place, at, _least(dtype))

    def made() -> str:
        return _chain(writer, node, place, "max", dtype, element)

    return writer.once(("largest", node.operands, node.attrs, place), made)


def _chain(
    writer: Asking,
    node: Node,
    place: Place,
    kind: Any,
    dtype: DType,
    element: Callable[[Place], str],
    extents: Sizes | None = None,
) -> str:
    """Elements at all places of the window (or of `extents`), added or compared in order."""
    sizes = cast(Sizes, node.attr("window")) if extents is None else extents
    if math.prod(sizes) == 1:
        return element((ZERO,) * len(sizes))
    prefix = writer.name("r")
    rows = tuple(Axis(f"{prefix}_{at}", size) for at, size in enumerate(sizes) if size != 1)
    results = writer.reduction((node, place, prefix), rows)
    at = tuple(
        variable(f"{prefix}_{axis}") if size != 1 else ZERO for axis, size in enumerate(sizes)
    )
    wide = accumulation_dtype(dtype)
    result = Accumulator(writer.name("s"), kind, wide, element(at))
    results.append(result)
    if wide is dtype:
        return result.name
    return writer.let(dtype, Apply("cast", (result.name,)))


# Guarded places.


@dataclass(frozen=True, slots=True)
class _Along:
    """How windows lie along one axis."""

    size: int
    window: int
    stride: int
    low: int
    high: int
    dilation: int

    @property
    def extent(self) -> int:
        """The size with its gaps."""
        return (self.size - 1) * self.dilation + 1

    @property
    def stays_inside(self) -> bool:
        """Whether no window reaches beyond the operand, nor into a gap."""
        return self.low <= 0 and self.high <= 0 and self.dilation == 1


def _axes(node: Node) -> list[_Along]:
    sizes = shape_of(node.operands[0])[1:-1]
    ones = (1,) * len(sizes)
    dilation = dict(node.attrs).get("lhs_dilation", ones)
    numbers = zip(
        sizes, node.attr("window"), node.attr("strides"), node.attr("padding"),
        cast(Sizes, dilation), strict=True,
    )  # fmt: skip
    return [_Along(size, w, stride, low, high, d) for size, w, stride, (low, high), d in numbers]


def _held(
    writer: Asking,
    node: Node,
    place: Place,
    at: Place,
    nothing: float,
    conditions: tuple[str, ...] = (),
) -> str:
    """What the window of a result holds at a place of its own; `nothing` where there is nothing."""
    x, found, indexes = node.operands[0], list(conditions), list[Affine]()
    if not math.prod(shape_of(x)):
        return writer.let(x.dtype, Const(nothing))
    for along, o, w in zip(_axes(node), place[1:-1], at, strict=True):
        index, exists = _position(writer, along, plus(times(o, along.stride), w))
        indexes.append(index)
        found += exists
    element = writer.ask(x, (place[0], *indexes, place[-1]))
    return _guarded(writer, x.dtype, element, tuple(found), nothing)


def _position(writer: Asking, along: _Along, index: Affine) -> tuple[Affine, list[str]]:
    """Where an element lies along an axis, and the conditions on which it exists."""
    if along.stays_inside:
        return (_plus_number(writer, index, -along.low) if along.low else index), []
    number = writer.let(int64, Index(_plus_number(writer, index, -along.low)))
    extent = _number(writer, along.extent)
    conditions = [_within(writer, number, extent)]
    inside = _clamped(writer, number, extent)
    if along.dilation > 1:
        rest = writer.let(int64, Remainder(variable(inside), along.dilation))
        zero = writer.let(int64, Const(0))
        conditions.append(writer.let(bool_, Apply("equal", (rest, zero))))
        inside = writer.let(int64, Quotient(variable(inside), along.dilation))
    return _known(writer, inside, along.size), conditions


def _guarded(
    writer: Asking, dtype: DType, element: str, conditions: tuple[str, ...], nothing: float
) -> str:
    if not conditions:
        return element
    exists, *others = dict.fromkeys(conditions)
    for other in others:
        exists = writer.let(bool_, Apply("logical_and", (exists, other)))
    idle = writer.let(dtype, Const(nothing))
    return writer.let(dtype, Apply("select", (exists, element, idle)))


# Numbers that a kernel for any size reads when it runs: written as multiples of the variable 1.


def _one(writer: Asking) -> str:
    name = writer.let(int64, Const(1))
    writer.extents[name] = 2
    return name


def _number(writer: Asking, number: int) -> str:
    return writer.let(int64, Index(Affine(((_one(writer), number),))))


def _plus_number(writer: Asking, index: Affine, number: int) -> Affine:
    return Affine((*index.terms, (_one(writer), number)), index.offset)


def _within(writer: Asking, number: str, count: str | None) -> str:
    """Whether a number lies from 0 to below `count`, if there is one."""
    zero = writer.let(int64, Const(0))
    found = writer.let(bool_, Apply("less_equal", (zero, number)))
    if count is None:
        return found
    below = writer.let(bool_, Apply("less", (number, count)))
    return writer.let(bool_, Apply("logical_and", (found, below)))


def _clamped(writer: Asking, number: str, count: str | None) -> str:
    """The nearest number from 0 to below `count`."""
    zero, found = writer.let(int64, Const(0)), number
    if count is not None:
        one = _one(writer)
        last = writer.let(int64, Apply("sub", (count, one)))
        found = writer.let(int64, Apply("minimum", (number, last)))
    return writer.let(int64, Apply("maximum", (found, zero)))


def _known(writer: Asking, name: str, size: int) -> Affine:
    """A variable as an index from 0 to below `size`."""
    writer.extents[name] = size
    return variable(name)


def _unravelled(writer: Asking, name: str, sizes: Sizes) -> Place:
    """A row-major position as a place."""
    found, rest = list[Affine](), name
    for axis in range(len(sizes)):
        inner = math.prod(sizes[axis + 1 :])
        found.append(variable(writer.let(int64, Quotient(variable(rest), inner))))
        rest = writer.let(int64, Remainder(variable(rest), inner))
    return tuple(found)


def _row_major(place: Place | list[Affine], sizes: Sizes) -> Affine:
    total = ZERO
    for index, step in zip(place, row_major(sizes), strict=True):
        total = plus(total, times(index, step))
    return total


def shape_of(value: Value) -> Sizes:
    """The shape of a value, all of whose sizes are known."""
    return static_shape(value.shape, "a kernel with fixed sizes")


def zero_of(dtype: DType) -> float:
    """The 0 of a dtype."""
    return 0.0 if dtype.is_floating else 0


def _least(dtype: DType) -> float:
    return float("-inf") if dtype.is_floating else integer_range(dtype)[0]
