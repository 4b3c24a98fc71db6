"""How are products of narrow numbers summed several k's at a time? By folding k's into an element.

A folded panel has, for each column and each `fold` k's that follow each other, 32 bits that hold
the column's numbers at those k's, the first lowest. One instruction multiplies the numbers of two
such elements pair by pair and adds all products up:

    fold 2   integers of 16 bits, both signed: pmaddwd, on every x86; narrower ones are widened
    fold 4   integers of 8 bits, one side unsigned and the other signed: vpdpbusd, of AVX512-VNNI
    fold 2   bfloat16: vdpbf16ps, of AVX512-BF16

Sums of integers wrap, so their order is of no account: these are the bits of the plain chain. Where
fold is 4, lhs is packed with 128 added to each number, or taken from it, which is the same change
of its highest bit: int8 becomes unsigned beside a signed rhs, uint8 signed beside an unsigned one.
The tile then begins at minus, or plus, 128 times the sum of rhs's column: that stands in one more
row at the panel's end. Where rhs lies folded in memory and is not packed, it is the other way
round: rhs is changed as a tile reads it, and lhs is packed with the sums of its rows. Numbers
beyond the last k are zeros.

vdpbf16ps adds in an order and with roundings of its own, which page 0002 states: its sums are a
class apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pellucid.core.dtype import DType, bfloat16, int8, int16, uint8
from pellucid.engines.llvm.sizes import (
    Number,
    add,
    least,
    mul,
    parts,
    quotient,
    remainder,
    sub,
    value,
)
from pellucid.engines.llvm.squares import gathered, interleaved, turned
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import (
    BF16,
    I8,
    I16,
    I32,
    I64,
    PTR,
    VOID,
    Type,
    Value,
    constant,
)

BYTES_OF_128: Final = -0x7F7F7F80
"""0x80808080: 128 in each byte of an element. Exclusive or adds it to numbers with a sign."""


def fold_of(dtype: DType, isa: Isa) -> int:
    """How many k's are folded into an element of a panel; 1 where each stands alone.

    >>> from pellucid.engines.llvm.target import AVX2, AVX512_VNNI
    >>> fold_of(int8, AVX512_VNNI), fold_of(int8, AVX2), fold_of(uint8, AVX512_VNNI)
    (4, 2, 4)
    """
    if dtype in (int8, uint8) and isa.sums_bytes:
        return 4
    if dtype is bfloat16:
        return 2 if isa.pairs_bfloat16 else 1
    return 2 if dtype in (int8, uint8, int16) else 1


def fold_in_memory(dtype: DType, isa: Isa) -> int:
    """How many k's may lie folded in memory: `fold_of`, where none of them is widened first.

    >>> from pellucid.engines.llvm.target import AVX2, AVX512_VNNI
    >>> fold_in_memory(int8, AVX512_VNNI), fold_in_memory(int8, AVX2), fold_in_memory(int16, AVX2)
    (4, 1, 2)
    """
    fold = fold_of(dtype, isa)
    return fold if fold * dtype.bits == 32 else 1


def multiply_add_folded(
    f: Function, fold: int, lhs: Value, rhs: Value, addend: Value, unsigned: bool = False
) -> Value:
    """addend + the sum of the products of the numbers in lhs and rhs, lane by lane.

    Of bytes one side is unsigned and the other signed: rhs is where it is `unsigned`, else lhs.
    """
    lanes = fold * addend.type.lanes
    if addend.type.is_float:
        pair = f.bitcast(lhs, BF16.with_lanes(lanes)), f.bitcast(rhs, BF16.with_lanes(lanes))
        name = f"llvm.x86.avx512bf16.dpbf16ps.{addend.type.bits * addend.type.lanes}"
        return f.call(name, addend.type, (addend, *pair))
    numbers = Type(f"i{32 // fold}", lanes)
    pair = f.bitcast(lhs, numbers), f.bitcast(rhs, numbers)
    if fold == 4:
        assert addend.type.lanes == 16, "bytes are summed in whole registers of AVX-512"
        pair = reversed(pair) if unsigned else pair
        return f.call("llvm.x86.avx512.vpdpbusd.512", addend.type, (addend, *pair))
    names = {32: "avx512.pmaddw.d.512", 16: "avx2.pmadd.wd", 8: "sse2.pmadd.wd"}
    return f.add(addend, f.call(f"llvm.x86.{names[lanes]}", addend.type, pair))


@dataclass(frozen=True, slots=True)
class FoldedOperand:
    """How folded packing reads an operand; strides as in `panels.Operand`.

    `raised`: 128 is added to each number. `summed`: the row of column sums follows. `panels`: so
    many are packed at once. `rows`: a panel ends with zeros at a multiple of so many elements.
    """

    dtype: DType
    across: int | None
    along: int | None
    fold: int
    raised: bool = False
    summed: bool = False
    panels: int = 1
    rows: int = 1


def define_folded_packing(module: Module, name: str, operand: FoldedOperand, width: int) -> None:
    """Define `name(source, panel, depth, count, across, along, apart)`.

    As `panels.define_packing`, but panels of `width` columns each, which begin `apart` elements
    from each other.
    """
    numbers = [(n, I64) for n in ("depth", "count", "across", "along", "apart")]
    f = module.function(name, VOID, [("source", PTR), ("panel", PTR), *numbers], internal=True)
    source, panel, depth, count, across, along, apart = f.parameters
    steps = (
        across if operand.across is None else operand.across,
        along if operand.along is None else operand.along,
    )
    packing = _Packing(f, operand, *steps, width, source, panel, depth, count, apart)
    packing.pack()
    if operand.rows > 1:
        packing.fill_up()
    if operand.summed:
        packing.sum_columns()
    f.ret()


@dataclass(frozen=True)
class _Packing:
    f: Function
    operand: FoldedOperand
    across: Number
    along: Number
    width: int
    source: Value
    panel: Value
    depth: Value
    count: Value
    apart: Value

    @property
    def columns(self) -> int:
        """Those of all panels."""
        return self.width * self.operand.panels

    @property
    def lanes(self) -> int:
        return min(self.width, self.f.isa.lanes(32))

    @property
    def fold(self) -> int:
        return self.operand.fold

    @property
    def memory(self) -> Type:
        return Type(f"i{self.operand.dtype.bits}")

    def pack(self) -> None:
        """Whole elements first, then the one that k's end in, if there is one."""
        f = self.f
        whole = f.and_(self.depth, -self.fold)
        if self.operand.along == 1:
            # Squares of four elements are turned; what is left is gathered.
            square = f.and_(self.depth, -4 * self.fold)
            self._turn(square)
            self._each(square, whole, self._gathered)
        elif self.operand.across == 1 and self.operand.dtype.bits * self.fold == 32:
            self._interleave(whole)
        else:
            self._each(0, whole, self._rows())
        with f.when(f.icmp("slt", whole, self.depth), name="rest"):
            self._each(whole, add(f, whole, 1), self._gathered)

    def sum_columns(self) -> None:
        """Add the row of minus 128 times the sum of each column; plus 128, of unsigned bytes."""
        f, lanes = self.f, self.lanes
        vector = I32.with_lanes(lanes)
        rows = quotient(f, add(f, self.depth, self.fold - 1), self.fold)
        # 128 in each byte; minus 128, where rhs is unsigned.
        high, unsigned = constant(vector, BYTES_OF_128), self.operand.dtype is uint8
        for column in range(0, self.columns, lanes):
            with f.loop(0, value(rows), accs=[constant(vector, 0)], name="k", unroll=1) as k:
                row = f.load(vector, self._place(k.index, column))
                k.next(multiply_add_folded(f, self.fold, high, row, k.accs[0], unsigned))
            f.store(f.sub(constant(vector, 0), k.results[0]), self._place(rows, column))

    def fill_up(self) -> None:
        """Add rows of zeros to a multiple of those that the operand asks for."""
        f = self.f
        vector = I32.with_lanes(self.lanes)
        rows, some = parts(f, self.depth, self.fold), self.operand.rows
        end = mul(f, parts(f, rows, some), some)
        with f.loop(value(rows), value(end), name="zero", unroll=1) as row:
            for column in range(0, self.columns, self.lanes):
                f.store(constant(vector, 0), self._place(row.index, column))

    # The parts of packing.

    def _rows(self) -> Callable[[Value, Number], Value]:
        """How the numbers of a vector's columns at one k are read."""
        return self._row if self.operand.across == 1 else self._gathered

    def _each(
        self, first: Value | int, end: Number, read: Callable[[Value, Number], Value]
    ) -> None:
        """Elements of the k's from first to end: numbers of each k, widened and put together."""
        f = self.f
        columns = f.loop(0, self.columns, self.lanes, name="column", unroll=1)
        with columns as block, f.loop(first, value(end), self.fold, name="k", unroll=1) as k:
            parts = [read(block.index, add(f, k.index, at)) for at in range(self.fold)]
            self._store(self._joined(parts), k.index, block.index)

    def _interleave(self, whole: Value) -> None:
        """Neighbours in memory are neighbours in the panel, and fill its elements."""
        full = self.f.icmp("sge", self.count, self.columns)
        self.f.if_else(
            full, lambda: self._interleaved(whole, False), lambda: self._interleaved(whole, True)
        )

    def _interleaved(self, whole: Value, masked: bool) -> tuple[Value, ...]:
        f, vectors = self.f, self.columns // self.lanes
        together = next(some for some in (4, 2, 1) if some <= self.fold and vectors % some == 0)
        wide = together * self.lanes
        with f.loop(0, whole, self.fold, name="k", unroll=1) as k:
            lines = [self._line(add(f, k.index, at)) for at in range(self.fold)]
            for column in range(0, self.columns, wide):
                mask = f.mask(f.sub(self.count, column), wide) if masked else None
                rows = [self._piece_of(line, column, wide, mask) for line in lines]
                for at, vector in enumerate(interleaved(f, rows, self.lanes)):
                    self._store(vector, k.index, column + at * self.lanes)
        return ()

    def _line(self, k: Number) -> Value:
        return self.f.gep(self.source, mul(self.f, k, self.along), self.memory)

    def _piece_of(self, line: Value, column: int, lanes: int, mask: Value | None) -> Value:
        at, type = self.f.gep(line, column, self.memory), self.memory.with_lanes(lanes)
        return self.f.load(type, at) if mask is None else self.f.masked_load(type, at, mask)

    def _row(self, column: Value, k: Number) -> Value:
        f = self.f
        at = f.gep(self.source, add(f, mul(f, k, self.along), column), self.memory)
        mask = f.mask(f.sub(self.count, column), self.lanes)
        return self._wide(f.masked_load(self.memory.with_lanes(self.lanes), at, mask))

    def _gathered(self, column: Value, k: Number) -> Value:
        f = self.f
        # A number beyond the last k is a zero, read where the last one is.
        exists = f.icmp("slt", value(k), self.depth)
        step = mul(f, least(f, k, sub(f, self.depth, 1)), self.along)
        elements = [
            f.load(self.memory, f.gep(at, step, self.memory)) for at in self._columns(column)
        ]
        row = self._wide(gathered(f, elements))
        return f.select(exists, row, constant(row.type, 0))

    def _columns(self, first: Value) -> list[Value]:
        """Where each column of a vector begins; one beyond the last repeats the last."""
        f, last = self.f, self.f.sub(self.count, 1)
        numbers = [least(f, add(f, first, lane), last) for lane in range(self.lanes)]
        return [f.gep(self.source, mul(f, n, self.across), self.memory) for n in numbers]

    def _wide(self, raw: Value) -> Value:
        return self.f.cast("zext" if self.operand.dtype.kind == "uint" else "sext", raw, I32)

    def _joined(self, parts: list[Value]) -> Value:
        f, bits = self.f, 32 // self.fold
        element = f.and_(parts[0], (1 << bits) - 1)
        for at, part in enumerate(parts[1:], 1):
            element = f.or_(element, f.shl(f.and_(part, (1 << bits) - 1), bits * at))
        return element

    def _turn(self, square: Value) -> None:
        """Neighbours in memory are neighbours in an element: turn squares of elements."""
        f = self.f
        with f.loop(0, self.columns, self.lanes, name="column", unroll=1) as block:
            columns = self._columns(block.index)
            with f.loop(0, square, 4 * self.fold, name="k", unroll=1) as k:
                pieces = [self._piece(f.gep(at, k.index, self.memory)) for at in columns]
                for offset, row in enumerate(turned(f, pieces)):
                    self._store(row, add(f, k.index, offset * self.fold), block.index)

    def _piece(self, at: Value) -> Value:
        """Four elements of one column."""
        f = self.f
        raw = f.load(self.memory.with_lanes(4 * self.fold), at)
        narrow = I8 if self.fold == 4 else I16
        how = "zext" if self.operand.dtype.kind == "uint" else "sext"
        return f.bitcast(f.cast(how, raw, narrow), I32.with_lanes(4))

    def _store(self, vector: Value, k: Number, column: Number) -> None:
        f = self.f
        if self.operand.raised:
            vector = f.xor(vector, BYTES_OF_128)
        f.store(vector, self._place(quotient(f, k, self.fold), column))

    def _place(self, row: Number, column: Number) -> Value:
        f, start = self.f, self.panel
        if self.operand.panels > 1:
            start = f.gep(start, mul(f, quotient(f, column, self.width), self.apart), I32)
            column = remainder(f, column, self.width)
        return f.gep(start, add(f, mul(f, row, self.width), column), I32)
