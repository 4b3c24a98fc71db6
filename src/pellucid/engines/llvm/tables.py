"""Where does an operand lie whose rows, and whose k's, are several loops each? In two tables.

Element [m, k] lies at the sum of one number for m and one for k. A task writes the numbers of its
rows and of the k's of a chunk into scratch memory; the tile then reads the operand where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.engines.llvm.sizes import Number, add, least, mul, quotient, remainder, value
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import I64, Value


@dataclass(frozen=True, slots=True)
class Loops:
    """The extents of some loops, row-major, and the strides of an operand along them."""

    extents: tuple[Number, ...]
    strides: tuple[Number, ...]


def fill_table(
    f: Function, table: Value, loops: Loops, first: Number, count: Number, last: Number
) -> None:
    """Write where the places from `first` on lie; those beyond `last` repeat it."""
    with f.loop(0, value(count), name="entry", unroll=1) as entry:
        number = least(f, add(f, first, entry.index), last)
        offset: Number = 0
        for index, stride in zip(unravelled(f, number, loops.extents), loops.strides, strict=True):
            offset = add(f, offset, mul(f, index, stride))
        f.store(value(offset), f.gep(table, entry.index, I64))


def unravelled(f: Function, index: Number, sizes: Sequence[Number]) -> tuple[Number, ...]:
    """A row-major position as one index an axis."""
    places: list[Number] = []
    for size in reversed(sizes[1:]):
        places.append(remainder(f, index, size))
        index = quotient(f, index, size)
    return (index, *reversed(places)) if sizes else ()
