"""Where do finished sums go? From a tile's totals to the epilogue, vector by vector.

A tile's sums are handed over row by row while they are in the nearest cache; what does not fill a
vector goes under a mask. An epilogue stores the results itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pellucid.engines.llvm.matrices import Matrix
from pellucid.engines.llvm.panels import element, narrowed
from pellucid.engines.llvm.product_plan import Part, Plan
from pellucid.engines.llvm.sizes import Number, add, least, mul, sub, value
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.tiling import ProductSpec, Size
from pellucid.engines.llvm.types import I1, I64, Value, constants


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vector of finished results stands.

    Its lanes are the columns n, n + 1, ...; where `mask` is given, only those it allows exist.
    `pointers` are the kernel's buffers in the order of the call, `sizes` its sizes. Where m is
    several loops that are counted each, they stand at `rows`.
    """

    pointers: tuple[Value, ...]
    sizes: Value
    batch: tuple[Value, ...]
    m: Value
    n: Value
    mask: Value | None
    rows: tuple[Value, ...] = ()


Epilogue = Callable[[Function, Value, Place], None]
"""What to do with a vector of sums: it stores the results itself.

The sums come in the accumulator's type (`panels.accumulator`), not yet rounded to the dtype.
"""


Fetch = Callable[[Function, Place], None]
"""Asks memory for what the epilogue will read, or write, at a place."""


@dataclass(frozen=True, slots=True)
class Results:
    """Hands the sums of finished tiles to the epilogue."""

    f: Function
    plan: Plan
    epilogue: Epilogue
    fetch: Fetch | None = None

    def ask(self, part: Part, tile: Value, panel: Value) -> None:
        """Ask for what the epilogue will read, so that it comes while the sums are made."""
        if self.fetch is None or self.plan.tiling.streamed:
            return
        f, plan = self.f, self.plan
        batch, n = tuple(map(value, part.batch)), mul(f, panel, plan.tiling.columns)
        first_row = plan.first_row(tile)
        first, end = plan.own_rows(tile)
        with f.loop(value(first), value(end), name="asked", unroll=1) as row:
            m = value(add(f, first_row, row.index))
            for column in range(0, plan.tiling.columns, plan.tiling.lanes):
                at = value(add(f, n, column))
                self.fetch(f, Place(plan.pointers, plan.sizes, batch, m, at, None))

    def finish(self, part: Part, tile: Value, panel: Value, totals: Value) -> None:
        """Hand every vector of a finished tile to the epilogue, row by row."""
        f, plan, columns = self.f, self.plan, self.plan.tiling.columns
        n, first_row = mul(f, panel, columns), plan.first_row(tile)
        first, end = plan.own_rows(tile)
        with f.loop(value(first), value(end), name="row", unroll=1) as row:
            sums = f.gep(totals, mul(f, row.index, columns), plan.scalar)
            self._row(part, value(add(f, first_row, row.index)), n, sums)

    def _row(self, part: Part, m: Value, n: Number, sums: Value) -> None:
        f, columns, all = self.f, self.plan.tiling.columns, self.plan.n
        if self.plan.tiling.streamed:
            self._stream(part, m, n, sums, least(f, sub(f, all, n), columns))
            return
        if isinstance(all, int) and (all % columns == 0 or all < columns):
            self._vectors(part, m, n, sums, min(all, columns))
            return
        count = sub(f, all, n)
        f.if_else(
            f.icmp("sge", value(count), columns),
            lambda: self._vectors(part, m, n, sums, columns),
            lambda: self._edge(part, m, n, sums, count),
        )

    def _stream(self, part: Part, m: Value, n: Number, sums: Value, count: Number) -> None:
        """Emit a row that is too long to be written out: whole vectors, then what is left."""
        f, lanes = self.f, self.plan.tiling.lanes
        whole = f.and_(value(count), -lanes)
        with f.loop(0, whole, lanes, name="column", unroll=1) as column:
            self._emit(part, m, add(f, n, column.index), sums, column.index, None)
        with f.when(f.icmp("slt", whole, value(count)), name="edge"):
            mask = f.mask(f.sub(value(count), whole), lanes)
            self._emit(part, m, add(f, n, whole), sums, whole, mask)

    def _vectors(
        self, part: Part, m: Value, n: Number, sums: Value, columns: int
    ) -> tuple[Value, ...]:
        """Emit the first `columns` of a row: whole vectors, and what is left under a mask."""
        lanes = self.plan.tiling.lanes
        for column in range(0, columns, lanes):
            left = columns - column
            idle = constants(I1, tuple(int(lane < left) for lane in range(lanes)))
            mask = idle if left < lanes else None
            self._emit(part, m, add(self.f, n, column), sums, column, mask)
        return ()

    def _edge(
        self, part: Part, m: Value, n: Number, sums: Value, count: Number
    ) -> tuple[Value, ...]:
        """The same for the last columns, which do not fill a panel."""
        f, tiling, all = self.f, self.plan.tiling, self.plan.n
        if isinstance(all, int):
            return self._vectors(part, m, n, sums, all % tiling.columns)
        with f.loop(0, count, tiling.lanes, name="column", unroll=1) as column:
            mask = f.mask(value(sub(f, count, column.index)), tiling.lanes)
            self._emit(part, m, add(f, n, column.index), sums, column.index, mask)
        return ()

    def _emit(
        self, part: Part, m: Value, n: Number, sums: Value, column: Number, mask: Value | None
    ) -> None:
        f, plan = self.f, self.plan
        vector = plan.scalar.with_lanes(plan.tiling.lanes)
        total = f.load(vector, f.gep(sums, column, plan.scalar))
        batch = tuple(map(value, part.batch))
        self.epilogue(f, total, Place(plan.pointers, plan.sizes, batch, m, value(n), mask))


def storing(spec: ProductSpec) -> Epilogue:
    """The epilogue that rounds to the dtype and stores in the third buffer."""
    assert spec.out.second == 1 or spec.n == 1, "results must be contiguous along n"

    def store(f: Function, sums: Value, place: Place) -> None:
        def number(size: Size) -> Number:
            at = 0 if isinstance(size, int) else size.index
            return size if isinstance(size, int) else f.load(I64, f.gep(place.sizes, at, I64))

        batch, first = tuple(map(number, spec.out.batch)), number(spec.out.first)
        out = Matrix(place.pointers[2], batch, first, 1, element(spec.dtype))
        at = out.at(f, place.batch, place.m, place.n)
        result = narrowed(f, sums, spec.dtype)
        if place.mask is None:
            f.store(result, at)
        else:
            f.masked_store(result, at, place.mask)

    return store
