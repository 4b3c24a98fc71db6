"""How is a convolution made whose columns come in groups? Line by line, many groups in a vector.

    out[b, m, n] = sum over k of lhs[b, m, k, n // columns * step] * rhs[b, k, n]

A tile is some neighbours along a line of results by a panel of columns. For each outer place of the
window it goes along the line of lhs that is met: what one place holds serves all results whose
windows meet it. Places beyond lhs are read from a line of zeros. Each result is one chain over k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from math import prod

from pellucid.core.machine import cache_bytes
from pellucid.engines.llvm.group_panels import GroupPanel
from pellucid.engines.llvm.line_choice import Line, holds_weights, known, line_of
from pellucid.engines.llvm.line_tasks import Lines, Task
from pellucid.engines.llvm.panels import multiply_add
from pellucid.engines.llvm.product_results import Epilogue, Fetch, Place
from pellucid.engines.llvm.sizes import Number, add, least, mul, sub, value
from pellucid.engines.llvm.tables import unravelled
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.tiling import ProductSpec, Tiling, extents_of
from pellucid.engines.llvm.types import I64, Value, constant


def write_lines(
    f: Function, spec: ProductSpec, tiling: Tiling, epilogue: Epilogue, fetch: Fetch
) -> None:
    """Write the body of a kernel, as `product.define_product` has them, that goes line by line.

    While a line is made, `fetch` asks for what the epilogue will write for the next one.
    """
    _Kernel(f, spec, tiling, epilogue, fetch).tasks()


class _Kernel:
    """The loops of a task, from the outside in."""

    def __init__(
        self, f: Function, spec: ProductSpec, tiling: Tiling, epilogue: Epilogue, fetch: Fetch
    ) -> None:
        line = line_of(spec)
        assert line is not None, "results in lines have one"
        self.f, self.tiling, self.epilogue, self.fetch = f, tiling, epilogue, fetch
        self.line: Line = line
        self.lines = Lines(f, spec, tiling)
        self.tables = self.lines.tables
        self.totals = f.alloca(self.lines.scalar, tiling.rows * tiling.vectors * tiling.lanes)
        self.table = f.alloca(I64, 3 * prod(line.outer))

    # The loops.

    def tasks(self) -> None:
        """The tasks lo to hi: a block of lines by a group of panels each."""
        _, m, _, _ = extents_of(self.lines.spec)
        with self.lines.tasks(m // self.line.length) as task:
            self._task(task)

    def _task(self, task: Task) -> None:
        """A task: along memory, if the weights of its panels stay near, else panel by panel."""
        loop, tiles = self.lines.loop, (0, -(-self.line.length // self.tiling.rows))
        if self._is_near():
            with loop("line", task.blocks) as line:
                outer = self._outer(line.index)
                with loop("tile", tiles) as tile, loop("panel", task.panels) as panel:
                    self._tile(task, outer, tile.index, panel.index)
            return
        with loop("panel", task.panels) as panel, loop("line", task.blocks) as line:
            outer = self._outer(line.index)
            with loop("tile", tiles) as tile:
                self._tile(task, outer, tile.index, panel.index)

    def _is_near(self) -> bool:
        """Whether the weights of a task's panels fit into the nearest cache."""
        (group,) = known((self.tiling.group,))
        k, dtype = extents_of(self.lines.spec)[3], self.lines.spec.dtype
        return k * group * self.tiling.columns * dtype.bytes <= cache_bytes(1)

    def _outer(self, line: Value) -> tuple[Number, ...]:
        """Where the loops over m but the last stand at a line, of which the table is written."""
        outer = unravelled(self.f, line, known(self.tables.rows[:-1]))
        self._fill(outer)
        return outer

    def _tile(self, task: Task, outer: tuple[Number, ...], tile: Value, panel: Value) -> None:
        f, rows, lines = self.f, self.tiling.rows, self.lines
        # A tile that would reach beyond the line begins earlier, and computes some again.
        wanted = mul(f, tile, rows)
        start = least(f, wanted, self.line.length - rows)
        columns, weights = lines.panel(panel), lines.columns(task.batch, panel)
        sums = _Tile(self, columns, lines.seen(task.batch, panel), weights, start).sums()
        for number, one in enumerate(sums):
            f.store(one, f.gep(self.totals, number * self.tiling.lanes, lines.scalar))
        batch, place = tuple(map(value, task.batch)), tuple(map(value, outer))
        with lines.loop("row", (sub(f, wanted, start), rows)) as row:
            along = value(add(f, start, row.index))
            self._finish(batch, (place, along), columns, row.index)

    def _finish(
        self,
        batch: tuple[Value, ...],
        at: tuple[tuple[Value, ...], Value],
        columns: GroupPanel,
        row: Value,
    ) -> None:
        """Hand a row of a finished tile to the epilogue, and ask for where the next line's goes."""
        f, tiling, lines, (outer, along) = self.f, self.tiling, self.lines, at
        for v, mask in enumerate(columns.masks):
            number = add(f, mul(f, row, tiling.vectors), v)
            sums = f.gep(self.totals, mul(f, number, tiling.lanes), lines.scalar)
            n, rows = value(add(f, columns.n, v * columns.held)), (*outer, along)
            place = Place(lines.pointers, lines.sizes, batch, along, n, mask, rows)
            self.epilogue(f, f.load(lines.vector, sums), place)
            if outer:
                rows = (*outer[:-1], f.add(outer[-1], 1), along)
                self.fetch(f, replace(place, rows=rows, mask=None))

    # What a line meets.

    def _fill(self, outer: tuple[Number, ...]) -> None:
        """Write for each outer place of the window where the line of lhs that it meets begins.

        And the position along it that the line's first result meets, and how many there are: none
        where the line does not exist.
        """
        f, tables, lines = self.f, self.tables, self.lines
        with lines.loop("outer", (0, prod(self.line.outer))) as place:
            inside = unravelled(f, place.index, self.line.outer)
            steps = known((*tables.row_strides[:-1], *tables.depth_strides[: len(inside)]))
            found = [lines.dot(tables.offset, (*outer, *inside), steps)]
            found += self._reach(outer, inside) if lines.bounded else ()
            for at, number in enumerate(found):
                entry = add(f, mul(f, place.index, 3), at)
                f.store(value(number), lines.entry(self.table, entry))

    def _reach(self, outer: tuple[Number, ...], inside: tuple[Number, ...]) -> tuple[Number, Value]:
        f, along = self.f, self.line.bound
        first, exist = 0, list[Value]()
        for bound in self.tables.bounds:
            steps = (*bound.rows[:-1], *bound.depths[: len(inside)])
            at = self.lines.dot(bound.offset, (*outer, *inside), steps)
            if bound is along:
                first = at
            else:
                exist.append(f.icmp("ult", value(at), bound.size))
        size = constant(I64, 1 if along is None else along.size)
        return first, f.select(reduce(f.and_, exist), size, 0) if exist else size


Reach = tuple[Number, Value]
"""The position along a line of lhs that a tile's first result meets, and how many there are."""


class _Tile:
    """Some neighbours along a line of results, from `start` on, by a panel of columns.

    `seen` is what the panel sees at the first element of lhs, `weights` its columns at the first k.
    """

    def __init__(
        self, kernel: _Kernel, panel: GroupPanel, seen: Value, weights: Value, start: Number
    ) -> None:
        self.f, self.kernel, self.lines, self.line = kernel.f, kernel, kernel.lines, kernel.line
        self.panel, self.seen, self.weights, self.start = panel, seen, weights, start
        self.rows, self.vectors = kernel.tiling.rows, kernel.tiling.vectors

    def sums(self) -> tuple[Value, ...]:
        """The sums of the tile, row by row."""
        f, line, lines = self.f, self.line, self.lines
        begun = [constant(lines.vector, 0)] * (self.rows * self.vectors)
        added = self._by_broadcasts if self.panel.is_broadcast else self._by_places
        with f.loop(0, prod(line.outer), accs=begun, name="place", unroll=1) as place:
            entry = lines.entry(self.kernel.table, mul(f, place.index, 3))
            offset = add(f, f.load(I64, entry), mul(f, self.start, line.step))
            base = f.gep(self.seen, offset, lines.memory)
            depth = mul(f, place.index, line.places * line.run * lines.step)
            weights = f.gep(self.weights, depth, lines.memory)
            place.next(*added(base, self._reach(entry), weights, place.accs))
        return place.results

    def _reach(self, entry: Value) -> Reach | None:
        f, bound, lines = self.f, self.line.bound, self.lines
        if not lines.bounded:
            return None
        along = 0 if bound is None else bound.rows[-1]
        first = add(f, f.load(I64, lines.entry(entry, 1)), mul(f, self.start, along))
        return first, f.load(I64, lines.entry(entry, 2))

    def _at(self, base: Value, reach: Reach | None, row: int, place: int) -> Value:
        """Where a result's place of the window lies, or zeros."""
        f, bound = self.f, self.line.bound
        at = f.gep(base, self._offset(row, place), self.lines.memory)
        if reach is None:
            return at
        first, size = reach
        further = 0
        if bound is not None:
            apart = bound.depths[len(self.line.outer)] if self.line.places > 1 else 0
            further = row * bound.rows[-1] + place * apart
        return self.lines.within(at, value(add(f, first, further)), size)

    def _offset(self, row: int, place: int) -> int:
        return row * self.line.step + place * self.line.apart

    def _by_places(
        self, base: Value, reach: Reach | None, weights: Value, accs: Sequence[Value]
    ) -> list[Value]:
        """Place by place of the line of lhs: each serves the results whose windows meet it."""
        f, run, sums = self.f, self.line.run, list(accs)
        holds = holds_weights(self.line, self.rows, self.vectors, f.isa)
        depths = range(self.line.places * run) if holds else ()
        held = [[self._weight(weights, k, v) for v in range(self.vectors)] for k in depths]
        for pairs in self._meetings():
            at = self._at(base, reach, *pairs[0])
            self._fetch(base, *pairs[0])
            seen = [self.panel.seen(at, v) for v in range(self.vectors)]
            for k in range(run):
                for v in range(self.vectors):
                    factor = self.panel.picked(seen[v], k)
                    for row, place in pairs:
                        depth, here = place * run + k, row * self.vectors + v
                        weight = held[depth][v] if holds else self._weight(weights, depth, v)
                        sums[here] = multiply_add(f, factor, weight, sums[here])
        return sums

    def _meetings(self) -> list[list[tuple[int, int]]]:
        """Place by place of the line of lhs, the rows that meet it, each with a window's place."""
        met: dict[int, list[tuple[int, int]]] = {}
        for row in range(self.rows):
            for place in range(self.line.places):
                met.setdefault(self._offset(row, place), []).append((row, place))
        return [pairs for _, pairs in sorted(met.items())]

    def _fetch(self, base: Value, row: int, place: int) -> None:
        """Ask for the same place of the line that the next line of results meets so.

        Hardware does not foresee lines of memory between those that are read now, and a tile is
        too short to wait for them: they go to the second cache.
        """
        f, lines, steps = self.f, self.lines, known(self.lines.tables.row_strides)
        if len(steps) < 2:
            return
        at = f.gep(base, steps[-2] + self._offset(row, place), lines.memory)
        for v in range(self.vectors):
            f.prefetch(f.gep(at, v * self.panel.span, lines.memory), locality=2)

    def _by_broadcasts(
        self, base: Value, reach: Reach | None, weights: Value, accs: Sequence[Value]
    ) -> list[Value]:
        """k by k: a vector is one group, whose columns all see one element of a row."""
        f, run, sums = self.f, self.line.run, tuple(accs)
        for place in range(self.line.places):
            rows = [self._at(base, reach, row, place) for row in range(self.rows)]
            if place == self.line.places // 2:
                for row in range(self.rows):
                    self._fetch(base, row, place)
            with f.loop(0, run, accs=sums, name="k", unroll=1) as k:
                depth = add(f, k.index, place * run)
                columns = [self._weight(weights, depth, v) for v in range(self.vectors)]
                factors = (
                    (self.panel.broadcast(at, v, k.index), column)
                    for at in rows
                    for v, column in enumerate(columns)
                )
                pairs = zip(factors, k.accs, strict=True)
                k.next(*[multiply_add(f, factor, column, acc) for (factor, column), acc in pairs])
            sums = k.results
        return list(sums)

    def _weight(self, weights: Value, depth: Number, v: int) -> Value:
        """A vector of weights at a k of those that begin at `weights`."""
        f, lines = self.f, self.lines
        return self.panel.column(f.gep(weights, mul(f, depth, lines.step), lines.memory), v)
