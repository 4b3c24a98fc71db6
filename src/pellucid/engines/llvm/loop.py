"""How does a scheduled loop nest become instructions? Loop by loop, from the outside in.

A loop bound to vectors becomes up to three: over whole steps of copies and lanes, over single
vectors, and over the elements that remain; where sizes are known only those that run are emitted.
The function has the engine's signature `name(pointers, sizes, lo, hi, context)`: tasks lo to hi.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pellucid.engines.llvm import sizes
from pellucid.engines.llvm.follow import emit_follow
from pellucid.engines.llvm.reduce import emit_reduce
from pellucid.engines.llvm.scope import Scope, Vector, prefix
from pellucid.engines.llvm.scratch import take_scratch
from pellucid.engines.llvm.sizes import Number
from pellucid.engines.llvm.sort import emit_sort
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import I8, I64, PTR, VOID, Value
from pellucid.engines.loops.ir import (
    Chain,
    Follow,
    Kernel,
    Let,
    Loop,
    Reduce,
    Size,
    Sort,
    Statement,
    Store,
    Until,
    Update,
    scratch_bytes,
)

PARAMETERS = (("pointers", PTR), ("sizes", PTR), ("lo", I64), ("hi", I64), ("context", PTR))
"""What every kernel is called with."""


def define_loops(module: Module, kernel: Kernel) -> None:
    """Add the function of a scheduled kernel to a module."""
    f = module.function(kernel.name, VOID, PARAMETERS)
    pointers, numbers, _, _, _ = f.parameters
    known = load_pointers(f, kernel, pointers) | scratch_pointers(f, kernel)
    scope = Scope(f, kernel, known, load_sizes(f, kernel, numbers))
    if kernel.unless is None:
        emit(scope, kernel.body)
    else:
        one, other = (known[name] for name in kernel.unless)
        with f.when(f.icmp("ne", one, other), name="apart"):
            emit(scope, kernel.body)
    if any(binding.kind == "stream" for binding in kernel.schedule):
        f.finish_streams()
    f.ret()


def load_pointers(f: Function, kernel: Kernel, table: Value) -> dict[str, Value]:
    """The address of each buffer."""
    return {
        buffer.name: f.load(PTR, f.gep(table, number, PTR), invariant=True)
        for number, buffer in enumerate(kernel.buffers)
    }


def scratch_pointers(f: Function, kernel: Kernel) -> dict[str, Value]:
    """The address of each scratch buffer, in the running thread's memory."""
    if not kernel.scratch:
        return {}
    base = take_scratch(f, f.parameters[4], sizes.value(scratch_bytes(kernel)))
    found: dict[str, Value] = {}
    at = 0
    for buffer in kernel.scratch:
        found[buffer.name] = f.gep(base, at, I8)
        at += buffer.padded_bytes
    return found


def load_sizes(f: Function, kernel: Kernel, table: Value) -> dict[str, Value]:
    """The value of each size parameter."""
    return {
        name: f.load(I64, f.gep(table, number, I64), invariant=True)
        for number, name in enumerate(kernel.parameters)
    }


def emit(scope: Scope, statements: tuple[Statement, ...]) -> None:
    """Emit statements into the function of a scope."""
    for statement in statements:
        match statement:
            case Let():
                scope.let(statement)
            case Store():
                scope.store(statement)
            case Update():
                scope.update(statement)
            case Chain():
                scope.chain(statement)
            case Loop():
                _loop(scope, statement)
            case Reduce():
                emit_reduce(scope, statement, emit)
            case Follow():
                emit_follow(scope, statement, emit)
            case Sort():
                emit_sort(scope, statement)
            case _:
                raise AssertionError("a contraction has a lowering of its own")


def _loop(scope: Scope, loop: Loop) -> None:
    first, stop = _range(scope, loop)
    for start, end, step, vector in _stages(scope, loop, first, stop):
        bounds = (sizes.value(start), sizes.value(end), step)
        with scope.f.loop(*bounds, name=loop.axis.name, unroll=1) as turn:
            emit(scope.inside(loop.axis.name, turn.index, vector), loop.body)


def _range(scope: Scope, loop: Loop) -> tuple[Number, Number]:
    """The turns to make: all, or for the loop over threads those of the tasks lo to hi."""
    extent = scope.number(loop.axis.extent)
    block = scope.kernel.bound(loop.axis.name, "thread")
    if block is None:
        return 0, _end(scope, loop.axis.name, extent, loop.until)
    assert loop.until is None, "the tasks of a kernel are whole"
    f, turns = scope.f, scope.number(block)
    _, _, lo, hi, _ = f.parameters
    return sizes.mul(f, lo, turns), sizes.least(f, sizes.mul(f, hi, turns), extent)


def _end(scope: Scope, axis: str, extent: Number, until: Until | None) -> Number:
    """How many turns a loop makes: all, or until its index reaches the end."""
    if until is None:
        return extent
    f, step = scope.f, scope.number(until.index.coefficient(axis))
    outer = tuple(term for term in until.index.terms if term[0] in scope.axes)
    reached, _, _ = scope.locate(replace(until.index, terms=outer))
    return sizes.least(f, sizes.parts(f, sizes.sub(f, until.size, reached), step), extent)


def _stages(
    scope: Scope, loop: Loop, first: Number, stop: Number
) -> Iterator[tuple[Number, Number, int, Vector | None]]:
    """Start, end, step and vector of each loop that together make all turns."""
    axis, kernel, f = loop.axis, scope.kernel, scope.f
    lanes, copies = (kernel.bound(axis.name, kind) for kind in ("vector", "unroll"))
    vectors: list[Vector] = []
    if isinstance(lanes, int):
        counts = (copies, 1) if isinstance(copies, int) else (1,)
        vectors = [Vector(axis.name, lanes, count) for count in counts]
    for vector in vectors:
        step = vector.lanes * vector.copies
        if isinstance(axis.extent, int) and axis.extent < step:
            continue
        # (stop - first) rounded down to whole steps; what is left goes to the next loop.
        whole = sizes.mul(f, sizes.quotient(f, sizes.sub(f, stop, first), step), step)
        end = sizes.add(f, first, whole)
        yield first, end, step, vector
        if _is_even(axis.extent, kernel.bound(axis.name, "thread"), step):
            return
        first = end
    tail = axis.extent % lanes if isinstance(axis.extent, int) and isinstance(lanes, int) else 0
    if isinstance(lanes, int) and tail > 1:
        yield first, stop, lanes, Vector(axis.name, lanes, 1, prefix(tail, lanes))
    else:
        yield first, stop, 1, None


def _is_even(extent: Size, block: Size | None, step: int) -> bool:
    """Whether every task makes whole steps."""
    return all(isinstance(size, int) and size % step == 0 for size in (extent, block or 0))
