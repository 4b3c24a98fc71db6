"""How are small squares of a matrix turned in registers? Vectors of pieces of rows are woven."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value, undefined


def turned(f: Function, pieces: Sequence[Value]) -> list[Value]:
    """The columns of a matrix whose rows are the pieces, each 128 bits or a single element.

    Piece r and those 4, 8, ... further (2, for 64-bit elements) share a vector, each in a lane of
    128 bits; then squares are turned within the lanes, where x86 shuffles cost least.
    """
    inner = pieces[0].type.lanes
    if inner == 1:
        return [gathered(f, pieces)]
    rows = [_concatenated(f, pieces[r::inner]) for r in range(inner)]
    if inner == 2:
        return [_weave(f, rows[0], rows[1], 2, pick) for pick in ((0, 2), (1, 3))]
    low, high = (0, 4, 1, 5), (2, 6, 3, 7)
    pairs = [_weave(f, rows[r], rows[r + 1], 4, pick) for r in (0, 2) for pick in (low, high)]
    halves = ((0, 1, 4, 5), (2, 3, 6, 7))
    return [_weave(f, pairs[p], pairs[p + 2], 4, half) for p in (0, 1) for half in halves]


def _concatenated(f: Function, pieces: Sequence[Value]) -> Value:
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


def gathered(f: Function, elements: Sequence[Value]) -> Value:
    """A vector of scalars; a single one stays a scalar."""
    vector = undefined(elements[0].type.with_lanes(len(elements)))
    for lane, one in enumerate(elements):
        vector = f.insert(vector, one, lane) if len(elements) > 1 else one
    return vector
