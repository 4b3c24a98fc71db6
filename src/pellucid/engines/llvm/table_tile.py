"""How does a tile read an lhs that tables find? Where it lies: rows[m] + depths[k], k by k.

While a tile is at work it fetches what will be wanted next, which the hardware cannot foresee: of
the rows of the tile after it one line at each k, and of the panel of rhs that comes next one vector
of each k. So a panel that is used by a few tiles alone is there in time, from wherever it comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.core.dtype import DType
from pellucid.engines.llvm.pairs import paired_sums
from pellucid.engines.llvm.panels import Tile, element, finish_tile, multiply_add, widened
from pellucid.engines.llvm.sizes import least
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import I1, I64, PTR, VOID, Type, Value, constant


@dataclass(frozen=True, slots=True)
class Found:
    """How a tile reads an lhs of `dtype` through tables, and what it fetches meanwhile.

    `beside`: a row has an element of its own for each column of rhs, which is of `dtype` too;
    `whole`: all columns of a panel exist. `rows` is the level of cache, 1 or 2, to which the rows
    of the next tile are fetched, 0 where they are not; `panel` says whether the next panel is.
    """

    dtype: DType
    beside: bool
    whole: bool
    rows: int
    panel: bool


def define_table_tile(module: Module, name: str, tile: Tile, found: Found) -> None:
    """As `define_tile`, for a lhs that tables find: `name(lhs, rhs, totals, depth, first, rows,
    depths, step, count, later, apart)`, where lhs[m, k] lies at rows[m] + depths[k].

    `rows` has the rows of the next tile after those of this one. Of the panel that comes next,
    `later` is the part this tile fetches, a line at each k, `apart` from k to k. Where lhs lies
    beside rhs, `count` of its columns exist.
    """
    pointers = [("lhs", PTR), ("rhs", PTR), ("totals", PTR)]
    tables = [("rows", PTR), ("depths", PTR), ("step", I64), ("count", I64)]
    signature = [*pointers, ("depth", I64), ("first", I1), *tables, ("later", PTR), ("apart", I64)]
    f = module.function(name, VOID, signature, internal=True)
    finish_tile(f, tile, _TableChain(f, tile, found).sums())


@dataclass(frozen=True)
class _TableChain:
    """acc[r][v] = lhs[r, k] * rhs[k, v] + acc[r][v], k by k, from zero."""

    f: Function
    tile: Tile
    found: Found

    def sums(self) -> tuple[Value, ...]:
        """The chunk's sums."""
        f, tile, memory = self.f, self.tile, element(self.found.dtype)
        lhs, rhs, _, depth, _, row_table, depth_table, step, count, _, _ = f.parameters
        offsets = [f.load(I64, f.gep(row_table, r, I64)) for r in range(tile.rows)]
        rows = [f.gep(lhs, offset, memory) for offset in offsets]
        masks = self._masks(count)
        read = memory if self.found.beside else tile.scalar
        zeros = [constant(tile.scalar.with_lanes(tile.lanes), 0)] * (tile.rows * tile.vectors)
        if tile.fold > 1:
            return paired_sums(f, rows, zeros, masks, self.found.beside)
        with f.loop(0, depth, accs=zeros, name="k", unroll=1) as k:
            line = f.gep(rhs, f.mul(k.index, step, nsw=True), read)
            columns = [self._vector(line, v, read, masks[v]) for v in range(tile.vectors)]
            self._fetch(k.index)
            along = f.load(I64, f.gep(depth_table, k.index, I64))
            sums: list[Value] = []
            for r, row in enumerate(rows):
                factors = self._factors(f.gep(row, along, memory), masks)
                accs = k.accs[r * tile.vectors : (r + 1) * tile.vectors]
                triples = zip(factors, columns, accs, strict=True)
                sums += [multiply_add(f, factor, column, acc) for factor, column, acc in triples]
            k.next(*sums)
        return k.results

    def _fetch(self, k: Value) -> None:
        """Fetch a line of the next tile's rows, and one of the next panel."""
        f, tile, memory = self.f, self.tile, element(self.found.dtype)
        lhs, *_, row_table, depth_table, _, _, later, apart = f.parameters
        if self.found.panel:
            f.prefetch(f.gep(later, f.mul(k, apart, nsw=True), memory), locality=2)
        if self.found.rows:
            # Row after row, so many k's of each: no more of them than a cache line has.
            turn = 1 << (tile.rows - 1).bit_length()
            row = least(f, f.and_(k, turn - 1), tile.rows - 1)
            further = f.load(I64, f.gep(f.gep(row_table, row, I64), tile.rows, I64))
            along = f.load(I64, f.gep(depth_table, f.and_(k, -turn), I64))
            at = f.gep(f.gep(lhs, further, memory), along, memory)
            f.prefetch(at, locality=4 - self.found.rows)

    def _masks(self, count: Value) -> list[Value | None]:
        f, lanes = self.f, self.tile.lanes
        if self.found.whole or not self.found.beside:
            return [None] * self.tile.vectors
        return [f.mask(f.sub(count, v * lanes), lanes) for v in range(self.tile.vectors)]

    def _factors(self, at: Value, masks: Sequence[Value | None]) -> list[Value]:
        """What a row has for each vector of columns."""
        f, tile, memory = self.f, self.tile, element(self.found.dtype)
        if self.found.beside:
            return [self._vector(at, v, memory, masks[v]) for v in range(tile.vectors)]
        one = widened(f, f.load(memory, at), self.found.dtype)
        return [f.splat(one, tile.scalar.with_lanes(tile.lanes))] * tile.vectors

    def _vector(self, line: Value, number: int, read: Type, mask: Value | None) -> Value:
        f, lanes = self.f, self.tile.lanes
        at, type = f.gep(line, number * lanes, read), read.with_lanes(lanes)
        raw = f.load(type, at) if mask is None else f.masked_load(type, at, mask)
        return widened(f, raw, self.found.dtype) if self.found.beside else raw
