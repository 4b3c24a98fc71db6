"""What does a kernel of rows ask memory for before it needs it? The next row, while it computes.

The first pass over a row waits for memory, and the later ones, which find the row in a cache, leave
memory idle. So the pass that computes most of those that read a buffer fetches, element by element,
what it will read whole rows later, into the second-level cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from pellucid.engines.loops.ir import (
    Binding,
    Kernel,
    Let,
    Load,
    Loop,
    Reduce,
    Statement,
)
from pellucid.engines.loops.schedule import work

FAR_BYTES: Final = 1 << 20
"""Fewer bytes of a buffer are in a cache already, or soon."""

LEAST_BYTES: Final = 1 << 11
MOST_BYTES: Final = 1 << 17
"""The bytes of a row: shorter ones come fast enough as the processor guesses what is next, and of
longer ones what was fetched would leave the cache before it is read.
"""

AHEAD_BYTES: Final = 1 << 13
"""It is fetched so many whole rows ahead, at least one, that a row's passes do not wait for it."""


def look_ahead(kernel: Kernel) -> Kernel:
    """A scheduled kernel of rows, with what its passes fetch ahead: "ahead", in elements."""
    found = _rows(kernel.body)
    if found is None:
        return kernel
    count, row = found
    best: dict[str, _Read] = {}
    for read in _reads(kernel, row, count):
        if read.buffer not in best or best[read.buffer].work < read.work:
            best[read.buffer] = read
    ahead = {read.axis: Binding(read.axis, "ahead", read.distance) for read in best.values()}
    return replace(kernel, schedule=(*kernel.schedule, *ahead.values()))


@dataclass(frozen=True, slots=True)
class _Read:
    """That a pass along an axis reads a buffer, which it fetches so many elements ahead."""

    buffer: str
    axis: str
    distance: int
    work: int


def _rows(body: tuple[Statement, ...]) -> tuple[int, Loop] | None:
    """The loop over rows, along which reductions are taken, and how often its body runs."""
    count = 1
    while True:
        loops = [s for s in body if isinstance(s, Loop)]
        if len(loops) != 1:
            return None
        (loop,) = loops
        extent = loop.axis.extent
        if not isinstance(extent, int):
            return None
        count *= extent
        if any(isinstance(s, Reduce) for s in loop.body):
            return count, loop
        body = loop.body


def _reads(kernel: Kernel, row: Loop, count: int) -> Iterator[_Read]:
    for one in row.body:
        match one:
            case Reduce(_, "lanes", (axis,), _, body, None) | Loop(axis, body):
                pass
            case _:
                continue
        for let in body:
            if not isinstance(let, Let) or not isinstance(let.value, Load):
                continue
            index, buffer = let.value.index, kernel.buffer(let.value.buffer)
            step = index.coefficient(row.axis.name)
            if buffer.access != "read" or index.coefficient(axis.name) != 1:
                continue
            assert isinstance(step, int), "rows are fetched ahead where sizes are numbers"
            row_bytes = step * buffer.dtype.bytes
            if not LEAST_BYTES <= row_bytes <= MOST_BYTES or row_bytes * count < FAR_BYTES:
                continue
            yield _Read(buffer.name, axis.name, step * -(-AHEAD_BYTES // row_bytes), work(body))
