"""How are products of bytes made in the tiles of AMX? Two by two squares of 16 x 16 sums.

A tile is a register of up to 16 rows of 64 bytes. One instruction takes 16 rows of lhs by 64 k's,
and 16 columns of rhs by 64 k's that lie folded in fours (see `folded`), and adds their products to
16 x 16 sums of 32 bits: sums of integers wrap, so these are the bits of the plain chain. lhs is
read where it lies if its rows end with whole tiles of k's; else its rows are packed one after the
other, with zeros behind them. rhs is always packed, and zeros follow it.

The instructions are those of Intel's Software Developer's Manual, volume 2. Tiles are named by
number, and have the shape that the kernel loads when it begins; at its end it gives them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from pellucid.engines.llvm.sizes import Number, least, mul, parts, sub
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import I1, I8, I64, PTR, VOID, Value, constant

TILE_ROWS = 16
"""Rows of a tile, at most."""

TILE_BYTES = 64
"""Bytes of a row of a tile: k's of lhs, four of each of 16 columns of rhs, or 16 sums."""

_SUMS, _LHS, _RHS = 0, 4, 6
"""The first of the four tiles of sums, of the two of lhs and of the two of rhs."""


@dataclass(frozen=True, slots=True)
class AmxTile:
    """A square of tiles: `rows` of lhs, 32 at most, by `vectors` of 16 columns, 2 at most.

    `unsigned` says what bytes are, on both sides.
    """

    rows: int
    vectors: int
    unsigned: bool

    @property
    def heights(self) -> tuple[int, ...]:
        """The rows of each tile of lhs: all of them, or two halves."""
        if self.rows <= TILE_ROWS:
            return (self.rows,)
        upper = -(-self.rows // 2)
        return (upper, self.rows - upper)

    @property
    def columns(self) -> int:
        """How many columns the square is wide."""
        return 16 * self.vectors

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The number of each tile of sums, down and across."""
        return tuple(product(range(len(self.heights)), range(self.vectors)))

    def multiply(self, f: Function) -> None:
        """Add the products of the tiles of lhs and of rhs to the tiles of sums."""
        step = "llvm.x86.tdpbuud" if self.unsigned else "llvm.x86.tdpbssd"
        for row, vector in self.places:
            tiles = _sums(row, vector), _LHS + row, _RHS + vector
            f.call(step, VOID, tuple(map(_number, tiles)))

    def configuration(self) -> bytes:
        """What ldtilecfg reads: the palette, then the bytes of a row and the rows of each tile."""
        heights = [1] * 8
        for row, height in enumerate(self.heights):
            heights[_LHS + row] = height
            for vector in range(self.vectors):
                heights[_SUMS + 2 * row + vector] = height
        heights[_RHS : _RHS + 2] = [TILE_ROWS, TILE_ROWS]
        widths = b"".join(TILE_BYTES.to_bytes(2, "little") for _ in heights)
        return bytes([1, *bytes(15)]) + widths + bytes(16) + bytes(heights) + bytes(8)


def begin_tiles(f: Function, tile: AmxTile) -> None:
    """Give the thread's tiles their shape."""
    place = f.module.data(f"{f.name}.shape", tile.configuration())
    f.call("llvm.x86.ldtilecfg", VOID, (place,))


def end_tiles(f: Function) -> None:
    """Give the tiles up: the system need not keep them any more."""
    f.call("llvm.x86.tilerelease", VOID, ())


def define_amx_tile(module: Module, name: str, tile: AmxTile) -> None:
    """Define `name(lhs, rhs, totals, depth, first, count, row, along, step)`.

    As `panels.define_tile`, where `depth` counts elements of four k's, `row` is the step between
    rows of lhs in bytes, and `step` that of rhs between its elements; count and along are not used.
    """
    pointers = [("lhs", PTR), ("rhs", PTR), ("totals", PTR)]
    numbers = [("count", I64), ("row", I64), ("along", I64), ("step", I64)]
    signature = [*pointers, ("depth", I64), ("first", I1), *numbers]
    f = module.function(name, VOID, signature, internal=True)
    _Square(f, tile).emit()
    f.ret()


@dataclass(frozen=True, slots=True)
class _Square:
    f: Function
    tile: AmxTile

    def emit(self) -> None:
        """The sums of a chunk, begun at zero or at what there is."""
        f = self.f
        first = f.parameters[4]
        with f.when(first, name="begin"):
            for row, vector in self.tile.places:
                f.call("llvm.x86.tilezero", VOID, (_number(_sums(row, vector)),))
        with f.when(f.not_(first), name="go_on"):
            self._each_sum("llvm.x86.tileloadd64")
        # Sixteen elements a turn: the last are zeros if there are fewer.
        with f.loop(0, f.parameters[3], TILE_ROWS, name="k", unroll=1) as k:
            self._load(k.index)
            self.tile.multiply(f)
        self._each_sum("llvm.x86.tilestored64")

    def _load(self, k: Value) -> None:
        f = self.f
        lhs, rhs, _, _, _, _, row_step, _, step = f.parameters
        apart = f.mul(step, 4, nsw=True)
        for vector in range(self.tile.vectors):
            at = f.gep(f.gep(rhs, f.mul(k, apart, nsw=True), I8), TILE_BYTES * vector, I8)
            f.call("llvm.x86.tileloadd64", VOID, (_number(_RHS + vector), at, apart))
        for row in range(len(self.tile.heights)):
            begin = f.mul(row_step, sum(self.tile.heights[:row]), nsw=True)
            at = f.gep(lhs, f.add(begin, f.mul(k, 4, nsw=True), nsw=True), I8)
            f.call("llvm.x86.tileloadd64", VOID, (_number(_LHS + row), at, row_step))

    def _each_sum(self, instruction: str) -> None:
        """Read or write the tiles of sums, which lie row by row in `totals`."""
        f = self.f
        width = 4 * self.tile.columns
        for row, vector in self.tile.places:
            begin = width * sum(self.tile.heights[:row]) + TILE_BYTES * vector
            at = f.gep(f.parameters[2], begin, I8)
            operands = _number(_sums(row, vector)), at, constant(I64, width)
            f.call(instruction, VOID, operands)


def _sums(row: int, vector: int) -> int:
    return _SUMS + 2 * row + vector


def _number(tile: int) -> Value:
    return constant(I8, tile)


def define_amx_packing(module: Module, name: str, rows: int, across: int | None) -> None:
    """Define `name(source, panel, depth, count, across, along, apart)`: rows, and zeros after them.

    `depth` bytes of each of `rows` rows, of which `count` exist and the last one is repeated, are
    copied one row after the other, `apart` elements of four bytes from each other.
    """
    numbers = [(n, I64) for n in ("depth", "count", "across", "along", "apart")]
    f = module.function(name, VOID, [("source", PTR), ("panel", PTR), *numbers], internal=True)
    source, panel, depth, count, step, _, apart = f.parameters
    step = step if across is None else across
    whole, bytes_ = f.and_(depth, -TILE_BYTES), I8.with_lanes(TILE_BYTES)
    last = sub(f, count, 1)
    with f.loop(0, rows, name="row", unroll=1) as row:
        line = f.gep(source, mul(f, least(f, row.index, last), step), I8)
        to = f.gep(panel, mul(f, row.index, mul(f, apart, 4)), I8)
        with f.loop(0, whole, TILE_BYTES, name="k", unroll=1) as k:
            f.store(f.load(bytes_, f.gep(line, k.index, I8)), f.gep(to, k.index, I8))
        with f.when(f.icmp("slt", whole, depth), name="rest"):
            mask = f.mask(f.sub(depth, whole), TILE_BYTES)
            f.store(f.masked_load(bytes_, f.gep(line, whole, I8), mask), f.gep(to, whole, I8))
    f.ret()


def amx_depth(f: Function, chunk: Number) -> Number:
    """The elements of four k's in whole tiles that a chunk of so many k's takes."""
    return mul(f, parts(f, chunk, TILE_BYTES), TILE_ROWS)
