"""How are small pieces of a matrix turned in registers? Vectors of pieces of rows are woven."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import I32, Type, Value, undefined


def turned(f: Function, pieces: Sequence[Value]) -> list[Value]:
    """The columns of a matrix whose rows are the pieces: one element each, or 128 or 256 bits."""
    (columns,) = turned_beside(f, [pieces])
    return columns


def turned_beside(f: Function, matrices: Sequence[Sequence[Value]]) -> list[list[Value]]:
    """The columns of each of several matrices, whose rows are read side by side.

    Of 128 bits, piece r and those 4, 8, ... further (2, for 64-bit elements) share a vector, each
    in a lane of 128 bits; then squares are turned within the lanes, where x86 shuffles cost least.
    Of 256 bits, half as many do, and squares change places in the end: one shuffle more a vector,
    for half the loads.
    """
    rows = list(zip(*(_shared(pieces) for pieces in matrices), strict=True))
    joined = [[_concatenated(f, group) for group in row] for row in rows]
    return [_turned_rows(f, vectors) for vectors in zip(*joined, strict=True)]


def _shared(pieces: Sequence[Value]) -> list[Sequence[Value]]:
    """Which pieces share each vector."""
    width, inner = pieces[0].type.lanes, max(128 // pieces[0].type.bits, 1)
    if width == 1:
        return [pieces]
    some = len(pieces) * inner // width
    parts = (pieces[start : start + some] for start in range(0, len(pieces), some))
    return [part[r::inner] for part in parts for r in range(inner)]


def _turned_rows(f: Function, rows: Sequence[Value]) -> list[Value]:
    """The columns, of vectors that each hold a few rows."""
    inner = 128 // rows[0].type.bits
    if len(rows) <= inner:
        return list(rows) if len(rows) == 1 else _turned_in_lanes(f, rows)
    halves = [_turned_in_lanes(f, half) for half in (rows[:inner], rows[inner:])]
    columns: list[Value] = []
    for lane in (0, 1):
        # Of each half the first rows, then the next ones.
        order = [lane, lane + 2, lane + 4, lane + 6]
        picks = [inner * one + at for one in order for at in range(inner)]
        columns += [f.shuffle(low, high, picks) for low, high in zip(*halves, strict=True)]
    return columns


def _turned_in_lanes(f: Function, rows: Sequence[Value]) -> list[Value]:
    """Squares of 128 bits a row, side by side, each turned."""
    if len(rows) == 2:
        return [_weave(f, rows[0], rows[1], 2, pick) for pick in ((0, 2), (1, 3))]
    low, high = (0, 4, 1, 5), (2, 6, 3, 7)
    pairs = [_weave(f, rows[r], rows[r + 1], 4, pick) for r in (0, 2) for pick in (low, high)]
    halves = ((0, 1, 4, 5), (2, 3, 6, 7))
    return [_weave(f, pairs[p], pairs[p + 2], 4, half) for p in (0, 1) for half in halves]


def _concatenated(f: Function, pieces: Sequence[Value]) -> Value:
    if pieces[0].type.lanes == 1:
        return gathered(f, pieces)
    while len(pieces) > 1:
        lanes = range(2 * pieces[0].type.lanes)
        pairs = zip(pieces[::2], pieces[1::2], strict=True)
        pieces = [f.shuffle(lhs, rhs, lanes) for lhs, rhs in pairs]
    return pieces[0]


def _weave(f: Function, lhs: Value, rhs: Value, inner: int, pick: Sequence[int]) -> Value:
    """Elements picked from the same 128-bit lane of two vectors, in every lane."""
    size = lhs.type.lanes
    lanes = [
        base + p if p < inner else size + base + p - inner
        for base in range(0, size, inner)
        for p in pick
    ]
    return f.shuffle(lhs, rhs, lanes)


def interleaved(f: Function, rows: Sequence[Value], lanes: int) -> list[Value]:
    """Two rows of 16-bit numbers, or four of bytes, as vectors of 32-bit elements of columns.

    An element holds a column's numbers, that of the first row lowest; a vector has so many `lanes`,
    and a row is one, two or (of bytes) four of them wide.
    """
    width = rows[0].type.lanes
    if len(rows) == 2:
        numbers = [at // 2 + at % 2 * width for at in range(2 * lanes)]
        firsts = range(0, width, lanes)
        orders = [[first + number for number in numbers] for first in firsts]
        words = [f.shuffle(rows[0], rows[1], order) for order in orders]
        return [f.bitcast(word, I32.with_lanes(lanes)) for word in words]
    # Within 128 bits first, where it costs least: then part q has columns 16 i + 4 q and the next
    # three in its i-th 128 bits.
    low, high = (_zipped(f, rows[at], rows[at + 1], 8) for at in (0, 2))
    parts = [part for a, b in zip(low, high, strict=True) for part in _zipped(f, a, b, 16)]
    return _regrouped(f, [f.bitcast(part, I32.with_lanes(width // 4)) for part in parts])


def _zipped(f: Function, lhs: Value, rhs: Value, bits: int) -> list[Value]:
    """Numbers of so many bits by turns from both: of the lower and the upper half of 128 bits."""
    count = lhs.type.bits * lhs.type.lanes // bits
    type, inner = Type(f"i{bits}", count), 128 // bits
    pair = f.bitcast(lhs, type), f.bitcast(rhs, type)
    halves = (range(inner // 2), range(inner // 2, inner))
    return [_weave(f, *pair, inner, [at + side for at in h for side in (0, inner)]) for h in halves]


def _regrouped(f: Function, parts: Sequence[Value]) -> list[Value]:
    """The i-th 128 bits of four vectors, one after the other: a vector for each i."""
    count = parts[0].type.lanes // 4
    if count == 1:
        return [_concatenated(f, parts)]
    found: list[Value] = []
    for at in range(0, count, 2):
        two = (at, count + at, at + 1, count + at + 1)
        low, high = (_picked(f, parts[first], parts[first + 1], two) for first in (0, 2))
        found += [_picked(f, low, high, four) for four in ((0, 1, 4, 5), (2, 3, 6, 7))]
    return found


def _picked(f: Function, lhs: Value, rhs: Value, pick: Sequence[int]) -> Value:
    """Pieces of 128 bits, of two vectors of 32-bit elements."""
    return f.shuffle(lhs, rhs, [4 * piece + at for piece in pick for at in range(4)])


def gathered(f: Function, elements: Sequence[Value]) -> Value:
    """A vector of scalars; a single one stays a scalar."""
    vector = undefined(elements[0].type.with_lanes(len(elements)))
    for lane, one in enumerate(elements):
        vector = f.insert(vector, one, lane) if len(elements) > 1 else one
    return vector
