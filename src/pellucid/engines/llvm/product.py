"""How is one contraction made into a kernel? Blocks of tiles, packed panels, a fused epilogue.

    out[b, m, n] = sum over k of lhs[b, m, k] * rhs[b, k, n]

A task is a block of rows by a group of column panels; tasks of one block that a thread does one
after the other are done together. For each chunk of k it packs what does not lie well in memory
into the thread's scratch, runs the register tile over the block, and after the last chunk hands
each finished row of a tile to the epilogue while it is still in the nearest cache.
Per result the sums are those of the bit contract: one chain of multiply-adds over each chunk of at
most 512 k's, the chunks added in order. How the work is cut changes speed, never bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pellucid.engines.llvm.folded import FoldedOperand, define_folded_packing
from pellucid.engines.llvm.matrices import Matrix
from pellucid.engines.llvm.panels import (
    Operand,
    Tile,
    accumulator,
    define_packing,
    define_table_tile,
    define_tile,
    element,
    narrowed,
)
from pellucid.engines.llvm.sizes import (
    Number,
    add,
    greatest,
    least,
    mul,
    parts,
    quotient,
    remainder,
    sub,
    value,
)
from pellucid.engines.llvm.tables import Loops, fill_table, unravelled
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.tiling import (
    KEPT,
    SPAN,
    ProductSpec,
    Size,
    Strides,
    Tables,
    Tiling,
    lhs_width,
)
from pellucid.engines.llvm.types import I1, I8, I64, PTR, VOID, Value, constants


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vector of finished results stands.

    Its lanes are the columns n, n + 1, ...; where `mask` is given, only those it allows exist.
    `pointers` are the kernel's buffers in the order of the call, `sizes` its sizes.
    """

    pointers: tuple[Value, ...]
    sizes: Value
    batch: tuple[Value, ...]
    m: Value
    n: Value
    mask: Value | None


Epilogue = Callable[[Function, Value, Place], None]
"""What to do with a vector of sums: it stores the results itself.

The sums come in the accumulator's type (`panels.accumulator`), not yet rounded to the dtype.
"""

Fetch = Callable[[Function, Place], None]
"""Brings near what the epilogue will read at a place."""


def define_product(
    module: Module,
    name: str,
    spec: ProductSpec,
    tiling: Tiling,
    epilogue: Epilogue | None = None,
    fetch: Fetch | None = None,
) -> None:
    """Define the kernel `name(pointers, sizes, lo, hi, context)` of a contraction.

    Pointers are lhs, rhs, then what the epilogue reads and writes; without an epilogue the one
    result, laid out as `spec.out`, whose second stride must then be 1. What it reads `fetch`, if
    given, has fetched while the tile before it is at work. How it is launched
    `tiling.static_cut` says, or `tiling.cut` for a size-generic kernel, whose block and group go
    into its sizes.
    """
    # Tiles are laid out by hand; LLVM would gather their loads in front and spill the sums.
    module.as_written = True
    parameters = [("pointers", PTR), ("sizes", PTR), ("lo", I64), ("hi", I64), ("context", PTR)]
    f = module.function(name, VOID, parameters)
    kernel = _Kernel(f, spec, tiling, epilogue or _store(spec), fetch)
    kernel.tasks()
    f.ret()
    kernel.define_parts(module)


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of the work at hand: a block of tiles by a group of panels, over one chunk of k."""

    batch: tuple[Number, ...]
    tiles: tuple[Number, Number]
    panels: tuple[Number, Number]
    k: Number
    depth: Number


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a panel: the first, where they can be read, the step on, how many exist.

    The step leads to the next k, or to the next column where the tile turns them itself.
    """

    first: Number
    at: Value
    step: Number
    count: Number


class _Kernel:
    """The numbers that all tasks share, and the loops of a task from the outside in."""

    def __init__(
        self,
        f: Function,
        spec: ProductSpec,
        tiling: Tiling,
        epilogue: Epilogue,
        fetch: Fetch | None = None,
    ) -> None:
        self.f, self.spec, self.tiling, self.epilogue = f, spec, tiling, epilogue
        self.fetch = fetch
        pointers, self.sizes, _, _, _ = f.parameters
        self.scalar = accumulator(spec.dtype)
        self.pointers = tuple(f.load(PTR, f.gep(pointers, at, PTR)) for at in range(spec.pointers))
        self.m, self.n, self.k = map(self._number, (spec.m, spec.n, spec.k))
        self.batch = tuple(map(self._number, spec.batch))
        self.row_loops, self.depth_loops = self._loops(spec.tables)
        self.lhs = self._matrix(self.pointers[0], spec.lhs)
        self.rhs = self._matrix(self.pointers[1], spec.rhs)
        self._count()
        self._take_scratch()

    def _number(self, size: Size) -> Number:
        if isinstance(size, int):
            return size
        return self.f.load(I64, self.f.gep(self.sizes, size.index, I64), invariant=True)

    def _matrix(self, base: Value, strides: Strides) -> Matrix:
        batch = tuple(map(self._number, strides.batch))
        first, second = self._number(strides.first), self._number(strides.second)
        return Matrix(base, batch, first, second, element(self.spec.dtype))

    def _loops(self, tables: Tables | None) -> tuple[Loops, Loops]:
        if tables is None:
            return Loops((), ()), Loops((), ())
        rows = tables.rows, tables.row_strides
        depths = tables.depths, tables.depth_strides
        by_row, by_depth = (
            Loops(*(tuple(map(self._number, sizes)) for sizes in pair)) for pair in (rows, depths)
        )
        return by_row, by_depth

    def _count(self) -> None:
        f, tiling = self.f, self.tiling
        self.chunks = greatest(f, parts(f, self.k, tiling.chain), 1)
        # Chunks of equal length, a multiple of eight, but the last: `tiling.chunk_length` of a k
        # that may be known only at run time.
        even = parts(f, self.k, self.chunks)
        self.chunk = greatest(f, mul(f, parts(f, even, 8), 8), 8)
        # Rows of a panel: elements of `fold` k's, and those sums of columns that `folded` tells of.
        self.panel_depth = add(f, quotient(f, self.chunk, tiling.fold), int(tiling.offset))
        self.tiles, self.panels = parts(f, self.m, tiling.rows), parts(f, self.n, tiling.columns)
        self.block, self.group = self._number(tiling.block), self._number(tiling.group)
        # So many groups are done together.
        width, span = mul(f, self.group, tiling.columns), SPAN
        if not tiling.pack_lhs:
            span = least(f, SPAN, quotient(f, KEPT, mul(f, self.block, tiling.rows)))
        self.span = greatest(f, quotient(f, span, width), 1)
        # Even tiles: the first ones have one row of their own more than the others.
        short = sub(f, mul(f, self.tiles, tiling.rows), self.m) if tiling.even else 0
        self.tall = sub(f, self.tiles, short)

    def _take_scratch(self) -> None:
        # One panel of rhs, a block of panels of lhs, and the running totals of all tiles.
        f, tiling = self.f, self.tiling
        together = mul(f, self.span, self.group)
        kept = 1 if self.chunks == 1 else mul(f, self.block, least(f, together, self.panels))
        counts = (
            mul(f, self.panel_depth, tiling.columns),
            mul(f, mul(f, self.block, self.panel_depth), lhs_width(self.tiling))
            if tiling.pack_lhs
            else 0,
            mul(f, kept, tiling.rows * tiling.columns),
            mul(f, self.block, tiling.rows * 64 // self.scalar.bits) if tiling.tables else 0,
            mul(f, self.chunk, 64 // self.scalar.bits) if tiling.tables else 0,
        )
        offsets: list[Number] = [0]
        for count in counts:
            # Each begins on a cache line.
            lines = parts(f, mul(f, count, self.scalar.bytes), 64)
            offsets.append(add(f, offsets[-1], mul(f, lines, 64)))
        base = take_scratch(f, f.parameters[4], value(offsets[-1]))
        self.rhs_panel, self.lhs_panels, self.totals, self.row_table, self.depth_table = (
            f.gep(base, offset, I8) for offset in offsets[:-1]
        )

    # The loops.

    def tasks(self) -> None:
        """The tasks lo to hi. Those of one block are done together: its rows are packed once."""
        f = self.f
        _, _, lo, hi, _ = f.parameters
        # At least one of each, also where there is no task: they are divided by.
        groups = greatest(f, parts(f, self.panels, self.group), 1)
        blocks = greatest(f, parts(f, self.tiles, self.block), 1)
        first, end = quotient(f, lo, groups), parts(f, hi, groups)
        with f.loop(value(first), value(end), name="block", unroll=1) as block:
            begun = mul(f, block.index, groups)
            start = greatest(f, sub(f, lo, begun), 0)
            stop = least(f, sub(f, hi, begun), groups)
            batch = unravelled(f, quotient(f, block.index, blocks), self.batch)
            first_tile = mul(f, remainder(f, block.index, blocks), self.block)
            tiles = first_tile, least(f, add(f, first_tile, self.block), self.tiles)
            self._fill_rows(tiles)
            with f.loop(value(start), value(stop), self.span, name="span", unroll=1) as span:
                last = least(f, add(f, span.index, self.span), stop)
                panels = mul(f, span.index, self.group), mul(f, last, self.group)
                self._part(batch, tiles, (panels[0], least(f, panels[1], self.panels)))

    def _fill_rows(self, tiles: tuple[Number, Number]) -> None:
        f = self.f
        if self.tiling.tables:
            count = mul(f, sub(f, tiles[1], tiles[0]), self.tiling.rows)
            first_row, last = mul(f, tiles[0], self.tiling.rows), sub(f, self.m, 1)
            fill_table(f, self.row_table, self.row_loops, first_row, count, last)

    def _part(
        self,
        batch: tuple[Number, ...],
        tiles: tuple[Number, Number],
        panels: tuple[Number, Number],
    ) -> None:
        """A block of tiles by a few groups of panels, over all of k."""
        f = self.f
        if self.chunks == 1:
            self._chunk(_Part(batch, tiles, panels, 0, self.k))
            return
        with f.loop(0, greatest(f, self.k, 1), self.chunk, name="chunk", unroll=1) as chunk:
            depth = least(f, self.chunk, sub(f, self.k, chunk.index))
            self._chunk(_Part(batch, tiles, panels, chunk.index, depth))

    def _chunk(self, part: _Part) -> None:
        f = self.f
        if self.tiling.pack_lhs:
            self._pack_block(part)
        if self.tiling.tables:
            last = sub(f, self.k, 1)
            fill_table(f, self.depth_table, self.depth_loops, part.k, part.depth, last)
        with f.loop(*part.panels, name="panel", unroll=1) as panel:
            columns = self._columns(part, mul(f, panel.index, self.tiling.columns))
            with f.loop(*part.tiles, name="tile", unroll=1) as tile:
                self._tile(part, tile.index, panel.index, columns)

    def _tile(self, part: _Part, tile: Value, panel: Value, columns: _Columns) -> None:
        totals = self._totals(part, tile, panel)
        if self.chunks == 1:
            self._fetch(part, tile, panel)
            self._multiply(part, tile, columns, totals)
            self._finish(part, tile, panel, totals)
            return
        f = self.f
        last = f.icmp("eq", value(add(f, part.k, part.depth)), value(self.k))
        if self.fetch is not None:
            with f.when(last, name="ahead"):
                self._fetch(part, tile, panel)
        self._multiply(part, tile, columns, totals)
        with f.when(last, name="last"):
            self._finish(part, tile, panel, totals)

    def _totals(self, part: _Part, tile: Value, panel: Value) -> Value:
        if self.chunks == 1:
            return self.totals
        f = self.f
        row = mul(f, sub(f, panel, part.panels[0]), self.block)
        at = add(f, row, sub(f, tile, part.tiles[0]))
        return f.gep(self.totals, mul(f, at, self.tiling.rows * self.tiling.columns), self.scalar)

    # Rows: where a tile begins, and which of its rows are its own.

    def _first_row(self, tile: Value) -> Number:
        # A tile that is one row short begins a row earlier: one height of tile is code enough.
        f = self.f
        return sub(f, mul(f, tile, self.tiling.rows), self._shared(tile))

    def _own_rows(self, tile: Value) -> tuple[Number, Number]:
        """The first of a tile's rows that no tile before it has, and the end of those there are."""
        f, rows = self.f, self.tiling.rows
        if not self.tiling.even:
            return 0, least(f, sub(f, self.m, mul(f, tile, rows)), rows)
        return least(f, self._shared(tile), 1), rows

    def _shared(self, tile: Value) -> Number:
        """How many rows the tiles up to this one share with the tile before them."""
        f = self.f
        if not self.tiling.even or self.tall == self.tiles:
            return 0
        return greatest(f, add(f, sub(f, tile, self.tall), 1), 0)

    # Packing.

    def _pack_block(self, part: _Part) -> None:
        # Rows that are neighbours in memory share cache lines from panel to panel: a few k's of all
        # panels after each other, or lines a power of two apart would drive each other out.
        f = self.f
        step = 8 if self.lhs.first == 1 else greatest(f, part.depth, 1)
        with f.loop(0, part.depth, step, name="slice", unroll=1) as start:
            depth = least(f, sub(f, part.depth, start.index), step)
            with f.loop(*part.tiles, name="packed", unroll=1) as tile:
                self._pack_lhs(part, tile.index, start.index, depth)

    def _pack_lhs(self, part: _Part, tile: Value, start: Value, depth: Number) -> None:
        # The panel may hold some of the next tile's rows too: whole vectors are copied.
        f, row = self.f, self._first_row(tile)
        source = self.lhs.at(f, part.batch, row, add(f, part.k, start))
        panel = self._lhs_panel(part, tile)
        element = quotient(f, start, self.tiling.fold)
        place = f.gep(panel, mul(f, element, lhs_width(self.tiling)), self.scalar)
        self._call_packing("lhs", source, place, depth, sub(f, self.m, row))

    def _lhs_panel(self, part: _Part, tile: Value) -> Value:
        f = self.f
        panel = mul(
            f, sub(f, tile, part.tiles[0]), mul(f, self.panel_depth, lhs_width(self.tiling))
        )
        return f.gep(self.lhs_panels, panel, self.scalar)

    def _columns(self, part: _Part, n: Number) -> _Columns:
        """The columns from n on, packed if need be."""
        f, columns = self.f, self.tiling.columns
        source = self.rhs.at(f, part.batch, part.k, n)
        count = sub(f, self.n, n)
        if self.tiling.turned:
            return _Columns(n, source, self.rhs.second, count)
        if self.tiling.pack_rhs:
            self._call_packing("rhs", source, self.rhs_panel, part.depth, count)
            return _Columns(n, self.rhs_panel, columns, count)
        if self.tiling.beside or _divides(columns, self.spec.n):
            return _Columns(n, source, self.rhs.first, count)
        whole = f.icmp("sge", value(count), columns)
        with f.when(f.not_(whole), name="edge"):
            self._call_packing("rhs", source, self.rhs_panel, part.depth, count)
        step = f.select(whole, value(self.rhs.first), columns)
        return _Columns(n, f.select(whole, source, self.rhs_panel), step, count)

    def _call_packing(
        self, which: str, source: Value, panel: Value, depth: Number, count: Number
    ) -> None:
        strides = (self.lhs.first, self.lhs.second)
        if which == "rhs":
            strides = (self.rhs.second, self.rhs.first)
        numbers = [value(number) for number in (depth, count, *strides)]
        self.f.call(f"{self.f.name}.pack_{which}", VOID, (source, panel, *numbers))

    # Multiplying.

    def _multiply_tables(self, part: _Part, tile: Value, columns: _Columns, totals: Value) -> None:
        f = self.f
        lhs = self.lhs.at(f, part.batch, 0, columns.first if self.tiling.beside else 0)
        first = f.icmp("eq", value(part.k), 0)
        at = mul(f, sub(f, tile, part.tiles[0]), self.tiling.rows)
        rows = f.gep(self.row_table, at, I64)
        steps = value(columns.step), value(columns.count)
        numbers = (value(part.depth), first, rows, self.depth_table, *steps)
        f.call(self._tile_name, VOID, (lhs, columns.at, totals, *numbers))

    def _multiply(self, part: _Part, tile: Value, columns: _Columns, totals: Value) -> None:
        if self.tiling.tables:
            self._multiply_tables(part, tile, columns, totals)
            return
        f = self.f
        if self.tiling.pack_lhs:
            lhs, row, along = self._lhs_panel(part, tile), 1, lhs_width(self.tiling)
        else:
            lhs = self.lhs.at(f, part.batch, self._first_row(tile), part.k)
            row, along = self.lhs.first, self.lhs.second
        first = f.icmp("eq", value(part.k), 0)
        count = columns.count if self.tiling.turned else self._own_rows(tile)[1]
        numbers = [value(number) for number in (count, row, along, columns.step)]
        depth = value(parts(f, part.depth, self.tiling.fold))
        operands = (lhs, columns.at, totals, depth, first, *numbers)
        f.call(self._tile_name, VOID, operands)

    @property
    def _tile_name(self) -> str:
        return f"{self.f.name}.tile{self.tiling.rows}x{self.tiling.columns}"

    # The end of a tile.

    def _fetch(self, part: _Part, tile: Value, panel: Value) -> None:
        """Ask for what the epilogue will read, so that it comes while the sums are made."""
        if self.fetch is None:
            return
        f, tiling = self.f, self.tiling
        batch, n = tuple(map(value, part.batch)), mul(f, panel, tiling.columns)
        first_row = self._first_row(tile)
        first, end = self._own_rows(tile)
        with f.loop(value(first), value(end), name="fetched", unroll=1) as row:
            m = value(add(f, first_row, row.index))
            for column in range(0, tiling.columns, tiling.lanes):
                place = value(add(f, n, column))
                self.fetch(f, Place(self.pointers, self.sizes, batch, m, place, None))

    def _finish(self, part: _Part, tile: Value, panel: Value, totals: Value) -> None:
        """Hand every vector of a finished tile to the epilogue, row by row."""
        f, columns = self.f, self.tiling.columns
        n, first_row = mul(f, panel, columns), self._first_row(tile)
        first, end = self._own_rows(tile)
        with f.loop(value(first), value(end), name="row", unroll=1) as row:
            sums = f.gep(totals, mul(f, row.index, columns), self.scalar)
            self._row(part, value(add(f, first_row, row.index)), n, sums)

    def _row(self, part: _Part, m: Value, n: Number, sums: Value) -> None:
        f, columns = self.f, self.tiling.columns
        if isinstance(self.n, int) and (self.n % columns == 0 or self.n < columns):
            self._vectors(part, m, n, sums, min(self.n, columns))
            return
        count = sub(f, self.n, n)
        f.if_else(
            f.icmp("sge", value(count), columns),
            lambda: self._vectors(part, m, n, sums, columns),
            lambda: self._edge(part, m, n, sums, count),
        )

    def _vectors(
        self, part: _Part, m: Value, n: Number, sums: Value, columns: int
    ) -> tuple[Value, ...]:
        """Emit the first `columns` of a row: whole vectors, and what is left under a mask."""
        lanes = self.tiling.lanes
        for column in range(0, columns, lanes):
            left = columns - column
            idle = constants(I1, tuple(int(lane < left) for lane in range(lanes)))
            mask = idle if left < lanes else None
            self._emit(part, m, add(self.f, n, column), sums, column, mask)
        return ()

    def _edge(
        self, part: _Part, m: Value, n: Number, sums: Value, count: Number
    ) -> tuple[Value, ...]:
        """The same for the last columns, which do not fill a panel."""
        f, lanes = self.f, self.tiling.lanes
        if isinstance(self.n, int):
            return self._vectors(part, m, n, sums, self.n % self.tiling.columns)
        with f.loop(0, count, lanes, name="column", unroll=1) as column:
            mask = f.mask(value(sub(f, count, column.index)), lanes)
            self._emit(part, m, add(f, n, column.index), sums, column.index, mask)
        return ()

    def _emit(
        self, part: _Part, m: Value, n: Number, sums: Value, column: Number, mask: Value | None
    ) -> None:
        f = self.f
        total = f.load(self.scalar.with_lanes(self.tiling.lanes), f.gep(sums, column, self.scalar))
        batch = tuple(map(value, part.batch))
        self.epilogue(f, total, Place(self.pointers, self.sizes, batch, m, value(n), mask))

    # The functions that the loops call.

    def define_parts(self, module: Module) -> None:
        """Define the packing and the tiles."""
        spec, tiling = self.spec, self.tiling
        if tiling.pack_lhs:
            strides = _static(spec.lhs.first), _static(spec.lhs.second)
            self._define_packing(module, "lhs", *strides, False, lhs_width(self.tiling))
        whole = _divides(tiling.columns, spec.n)
        if tiling.pack_rhs or not (whole or tiling.turned or tiling.beside):
            strides = _static(spec.rhs.second), _static(spec.rhs.first)
            self._define_packing(module, "rhs", *strides, whole, tiling.columns)
        if tiling.tables:
            shape = tiling.rows, tiling.vectors, tiling.lanes
            tile = Tile(self.scalar, *shape, None, None, fold=tiling.fold)
            define_table_tile(module, self._tile_name, tile, spec.dtype, tiling.beside, whole)
            return
        row, along = (
            (1, lhs_width(self.tiling))
            if tiling.pack_lhs
            else (_static(spec.lhs.first), _static(spec.lhs.second))
        )
        shape = tiling.rows, tiling.vectors, tiling.lanes
        tile = Tile(self.scalar, *shape, row, along, not tiling.even, tiling.turned)
        tile = replace(tile, fold=tiling.fold, offset=tiling.offset, ahead=tiling.ahead)
        define_tile(module, self._tile_name, tile)

    def _define_packing(
        self,
        module: Module,
        which: str,
        across: int | None,
        along: int | None,
        whole: bool,
        width: int,
    ) -> None:
        spec, tiling, name = self.spec, self.tiling, f"{self.f.name}.pack_{which}"
        if tiling.fold == 1:
            operand = Operand(spec.dtype, across, along, whole, _divides(4, spec.k))
            define_packing(module, name, operand, width)
            return
        raised, summed = (tiling.offset and which == side for side in ("lhs", "rhs"))
        folded = FoldedOperand(spec.dtype, across, along, tiling.fold, raised, summed)
        define_folded_packing(module, name, folded, width)


def _static(size: Size) -> int | None:
    return size if isinstance(size, int) else None


def _divides(part: int, size: Size) -> bool:
    return isinstance(size, int) and size % part == 0


def _store(spec: ProductSpec) -> Epilogue:
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


def take_scratch(f: Function, context: Value, bytes: Value) -> Value:
    """Memory of the running thread, aligned to a cache line, through the call's context."""
    return f.call_pointer(f.load(PTR, context), PTR, (context, bytes))
