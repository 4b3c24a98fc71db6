"""Where does an operand lie whose rows, and whose k's, are several loops each? In two tables.

Element [m, k] lies at the sum of one number for m and one for k. A task writes the numbers of its
rows and of the k's of a chunk into scratch memory; the tile then reads the operand where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

from pellucid.engines.llvm.sizes import Number, add, dot, least, quotient, remainder, value
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.tiling import Bound, Size, Tables
from pellucid.engines.llvm.types import I64, Value, constant


@dataclass(frozen=True, slots=True)
class Loops:
    """The extents of some loops, row-major, and the strides of an operand along them."""

    extents: tuple[Number, ...]
    strides: tuple[Number, ...]


def fill_table(
    f: Function,
    table: Value,
    loops: Loops,
    first: Number,
    count: Number,
    last: Number,
    start: int = 0,
) -> None:
    """Write where the places from `first` on lie, seen from `start`; after `last` it repeats."""
    with f.loop(0, value(count), name="entry", unroll=1) as entry:
        number = least(f, add(f, first, entry.index), last)
        offset = dot(f, start, unravelled(f, number, loops.extents), loops.strides)
        f.store(value(offset), f.gep(table, entry.index, I64))


def fill_existing(
    f: Function, table: Value, tables: Tables, run: int, first: Number, count: Number, last: Number
) -> None:
    """Write which places exist for the rows from `first` on: a bit each, from the lowest.

    A place has `run` k's. The rows beyond `last` repeat it.
    """
    with f.loop(0, value(count), name="noted", unroll=1) as entry:
        number = least(f, add(f, first, entry.index), last)
        indexes = unravelled(f, number, _known(tables.rows))
        bits = _existing(f, tables, run, indexes)
        f.store(bits, f.gep(table, entry.index, I64))


def _existing(f: Function, tables: Tables, run: int, indexes: Sequence[Number]) -> Value:
    """Which places exist for a row, whose loops stand at `indexes`."""
    known: dict[tuple[Bound, int], Value] = {}

    def within(bound: Bound, place: tuple[int, ...]) -> Value:
        step = sum(a * b for a, b in zip(bound.depths, place, strict=False))
        if (bound, step) not in known:
            position = dot(f, bound.offset + step, indexes, bound.rows)
            known[bound, step] = f.icmp("ult", value(position), bound.size)
        return known[bound, step]

    extents = _known(tables.depths if run == 1 else tables.depths[:-1])
    bits: Value = constant(I64, 0)
    for at, place in enumerate(product(*map(range, extents))):
        exists = reduce(f.and_, (within(bound, place) for bound in tables.bounds))
        bits = f.or_(bits, f.shl(f.cast("zext", exists, I64), at))
    return bits


def _known(sizes: Sequence[Size]) -> tuple[int, ...]:
    known = tuple(size for size in sizes if isinstance(size, int))
    assert len(known) == len(sizes), "bounds are those of known sizes"
    return known


def unravelled(f: Function, index: Number, sizes: Sequence[Number]) -> tuple[Number, ...]:
    """A row-major position as one index an axis."""
    places: list[Number] = []
    for size in reversed(sizes[1:]):
        places.append(remainder(f, index, size))
        index = quotient(f, index, size)
    return (index, *reversed(places)) if sizes else ()
