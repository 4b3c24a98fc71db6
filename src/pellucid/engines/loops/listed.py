"""How are lists of updates made, and summed along? Link by link (see `ops/lists.py`)."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import cast

from pellucid.core.dtype import bool_, int32, int64
from pellucid.engines.loops.draft import Draft, Listed, Where, sizes_of
from pellucid.engines.loops.ir import (
    Accumulator,
    Affine,
    Apply,
    Axis,
    Buffer,
    Const,
    Index,
    Load,
    Store,
    Update,
)
from pellucid.engines.loops.space import ZERO, dot, plus, row_major, times, variable
from pellucid.engines.loops.writer import Writer
from pellucid.ir.graph import Node, Value
from pellucid.ops.lists import END


def sum_lists(writer: Writer, node: Node, value: Value, where: Where) -> str:
    """An element of a sum along lists: 0 + those of its column in the updates on its list."""
    updates, lists = node.operands
    sizes, rank = cast(tuple[int, ...], node.attr("sizes")), cast(int, node.attr("rank"))
    shape = sizes_of(updates)
    place = writer.placed(where, sizes_of(value))
    found = _list(writer, lists, dot(place[: len(sizes)], row_major(sizes)), prod(sizes))
    rest = dot(place[len(sizes) :], row_major(shape[rank:]))
    number = ZERO if prod(shape[:rank]) == 1 else variable(found.axis.name, prod(shape[rank:]))
    element = writer.ask(updates, plus(number, rest))

    def result() -> str:
        found.results.append(Accumulator(writer.name("s"), "sum", value.dtype, element))
        return found.results[-1].name

    return writer.once((found.axis, element), result)


def _list(writer: Writer, lists: Value, row: Affine, places: int) -> Listed:
    """The list of a row, along which several sums may go."""
    key = lists, row
    if key not in writer.lists:
        (size,) = sizes_of(lists)
        axis = Axis(f"q{len(writer.lists)}", size - places)
        writer.extents[axis.name] = size - places
        first = writer.whole(lists, (row,))
        link = plus(variable(axis.name), Affine((), places))
        writer.lists[key] = Listed(axis, first, writer.whole(lists, (link,)))
        writer.lines.append(writer.lists[key])
    return writer.lists[key]


def write_lists(writer: Writer, sizes: tuple[int, ...]) -> Draft:
    """The lines that put each update in front of those on its list, the last update first.

    The outputs of the graph are the indices; y0 has the first update of each place, and then what
    follows each update.
    """
    indices, places = writer.graph.outputs, prod(sizes)
    shape = sizes_of(indices[0])
    pairs = zip(writer.place, shape, strict=True)
    at = tuple(plus(times(index, -1), Affine((), size - 1)) for index, size in pairs)
    found = [writer.whole(index, at) for index in indices]
    inside = writer.inside(found[0], sizes[0])
    for name, size in zip(found[1:], sizes[1:], strict=True):
        one = writer.inside(name, size)
        inside = writer.let(bool_, Apply("logical_and", (inside, one)))
    zero, end = writer.let(int64, Const(0)), writer.let(int32, Const(END))
    safe = (writer.let(int64, Apply("select", (inside, name, zero))) for name in found)
    place = dot([variable(name) for name in safe], row_major(sizes))
    # What is there changes from turn to turn, also where the place does not.
    place = Affine((*place.terms, *((axis.name, 0) for axis in writer.axes)), place.offset)
    number = dot(at, row_major(shape))
    old = writer.let(int32, Load("y0", place))
    follows = writer.let(int32, Apply("select", (inside, old, end)))
    update = writer.let(int32, Index(number))
    writer.lines.append(Store("y0", plus(number, Affine((), places)), follows))
    writer.lines.append(Update("y0", place, "set", update, inside))
    reads = writer.finish(())
    return replace(reads, buffers=(*reads.buffers, Buffer("y0", int32, "write")))
