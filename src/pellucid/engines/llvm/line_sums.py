"""How is the derivative in the weights of a grouped convolution made? By sums along lines.

    out[b, m, n] = sum over k of lhs[b, m, k, n // columns * step] * rhs[b, k, n]

k runs over lines of both operands, m over the places of a window, each with `run` channels of a
group. A tile is some places by a panel of columns: at each k one line of rhs meets a line of lhs
for each place, whose lanes are picked for each channel. Places beyond lhs are read from a line of
zeros. Chunks of k are chains of their own; their sums are added in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product

from pellucid.engines.llvm.group_panels import GroupPanel
from pellucid.engines.llvm.line_choice import SumLine, known, sum_line_of
from pellucid.engines.llvm.line_tasks import Lines, Span, Task
from pellucid.engines.llvm.panels import multiply_add, store_sums
from pellucid.engines.llvm.product_results import Epilogue, Place
from pellucid.engines.llvm.scratch import take_scratch
from pellucid.engines.llvm.sizes import Number, add, greatest, least, mul, quotient, sub, value
from pellucid.engines.llvm.tables import unravelled
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.tiling import (
    ProductSpec,
    Tiling,
    chunk_length,
    extents_of,
    sums_bytes,
    table_bytes,
)
from pellucid.engines.llvm.types import I8, I64, Value, constant


def write_line_sums(f: Function, spec: ProductSpec, tiling: Tiling, epilogue: Epilogue) -> None:
    """Write the body of a kernel, as `product.define_product` has them, that sums along lines."""
    _Kernel(f, spec, tiling, epilogue).tasks()


@dataclass(frozen=True, slots=True)
class _Met:
    """Where a place of the window meets a line of lhs: the element that it meets at the first k.

    And its position along that line, which has `size` of them; None where all are known to exist.
    """

    base: Value
    first: Value
    size: Value | None


class _Kernel:
    """The loops of a task, from the outside in."""

    def __init__(self, f: Function, spec: ProductSpec, tiling: Tiling, epilogue: Epilogue) -> None:
        line = sum_line_of(spec)
        assert line is not None, "sums along lines have one"
        self.f, self.tiling, self.epilogue = f, tiling, epilogue
        self.line: SumLine = line
        self.lines = Lines(f, spec, tiling)
        self.tables = self.lines.tables
        self.places = tiling.rows // line.run
        self.sums = tiling.rows * tiling.vectors
        self.width = 1 + len(self.tables.bounds)
        self.table = take_scratch(f, self.lines.context, constant(I64, sums_bytes(spec, tiling)))
        self.totals = f.gep(self.table, table_bytes(spec), I8)

    # The loops.

    def tasks(self) -> None:
        """The tasks lo to hi: a block of tiles by a group of panels each."""
        self._fill()
        with self.lines.tasks(-(-self.line.places // self.places)) as task:
            self._task(task)

    def _task(self, task: Task) -> None:
        """A task, chunk by chunk, so that the lines of a chunk are near."""
        f, lines, k = self.f, self.lines, extents_of(self.lines.spec)[3]
        with lines.loop("chunk", (0, k), chunk_length(k)) as chunk:
            end = least(f, add(f, chunk.index, chunk_length(k)), k)
            with lines.loop("panel", task.panels) as panel, lines.loop("tile", task.blocks) as tile:
                totals = self._totals(task, tile.index, panel.index)
                sums = self._chain(task, tile.index, panel.index, (chunk.index, end))
                self._add(chunk.index, sums, totals)
        with lines.loop("panel", task.panels) as panel, lines.loop("tile", task.blocks) as tile:
            self._finish(task, tile.index, panel.index)

    def _totals(self, task: Task, tile: Value, panel: Value) -> Value:
        """Where the totals of a tile lie."""
        f, (first, last) = self.f, task.panels
        row = mul(f, sub(f, tile, task.blocks[0]), sub(f, last, first))
        number = add(f, row, sub(f, panel, first))
        return f.gep(self.totals, mul(f, number, self.sums * self.tiling.lanes), self.lines.scalar)

    def _first_place(self, tile: Value) -> Number:
        """The first place of a tile: the last one begins earlier, and computes some again."""
        f = self.f
        return least(f, mul(f, tile, self.places), self.line.places - self.places)

    def _finish(self, task: Task, tile: Value, panel: Value) -> None:
        """Hand the rows of a tile to the epilogue, from the first that is its own."""
        f, tiling, run, lines = self.f, self.tiling, self.line.run, self.lines
        columns, totals = lines.panel(panel), self._totals(task, tile, panel)
        begun, batch = self._first_place(tile), tuple(map(value, task.batch))
        own = sub(f, mul(f, tile, self.places), begun)
        with lines.loop("row", (mul(f, own, run), tiling.rows)) as row:
            m = value(add(f, mul(f, begun, run), row.index))
            for v, mask in enumerate(columns.masks):
                number = add(f, mul(f, row.index, tiling.vectors), v)
                sums = f.load(lines.vector, self._sum(totals, number))
                n = value(add(f, columns.n, v * columns.held))
                self.epilogue(f, sums, Place(lines.pointers, lines.sizes, batch, m, n, mask))

    def _sum(self, totals: Value, number: Number) -> Value:
        return self.f.gep(totals, mul(self.f, number, self.tiling.lanes), self.lines.scalar)

    def _add(self, k: Value, sums: Sequence[Value], totals: Value) -> None:
        """Add the sums of a chunk that begins at k to the totals, or begin these with them."""
        f, places = self.f, [self._sum(totals, number) for number in range(self.sums)]
        store_sums(f, f.icmp("eq", k, 0), sums, places)

    # What places meet.

    def _fill(self) -> None:
        """Write for each place where it lies, and its part of each position that is bounded."""
        f, tables, lines = self.f, self.tables, self.lines
        outer = known(tables.rows[:-1] if self.line.run > 1 else tables.rows)
        steps = known(tables.row_strides)[: len(outer)]
        with lines.loop("place", (0, self.line.places)) as place:
            at = unravelled(f, place.index, outer)
            found = [lines.dot(tables.offset, at, steps)]
            found += [lines.dot(b.offset, at, b.rows[: len(outer)]) for b in tables.bounds]
            for number, one in enumerate(found):
                entry = add(f, mul(f, place.index, self.width), number)
                f.store(value(one), lines.entry(self.table, entry))

    def _met(self, seen: Value, place: Number, outer: tuple[Number, ...]) -> _Met:
        """What a place meets of the line at `outer`."""
        f, tables, lines = self.f, self.tables, self.lines
        entry = lines.entry(self.table, mul(f, place, self.width))
        offset = lines.dot(f.load(I64, entry), outer, known(tables.depth_strides[:-1]))
        first, exist = constant(I64, 0), list[Value]()
        for number, bound in enumerate(tables.bounds, 1):
            mine = f.load(I64, lines.entry(entry, number))
            at = value(lines.dot(mine, outer, bound.depths[:-1]))
            if bound is self.line.bound:
                first = at
            else:
                exist.append(f.icmp("ult", at, bound.size))
        size = constant(I64, 1 if self.line.bound is None else self.line.bound.size)
        some = f.select(reduce(f.and_, exist), size, 0) if exist else size
        return _Met(f.gep(seen, offset, lines.memory), first, some if lines.bounded else None)

    def _inside(self) -> Span | None:
        """From where to where all places along a line exist, if that is worth a second body."""
        bound = self.line.bound
        if not self.lines.bounded or self.line.run > 1:
            return None
        if bound is None:
            return 0, self.line.length
        if any(bound.depths[:-1]):
            return None
        along, sizes = bound.depths[-1], known(self.tables.rows)
        reach = sum(step * (size - 1) for step, size in zip(bound.rows, sizes, strict=True))
        return -(bound.offset // along), -((bound.offset + reach - bound.size) // along)

    # Sums.

    def _chain(self, task: Task, tile: Value, panel: Value, ks: Span) -> tuple[Value, ...]:
        """The chains of a tile along the lines, as far as these belong to the k's of a chunk."""
        f, length, lines = self.f, self.line.length, self.lines
        columns, (begin, end) = lines.panel(panel), ks
        seen, rhs = lines.seen(task.batch, panel), lines.columns(task.batch, panel)
        place, numbers = self._first_place(tile), range(self.places)
        over = quotient(f, begin, length), quotient(f, add(f, end, length - 1), length)
        zeros = [constant(lines.vector, 0)] * self.sums
        with f.loop(*map(value, over), accs=zeros, name="line", unroll=1) as line:
            start = mul(f, line.index, length)
            outer = unravelled(f, line.index, known(self.tables.depths[:-1]))
            places = [self._met(seen, add(f, place, number), outer) for number in numbers]
            row = f.gep(rhs, mul(f, start, lines.step), lines.memory)
            made = _Line(self, columns, row, places)
            span = greatest(f, sub(f, begin, start), 0), least(f, sub(f, end, start), length)
            with f.loop(*map(value, span), accs=line.accs, name="k", unroll=1) as k:
                made.fetch(k.index)
                k.next(*made.step(k.index, k.accs))
            line.next(*k.results)
        return line.results

    def new_places(self) -> list[int]:
        """The places that meet what none has met before, neither on this line nor on the last."""
        line, tables = self.line, self.tables
        if self.places < line.places or len(tables.depths) < 2 or line.run > 1:
            return []
        steps = known(tables.row_strides)
        offsets = [
            sum(a * b for a, b in zip(at, steps, strict=True))
            for at in product(*map(range, known(tables.rows)))
        ]
        further = known(tables.depth_strides)[-2:]
        return [
            number
            for number, offset in enumerate(offsets)
            if not any(offset + step in offsets for step in further)
        ]

    def inside(self, places: Sequence[_Met]) -> tuple[Span, Value] | None:
        """The k's of a line whose places all exist, if the line does; None: it is not asked."""
        f, span = self.f, self._inside()
        if span is None:
            return None
        sizes = [met.size for met in places if met.size is not None]
        return span, reduce(f.and_, (f.icmp("ne", size, 0) for size in sizes))


class _Line:
    """A line of k's, of rhs from `row` on, for the places of a tile by a panel of columns."""

    def __init__(
        self, kernel: _Kernel, columns: GroupPanel, row: Value, places: Sequence[_Met]
    ) -> None:
        self.f, self.kernel, self.lines, self.line = kernel.f, kernel, kernel.lines, kernel.line
        self.columns, self.row, self.places = columns, row, places
        self.vectors = kernel.tiling.vectors
        self.inside = kernel.inside(places)

    def step(self, k: Value, accs: Sequence[Value]) -> Sequence[Value]:
        """The sums with the products of one k, whose places all exist but near a line's ends."""
        f = self.f
        if self.inside is None:
            return self._added(self.places, k, accs)
        (first, end), exist = self.inside
        within = f.icmp("ult", value(sub(f, k, first)), value(sub(f, end, first)))
        plain = [replace(met, size=None) for met in self.places]
        return f.if_else(
            f.and_(within, exist),
            lambda: self._added(plain, k, accs),
            lambda: self._added(self.places, k, accs),
            name="inside",
        )

    def _added(self, places: Sequence[_Met], k: Value, accs: Sequence[Value]) -> list[Value]:
        f, lines, columns = self.f, self.lines, self.columns
        line = f.gep(self.row, mul(f, k, lines.step), lines.memory)
        weights = [columns.column(line, v) for v in range(self.vectors)]
        sums = list(accs)
        for number, met in enumerate(places):
            at = self._at(met, k)
            for v, weight in enumerate(weights):
                for channel, factor in enumerate(self._factors(at, v)):
                    here = (number * self.line.run + channel) * self.vectors + v
                    sums[here] = multiply_add(f, factor, weight, sums[here])
        return sums

    def _factors(self, at: Value, v: int) -> list[Value]:
        """What a vector of columns sees of each channel."""
        channels = range(self.line.run)
        if self.columns.is_broadcast:
            return [self.columns.broadcast(at, v, channel) for channel in channels]
        seen = self.columns.seen(at, v)
        return [self.columns.picked(seen, channel) for channel in channels]

    def _at(self, met: _Met, k: Value) -> Value:
        """Where a place meets a k of the line, or zeros."""
        f, bound = self.f, self.line.bound
        at = f.gep(met.base, mul(f, k, self.line.step), self.lines.memory)
        if met.size is None:
            return at
        along = 0 if bound is None else bound.depths[-1]
        return self.lines.within(at, value(add(f, met.first, mul(f, k, along))), met.size)

    def fetch(self, k: Value) -> None:
        """Ask for what the next lines have at a k: hardware does not foresee such large steps."""
        f, lines, new = self.f, self.lines, self.kernel.new_places()
        for number in new:
            further = known(lines.tables.depth_strides)[-2]
            offset = add(f, mul(f, k, self.line.step), further)
            self._fetch_line(self.places[number].base, offset, self.columns.span)
        if new:
            offset = mul(f, add(f, k, self.line.length), lines.step)
            self._fetch_line(self.row, offset, self.columns.held)

    def _fetch_line(self, base: Value, offset: Number, apart: int) -> None:
        f, memory = self.f, self.lines.memory
        for v in range(self.vectors):
            f.prefetch(f.gep(base, add(f, offset, v * apart), memory), locality=2)
