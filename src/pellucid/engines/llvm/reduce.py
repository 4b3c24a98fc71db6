"""How is a reduction run so that its fixed order costs nothing? The order's lanes are vectors.

"lanes": 64 running results are a few vector registers over whole blocks of 64 columns; columns that
remain are added to the same lanes in memory, by vectors and then one by one. "chain": each element
of a vector along a kept axis is a chain of its own. See `loops.ir.Reduce` for the order itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pellucid.engines.llvm import sizes
from pellucid.engines.llvm.elementwise import combine as combine_elements
from pellucid.engines.llvm.elementwise import identity, register_type
from pellucid.engines.llvm.scope import Bundle, Scope, Vector, prefix
from pellucid.engines.llvm.sizes import Number
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value
from pellucid.engines.loops.ir import LANES, Accumulator, Reduce, Statement

Run = Callable[[Scope, tuple[Statement, ...]], None]
"""What emits statements in a scope."""


def combine(f: Function, result: Accumulator, lhs: Value, rhs: Value) -> Value:
    """The sum, product, max or min of two."""
    return combine_elements(f, result.kind, result.dtype, lhs, rhs)


def emit_reduce(scope: Scope, reduce: Reduce, run: Run) -> None:
    """Run a reduction and give its results their names."""
    found = (_lanes if reduce.order == "lanes" else _chain)(scope, reduce, run)
    for result, bundle in zip(reduce.results, found, strict=True):
        scope.values[result.name] = bundle
        scope.dtypes[result.name] = result.dtype


# Chains.


def _chain(scope: Scope, reduce: Reduce, run: Run) -> list[Bundle]:
    (axis,), (chunk,) = reduce.axes, (scope.number(size) for size in reduce.chunk)
    f, extent = scope.f, scope.number(axis.extent)
    if reduce.part is not None:
        first = sizes.mul(f, scope.axes[reduce.part], chunk)
        return _one_chain(
            scope, reduce, run, first, sizes.least(f, sizes.add(f, first, chunk), extent)
        )
    if isinstance(extent, int) and isinstance(chunk, int) and extent <= chunk:
        return _one_chain(scope, reduce, run, 0, extent)
    starts = _starts(scope, reduce)
    totals = [value for bundle in starts for value in bundle]
    with f.loop(0, _operand(extent), _operand(chunk), accs=totals, name="chunk", unroll=1) as loop:
        stop = sizes.least(f, sizes.add(f, loop.index, chunk), extent)
        partials = _one_chain(scope, reduce, run, loop.index, stop)
        loop.next(*_combined(f, reduce, loop.accs, partials))
    return _bundles(reduce, loop.results)


def _one_chain(scope: Scope, reduce: Reduce, run: Run, first: Number, stop: Number) -> list[Bundle]:
    (axis,) = reduce.axes
    f = scope.f
    accs = [value for bundle in _starts(scope, reduce) for value in bundle]
    lo, hi = _operand(first), _operand(stop)
    with f.loop(lo, hi, accs=accs, name=axis.name, unroll=1) as loop:
        inner = scope.inside(axis.name, loop.index)
        run(inner, reduce.body)
        elements = [inner.spread(result.value) for result in reduce.results]
        loop.next(*_combined(f, reduce, loop.accs, elements))
    return _bundles(reduce, loop.results)


def _starts(scope: Scope, reduce: Reduce) -> list[Bundle]:
    lanes, copies = (scope.vector.lanes, scope.vector.copies) if scope.vector else (1, 1)
    f, starts = scope.f, [identity(result.kind, result.dtype) for result in reduce.results]
    return [(f.splat(start, start.type.with_lanes(lanes)),) * copies for start in starts]


def _combined(
    f: Function, reduce: Reduce, accs: tuple[Value, ...], elements: list[Bundle]
) -> list[Value]:
    found: list[Value] = []
    for result, old, new in zip(reduce.results, _bundles(reduce, accs), elements, strict=True):
        found += [combine(f, result, a, b) for a, b in zip(old, new, strict=True)]
    return found


def _bundles(reduce: Reduce, values: tuple[Value, ...]) -> list[Bundle]:
    copies = len(values) // len(reduce.results)
    return [values[at * copies : (at + 1) * copies] for at in range(len(reduce.results))]


# Lanes.


def _lanes(scope: Scope, reduce: Reduce, run: Run) -> list[Bundle]:
    plan = _plan(scope, reduce)
    lanes = _Lanes(scope, reduce, run, plan)
    if reduce.part is not None:
        return _single(lanes.piece(*_part(scope, reduce, reduce.part)))
    rows, columns = _extents(scope, reduce)
    chunk_rows, chunk_columns = (scope.number(size) for size in reduce.chunk)
    if (rows, columns) == (chunk_rows, chunk_columns):
        return _single(lanes.piece(0, rows, 0, columns))
    return _single(lanes.pieces(rows, columns, chunk_rows, chunk_columns))


def _single(values: list[Value]) -> list[Bundle]:
    return [(value,) for value in values]


def _extents(scope: Scope, reduce: Reduce) -> tuple[Number, Number]:
    extents = [scope.number(axis.extent) for axis in reduce.axes]
    return (extents[0], extents[1]) if len(extents) == 2 else (1, extents[0])


def _part(scope: Scope, reduce: Reduce, part: str) -> tuple[Number, Number, Number, Number]:
    """Where the chunk with the number that `part` stands at begins and ends."""
    f = scope.f
    rows, columns = _extents(scope, reduce)
    chunk_rows, chunk_columns = (scope.number(size) for size in reduce.chunk)
    across = sizes.parts(f, columns, chunk_columns)
    number = scope.axes[part]
    row = sizes.mul(f, sizes.quotient(f, number, across), chunk_rows)
    column = sizes.mul(f, sizes.remainder(f, number, across), chunk_columns)
    last_row = sizes.least(f, sizes.add(f, row, chunk_rows), rows)
    last_column = sizes.least(f, sizes.add(f, column, chunk_columns), columns)
    return row, last_row, column, last_column


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the columns of a row are taken, in this order.

    `whole`: blocks of 64 in registers; `wide`: vectors; `single`: one by one; `tail`: the number
    of columns, known beforehand, that are taken as vectors of which the last may be masked. `lanes`
    are the virtual lanes kept, fewer than 64 where no column would reach the others.
    """

    width: int
    copies: int
    lanes: int
    whole: bool
    wide: bool
    single: bool
    tail: int


def _plan(scope: Scope, reduce: Reduce) -> _Plan:
    column = reduce.axes[-1]
    width, copies = (scope.kernel.bound(column.name, kind) for kind in ("vector", "unroll"))
    assert isinstance(width, int), "the number of lanes is known"
    assert not isinstance(copies, str), "the number of copies is known"
    extent, light = column.extent, copies is not None
    if not isinstance(extent, int):
        return _Plan(width, copies or 1, LANES, light, True, True, 0)
    lanes = LANES
    while extent <= lanes // 2 and lanes > width:
        lanes //= 2
    whole = light and extent >= LANES
    rest = extent % LANES if light else extent % width
    if reduce.chunk[-1] != extent:
        # Pieces of different lengths: what remains is found when the kernel runs.
        return _Plan(width, copies or 1, lanes, whole, extent % LANES > 0, extent % width > 0, 0)
    return _Plan(width, copies or 1, lanes, whole, not light and extent >= width, False, rest)


class _Lanes:
    """The running lanes of one reduction, in stack memory that LLVM may keep in registers."""

    def __init__(self, scope: Scope, reduce: Reduce, run: Run, plan: _Plan) -> None:
        self.scope, self.reduce, self.run, self.plan = scope, reduce, run, plan
        self.f = scope.f
        self.scalars = [register_type(result.dtype) for result in reduce.results]
        self.memory = [self.f.alloca(type, LANES, name="lanes") for type in self.scalars]

    def pieces(
        self, rows: Number, columns: Number, chunk_rows: Number, chunk_columns: Number
    ) -> list[Value]:
        """All chunks, their results reduced as one more row."""
        f = self.f
        totals = [f.alloca(type, LANES, name="totals") for type in self.scalars]
        self._clear(totals, LANES)
        zero = sizes.value(0)
        with f.loop(
            0, _operand(rows), _operand(chunk_rows), accs=[zero], name="rows", unroll=1
        ) as outer:
            last_row = sizes.least(f, sizes.add(f, outer.index, chunk_rows), rows)
            bounds = (0, _operand(columns), _operand(chunk_columns))
            with f.loop(*bounds, accs=outer.accs, name="columns", unroll=1) as inner:
                (number,) = inner.accs
                last = sizes.least(f, sizes.add(f, inner.index, chunk_columns), columns)
                partials = self.piece(outer.index, last_row, inner.index, last)
                self._add(totals, f.and_(number, LANES - 1), [(value,) for value in partials])
                inner.next(f.add(number, 1))
            outer.next(*inner.results)
        return self._tree(totals, LANES)

    def piece(self, row: Number, last_row: Number, column: Number, last: Number) -> list[Value]:
        """One chunk."""
        self._clear(self.memory, self.plan.lanes)
        f = self.f
        if len(self.reduce.axes) == 1:
            self._row(self.scope, column, last)
        else:
            axis = self.reduce.axes[0]
            with f.loop(_operand(row), _operand(last_row), name=axis.name, unroll=1) as loop:
                self._row(self.scope.inside(axis.name, loop.index), column, last)
        return self._tree(self.memory, self.plan.lanes)

    def _row(self, scope: Scope, column: Number, last: Number) -> None:
        plan, f = self.plan, self.f
        if plan.whole:
            column = self._whole_blocks(scope, column, last)
        for step, wanted in ((plan.width, plan.wide), (1, plan.single)):
            if not wanted:
                continue
            # (last - column) rounded down to whole steps: what is left goes to the next loop.
            count = sizes.mul(f, sizes.quotient(f, sizes.sub(f, last, column), step), step)
            stop = sizes.add(f, column, count)
            with f.loop(_operand(column), _operand(stop), step, name="c", unroll=1) as loop:
                elements = self._elements(scope, loop.index, step, 1)
                self._add(self.memory, f.and_(loop.index, plan.lanes - 1), elements)
            column = stop
        self._tail(scope, column)

    def _tail(self, scope: Scope, column: Number) -> None:
        plan, f = self.plan, self.f
        for done in range(0, plan.tail, plan.width):
            left = plan.tail - done
            first = sizes.add(f, column, done)
            if left >= plan.width:
                elements = self._elements(scope, first, plan.width, 1)
            else:
                elements = self._masked(scope, first, left)
            lane = first % plan.lanes if isinstance(first, int) else f.and_(first, plan.lanes - 1)
            self._add(self.memory, lane, elements)

    def _masked(self, scope: Scope, column: Number, count: int) -> list[Bundle]:
        """The values of `count` columns, fewer than a vector; the other lanes change nothing."""
        width, f = self.plan.width, self.f
        mask = prefix(count, width)
        axis = self.reduce.axes[-1].name
        inner = scope.inside(axis, column, Vector(axis, width, 1, mask))
        self.run(inner, self.reduce.body)
        found: list[Bundle] = []
        for result in self.reduce.results:
            (element,) = inner.spread(result.value)
            idle = f.splat(identity(result.kind, result.dtype), element.type)
            found.append((f.select(mask, element, idle),))
        return found

    def _whole_blocks(self, scope: Scope, column: Number, last: Number) -> Number:
        plan, f = self.plan, self.f
        count = sizes.mul(f, sizes.quotient(f, sizes.sub(f, last, column), LANES), LANES)
        stop = sizes.add(f, column, count)
        old = [value for bundle in self._read(self.memory, LANES) for value in bundle]
        bounds = (_operand(column), _operand(stop), LANES)
        with f.loop(*bounds, accs=old, name="block", unroll=1) as loop:
            elements = self._elements(scope, loop.index, plan.width, plan.copies)
            loop.next(*_combined(f, self.reduce, loop.accs, elements))
        self._write(self.memory, _bundles(self.reduce, loop.results))
        return stop

    def _elements(self, scope: Scope, column: Number, width: int, copies: int) -> list[Bundle]:
        """The values to reduce, for `copies` * `width` columns from `column` on."""
        axis = self.reduce.axes[-1].name
        vector = Vector(axis, width, copies) if width > 1 else None
        inner = scope.inside(axis, column, vector)
        self.run(inner, self.reduce.body)
        return [inner.spread(result.value) for result in self.reduce.results]

    def _add(self, memory: list[Value], lane: Number, elements: list[Bundle]) -> None:
        f = self.f
        for result, lanes, (new,) in zip(self.reduce.results, memory, elements, strict=True):
            at = f.gep(lanes, lane, new.type.with_lanes(1))
            f.store(combine(f, result, f.load(new.type, at), new), at)

    def _clear(self, memory: list[Value], count: int) -> None:
        width = min(self.plan.width, count)
        for result, lanes in zip(self.reduce.results, memory, strict=True):
            start = identity(result.kind, result.dtype)
            wide = self.f.splat(start, start.type.with_lanes(width))
            for lane in range(0, count, width):
                self.f.store(wide, self.f.gep(lanes, lane, start.type))

    def _read(self, memory: list[Value], count: int) -> list[Bundle]:
        f, width = self.f, min(self.plan.width, count)
        return [
            tuple(
                f.load(type.with_lanes(width), f.gep(lanes, lane, type))
                for lane in range(0, count, width)
            )
            for type, lanes in zip(self.scalars, memory, strict=True)
        ]

    def _write(self, memory: list[Value], bundles: list[Bundle]) -> None:
        for lanes, bundle in zip(memory, bundles, strict=True):
            for at, value in enumerate(bundle):
                offset = at * value.type.lanes
                self.f.store(value, self.f.gep(lanes, offset, value.type.with_lanes(1)))

    def _tree(self, memory: list[Value], count: int) -> list[Value]:
        """Lane i + 32 to lane i, then i + 16, ... until one is left."""
        pairs = zip(self.reduce.results, self._read(memory, count), strict=True)
        return [self._halved(result, list(bundle)) for result, bundle in pairs]

    def _halved(self, result: Accumulator, vectors: list[Value]) -> Value:
        f = self.f
        while len(vectors) > 1:
            half = len(vectors) // 2
            pairs = zip(vectors[:half], vectors[half:], strict=True)
            vectors = [combine(f, result, low, high) for low, high in pairs]
        (value,) = vectors
        while value.type.lanes > 1:
            lanes = value.type.lanes
            low = f.shuffle(value, value, range(lanes // 2))
            value = combine(f, result, low, f.shuffle(value, value, range(lanes // 2, lanes)))
        return value


def _operand(number: Number) -> Value:
    return sizes.value(number)
