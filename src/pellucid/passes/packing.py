"""Where in one arena does each block lie? As low as possible, the largest first.

Where that leaves gaps, it is tried again with those first that are in use when the most is: they
then lie without any, and the arena is seldom larger than they are.

A block is in use from one node of a graph to another; two that are in use at the same time may not
overlap. Which stretches of the arena are taken during a span of nodes is asked of a tree over the
nodes: each of its ranges knows the stretches that are taken in all of it, and those taken anywhere
in it, with neighbours joined. A well-packed arena has few gaps, so these lists stay short, and the
time grows with the number of blocks but for logarithms.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

ALIGNMENT: Final = 64


@dataclass(eq=False, slots=True)
class Block:
    """A stretch of the arena: its bytes, the first and last node at which it is in use, its offset.

    >>> Block(100, 0, 3).bytes
    128
    """

    bytes: int
    first: int
    last: int
    offset: int = -1

    def __post_init__(self) -> None:
        self.bytes = -(-self.bytes // ALIGNMENT) * ALIGNMENT


def pack(blocks: Sequence[Block]) -> int:
    """Give each block the lowest offset that is free while it is in use; the arena's bytes.

    >>> early, late, both = Block(64, 0, 1), Block(64, 2, 3), Block(128, 0, 3)
    >>> pack([early, late, both]), early.offset, late.offset, both.offset
    (192, 128, 128, 0)
    """
    where, least = fullest_node(blocks)
    taken = _pack(sorted(blocks, key=lambda b: (-b.bytes, b.first)))
    if taken == least:
        return taken
    offsets = [block.offset for block in blocks]
    again = _pack(sorted(blocks, key=lambda b: (not b.first <= where <= b.last, -b.bytes, b.first)))
    if again < taken:
        return again
    for block, offset in zip(blocks, offsets, strict=True):
        block.offset = offset
    return taken


def _pack(blocks: Sequence[Block]) -> int:
    """Place blocks in this order; the arena's bytes."""
    arena = _Arena(max((block.last for block in blocks), default=0) + 1)
    for block in blocks:
        arena.place(block)
    return max((block.offset + block.bytes for block in blocks), default=0)


def fullest_node(blocks: Sequence[Block]) -> tuple[int, int]:
    """The first node at which the most bytes are in use, and how many: no arena is smaller."""
    change: dict[int, int] = {}
    for block in blocks:
        change[block.first] = change.get(block.first, 0) + block.bytes
        change[block.last + 1] = change.get(block.last + 1, 0) - block.bytes
    best = where = used = 0
    for node in sorted(change):
        used += change[node]
        if used > best:
            best, where = used, node
    return where, best


@dataclass(slots=True)
class _Stretches:
    """Stretches that are taken, in order, none touching the next: where they begin and end."""

    begins: list[int] = field(default_factory=list[int])
    ends: list[int] = field(default_factory=list[int])

    def take(self, begin: int, end: int) -> None:
        """Add a stretch, and join those that it touches."""
        low, high = bisect_left(self.ends, begin), bisect_right(self.begins, end)
        if low < high:
            begin, end = min(begin, self.begins[low]), max(end, self.ends[high - 1])
        self.begins[low:high] = [begin]
        self.ends[low:high] = [end]

    def free_from(self, at: int, bytes: int) -> int:
        """The lowest offset from `at` on with so many free bytes."""
        number = bisect_right(self.ends, at)
        while number < len(self.begins) and self.begins[number] < at + bytes:
            at = self.ends[number]
            number += 1
        return at


class _Arena:
    """What is taken, by ranges of nodes: a binary tree, ranges 2 * i and 2 * i + 1 below range i.

    `throughout[i]` is taken at all nodes of range i, `somewhere[i]` at some of them.
    """

    def __init__(self, nodes: int) -> None:
        self.leaves = 1 << (nodes - 1).bit_length()
        self.throughout: dict[int, _Stretches] = {}
        self.somewhere: dict[int, _Stretches] = {}

    def place(self, block: Block) -> None:
        """Find the block's offset, and take it."""
        parts = list(self._parts(block.first, block.last))
        above = {part >> level for part in parts for level in range(1, part.bit_length())}
        met = [self.somewhere[part] for part in parts if part in self.somewhere]
        met += [self.throughout[range_] for range_ in above if range_ in self.throughout]
        block.offset = _lowest(met, block.bytes)
        if not block.bytes:
            return
        end = block.offset + block.bytes
        for part in parts:
            self.throughout.setdefault(part, _Stretches()).take(block.offset, end)
        for range_ in (*parts, *above):
            self.somewhere.setdefault(range_, _Stretches()).take(block.offset, end)

    def _parts(self, first: int, last: int) -> Iterator[int]:
        """The largest ranges that make up the nodes from `first` to `last`."""
        low, high = first + self.leaves, last + self.leaves + 1
        while low < high:
            if low & 1:
                yield low
                low += 1
            if high & 1:
                high -= 1
                yield high
            low, high = low >> 1, high >> 1


def _lowest(met: Sequence[_Stretches], bytes: int) -> int:
    """The lowest offset at which so many bytes are free in all of them."""
    at, before = 0, -1
    while at != before:
        before = at
        for stretches in met:
            at = stretches.free_from(at, bytes)
    return at
