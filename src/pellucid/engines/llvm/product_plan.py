"""Which numbers do all tasks of a product share? Extents, strides, the cut, places in scratch.

Each is known now or read by the running kernel, once, at its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from math import prod

from pellucid.engines.llvm.amx import amx_depth
from pellucid.engines.llvm.matrices import Matrix
from pellucid.engines.llvm.panels import accumulator, element
from pellucid.engines.llvm.scratch import take_scratch
from pellucid.engines.llvm.sizes import (
    Number,
    add,
    greatest,
    least,
    mul,
    parts,
    quotient,
    sub,
    value,
)
from pellucid.engines.llvm.tables import Loops
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.tiling import (
    KEPT,
    SPAN,
    ProductSpec,
    Size,
    Strides,
    Tables,
    Tiling,
    extents_of,
    lhs_width,
    run_of,
    zeros_of,
)
from pellucid.engines.llvm.types import I8, I32, I64, PTR, Value


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the work at hand: a block of tiles by a group of panels, over one chunk of k."""

    batch: tuple[Number, ...]
    tiles: tuple[Number, Number]
    panels: tuple[Number, Number]
    k: Number
    depth: Number


class Plan:
    """The numbers that all tasks share, each emitted where this is made."""

    def __init__(self, f: Function, spec: ProductSpec, tiling: Tiling) -> None:
        self.f, self.spec, self.tiling = f, spec, tiling
        pointers, self.sizes, _, _, _ = f.parameters
        self.scalar = accumulator(spec.dtype)
        self.pointers = tuple(f.load(PTR, f.gep(pointers, at, PTR)) for at in range(spec.pointers))
        self.m, self.n, self.k = map(self._number, (spec.m, spec.n, spec.k))
        self.batch = tuple(map(self._number, spec.batch))
        self.row_loops, self.depth_loops = self._loops(spec.tables)
        self.lhs = self._matrix(self.pointers[0], spec.lhs)
        self.rhs = self._matrix(self.pointers[1], spec.rhs)
        if spec.folded:
            self.rhs = replace(self.rhs, scalar=I32)
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
        self.chunks = 1 if tiling.whole else greatest(f, parts(f, self.k, tiling.chain), 1)
        # Chunks of equal length, a multiple of eight, but the last: `tiling.chunk_length` of a k
        # that may be known only at run time.
        even = parts(f, self.k, self.chunks)
        self.chunk = greatest(f, mul(f, parts(f, even, 8), 8), 8)
        # Rows of a panel: elements of `fold` k's, and those sums of columns that `folded` tells of.
        self.panel_depth = (
            amx_depth(f, self.chunk)
            if tiling.amx
            else add(f, quotient(f, self.chunk, tiling.fold), int(tiling.offset))
        )
        self.panel_size = mul(f, self.panel_depth, tiling.columns)
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
        # The panels of rhs packed at once, a block of panels of lhs, all tiles' running totals.
        f, tiling = self.f, self.tiling
        together = mul(f, self.span, self.group)
        kept = 1 if self.chunks == 1 else mul(f, self.block, least(f, together, self.panels))
        counts = (
            mul(f, self.panel_size, tiling.slab),
            mul(f, mul(f, self.block, self.panel_depth), lhs_width(self.tiling))
            if tiling.pack_lhs
            else 0,
            mul(f, kept, tiling.rows * tiling.columns),
            mul(f, add(f, self.block, 1), tiling.rows * 64 // self.scalar.bits)
            if tiling.tables
            else 0,
            mul(f, self.chunk, 64 // self.scalar.bits) if tiling.tables else 0,
            *self._edge_counts(),
        )
        offsets: list[Number] = [0]
        for count in counts:
            # Each begins on a cache line.
            lines = parts(f, mul(f, count, self.scalar.bytes), 64)
            offsets.append(add(f, offsets[-1], mul(f, lines, 64)))
        base = take_scratch(f, f.parameters[4], value(offsets[-1]))
        places = (f.gep(base, offset, I8) for offset in offsets[:-1])
        self.rhs_panel, self.lhs_panels, self.totals, self.row_table, self.depth_table = islice(
            places, 5
        )
        self.existing, self.zeros = places if self.bounded else (base, base)

    @property
    def bounded(self) -> bool:
        """Whether rows reach beyond lhs, into a line of zeros."""
        return self.spec.tables is not None and bool(self.spec.tables.bounds)

    @property
    def places(self) -> int:
        """The places of a window, of which a row notes which exist."""
        return prod(extents_of(self.spec)[3:]) // run_of(self.spec)

    def _edge_counts(self) -> tuple[Number, ...]:
        """How much is noted of rows that reach beyond lhs: their places, and the zeros there."""
        if not self.bounded:
            return ()
        f, tiling = self.f, self.tiling
        rows = mul(f, add(f, self.block, 1), tiling.rows * 64 // self.scalar.bits)
        return rows, zeros_of(self.spec, tiling)

    # Rows: where a tile begins, and which of its rows are its own.

    def first_row(self, tile: Value) -> Number:
        """The row that a tile begins at."""
        # A tile that is one row short begins a row earlier: one height of tile is code enough.
        f = self.f
        return sub(f, mul(f, tile, self.tiling.rows), self._shared(tile))

    def own_rows(self, tile: Value) -> tuple[Number, Number]:
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
