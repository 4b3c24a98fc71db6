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

from dataclasses import replace

from pellucid.core.dtype import uint8
from pellucid.engines.llvm.amx import AmxTile, begin_tiles, define_amx_tile, end_tiles
from pellucid.engines.llvm.one_row import define_streamed_tile, define_turned_tile
from pellucid.engines.llvm.panels import Tile, define_tile
from pellucid.engines.llvm.product_operands import Columns, Operands, divides, static
from pellucid.engines.llvm.product_plan import Part, Plan
from pellucid.engines.llvm.product_results import Epilogue, Fetch, Results, storing
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
from pellucid.engines.llvm.table_tile import Found, define_edge_tile, define_table_tile
from pellucid.engines.llvm.tables import fill_existing, fill_table, unravelled
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.tile_choice import fetched_rows, fetches_panels
from pellucid.engines.llvm.tiling import (
    ProductSpec,
    Tiling,
    lhs_width,
    run_of,
)
from pellucid.engines.llvm.types import I64, PTR, VOID, Value

KERNEL = (("pointers", PTR), ("sizes", PTR), ("lo", I64), ("hi", I64), ("context", PTR))
"""The parameters of a product's kernel."""


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
    result, laid out as `spec.out`, whose second stride must then be 1. What it reads is asked for
    by `fetch`, if given, before the tile that it follows is at work. How it is launched
    `tiling.static_cut` says, or `tiling.cut` for a size-generic kernel, whose block and group go
    into its sizes.
    """
    # Tiles are laid out by hand; LLVM would gather their loads in front and spill the sums.
    module.as_written = True
    f = module.function(name, VOID, KERNEL)
    kernel = _Kernel(f, spec, tiling, epilogue or storing(spec), fetch)
    if tiling.amx:
        begin_tiles(f, _amx_tile(spec, tiling))
    kernel.tasks()
    if tiling.amx:
        end_tiles(f)
    f.ret()
    kernel.define_parts(module)


class _Kernel:
    """The loops of a task, from the outside in."""

    def __init__(
        self,
        f: Function,
        spec: ProductSpec,
        tiling: Tiling,
        epilogue: Epilogue,
        fetch: Fetch | None,
    ) -> None:
        self.f, self.tiling = f, tiling
        self.plan = Plan(f, spec, tiling)
        self.operands = Operands(f, self.plan)
        self.results = Results(f, self.plan, epilogue, fetch)

    # The loops.

    def tasks(self) -> None:
        """The tasks lo to hi. Those of one block are done together: its rows are packed once."""
        f, plan = self.f, self.plan
        _, _, lo, hi, _ = f.parameters
        # At least one of each, also where there is no task: they are divided by.
        groups = greatest(f, parts(f, plan.panels, plan.group), 1)
        blocks = greatest(f, parts(f, plan.tiles, plan.block), 1)
        first, end = quotient(f, lo, groups), parts(f, hi, groups)
        self.operands.clear_zeros()
        with f.loop(value(first), value(end), name="block", unroll=1) as block:
            begun = mul(f, block.index, groups)
            start = greatest(f, sub(f, lo, begun), 0)
            stop = least(f, sub(f, hi, begun), groups)
            batch = unravelled(f, quotient(f, block.index, blocks), plan.batch)
            first_tile = mul(f, remainder(f, block.index, blocks), plan.block)
            tiles = first_tile, least(f, add(f, first_tile, plan.block), plan.tiles)
            self._fill_rows(tiles)
            with f.loop(value(start), value(stop), plan.span, name="span", unroll=1) as span:
                last = least(f, add(f, span.index, plan.span), stop)
                panels = mul(f, span.index, plan.group), mul(f, last, plan.group)
                self._part(batch, tiles, (panels[0], least(f, panels[1], plan.panels)))

    def _fill_rows(self, tiles: tuple[Number, Number]) -> None:
        f, plan = self.f, self.plan
        if self.tiling.tables:
            # A tile fetches the rows of the next one: there is one more than there are tiles.
            count = mul(f, add(f, sub(f, tiles[1], tiles[0]), 1), self.tiling.rows)
            first_row, last = mul(f, tiles[0], self.tiling.rows), sub(f, plan.m, 1)
            tables = plan.spec.tables
            assert tables is not None, "a tiling with tables is that of a product with tables"
            start = tables.offset
            fill_table(f, plan.row_table, plan.row_loops, first_row, count, last, start)
            if plan.bounded:
                run = run_of(plan.spec)
                fill_existing(f, plan.existing, tables, run, first_row, count, last)

    def _part(
        self,
        batch: tuple[Number, ...],
        tiles: tuple[Number, Number],
        panels: tuple[Number, Number],
    ) -> None:
        """A block of tiles by a few groups of panels, over all of k."""
        f, plan = self.f, self.plan
        if plan.chunks == 1:
            self._chunk(Part(batch, tiles, panels, 0, plan.k))
            return
        if self.tiling.turned:
            # Columns that lie along k are read from end to end.
            with f.loop(*panels, name="column", unroll=1) as panel:
                self._chunks(batch, tiles, (panel.index, add(f, panel.index, 1)))
            return
        self._chunks(batch, tiles, panels)

    def _chunks(
        self,
        batch: tuple[Number, ...],
        tiles: tuple[Number, Number],
        panels: tuple[Number, Number],
    ) -> None:
        """The same, one chunk of k after the other."""
        f, plan = self.f, self.plan
        with f.loop(0, greatest(f, plan.k, 1), plan.chunk, name="chunk", unroll=1) as chunk:
            depth = least(f, plan.chunk, sub(f, plan.k, chunk.index))
            self._chunk(Part(batch, tiles, panels, chunk.index, depth))

    def _chunk(self, part: Part) -> None:
        f, plan = self.f, self.plan
        if self.tiling.pack_lhs:
            self.operands.pack_block(part)
        if self.tiling.tables:
            last = sub(f, plan.k, 1)
            fill_table(f, plan.depth_table, plan.depth_loops, part.k, part.depth, last)
        with f.loop(*part.panels, name="panel", unroll=1) as panel:
            columns = self.operands.columns(part, panel.index)
            with f.loop(*part.tiles, name="tile", unroll=1) as tile:
                self._tile(part, tile.index, panel.index, columns)

    def _tile(self, part: Part, tile: Value, panel: Value, columns: Columns) -> None:
        f, totals = self.f, self._totals(part, tile, panel)
        if self.plan.chunks == 1:
            self.results.ask(part, tile, panel)
            self._multiply(part, tile, panel, columns, totals)
            self.results.finish(part, tile, panel, totals)
            return
        last = f.icmp("eq", value(add(f, part.k, part.depth)), value(self.plan.k))
        if self.results.fetch is not None:
            with f.when(last, name="ahead"):
                self.results.ask(part, tile, panel)
        self._multiply(part, tile, panel, columns, totals)
        with f.when(last, name="last"):
            self.results.finish(part, tile, panel, totals)

    def _totals(self, part: Part, tile: Value, panel: Value) -> Value:
        if self.plan.chunks == 1:
            return self.plan.totals
        f, plan = self.f, self.plan
        row = mul(f, sub(f, panel, part.panels[0]), plan.block)
        at = add(f, row, sub(f, tile, part.tiles[0]))
        return f.gep(plan.totals, mul(f, at, self.tiling.rows * self.tiling.columns), plan.scalar)

    # Multiplying.

    def _multiply_tables(
        self, part: Part, tile: Value, panel: Value, columns: Columns, totals: Value
    ) -> None:
        f, plan = self.f, self.plan
        lhs = plan.lhs.at(f, part.batch, 0, columns.first if self.tiling.beside else 0)
        first = f.icmp("eq", value(part.k), 0)
        at = mul(f, sub(f, tile, part.tiles[0]), self.tiling.rows)
        rows = f.gep(plan.row_table, at, I64)
        steps = value(columns.step), value(columns.count)
        later, apart = columns.at, columns.step
        if fetches_panels(plan.spec):
            later, apart = self.operands.next_panel(part, panel, tile), plan.rhs.first
        numbers = (value(part.depth), first, rows, plan.depth_table, *steps)
        operands = (lhs, columns.at, totals, *numbers, later, value(apart))
        if not plan.bounded:
            f.call(self._tile_name, VOID, operands)
            return
        existing = f.gep(plan.existing, at, I64)
        edge = (*operands, existing, plan.zeros, value(part.k))

        def call(name: str, operands: tuple[Value, ...]) -> tuple[Value, ...]:
            f.call(name, VOID, operands)
            return ()

        f.if_else(
            self.operands.all_exist(existing),
            lambda: call(self._tile_name, operands),
            lambda: call(f"{self._tile_name}.edge", edge),
            name="inside",
        )

    def _multiply(
        self, part: Part, tile: Value, panel: Value, columns: Columns, totals: Value
    ) -> None:
        if self.tiling.tables:
            self._multiply_tables(part, tile, panel, columns, totals)
            return
        f, plan = self.f, self.plan
        if self.tiling.pack_lhs:
            lhs, (row, along) = self.operands.lhs_panel(part, tile), self._packed_steps()
        else:
            lhs = plan.lhs.at(f, part.batch, plan.first_row(tile), part.k)
            row, along = plan.lhs.first, plan.lhs.second
        first = f.icmp("eq", value(part.k), 0)
        one_row = self.tiling.turned or self.tiling.streamed
        count = columns.count if one_row else plan.own_rows(tile)[1]
        numbers = [value(number) for number in (count, row, along, columns.step)]
        depth = value(parts(f, part.depth, self.tiling.fold))
        if self.tiling.fetched:
            later, apart = self.operands.next_packed(part, panel, tile)
            numbers += [later, value(apart)]
        operands = (lhs, columns.at, totals, depth, first, *numbers)
        f.call(self._tile_name, VOID, operands)

    def _packed_steps(self) -> tuple[Number, Number]:
        """The steps of a panel of lhs along its rows and k's: of bytes, in AMX's tiles."""
        if self.tiling.amx:
            return mul(self.f, self.plan.panel_depth, 4), 1
        return 1, lhs_width(self.tiling)

    @property
    def _tile_name(self) -> str:
        return f"{self.f.name}.tile{self.tiling.rows}x{self.tiling.columns}"

    # The functions that the loops call.

    def define_parts(self, module: Module) -> None:
        """Define the packing and the tiles."""
        spec, tiling = self.plan.spec, self.tiling
        self.operands.define(module)
        shape = tiling.rows, tiling.vectors, tiling.lanes
        if tiling.amx:
            define_amx_tile(module, self._tile_name, _amx_tile(spec, tiling))
            return
        if tiling.tables:
            whole = divides(tiling.columns, spec.n)
            tile = Tile(self.plan.scalar, *shape, None, None, fold=tiling.fold)
            rows, panels = fetched_rows(spec, tiling), fetches_panels(spec)
            found = Found(spec.dtype, tiling.beside, whole, rows, panels)
            define_table_tile(module, self._tile_name, tile, found)
            if self.plan.bounded:
                run = run_of(spec)
                define_edge_tile(module, f"{self._tile_name}.edge", tile, found, run)
            return
        row, along = (
            (1, lhs_width(tiling))
            if tiling.pack_lhs
            else (static(spec.lhs.first), static(spec.lhs.second))
        )
        tile = Tile(self.plan.scalar, *shape, row, along, not tiling.even)
        tile = replace(tile, fold=tiling.fold, offset=tiling.offset, ahead=tiling.ahead)
        tile = replace(tile, fetches=tiling.fetched)
        if tiling.streamed:
            define_streamed_tile(module, self._tile_name, tile)
            return
        if tiling.turned:
            whole = divides(tiling.columns, spec.n)
            define_turned_tile(module, self._tile_name, tile, static(spec.rhs.second), whole)
            return
        raises = self.operands.sums_rows
        tile = replace(tile, raises=raises, unsigned=(spec.dtype is uint8) != raises)
        define_tile(module, self._tile_name, tile)


def _amx_tile(spec: ProductSpec, tiling: Tiling) -> AmxTile:
    """The square of AMX's tiles that a product is made of."""
    return AmxTile(tiling.rows, tiling.vectors, spec.dtype is uint8)
