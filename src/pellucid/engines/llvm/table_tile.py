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
from pellucid.engines.llvm.sizes import greatest, least, value
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


_SIGNATURE = [
    ("lhs", PTR), ("rhs", PTR), ("totals", PTR), ("depth", I64), ("first", I1), ("rows", PTR),
    ("depths", PTR), ("step", I64), ("count", I64), ("later", PTR), ("apart", I64),
]  # fmt: skip


def define_table_tile(module: Module, name: str, tile: Tile, found: Found) -> None:
    """As `define_tile`, for a lhs that tables find: `name(lhs, rhs, totals, depth, first, rows,
    depths, step, count, later, apart)`, where lhs[m, k] lies at rows[m] + depths[k].

    `rows` has the rows of the next tile after those of this one. Of the panel that comes next,
    `later` is the part this tile fetches, a line at each k, `apart` from k to k. Where lhs lies
    beside rhs, `count` of its columns exist.
    """
    f = module.function(name, VOID, _SIGNATURE, internal=True)
    finish_tile(f, tile, _TableChain(f, tile, found).sums())


def define_edge_tile(module: Module, name: str, tile: Tile, found: Found, run: int) -> None:
    """As `define_table_tile`, where rows reach beyond lhs: `name(.., existing, zeros, k)`.

    The tile begins at `k`. Each `run` of k's is a place; where `existing` of a row lacks the bit of
    a place, `zeros` are read in its stead, which are as long as a run, or as a line beside rhs.
    """
    signature = [*_SIGNATURE, ("existing", PTR), ("zeros", PTR), ("k", I64)]
    f = module.function(name, VOID, signature, internal=True)
    finish_tile(f, tile, _EdgeChain(f, tile, found, run).sums())


@dataclass(frozen=True)
class _TableChain:
    """acc[r][v] = lhs[r, k] * rhs[k, v] + acc[r][v], k by k, from zero."""

    f: Function
    tile: Tile
    found: Found

    def sums(self) -> tuple[Value, ...]:
        """The chunk's sums."""
        f, tile, memory = self.f, self.tile, element(self.found.dtype)
        lhs, _, _, depth, _, row_table, depth_table, _, count, *_ = f.parameters
        offsets = [f.load(I64, f.gep(row_table, r, I64)) for r in range(tile.rows)]
        rows = [f.gep(lhs, offset, memory) for offset in offsets]
        masks = self._masks(count)
        if tile.fold > 1:
            return paired_sums(f, rows, self._zeros(), masks, self.found.beside)
        with f.loop(0, depth, accs=self._zeros(), name="k", unroll=1) as k:
            columns = self._columns(k.index, masks)
            self._fetch(k.index)
            along = f.load(I64, f.gep(depth_table, k.index, I64))
            places = [f.gep(row, along, memory) for row in rows]
            k.next(*self._added(places, columns, masks, k.accs))
        return k.results

    def _zeros(self) -> list[Value]:
        tile = self.tile
        zero = constant(tile.scalar.with_lanes(tile.lanes), 0)
        return [zero] * (tile.rows * tile.vectors)

    def _columns(self, k: Value, masks: Sequence[Value | None]) -> list[Value]:
        """The vectors of rhs at k."""
        f, tile = self.f, self.tile
        _, rhs, *_, step, _, _, _ = f.parameters[:11]
        read = element(self.found.dtype) if self.found.beside else tile.scalar
        line = f.gep(rhs, f.mul(k, step, nsw=True), read)
        return [self._vector(line, v, read, masks[v]) for v in range(tile.vectors)]

    def _added(
        self,
        places: Sequence[Value],
        columns: Sequence[Value],
        masks: Sequence[Value | None],
        accs: Sequence[Value],
    ) -> list[Value]:
        """The sums with the products of one k: of what lies at `places`, row by row."""
        f, vectors = self.f, self.tile.vectors
        sums: list[Value] = []
        for r, at in enumerate(places):
            mine = accs[r * vectors : (r + 1) * vectors]
            triples = zip(self._factors(at, masks), columns, mine, strict=True)
            sums += [multiply_add(f, factor, column, acc) for factor, column, acc in triples]
        return sums

    def _fetch(self, k: Value) -> None:
        """Fetch a line of the next tile's rows, and one of the next panel."""
        f, tile, memory = self.f, self.tile, element(self.found.dtype)
        lhs, _, _, _, _, row_table, depth_table, _, _, later, apart = f.parameters[:11]
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


@dataclass(frozen=True)
class _EdgeChain(_TableChain):
    """The same, place by place: of each row what exists there, or zeros."""

    run: int

    def sums(self) -> tuple[Value, ...]:
        """The chunk's sums."""
        f, run = self.f, self.run
        depth, masks, k0 = f.parameters[3], self._masks(f.parameters[8]), f.parameters[13]
        first = f.udiv(k0, run)
        end = f.udiv(f.add(f.add(k0, depth), run - 1), run)
        with f.loop(first, end, accs=self._zeros(), name="place", unroll=1) as place:
            start = f.sub(f.mul(place.index, run), k0)
            begin = greatest(f, start, 0)
            stop = least(f, f.add(start, run), depth)
            rows = self._rows(place.index, value(begin))
            with f.loop(value(begin), value(stop), accs=place.accs, name="k", unroll=1) as k:
                columns = self._columns(k.index, masks)
                self._fetch(k.index)
                along = f.sub(k.index, value(begin))
                places = [f.gep(row, along, element(self.found.dtype)) for row in rows]
                k.next(*self._added(places, columns, masks, k.accs))
            place.next(*k.results)
        return place.results

    def _rows(self, place: Value, k: Value) -> list[Value]:
        """Where each row is read at a place, from k on."""
        f, memory = self.f, element(self.found.dtype)
        lhs, row_table, depth_table = (f.parameters[at] for at in (0, 5, 6))
        existing, zeros, _ = f.parameters[11:]
        along = f.load(I64, f.gep(depth_table, k, I64))
        bit = f.shl(constant(I64, 1), place)
        rows: list[Value] = []
        for r in range(self.tile.rows):
            offset = f.add(f.load(I64, f.gep(row_table, r, I64)), along)
            noted = f.and_(f.load(I64, f.gep(existing, r, I64)), bit)
            exists = f.icmp("ne", noted, 0)
            rows.append(f.select(exists, f.gep(lhs, offset, memory), zeros))
        return rows
