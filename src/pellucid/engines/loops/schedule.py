"""How should a kernel's loops run? Which axis over vector lanes, in how many copies, over threads.

The choice looks at the kernel and at how many bits a vector register has. It changes speed, never
bits: each element is the same scalar function in a vector, in its remainder and on any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pellucid.core.dtype import DType, bool_
from pellucid.engines.loops.ir import (
    LANES,
    Apply,
    Axis,
    Binding,
    Expression,
    Follow,
    Index,
    Kernel,
    Let,
    Loop,
    Quotient,
    Random,
    Reduce,
    Remainder,
    Size,
    Sort,
    Statement,
    Store,
    is_ordered,
    nested,
    used_names,
)

TASK_WORK = 1 << 17
"""The elementary steps of a task at least: 3 us, so that handing it out costs little."""

TASKS_PER_THREAD = 2
"""A thread is worth waking for so many tasks."""

_WEIGHTS = {
    "div": 4,
    "sqrt": 4,
    "rsqrt": 8,
    "remainder": 40,
    "floor_divide": 40,
    "exp": 16,
    "exp2": 32,
    "expm1": 20,
    "log": 20,
    "log1p": 24,
    "log2": 36,
    "log10": 36,
    "pow": 80,
    "cbrt": 50,
    "sin": 32,
    "cos": 32,
    "tan": 40,
    "asin": 28,
    "acos": 28,
    "atan": 32,
    "atan2": 40,
    "sinh": 40,
    "cosh": 32,
    "tanh": 24,
    "asinh": 60,
    "acosh": 60,
    "atanh": 60,
    "erf": 32,
    "erfc": 70,
    "lgamma": 160,
    "digamma": 160,
    "polygamma": 200,
}
_RANDOM_WEIGHT = 100


@dataclass(frozen=True, slots=True)
class Tasks:
    """How a kernel is shared out: each task takes `block` turns of the outermost loop."""

    block: int
    count: int


def arrange(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Loops in an order that leaves threads enough to share: a long loop outside.

    >>> [a.name for a in arrange((Axis("i", 2), Axis("j", 50), Axis("l", 300)))]
    ['j', 'i', 'l']
    """
    first = _number(axes[0].extent) if axes else 0
    if len(axes) < 2 or first >= 8:
        return axes
    *outer, last = axes
    longest = max(outer, key=lambda axis: _number(axis.extent))
    if _number(longest.extent) < 8 and _number(last.extent) >= 32 * LANES:
        longest = last
    return (longest, *(axis for axis in axes if axis is not longest))


def schedule(kernel: Kernel, vector_bits: int, block: Size | None = None) -> Kernel:
    """The kernel with its axes bound; `block` replaces the choice of the threads' share."""
    lanes = lane_count(kernel, vector_bits)
    bindings: list[Binding] = []
    loops = _loops(kernel.body)
    if loops:
        share = share_out(kernel).block if block is None else block
        bindings.append(Binding(loops[0].axis.name, "thread", share))
    for axis, width, copies in _vector_axes(kernel, loops, lanes):
        if width > 1:
            bindings.append(Binding(axis.name, "vector", width))
        if copies > 1:
            bindings.append(Binding(axis.name, "unroll", copies))
    return replace(kernel, schedule=tuple(bindings))


def share_out(kernel: Kernel, values: Mapping[str, int] | None = None) -> Tasks:
    """The tasks of a kernel; `values` are those of its size parameters."""
    loops = _loops(kernel.body)
    if not loops:
        return Tasks(1, 1)
    extent = _number(loops[0].axis.extent, values)
    if is_ordered(loops[0]):
        return Tasks(max(extent, 1), 1)
    turn = work(loops[0].body, values)
    block = max(1, -(-TASK_WORK // max(turn, 1)))
    if _vector_loop(loops) is loops[0] and not _columns(kernel):
        # Whole vectors, so that only the last task has elements that remain.
        block = -(-block // LANES) * LANES
    return Tasks(block, -(-extent // block))


def work(statements: tuple[Statement, ...], values: Mapping[str, int] | None = None) -> int:
    """Roughly how many elementary steps one run of the statements takes."""
    total = 0
    for statement in statements:
        match statement:
            case Let():
                total += weight(statement)
            case Loop():
                total += _number(statement.axis.extent, values) * work(statement.body, values)
            case Reduce():
                turns = 1
                for axis in statement.axes:
                    turns *= _number(axis.extent, values)
                total += turns * (len(statement.results) + work(statement.body, values))
            case Follow():
                # How many of them a list has is not known; many have none.
                total += len(statement.results) + work(statement.body, values)
            case Sort():
                size = _number(statement.axis.extent, values)
                total += 8 * size * (1 + size.bit_length())
            case _:
                total += 1
    return total


def weight(let: Let) -> int:
    """Roughly how many elementary steps one Let takes."""
    if isinstance(let.value, Random):
        return _RANDOM_WEIGHT
    op = let.value.op.partition(".")[0] if isinstance(let.value, Apply) else ""
    heavy = _WEIGHTS.get(op, 1)
    return heavy * (4 if register_bits(let.dtype) != let.dtype.bits else 1)


def register_bits(dtype: DType) -> int:
    """The bits of one element while it is computed with: the 16-bit floats are float32 then."""
    return 32 if dtype.is_floating and dtype.bits == 16 else max(dtype.bits, 8)


def by_fours(random: Expression, axis: str) -> bool:
    """Whether vectors along `axis` of random words begin at whole Philox blocks of four."""
    assert isinstance(random, Random)
    others = (size for name, size in random.index.terms if name != axis)
    whole = all(isinstance(size, int) and size % 4 == 0 for size in others)
    return whole and random.index.coefficient(axis) == 1 and random.index.offset % 4 == 0


def lane_count(kernel: Kernel, vector_bits: int) -> int:
    """How many elements a vector holds: as many as fit of the width that most work is done in.

    What is the same in all lanes does not count: it is computed once. Wider values, such as the
    indexes beside a row of float32, then take several registers.
    """
    effort, moving = dict[int, int](), _vector_names(kernel)

    def count(bits: int, steps: int) -> None:
        effort[bits] = effort.get(bits, 0) + steps

    for statement in nested(kernel.body):
        match statement:
            case Let(_, dtype, Quotient() | Remainder()):
                pass
            case Let(_, dtype, Random()):
                count(max(register_bits(dtype), 32), weight(statement))
            case Let(_, dtype, value) if moving & set(used_names(statement)):
                count(
                    max(register_bits(dtype), 32 if isinstance(value, Index) else 8),
                    weight(statement),
                )
            case Reduce(results) | Follow(results):
                for result in results:
                    count(register_bits(result.dtype), 1)
            case _:
                pass
    if _has_a_list_a_lane(kernel):
        return 1
    most = max(effort.values(), default=0)
    widest = max((bits for bits, steps in effort.items() if steps == most), default=8)
    return min(LANES, vector_bits // widest)


def _has_a_list_a_lane(kernel: Kernel) -> bool:
    """Whether the elements of a vector would follow lists of their own."""
    follows = [s for s in nested(kernel.body) if isinstance(s, Follow)]
    if not follows:
        return False
    loops, columns = _loops(kernel.body), _columns(kernel)
    axes = {reduce.axes[-1].name for reduce in columns}
    if loops and not (columns and _reduces(_vector_loop(loops))):
        axes.add(_vector_loop(loops).axis.name)
    differing = _differing(kernel, axes)
    return any(follow.first in differing for follow in follows)


def _vector_names(kernel: Kernel) -> set[str]:
    """The axes that may run over lanes, and the variables that differ along them."""
    loops = _loops(kernel.body)
    found = {reduce.axes[-1].name for reduce in _columns(kernel)}
    return _differing(kernel, found | ({_vector_loop(loops).axis.name} if loops else set()))


def _differing(kernel: Kernel, axes: set[str]) -> set[str]:
    """Some axes, and the variables that differ along them."""
    found = set(axes)
    for statement in nested(kernel.body):
        match statement:
            case Let() if found & set(used_names(statement)):
                found.add(statement.name)
            case Reduce() | Follow():
                # Its results differ if its elements do, which come after it in this order.
                found |= {result.name for result in statement.results}
            case _:
                pass
    return found


def _loops(body: tuple[Statement, ...]) -> list[Loop]:
    """The nest: each loop and the one inside it."""
    for statement in body:
        if isinstance(statement, Loop):
            return [statement, *_loops(statement.body)]
    return []


def _columns(kernel: Kernel) -> list[Reduce]:
    """The reductions whose columns are the vectors."""
    reductions = (s for s in nested(kernel.body) if isinstance(s, Reduce))
    return [reduce for reduce in reductions if reduce.order == "lanes"]


def _vector_axes(kernel: Kernel, loops: list[Loop], lanes: int) -> Iterator[tuple[Axis, int, int]]:
    """Each axis that runs over vector lanes, with how many and in how many copies."""
    columns = _columns(kernel)
    for reduce in columns:
        # All 64 lanes of each result stay in registers if there are enough and the body is light.
        copies = LANES // lanes
        light = _weight_of(reduce.body) <= 8 and copies * len(reduce.results) <= 16
        light = light and isinstance(reduce.axes[-1].extent, int)
        yield reduce.axes[-1], lanes, copies if light else 1
    along = _vector_loop(loops) if loops else None
    if along is not None and not (columns and _reduces(along)):
        if is_ordered(along) or any(isinstance(s, Sort) for s in nested(along.body)):
            return
        while isinstance(along.axis.extent, int) and lanes > along.axis.extent:
            lanes //= 2
        yield along.axis, lanes, _copies(along, lanes)


def _reduces(loop: Loop) -> bool:
    return any(isinstance(statement, Reduce) for statement in nested(loop.body))


def _vector_loop(loops: list[Loop]) -> Loop:
    # Rows of memory run along the last axis, also where `arrange` put it outside.
    by_name = sorted(loops, key=lambda loop: loop.axis.name)
    return by_name[-1]


def _copies(loop: Loop, lanes: int) -> int:
    chains = [s for s in nested(loop.body) if isinstance(s, Reduce)]
    if chains:
        heaviest = max(_weight_of(chain.body) for chain in chains)
        results = max(len(chain.results) for chain in chains)
        wanted = 8 if heaviest * results <= 4 else 4 if heaviest <= 12 else 2 if results > 1 else 1
        while results > 1 and wanted * results > max(lanes, 8):
            wanted //= 2
        return _fitting(max(wanted, 1), loop.axis.extent, lanes)
    if lanes > 1 and any(isinstance(s, Follow) for s in loop.body):
        # The end of a list is mispredicted once for all of them.
        return _fitting(4, loop.axis.extent, lanes)
    random = [s for s in loop.body if isinstance(s, Let) and isinstance(s.value, Random)]
    if random and all(by_fours(let.value, loop.axis.name) for let in random):
        return _fitting(4, loop.axis.extent, lanes)
    return 1


def _fitting(copies: int, extent: Size, lanes: int) -> int:
    while isinstance(extent, int) and copies > 1 and copies * lanes > extent:
        copies //= 2
    return copies


def _weight_of(body: tuple[Statement, ...]) -> int:
    lets = [s for s in body if isinstance(s, Let) and s.dtype is not bool_]
    stores = [s for s in body if isinstance(s, Store)]
    return sum(weight(let) for let in lets) + len(stores)


def _number(size: Size, values: Mapping[str, int] | None = None) -> int:
    if isinstance(size, int):
        return size
    assert values is not None, f"the size parameter {size} has no value here"
    return values[size]
