"""How does a tile find its operands? Packed into panels of scratch memory, or where they lie.

What does not lie well in memory is copied for each chunk of k: a block of lhs once for all panels
of columns, a panel of rhs once for all tiles of the block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

from pellucid.core.dtype import int32
from pellucid.engines.llvm.amx import TILE_ROWS, define_amx_packing
from pellucid.engines.llvm.folded import FoldedOperand, define_folded_packing
from pellucid.engines.llvm.panels import Operand, define_packing
from pellucid.engines.llvm.product_plan import Part, Plan
from pellucid.engines.llvm.sizes import (
    Number,
    add,
    greatest,
    least,
    mul,
    quotient,
    remainder,
    sub,
    value,
)
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.tiling import LINE, Size, lhs_width, zeros_of
from pellucid.engines.llvm.types import I64, VOID, Value, constant


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a panel: the first, where they can be read, the step on, how many exist.

    The step leads to the next k, or to the next column where the tile turns them itself.
    """

    first: Number
    at: Value
    step: Number
    count: Number


@dataclass(frozen=True, slots=True)
class Operands:
    """Packs operands, and says where a tile reads them."""

    f: Function
    plan: Plan

    @property
    def sums_rows(self) -> bool:
        """Whether lhs is packed with the sums of its rows."""
        return self.plan.tiling.offset and self.plan.spec.folded

    def pack_block(self, part: Part) -> None:
        """Pack the rows of a block's tiles."""
        # Rows that are neighbours in memory share cache lines from panel to panel: a few k's of all
        # panels after each other, or lines a power of two apart would drive each other out.
        f = self.f
        # Sums of rows take all of k at once.
        whole = self.plan.lhs.first != 1 or self.sums_rows
        step = greatest(f, part.depth, 1) if whole else 8
        with f.loop(0, part.depth, step, name="slice", unroll=1) as start:
            depth = least(f, sub(f, part.depth, start.index), step)
            with f.loop(*part.tiles, name="packed", unroll=1) as tile:
                self._pack_lhs(part, tile.index, start.index, depth)

    def _pack_lhs(self, part: Part, tile: Value, start: Value, depth: Number) -> None:
        # The panel may hold some of the next tile's rows too: whole vectors are copied.
        f, plan = self.f, self.plan
        row, tiling = plan.first_row(tile), plan.tiling
        source = plan.lhs.at(f, part.batch, row, add(f, part.k, start))
        panel = self.lhs_panel(part, tile)
        element = quotient(f, start, tiling.fold)
        place = f.gep(panel, mul(f, element, lhs_width(tiling)), plan.scalar)
        self._call_packing("lhs", source, place, depth, sub(f, plan.m, row))

    def lhs_panel(self, part: Part, tile: Value) -> Value:
        """Where a tile's rows are packed."""
        f, plan = self.f, self.plan
        at = sub(f, tile, part.tiles[0])
        panel = mul(f, at, mul(f, plan.panel_depth, lhs_width(plan.tiling)))
        return f.gep(plan.lhs_panels, panel, plan.scalar)

    def columns(self, part: Part, panel: Value) -> Columns:
        """The columns of a panel, packed if need be."""
        f, plan, columns = self.f, self.plan, self.plan.tiling.columns
        n = mul(f, panel, columns)
        first = quotient(f, part.k, plan.tiling.fold) if plan.spec.folded else part.k
        source = plan.rhs.at(f, part.batch, first, n)
        count = sub(f, plan.n, n)
        if plan.tiling.turned:
            return Columns(n, source, plan.rhs.second, count)
        if plan.tiling.pack_rhs:
            return Columns(n, self._packed(part, panel, source, count), columns, count)
        if plan.tiling.beside or plan.tiling.streamed or divides(columns, plan.spec.n):
            return Columns(n, source, plan.rhs.first, count)
        whole = f.icmp("sge", value(count), columns)
        with f.when(f.not_(whole), name="edge"):
            self._call_packing("rhs", source, plan.rhs_panel, part.depth, count)
        step = f.select(whole, value(plan.rhs.first), columns)
        return Columns(n, f.select(whole, source, plan.rhs_panel), step, count)

    def clear_zeros(self) -> None:
        """Make the line of zeros that rows reach into beyond lhs."""
        f, plan = self.f, self.plan
        if plan.bounded:
            with f.loop(0, zeros_of(plan.spec, plan.tiling), name="zero", unroll=1) as zero:
                f.store(constant(plan.scalar, 0), f.gep(plan.zeros, zero.index, plan.scalar))

    def all_exist(self, existing: Value) -> Value:
        """Whether no row of a tile reaches beyond lhs, by what is noted of them."""
        f, rows = self.f, range(self.plan.tiling.rows)
        noted = reduce(f.and_, (f.load(I64, f.gep(existing, row, I64)) for row in rows))
        return f.icmp("eq", noted, (1 << self.plan.places) - 1)

    def _packed(self, part: Part, panel: Value, source: Value, count: Number) -> Value:
        """Where a panel is packed: with those after it, if several are packed at once."""
        f, plan = self.f, self.plan
        if plan.tiling.slab == 1:
            self._call_packing("rhs", source, plan.rhs_panel, part.depth, count)
            return plan.rhs_panel
        place = remainder(f, sub(f, panel, part.panels[0]), plan.tiling.slab)
        with f.when(f.icmp("eq", value(place), 0), name="slab"):
            self._call_packing("rhs", source, plan.rhs_panel, part.depth, count)
        return f.gep(plan.rhs_panel, mul(f, place, plan.panel_size), plan.scalar)

    def next_panel(self, part: Part, panel: Value, tile: Value) -> Value:
        """The part of the panel after this one that a tile is to fetch: a vector of each k."""
        f, plan, tiling = self.f, self.plan, self.plan.tiling
        k, first = self._after(part, panel, 1)
        vector = remainder(f, sub(f, tile, part.tiles[0]), tiling.vectors)
        n = add(f, mul(f, first, tiling.columns), mul(f, vector, tiling.lanes))
        return plan.rhs.at(f, part.batch, k, n)

    def next_packed(self, part: Part, panel: Value, tile: Value) -> tuple[Value, Number]:
        """The line of the panels packed next that a tile is to fetch: where, and the step in bytes.

        A panel's element is made of several lines: the first tiles of a block each fetch one of
        them, for all elements; later ones have nothing left to do.
        """
        f, plan, tiling = self.f, self.plan, self.plan.tiling
        bytes = plan.spec.dtype.bytes
        across = -(-tiling.slab * tiling.columns * bytes // LINE)
        k, first = self._after(part, panel, tiling.slab)
        line = sub(f, tile, part.tiles[0])
        column = mul(f, remainder(f, line, across), LINE // bytes)
        n = add(f, mul(f, first, tiling.columns), column)
        at = plan.rhs.at(f, part.batch, add(f, k, quotient(f, line, across)), n)
        idle = f.icmp("sge", value(line), tiling.fold * across)
        step = mul(f, plan.rhs.first, tiling.fold * bytes)
        here = plan.rhs.at(f, part.batch, k, mul(f, first, tiling.columns))
        return f.select(idle, here, at), f.select(idle, constant(I64, 0), value(step))

    def _after(self, part: Part, panel: Value, count: int) -> tuple[Value, Value]:
        """The k and the panel that follow `count` panels.

        After the last panel comes the first one of the next chunk; after the last chunk, the first.
        """
        f, plan = self.f, self.plan
        after = f.add(panel, count)
        ends = f.icmp("sge", after, value(part.panels[1]))
        end = add(f, part.k, part.depth)
        chunk = f.select(f.icmp("sge", value(end), value(plan.k)), constant(I64, 0), value(end))
        return f.select(ends, chunk, value(part.k)), f.select(ends, value(part.panels[0]), after)

    def _call_packing(
        self, which: str, source: Value, panel: Value, depth: Number, count: Number
    ) -> None:
        strides = (self.plan.lhs.first, self.plan.lhs.second)
        if which == "rhs":
            strides = (self.plan.rhs.second, self.plan.rhs.first)
        plan, folded = self.plan, which == "rhs" and self.plan.spec.folded
        # Rows of lhs in AMX's tiles lie apart, else panels.
        rows = plan.tiling.amx and which == "lhs"
        apart = (plan.panel_depth if rows else plan.panel_size,) if plan.tiling.fold > 1 else ()
        if folded:
            depth, apart = quotient(self.f, depth, plan.tiling.fold), ()
        numbers = [value(number) for number in (depth, count, *strides, *apart)]
        self.f.call(f"{self.f.name}.pack_{which}", VOID, (source, panel, *numbers))

    def define(self, module: Module) -> None:
        """Define the functions that pack."""
        spec, tiling = self.plan.spec, self.plan.tiling
        if tiling.pack_lhs:
            strides = static(spec.lhs.first), static(spec.lhs.second)
            self._define_packing(module, "lhs", *strides, False, lhs_width(tiling))
        whole = divides(tiling.columns, spec.n)
        lies = whole or tiling.turned or tiling.streamed or tiling.beside
        if tiling.pack_rhs or not lies:
            strides = static(spec.rhs.second), static(spec.rhs.first)
            self._define_packing(module, "rhs", *strides, whole, tiling.columns)

    def _define_packing(
        self,
        module: Module,
        which: str,
        across: int | None,
        along: int | None,
        whole: bool,
        width: int,
    ) -> None:
        spec, tiling, name = self.plan.spec, self.plan.tiling, f"{self.f.name}.pack_{which}"
        if tiling.amx and which == "lhs":
            define_amx_packing(module, name, tiling.rows, across)
            return
        if which == "rhs" and spec.folded:
            # Its elements need but be brought together.
            elements = Operand(int32, across, along, whole)
            define_packing(module, name, elements, width)
            return
        if tiling.fold == 1:
            operand = Operand(spec.dtype, across, along, whole, divides(4, spec.k))
            define_packing(module, name, operand, width)
            return
        raised = tiling.offset and which == "lhs" and not spec.folded
        summed = tiling.offset and not raised
        folded = FoldedOperand(spec.dtype, across, along, tiling.fold, raised, summed)
        if which == "rhs":
            rows = TILE_ROWS if tiling.amx else 1
            folded = replace(folded, panels=tiling.slab, rows=rows)
        define_folded_packing(module, name, folded, width)


def static(size: Size) -> int | None:
    """A size known now, or None."""
    return size if isinstance(size, int) else None


def divides(part: int, size: Size) -> bool:
    """Whether a size is known to be a multiple of `part`."""
    return isinstance(size, int) and size % part == 0
