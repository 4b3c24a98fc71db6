"""Which convolutions run along lines of their results? Those with few features.

A vector across few features is mostly idle. Vectors along a line of results are not; but what
neighbours meet lies a whole place of lhs apart. So lines of lhs are turned first: in scratch memory
the numbers of one channel lie side by side (`turned_lines`). No bit depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import gcd, prod

from pellucid.core.machine import cache_bytes
from pellucid.engines.llvm.folded import fold_of
from pellucid.engines.llvm.line_choice import even_part, grouped_tiling, known
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.tiling import (
    TASK,
    WORTH_A_THREAD,
    Bound,
    Cut,
    ProductSpec,
    Tables,
    Tiling,
    accumulator_bits,
    extents_of,
    static_cut,
    waited_for,
)


@dataclass(frozen=True, slots=True)
class Step:
    """How far one k of an axis goes: in `turns`, lines, positions and channels of lhs."""

    turns: int = 0
    lines: int = 0
    positions: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Turned:
    """How results lie in lines, and which lines of lhs these meet.

    There are `lines` of results, `length` long, for each place of the `outer` loops over m. Places
    of lhs along a line are `step` elements apart, and `channels` of each are read; those from
    `exist[0]` to below `exist[1]` are in memory, and a result meets its own and up to `reach`
    further ones. Lines of lhs lie `apart` elements
    from each other: the next line of results begins `down` of them further, and meets up to
    `depth` further ones; so it is in each of the `turns` of the other loops of k. `steps` says for
    each axis of k how far it goes.
    """

    outer: tuple[int, ...]
    lines: int
    length: int
    step: int
    channels: int
    exist: tuple[int, int]
    reach: int
    apart: int
    down: int
    depth: int
    turns: int
    steps: tuple[Step, ...]

    def met(self, lines: int) -> int:
        """How many lines of lhs so many lines of results meet in each turn."""
        return self.down * (lines - 1) + self.depth + 1

    def width(self, lanes: int) -> int:
        """The numbers of a turned line: what whole vectors read, and whole vectors fill."""
        read = -(-self.length // lanes) * lanes + self.reach
        return -(-max(read, self.exist[0] + lanes) // lanes) * lanes

    def numbers(self, lines: int, lanes: int) -> int:
        """The numbers that are turned for so many lines of results."""
        return self.turns * self.met(lines) * self.channels * self.width(lanes)

    def offsets(self, extents: tuple[int, ...], lines: int, lanes: int) -> Iterator[int]:
        """Where among them each k begins, for the first line of results."""
        for place in product(*map(range, extents)):
            turn, line, position, channel = (
                sum(at * getattr(step, name) for at, step in zip(place, self.steps, strict=True))
                for name in ("turns", "lines", "positions", "channels")
            )
            position, channel = position + channel // self.step, channel % self.step
            row = (turn * self.met(lines) + line) * self.channels + channel
            yield row * self.width(lanes) + position


def line_tiling(spec: ProductSpec, isa: Isa) -> Tiling | None:
    """The tiling of a product that is made, or summed, line by line; None: another suits it."""
    return grouped_tiling(spec, isa) or turned_tiling(spec, isa)


def launch_of(spec: ProductSpec, tiling: Tiling) -> Cut:
    """The launch of a product of known size."""
    return turned_cut(spec, tiling) if tiling.across else static_cut(spec, tiling)


# Whether it suits.


def turned_tiling(spec: ProductSpec, isa: Isa) -> Tiling | None:
    """The tiling of a product that runs along lines of results; None: another suits it."""
    turned = turned_of(spec)
    if turned is None or fold_of(spec.dtype, isa) > 1:
        return None
    n, lanes = extents_of(spec)[2], isa.lanes(accumulator_bits(spec.dtype))
    vectors = -(-turned.length // lanes)
    # Across features n lanes of a vector are at work; along a line it has some idle at its end.
    if 2 * n > lanes or turned.length < 2 * n * vectors:
        return None
    most = (isa.registers - 2 - n) // n
    width = even_part(vectors, min(vectors, most))
    tiling = Tiling(1, width, lanes, False, False, False, 1, 1, tables=True)
    tiling = replace(tiling, line=turned.length, across=True)
    blocks = blocks_of(spec, tiling)
    if not blocks:
        return None
    rows = even_part(blocks[0], min(blocks[0], max(1, most // width)))
    return replace(tiling, rows=rows, block=blocks[0])


def blocks_of(spec: ProductSpec, tiling: Tiling) -> list[int]:
    """How many lines of results a task may take, the cheapest by the cost model first.

    More of them meet the same lines of lhs; but what is turned is to stay in the second cache.
    """
    turned = turned_of(spec)
    assert turned is not None, "results along lines have them"
    lanes, bytes = tiling.lanes, accumulator_bits(spec.dtype) // 8
    batch, _, n, k = extents_of(spec)
    line = -(-(turned.length + turned.reach) // lanes) * turned.channels

    def cost(block: int) -> float:
        work = block * -(-turned.length // lanes) * n * k
        work += turned.turns * turned.met(block) * line * _TURN
        tasks = batch * prod(turned.outer) * -(-turned.lines // block)
        return (work + TASK) * waited_for(tasks)

    near = cache_bytes(2) * 5 // 8
    blocks = {-(-turned.lines // parts) for parts in range(1, turned.lines + 1)}
    fits = (block for block in blocks if block >= tiling.rows)
    fits = (block for block in fits if turned.numbers(block, lanes) * bytes <= near)
    return sorted(fits, key=cost)


_TURN = 8
"""What a vector costs to turn, in vector multiply-adds."""


def turned_cut(spec: ProductSpec, tiling: Tiling) -> Cut:
    """The launch of a product that runs along lines of results."""
    turned = turned_of(spec)
    assert turned is not None, "results along lines have them"
    (block,) = known((tiling.block,))
    batch, _, n, k = extents_of(spec)
    tasks = batch * prod(turned.outer) * -(-turned.lines // block)
    products = block * -(-turned.length // tiling.lanes) * tiling.lanes * n * k
    bytes = turned.numbers(block, tiling.lanes) * accumulator_bits(spec.dtype) // 8
    return Cut(block, 1, tasks, -(-WORTH_A_THREAD // products), bytes)


# How it lies.


@cache
def turned_of(spec: ProductSpec) -> Turned | None:
    """How the results of a product lie in lines; None: they do not, or not everything is known."""
    tables = spec.tables
    if tables is None or not tables.rows or spec.beside or spec.groups or not spec.is_static:
        return None
    strides = (*tables.row_strides, *tables.depth_strides, spec.rhs.first, spec.rhs.second)
    sizes = (*tables.rows, *tables.depths, *spec.lhs.batch, *spec.rhs.batch)
    if not all(isinstance(number, int) for number in (*strides, *sizes)):
        return None
    if not (spec.dtype.is_floating and all(extents_of(spec)) and min(known(strides)) >= 0):
        return None
    return _lies(tables)


def _lies(tables: Tables) -> Turned | None:
    *outer, length = known(tables.rows)
    step, lines = known(tables.row_strides)[-1], outer.pop() if outer else 1
    bounded = [bound for bound in tables.bounds if bound.rows[-1]]
    if not step or len(bounded) > 1 or any(any(bound.rows[:-1]) for bound in bounded):
        return None
    axes = _Axes(tables, bounded[0] if bounded else None)
    for axis in reversed(range(len(tables.depths))):
        axes.steps.insert(0, axes.step_of(axis))
    across = (axis for axis, step in enumerate(axes.steps) if not step.positions)
    if any(bound.depths[axis] for bound in bounded for axis in across):
        return None
    if len(tables.rows) > 1 and any(bound.rows[-2] % axes.down for bound in tables.bounds):
        return None
    exist = _existing(axes.along, length + axes.reach)
    if exist is None:
        return None
    shape = tuple(outer), lines, length, step, axes.channels
    found = axes.apart, axes.down, axes.depth, axes.turns, tuple(axes.steps)
    return Turned(*shape, exist, axes.reach, *found)


def _existing(along: Bound | None, positions: int) -> tuple[int, int] | None:
    """Which of so many positions along a line exist; None: none of them."""
    if along is None:
        return 0, positions
    unit = along.rows[-1]
    first = max(0, -(along.offset // unit))
    last = min(positions, -((along.offset - along.size) // unit))
    return (first, last) if first < last else None


class _Axes:
    """The axes of k, from the last to the first: where each goes."""

    def __init__(self, tables: Tables, along: Bound | None) -> None:
        self.tables, self.along = tables, along
        self.sizes, self.strides = known(tables.depths), known(tables.depth_strides)
        *rest, self.position = known(tables.row_strides)
        self.below = self.apart = rest[-1] if rest else 0
        self.channels, self.reach, self.down, self.depth, self.turns = 1, 0, 1, 0, 1
        self.steps: list[Step] = []

    def step_of(self, axis: int) -> Step:
        """How far a k of an axis goes."""
        size, stride = self.sizes[axis], self.strides[axis]
        if self._goes(axis, -1) and (size - 1) * stride <= _REACH * self.position:
            positions = stride // self.position
            self.reach += (size - 1) * positions
            return Step(positions=positions)
        if self._is_channels(axis):
            self.channels = min(size, self.position)
            self.reach += (size - 1) // self.position
            return Step(channels=1)
        if self.below and self.depth == 0 and self._goes(axis, -2):
            apart = gcd(self.below, stride)
            down, lines = self.below // apart, stride // apart
            if down <= _DOWN and (size - 1) * lines <= _REACH:
                self.apart, self.down, self.depth = apart, down, (size - 1) * lines
                return Step(lines=lines)
        self.turns, here = self.turns * size, self.turns
        return Step(turns=here)

    def _goes(self, axis: int, loop: int) -> bool:
        """Whether an axis goes the way of a loop over m, also as bounds see it."""
        stride, step = self.strides[axis], known(self.tables.row_strides)[loop]
        whole = stride > 0 and (loop == -2 or stride % step == 0)
        bounds = self.tables.bounds
        return whole and all(b.rows[loop] * stride == b.depths[axis] * step for b in bounds)

    def _is_channels(self, axis: int) -> bool:
        """Whether an axis goes through the numbers at a position, and then at those beside it."""
        size, step = self.sizes[axis], self.position
        inside = size <= step or (size % step == 0 and self.along is None)
        free = not any(bound.depths[axis] for bound in self.tables.bounds)
        return self.strides[axis] == 1 and self.channels == 1 and inside and free


_REACH = 64
"""Positions, or lines, beyond a result's own that may be met along one axis."""

_DOWN = 4
"""Lines of lhs from which on lines of results are too far apart to share them."""
