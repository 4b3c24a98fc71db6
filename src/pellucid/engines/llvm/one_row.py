"""How is a product of one row made? Its time is that of reading rhs, each number of it once.

Where rhs lies along n, whole lines of several rows are read side by side and the sums stay in the
nearest cache: that is what memory gives fastest. Where it lies along k, squares of it are turned in
registers. Either way each result is the chain of the bit contract, k by k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from pellucid.engines.llvm.panels import Tile, finish_tile, multiply_add, tile_function
from pellucid.engines.llvm.sizes import Number, add, least, mul, value
from pellucid.engines.llvm.squares import turned_beside
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import I64, Value, constant

TOGETHER = 8
"""Rows of rhs that are read side by side: each sum is loaded and stored once for so many."""


def define_streamed_tile(module: Module, name: str, tile: Tile) -> None:
    """Define a tile, as `panels.define_tile` does, of one row and `count` columns.

    Sums are kept in memory, so that a tile may be far wider than the registers are.
    """
    f = tile_function(module, name)
    _Stream(f, tile).emit()
    f.ret()


@dataclass(frozen=True)
class _Stream:
    f: Function
    tile: Tile

    def emit(self) -> None:
        f, tile = self.f, self.tile
        _, _, totals, depth, first, count, *_ = f.parameters
        vector, lanes = tile.scalar.with_lanes(tile.lanes), tile.lanes
        sums = f.alloca(tile.scalar, tile.columns, name="sums")
        exist = value(least(f, count, tile.columns))
        with f.loop(0, exist, lanes, name="begin", unroll=1) as at:
            f.store(constant(vector, 0), f.gep(sums, at.index, tile.scalar))
        many = f.and_(depth, -TOGETHER)
        for start, end, rows in ((constant(I64, 0), many, TOGETHER), (many, depth, 1)):
            with f.loop(start, end, rows, name="k", unroll=1) as k:
                self._add_rows(sums, k.index, rows, exist)
        with f.loop(0, exist, lanes, name="end", unroll=1) as at:
            total = f.gep(totals, at.index, tile.scalar)
            own = f.load(vector, f.gep(sums, at.index, tile.scalar))
            plus = f.fadd if tile.scalar.is_float else f.add
            f.store(f.select(first, own, plus(f.load(vector, total), own)), total)

    def _add_rows(self, sums: Value, k: Value, rows: int, count: Value) -> None:
        """Go on with the chains of all columns by a few rows."""
        f, tile = self.f, self.tile
        lhs, rhs, _, _, _, _, _, along_stride, step = f.parameters
        along = along_stride if tile.along is None else tile.along
        numbers = [add(f, k, row) for row in range(rows)]
        factors = [
            f.load(tile.scalar, f.gep(lhs, mul(f, number, along), tile.scalar))
            for number in numbers
        ]
        wide = [f.splat(factor, tile.scalar.with_lanes(tile.lanes)) for factor in factors]
        lines = [f.gep(rhs, mul(f, number, step), tile.scalar) for number in numbers]
        whole = f.and_(count, -tile.lanes)
        with f.loop(0, whole, tile.lanes, name="column", unroll=1) as column:
            self._fetch(k, rows, column.index)
            self._add_columns(sums, column.index, lines, wide, None)
        with f.when(f.icmp("slt", whole, count), name="edge"):
            mask = f.mask(f.sub(count, whole), tile.lanes)
            self._add_columns(sums, whole, lines, wide, mask)

    def _add_columns(
        self,
        sums: Value,
        column: Value,
        lines: Sequence[Value],
        factors: Sequence[Value],
        mask: Value | None,
    ) -> None:
        f, tile = self.f, self.tile
        vector, at = tile.scalar.with_lanes(tile.lanes), f.gep(sums, column, tile.scalar)
        load = (
            partial(f.load, vector) if mask is None else partial(f.masked_load, vector, mask=mask)
        )
        total = f.load(vector, at)
        for line, factor in zip(lines, factors, strict=True):
            total = multiply_add(f, factor, load(f.gep(line, column, tile.scalar)), total)
        f.store(total, at)

    def _fetch(self, k: Value, rows: int, column: Value) -> None:
        """Ask for the same columns of later rows."""
        f, tile = self.f, self.tile
        if not tile.ahead:
            return
        _, rhs, *_, step = f.parameters
        for row in range(rows):
            later = mul(f, f.add(k, tile.ahead + row, nsw=True), step)
            line = f.gep(rhs, later, tile.scalar)
            f.prefetch(f.gep(line, column, tile.scalar), locality=2)


def define_turned_tile(
    module: Module, name: str, tile: Tile, across: int | None, whole: bool
) -> None:
    """Define a tile, as `panels.define_tile` does, of one row; columns of rhs lie along k.

    `step` is the stride between the columns of rhs (`across`, if it is known), of which `count`
    exist: all where panels are `whole`, else one beyond the last repeats it.
    """
    f = tile_function(module, name)
    finish_tile(f, tile, _Turning(f, tile, across, whole).chain())


@dataclass(frozen=True)
class _Turning:
    f: Function
    tile: Tile
    across: int | None
    whole: bool

    def chain(self) -> tuple[Value, ...]:
        """The sums of a chunk: squares of rhs are turned in registers, k by k."""
        f, tile, depth = self.f, self.tile, self.f.parameters[3]
        inner = min(tile.lanes, 128 // tile.scalar.bits)
        # Lines of 64 bytes are read whole, for columns a power of two apart drive each other out.
        line, wide = 512 // tile.scalar.bits, max(tile.lanes // 2, inner)
        square, many = f.and_(depth, -inner), f.and_(depth, -line)
        begin, columns = constant(I64, 0), self._columns()
        accs = [constant(tile.scalar.with_lanes(tile.lanes), 0)] * tile.vectors
        for first, end, width, piece in (
            (begin, many, line, wide),
            (many, square, inner, inner),
            (square, depth, 1, 1),
        ):
            with f.loop(first, end, width, accs=accs, name="k", unroll=1) as k:
                factors = self._factors(k.index, width)
                sums = [
                    self._steps(
                        columns[v * tile.lanes :][: tile.lanes], k.index, piece, factors, acc
                    )
                    for v, acc in enumerate(k.accs)
                ]
                k.next(*sums)
            accs = list(k.results)
        return tuple(accs)

    def _columns(self) -> list[Value]:
        """Where the columns begin."""
        f, tile = self.f, self.tile
        _, rhs, _, _, _, count, _, _, step = f.parameters
        numbers: list[Number] = list(range(tile.columns))
        if not self.whole:
            last = f.sub(count, 1)
            numbers = [least(f, constant(I64, column), last) for column in range(tile.columns)]
        apart = step if self.across is None else self.across
        return [f.gep(rhs, mul(f, number, apart), tile.scalar) for number in numbers]

    def _factors(self, k: Value, count: int) -> list[Value]:
        f, tile = self.f, self.tile
        lhs, along_stride = f.parameters[0], f.parameters[7]
        along = along_stride if tile.along is None else tile.along
        places = [mul(f, add(f, k, step), along) for step in range(count)]
        return [f.load(tile.scalar, f.gep(lhs, place, tile.scalar)) for place in places]

    def _steps(
        self, columns: Sequence[Value], k: Value, piece: int, factors: Sequence[Value], acc: Value
    ) -> Value:
        """A few steps of one vector's chain: one for each factor, from k on."""
        f, tile = self.f, self.tile
        type = tile.scalar.with_lanes(piece)
        # Two squares at a time fit the registers.
        for first in range(0, len(factors), 2 * piece):
            steps = factors[first : first + 2 * piece]
            starts = [add(f, k, first + part) for part in range(0, len(steps), piece)]
            loaded = [
                [f.load(type, f.gep(at, start, tile.scalar)) for start in starts] for at in columns
            ]
            squares = turned_beside(f, list(zip(*loaded, strict=True)))
            for factor, vector in zip(steps, chain.from_iterable(squares), strict=True):
                acc = multiply_add(f, f.splat(factor, vector.type), vector, acc)
        return acc
