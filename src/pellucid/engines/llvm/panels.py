"""What is the inner half of a matrix product? Operands packed into panels, and the register tile.

A panel is `width` rows (of lhs) or columns (of rhs) of an operand, laid out so that the tile reads
it in a straight line: for each k, `width` neighbours. Packing also widens the narrow dtypes, so
that the tile sees only the accumulator's type. The tile keeps rows x columns running sums in
registers over one chunk of k: the fixed chain `acc = a * b + acc` of the contract, one per result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.core.dtype import DType, bfloat16, float16, float32, float64, int64, uint64
from pellucid.engines.llvm.folded import BYTES_OF_128, multiply_add_folded
from pellucid.engines.llvm.narrow import (
    narrow_bfloat16,
    narrow_float16,
    widen_bfloat16,
    widen_float16,
)
from pellucid.engines.llvm.sizes import Number, add, least, mul
from pellucid.engines.llvm.squares import gathered, turned
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import (
    F32,
    F64,
    I1,
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


def accumulator(dtype: DType) -> Type:
    """The scalar type in which products of `dtype` are summed.

    >>> from pellucid.core.dtype import int8
    >>> str(accumulator(bfloat16)), str(accumulator(int8))
    ('float', 'i32')
    """
    if dtype.is_floating:
        return F64 if dtype is float64 else F32
    # Integers wrap: the low bits of a wider sum are the narrow sum.
    return I64 if dtype in (int64, uint64) else I32


def element(dtype: DType) -> Type:
    """The scalar type of `dtype` in memory; the 16-bit floats are their bits."""
    floats = {float16: I16, bfloat16: I16, float32: F32, float64: F64}
    return floats[dtype] if dtype in floats else Type(f"i{dtype.bits}")


@dataclass(frozen=True, slots=True)
class Operand:
    """How packing reads an operand: its dtype, and the strides (in elements) of its two axes.

    `across` is the stride of the axis that makes up a panel's width (m or n), `along` that of k;
    None is a stride known only at run time. `whole`: every panel is full, so that no edge need be
    provided for; `even`: so is every chunk of k a multiple of four.
    """

    dtype: DType
    across: int | None
    along: int | None
    whole: bool = False
    even: bool = False


def define_packing(module: Module, name: str, operand: Operand, width: int) -> None:
    """Define `name(source, panel, depth, count, across, along)`: copy one panel of `depth` k's.

    The first `count` of the panel's `width` columns exist; what the others hold is of no account.
    """
    parameters = [("depth", I64), ("count", I64), ("across", I64), ("along", I64)]
    f = module.function(name, VOID, [("source", PTR), ("panel", PTR), *parameters], internal=True)
    source, panel, depth, count, across, along = f.parameters
    steps = (
        across if operand.across is None else operand.across,
        along if operand.along is None else operand.along,
    )
    packing = _Packing(f, operand, *steps, width, source, panel, depth, count)
    if operand.across == 1:
        packing.copy_rows()
    elif operand.along == 1:
        packing.transpose()
    else:
        packing.gather(0)
    f.ret()


@dataclass(frozen=True)
class _Packing:
    f: Function
    operand: Operand
    across: Number
    along: Number
    width: int
    source: Value
    panel: Value
    depth: Value
    count: Value

    @property
    def lanes(self) -> int:
        return min(self.width, self.f.isa.lanes(accumulator(self.operand.dtype).bits))

    def copy_rows(self) -> None:
        """Neighbours in memory are neighbours in the panel: copy vectors."""
        f = self.f
        if self.operand.whole:
            self._copy(masked=False)
            return
        f.if_else(
            f.icmp("sge", self.count, self.width),
            lambda: self._copy(masked=False),
            lambda: self._copy(masked=True),
        )

    def transpose(self) -> None:
        """Each column lies along k in memory: read small squares, turn them, store them."""
        f, inner = self.f, min(self.lanes, 128 // accumulator(self.operand.dtype).bits)
        square = self.depth if self.operand.even else f.and_(self.depth, -inner)
        with f.loop(0, self.width, self.lanes, name="column") as block:
            columns = self._columns(block.index)
            with f.loop(0, square, inner, name="k", unroll=1) as k:
                pieces = [self._load(f.gep(at, k.index, self._memory), inner) for at in columns]
                for offset, row in enumerate(turned(f, pieces)):
                    self._store(row, add(f, k.index, offset), block.index)
        if not self.operand.even:
            self.gather(square)

    def gather(self, first: Value | int) -> None:
        """Any strides: element by element, for k from `first` on."""
        f, lanes = self.f, self.lanes
        with f.loop(0, self.width, lanes, name="column") as block:
            columns = self._columns(block.index)
            with f.loop(first, self.depth, name="k", unroll=1) as k:
                step = mul(f, k.index, self.along)
                elements = [f.load(self._memory, f.gep(at, step, self._memory)) for at in columns]
                vector = widened(f, gathered(f, elements), self.operand.dtype)
                self._store(vector, k.index, block.index)

    def _copy(self, masked: bool) -> tuple[Value, ...]:
        f, lanes = self.f, self.lanes
        with f.loop(0, self.depth, name="k", unroll=1) as k:
            row = f.gep(self.source, mul(f, k.index, self.along), self._memory)
            for column in range(0, self.width, lanes):
                mask = f.mask(f.sub(self.count, column), lanes) if masked else None
                vector = self._load(f.gep(row, column, self._memory), lanes, mask)
                self._store(vector, k.index, column)
        return ()

    def _columns(self, first: Value) -> list[Value]:
        f, lanes = self.f, range(self.lanes)
        numbers = [add(f, first, lane) for lane in lanes]
        if not self.operand.whole:
            # A column beyond the last repeats the last: it is computed with and never stored.
            last = f.sub(self.count, 1)
            numbers = [least(f, number, last) for number in numbers]
        strides = [mul(f, number, self.across) for number in numbers]
        return [f.gep(self.source, stride, self._memory) for stride in strides]

    def _load(self, at: Value, lanes: int, mask: Value | None = None) -> Value:
        type = self._memory.with_lanes(lanes)
        raw = self.f.masked_load(type, at, mask) if mask else self.f.load(type, at)
        return widened(self.f, raw, self.operand.dtype)

    def _store(self, vector: Value, k: Number, column: Number) -> None:
        f = self.f
        at = f.gep(self.panel, add(f, mul(f, k, self.width), column), vector.type.with_lanes(1))
        f.store(vector, at)

    @property
    def _memory(self) -> Type:
        return element(self.operand.dtype)


@dataclass(frozen=True, slots=True)
class Tile:
    """A register tile: `rows` x `vectors` vectors of `lanes` sums, and how lhs is read.

    `row` and `along` are the strides of lhs between rows and between k's; None: at run time.
    `clamped`: the last rows may be missing, and repeat the last one that exists.
    `fold`: each element of the panels holds so many k's (see `folded`), and `depth` counts these;
    `offset`: the sums begin at the row of rhs that follows the last, or, where the tile `raises`
    bytes of rhs by 128 as it reads them, at the numbers of lhs that do so. `unsigned`: bytes of rhs
    then are, and those of lhs are not. While k is at work, rhs is fetched for the k that lies
    `ahead` by so many, if by any. It `fetches` the k-th of lines that begin `apart` bytes from each
    other, from `later` on.
    """

    scalar: Type
    rows: int
    vectors: int
    lanes: int
    row: int | None
    along: int | None
    clamped: bool = False
    fold: int = 1
    offset: bool = False
    ahead: int = 0
    fetches: bool = False
    raises: bool = False
    unsigned: bool = False

    @property
    def columns(self) -> int:
        """How many columns wide the tile is."""
        return self.vectors * self.lanes


def define_tile(module: Module, name: str, tile: Tile) -> None:
    """Define `name(lhs, rhs, totals, depth, first, count, row, along, step)` for one chunk of k.

    `totals` (rows x columns, dense) becomes the chunk's sums where `first`, else grows by them;
    `step` is the stride of rhs between k's; its columns are neighbours. `count` rows exist.
    """
    f = tile_function(module, name, tile.fetches)
    finish_tile(f, tile, _chain(f, tile))


def tile_function(module: Module, name: str, fetches: bool = False) -> Function:
    """The function of a tile, with the parameters that `define_tile` tells of.

    One that `fetches` is told of what as well: `later` and `apart`.
    """
    pointers = [("lhs", PTR), ("rhs", PTR), ("totals", PTR)]
    numbers = [("count", I64), ("row", I64), ("along", I64), ("step", I64)]
    signature = [*pointers, ("depth", I64), ("first", I1), *numbers]
    signature += [("later", PTR), ("apart", I64)] * fetches
    return module.function(name, VOID, signature, internal=True)


def finish_tile(f: Function, tile: Tile, sums: tuple[Value, ...]) -> None:
    """Store a chunk's sums, or add them to what there is."""
    _, _, totals, _, first, *_ = f.parameters
    places = [
        f.gep(totals, row * tile.columns + vector * tile.lanes, tile.scalar)
        for row in range(tile.rows)
        for vector in range(tile.vectors)
    ]
    store_sums(f, first, sums, places)
    f.ret()


def _chain(f: Function, tile: Tile) -> tuple[Value, ...]:
    # acc[r][v] = lhs[r, k] * rhs[k, v] + acc[r][v], k by k, from zero.
    lhs, rhs, _, depth, _, count, row_stride, along_stride, step, *fetched = f.parameters
    vector = tile.scalar.with_lanes(tile.lanes)
    row = row_stride if tile.row is None else tile.row
    along = along_stride if tile.along is None else tile.along
    last = f.sub(count, 1) if tile.clamped else tile.rows
    numbers = [least(f, last, r) if tile.clamped else r for r in range(tile.rows)]
    rows = [f.gep(lhs, mul(f, number, row), tile.scalar) for number in numbers]
    begun = [constant(vector, 0)] * (tile.rows * tile.vectors)
    if tile.raises:
        ends = [f.load(tile.scalar, f.gep(at, mul(f, depth, along), tile.scalar)) for at in rows]
        begun = [f.splat(end, vector) for end in ends for _ in range(tile.vectors)]
    elif tile.offset:
        end = f.gep(rhs, f.mul(depth, step, nsw=True), tile.scalar)
        begun = [
            f.load(vector, f.gep(end, v * tile.lanes, tile.scalar)) for v in range(tile.vectors)
        ] * tile.rows
    with f.loop(0, depth, accs=begun, name="k", unroll=1) as k:
        line = f.gep(rhs, f.mul(k.index, step, nsw=True), tile.scalar)
        across = [f.gep(line, v * tile.lanes, tile.scalar) for v in range(tile.vectors)]
        columns = [f.load(vector, at) for at in across]
        if tile.raises:
            columns = [f.xor(column, BYTES_OF_128) for column in columns]
        if tile.fetches:
            later, apart = fetched
            f.prefetch(f.gep(later, f.mul(k.index, apart, nsw=True), I8), locality=2)
        if tile.ahead:
            later = f.gep(rhs, f.mul(f.add(k.index, tile.ahead), step, nsw=True), tile.scalar)
            for v in range(tile.vectors):
                f.prefetch(f.gep(later, v * tile.lanes, tile.scalar), locality=2)
        sums: list[Value] = []
        for r, at in enumerate(rows):
            one = f.load(tile.scalar, f.gep(at, mul(f, k.index, along), tile.scalar))
            factor = f.splat(one, vector)
            accs = k.accs[r * tile.vectors : (r + 1) * tile.vectors]
            pairs = zip(columns, accs, strict=True)
            sums += [_step(f, tile, factor, column, acc) for column, acc in pairs]
        k.next(*sums)
    return k.results


def store_sums(f: Function, first: Value, sums: Sequence[Value], places: Sequence[Value]) -> None:
    """Store a chunk's sums if it is the first, else add them to what there is."""

    def grown() -> list[Value]:
        plus = f.fadd if sums[0].type.is_float else f.add
        return [plus(f.load(s.type, at), s) for s, at in zip(sums, places, strict=True)]

    totals = f.if_else(first, lambda: sums, grown, name="chunk")
    for total, at in zip(totals, places, strict=True):
        f.store(total, at)


def _step(f: Function, tile: Tile, lhs: Value, rhs: Value, addend: Value) -> Value:
    if tile.fold > 1:
        return multiply_add_folded(f, tile.fold, lhs, rhs, addend, tile.unsigned)
    return multiply_add(f, lhs, rhs, addend)


def multiply_add(f: Function, lhs: Value, rhs: Value, addend: Value) -> Value:
    """lhs * rhs + addend in the accumulator's type."""
    if addend.type.is_float:
        return f.multiply_add(lhs, rhs, addend)
    return f.add(f.mul(lhs, rhs), addend)


def widened(f: Function, vector: Value, dtype: DType) -> Value:
    """Elements as read from memory, in the accumulator's type: exactly the same numbers."""
    wide = accumulator(dtype)
    if dtype is bfloat16:
        return widen_bfloat16(f, vector)
    if dtype is float16:
        return widen_float16(f, vector)
    if vector.type.scalar == wide.scalar:
        return vector
    return f.cast("zext" if dtype.kind == "uint" else "sext", vector, wide)


def narrowed(f: Function, sums: Value, dtype: DType) -> Value:
    """Sums in the accumulator's type, rounded once (integers: wrapped) to what memory holds."""
    if dtype is bfloat16:
        return narrow_bfloat16(f, sums)
    if dtype is float16:
        return narrow_float16(f, sums)
    return sums if dtype.is_floating else f.cast("trunc", sums, element(dtype))
