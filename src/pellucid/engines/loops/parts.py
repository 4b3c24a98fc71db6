"""How is one large sum shared by threads? Its chunks become results of their own, added by a second
kernel.

The order of a reduction has chunks that depend on its space alone (see `ir.Reduce`). Where there
are too few results to keep the threads busy, a first kernel computes every chunk of every result as
a task, and a second one reduces these: the same additions, hence the same bits.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from pellucid.engines.loops.ir import (
    Affine,
    Axis,
    Buffer,
    Chain,
    Follow,
    Kernel,
    Let,
    Load,
    Loop,
    Reduce,
    Size,
    Statement,
    Store,
    nested,
    used_names,
)
from pellucid.engines.loops.schedule import TASK_WORK, share_out, work

FEW_TASKS = 4
"""With fewer tasks than this, and work for more, a reduction is split."""

FAR_ELEMENTS = 1 << 18
"""More elements than this do not stay in a second-level cache until the next columns' turn."""

CHUNK = "chunk"
"""The axis that counts chunks."""


def split_reduction(kernel: Kernel) -> tuple[Kernel, Kernel] | None:
    """The kernel of the chunks and the kernel of the results; None where one kernel is as good.

    Between them lie buffers p0, p1, ..., one for each accumulator: the last of the first kernel's
    buffers, and the last of the second's.
    """
    reductions = [s for s in nested(kernel.body) if isinstance(s, Reduce)]
    if len(reductions) != 1:
        return None
    (reduce,) = reductions
    axes = tuple(s.axis for s in _walk_nest(kernel.body) if isinstance(s, Loop))
    chunks = _chunks(reduce)
    turn = prod(_int(axis.extent) for axis in reduce.axes) * (1 + work(reduce.body))
    total = turn * prod(_int(axis.extent) for axis in axes)
    if chunks < 2 or total < FEW_TASKS * TASK_WORK:
        return None
    if share_out(kernel).count >= FEW_TASKS and not _leaves_the_cache(reduce, axes):
        return None
    partials = tuple(
        Buffer(f"p{number}", result.dtype, "write") for number, result in enumerate(reduce.results)
    )
    where = _position(axes, chunks, reduce.order)
    return (
        _first(kernel, reduce, axes, Axis(CHUNK, chunks), partials, where),
        _second(kernel, reduce, Axis(CHUNK, chunks), partials, where),
    )


def _leaves_the_cache(reduce: Reduce, axes: tuple[Axis, ...]) -> bool:
    """Whether going down all rows for a few columns, and again for the next, meets memory anew.

    The rows of one chunk are read whole before those of the next.
    """
    rows = prod(_int(axis.extent) for axis in reduce.axes)
    return reduce.order == "chain" and rows * _int(axes[-1].extent) > FAR_ELEMENTS


def partial_bytes(chunks: Kernel) -> tuple[int, ...]:
    """The bytes of each buffer that the kernel of the chunks writes."""
    loops = (s.axis for s in nested(chunks.body) if isinstance(s, Loop))
    count = prod(_int(axis.extent) for axis in loops)
    writes = (buffer for buffer in chunks.buffers if buffer.access == "write")
    return tuple(buffer.dtype.bytes * count for buffer in writes)


def _first(
    kernel: Kernel,
    reduce: Reduce,
    axes: tuple[Axis, ...],
    count: Axis,
    partials: tuple[Buffer, ...],
    where: Affine,
) -> Kernel:
    pairs = zip(partials, reduce.results, strict=True)
    stores = tuple(Store(buffer.name, where, result.name) for buffer, result in pairs)
    outside = (s for s in _walk_nest(kernel.body) if isinstance(s, Let))
    body: tuple[Statement, ...] = (*outside, replace(reduce, part=CHUNK), *stores)
    for axis in (*reversed(axes), count):
        body = (Loop(axis, body),)
    return tidy(Kernel(f"{kernel.name}_chunks", (), (*kernel.buffers, *partials), body))


def _second(
    kernel: Kernel, reduce: Reduce, count: Axis, partials: tuple[Buffer, ...], where: Affine
) -> Kernel:
    loads = tuple(
        Let(f"{buffer.name}_chunk", buffer.dtype, Load(buffer.name, where)) for buffer in partials
    )
    results = tuple(
        replace(result, value=load.name) for result, load in zip(reduce.results, loads, strict=True)
    )
    extent = _int(count.extent)
    chunk = (1, extent) if reduce.order == "lanes" else (extent,)
    whole = Reduce(results, reduce.order, (count,), chunk, loads)
    reads = tuple(replace(buffer, access="read") for buffer in partials)
    body = _replaced(kernel.body, reduce, whole)
    return tidy(replace(kernel, buffers=(*kernel.buffers, *reads), body=body))


def _chunks(reduce: Reduce) -> int:
    """How many chunks a reduction has."""
    extents = [_int(axis.extent) for axis in reduce.axes]
    steps = [_int(size) for size in reduce.chunk][-len(extents) :]
    return prod(-(-extent // step) for extent, step in zip(extents, steps, strict=True))


def _position(axes: tuple[Axis, ...], chunks: int, order: str) -> Affine:
    """Where a chunk's result lies: beside those of its sum, or of its chain's neighbours."""
    ordered = (*axes, Axis(CHUNK, chunks)) if order == "lanes" else (Axis(CHUNK, chunks), *axes)
    sizes = [_int(axis.extent) for axis in ordered]
    return Affine(tuple((axis.name, prod(sizes[at + 1 :])) for at, axis in enumerate(ordered)))


def _walk_nest(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The statements of the loop nest, without what stands in reductions."""
    found: list[Statement] = []
    for statement in body:
        found.append(statement)
        if isinstance(statement, Loop):
            found += _walk_nest(statement.body)
    return tuple(found)


def _replaced(body: tuple[Statement, ...], old: Reduce, new: Reduce) -> tuple[Statement, ...]:
    def change(statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            return replace(statement, body=_replaced(statement.body, old, new))
        return new if statement is old else statement

    return tuple(change(statement) for statement in body)


def tidy(kernel: Kernel) -> Kernel:
    """The kernel without what no store needs, and without the buffers it then does not touch."""
    body, _ = _needed(kernel.body, frozenset())
    statements = tuple(nested(body))
    loads = {s.value.buffer for s in statements if isinstance(s, Let) and isinstance(s.value, Load)}
    touched = loads | {s.buffer for s in statements if isinstance(s, Store | Chain)}
    buffers = tuple(buffer for buffer in kernel.buffers if buffer.name in touched)
    return replace(kernel, buffers=buffers, body=body)


def _needed(
    body: tuple[Statement, ...], wanted: frozenset[str]
) -> tuple[tuple[Statement, ...], frozenset[str]]:
    """The statements that stores and `wanted` names need, and all names that these use."""
    kept: list[Statement] = []
    for statement in reversed(body):
        match statement:
            case Loop():
                inner, wanted = _needed(statement.body, wanted)
                kept.append(replace(statement, body=inner))
            case Reduce():
                values = frozenset(result.value for result in statement.results)
                inner, wanted = _needed(statement.body, wanted | values)
                kept.append(replace(statement, body=inner))
            case Follow(results, _, first, following):
                values = frozenset((following, *(result.value for result in results)))
                inner, wanted = _needed(statement.body, wanted | values)
                wanted |= {first}
                kept.append(replace(statement, body=inner))
            case Let() if statement.name not in wanted:
                pass
            case _:
                wanted |= frozenset(used_names(statement))
                kept.append(statement)
    return tuple(reversed(kept)), wanted


def _int(size: Size) -> int:
    assert isinstance(size, int), "reductions are split while sizes are numbers"
    return size
