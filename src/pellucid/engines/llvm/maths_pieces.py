"""How can a short polynomial do where a function bends? It is one of sixteen, looked up by lane.

A function of |x| is cut into sixteen pieces by the leading bits of |x| + offset, so that they are
the wider the larger x is. Each has a centre, the function's value there and a polynomial of the
distance; a coefficient of all pieces is one or two vector registers, out of which an instruction
takes every lane's own. Looking up is exact, and so is the distance: bits do not depend on how.
It takes half the instructions of an exponential with a division, and far fewer than float64 for
float32. Instruction sets of the bit class "fma" have what looks up, and they alone use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pellucid.engines.llvm.maths import at_most
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F32, I32, Value, constants

COUNT: Final = 16
SHIFT: Final = 21
"""The bits of a float32 below its exponent's lowest two and its mantissa's highest two."""

Row = tuple[float, ...]
"""One number of each piece, in the order of the low four bits by which they are looked up."""


@dataclass(frozen=True)
class Pieces:
    """How a function is cut and what each piece holds; benchmarks/derive_pieces.py derives it.

    The first piece ends where the leading bits of `first` do. Its centre is 0, and its value is 0
    or a part of the slope there that its curve lacks. Beyond `most` nothing changes.
    """

    offset: float
    first: float
    most: float
    centres: Row
    values: Row
    curve: tuple[Row, ...]


def pieces(offset: float, first: float, most: float, table: str) -> Pieces:
    """Pieces from the text of their numbers: all centres, all values, then power by power."""
    numbers = [float(np.float32(text)) for text in table.split()]
    rows = [tuple(numbers[at : at + COUNT]) for at in range(0, len(numbers), COUNT)]
    return Pieces(offset, first, most, rows[0], rows[1], tuple(rows[2:]))


@dataclass(frozen=True)
class Spot:
    """Where an |x| lies: its piece's value, the way from its centre, and the slope of that way.

    The function there is value + way * slope; in the first piece, which `begins`, the value may be
    a part of the slope.
    """

    size: Value
    begins: Value
    value: Value
    way: Value
    slope: Value


def find(f: Function, table: Pieces, x: Value) -> Spot:
    """Find the piece of |x| in each lane."""
    size = at_most(f, f.fabs(x), table.most)
    first = int(np.float32(table.first).view(np.int32))
    bits = f.bitcast(f.fadd(size, table.offset), I32.with_lanes(x.type.lanes))
    if table.offset < table.first:
        bits = f.min_max("smax", bits, first)
    index = f.lshr(bits, SHIFT)
    way = f.fsub(size, looked_up(f, table.centres, index))
    *lower, highest = table.curve
    slope = looked_up(f, highest, index)
    for row in reversed(lower):
        slope = f.multiply_add(slope, way, looked_up(f, row, index))
    begins = f.icmp("slt", bits, first + (1 << SHIFT))
    return Spot(size, begins, looked_up(f, table.values, index), way, slope)


def looked_up(f: Function, row: Row, index: Value) -> Value:
    """Each lane's number, by the low four bits of its index."""
    # AVX2 permutes eight numbers, also where vectors are to be narrower.
    lanes, width = index.type.lanes, max(f.isa.lanes(32), COUNT // 2)
    if lanes < width:
        found = _permuted(f, row, _repeated(f, index, width))
        return f.shuffle(found, found, range(lanes))
    starts = range(0, lanes, width)
    parts = [_permuted(f, row, f.shuffle(index, index, range(at, at + width))) for at in starts]
    while len(parts) > 1:
        both = range(2 * parts[0].type.lanes)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [f.shuffle(low, high, both) for low, high in pairs]
    return parts[0]


def _permuted(f: Function, row: Row, index: Value) -> Value:
    """The numbers of a vector as wide as the registers: out of one of them, or out of two."""
    type = F32.with_lanes(index.type.lanes)
    if type.lanes == COUNT:
        return f.call("llvm.x86.avx512.permvar.sf.512", type, (constants(F32, row), index))
    low, high = (
        f.call("llvm.x86.avx2.permps", type, (constants(F32, half), index))
        for half in (row[:8], row[8:])
    )
    return f.select(f.icmp("slt", f.shl(index, 28), 0), high, low)


def _repeated(f: Function, x: Value, width: int) -> Value:
    """A vector of so many lanes that begins with those of x."""
    if x.type.lanes == 1:
        return f.splat(x, x.type.with_lanes(width))
    return f.shuffle(x, x, [lane % x.type.lanes for lane in range(width)])
