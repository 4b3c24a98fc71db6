"""How else could a kernel's loops be scheduled? Larger and smaller tasks, more and fewer copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pellucid.engines.loops.ir import (
    LANES,
    Binding,
    Kernel,
    Let,
    Loop,
    Random,
    Reduce,
    is_ordered,
    nested,
)


def schedule_variants(kernel: Kernel) -> tuple[tuple[Binding, ...], ...]:
    """The other schedules of a scheduled kernel of known sizes; each gives the same bits."""
    outer = next((s for s in kernel.body if isinstance(s, Loop)), None)
    if outer is None or is_ordered(outer):
        return ()
    found = dict[tuple[Binding, ...], None]()
    for block in _blocks(kernel, outer):
        for copies in _copies(kernel):
            found[(*block, *copies)] = None
    found.pop(kernel.schedule, None)
    return tuple(found)


def _blocks(kernel: Kernel, outer: Loop) -> Iterator[tuple[Binding, ...]]:
    """The binding to threads, with other shares."""
    extent, block = outer.axis.extent, kernel.bound(outer.axis.name, "thread")
    if not isinstance(block, int) or not isinstance(extent, int):
        yield tuple(b for b in kernel.schedule if b.kind == "thread")
        return
    # Whole vectors where they run along this axis.
    least = LANES if kernel.bound(outer.axis.name, "vector") else 1
    for share in (block, block // 4, block // 2, 2 * block, 4 * block, -(-extent // 2)):
        whole = min(max(-(-share // least), 1) * least, -(-extent // least) * least)
        yield (Binding(outer.axis.name, "thread", block if share == block else whole),)


def _copies(kernel: Kernel) -> Iterator[tuple[Binding, ...]]:
    """The bindings to lanes, with other numbers of copies for the loop along memory."""
    rest = tuple(b for b in kernel.schedule if b.kind != "thread")
    yield rest
    columns = {
        s.axes[-1].name for s in nested(kernel.body) if isinstance(s, Reduce) and s.order == "lanes"
    }
    loops = {s.axis.name: s.axis.extent for s in nested(kernel.body) if isinstance(s, Loop)}
    if any(isinstance(s, Let) and isinstance(s.value, Random) for s in nested(kernel.body)):
        # Vectors of random words are laid out for the copies that there are.
        return
    for vector in rest:
        if vector.kind != "vector" or vector.axis in columns or vector.axis not in loops:
            continue
        extent, lanes = loops[vector.axis], vector.factor
        others = tuple(b for b in rest if (b.axis, b.kind) != (vector.axis, "unroll"))
        for copies in (1, 2, 4, 8):
            if isinstance(extent, int) and isinstance(lanes, int) and copies * lanes <= extent:
                at = others.index(vector) + 1
                more = (replace(vector, kind="unroll", factor=copies),) if copies > 1 else ()
                yield (*others[:at], *more, *others[at:])
