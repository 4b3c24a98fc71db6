"""What is the product to be made, and how is it cut into tiles, blocks and tasks?

A `ProductSpec` says what: extents and strides, each known now or a parameter of the kernel. A
`Tiling` says how: the register tile, what is packed, how much one task takes. Nothing here touches
the bits of a result; a tiling only decides how fast it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import gcd, prod
from statistics import fmean

from pellucid.core.dtype import DType, float32, float64, int32, int64, uint32, uint64
from pellucid.core.machine import cache_bytes, usable_cores
from pellucid.engines.llvm.folded import fold_of
from pellucid.engines.llvm.target import Isa

CHUNK = 512
"""The most k's in one chain of multiply-adds: part of the bit contract."""

SPAN = 1024
"""Columns whose running totals a thread keeps at once, if one group has not more."""

KEPT = 1 << 16
"""How many running totals it keeps at once, if one group has not more: they are to stay near.

Where rows are packed for each span there may be more, for packing costs more than far totals.
"""


@dataclass(frozen=True, slots=True)
class Param:
    """A number the kernel reads at run time: entry `index` of its sizes."""

    index: int


Size = int | Param


@dataclass(frozen=True, slots=True)
class Strides:
    """Steps, in elements, along each batch axis, the first axis and the second axis of a matrix."""

    batch: tuple[Size, ...]
    first: Size
    second: Size


@dataclass(frozen=True, slots=True)
class Tables:
    """Where lhs lies if m, and k, are several loops each (row-major): their extents and strides."""

    rows: tuple[Size, ...]
    depths: tuple[Size, ...]
    row_strides: tuple[Size, ...]
    depth_strides: tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class ProductSpec:
    """out[b, m, n] = sum over k of lhs[b, m, k] * rhs[b, k, n], in `dtype`.

    Strides are those of lhs as (m, k), rhs as (k, n) and, where no epilogue stores, out as (m, n).
    `pointers` counts the kernel's buffers. A unit stride should be given as the int 1. With
    `tables`, lhs[b, m, k] lies at the sum of a number for m and a number for k; it then may also be
    `beside` rhs: lhs[b, m, k, n], at step 1 along n, takes its place.
    """

    dtype: DType
    batch: tuple[Size, ...]
    m: Size
    n: Size
    k: Size
    lhs: Strides
    rhs: Strides
    out: Strides
    pointers: int = 3
    tables: Tables | None = None
    beside: bool = False

    @property
    def is_static(self) -> bool:
        """Whether the extents are known."""
        return all(isinstance(size, int) for size in (*self.batch, self.m, self.n, self.k))

    def flipped(self) -> ProductSpec:
        """The same product with the roles exchanged: out^T = rhs^T lhs^T, with the same bits.

        Vectors run along n: worth it where n is 1, or where out is contiguous along m. The two
        operands, and m and n as the epilogue sees them, change places.
        """
        lhs = Strides(self.rhs.batch, self.rhs.second, self.rhs.first)
        rhs = Strides(self.lhs.batch, self.lhs.second, self.lhs.first)
        out = Strides(self.out.batch, self.out.second, self.out.first)
        return ProductSpec(
            self.dtype, self.batch, self.n, self.m, self.k, lhs, rhs, out, self.pointers
        )


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a product is cut.

    The register tile is `rows` x (`vectors` * `lanes`). A task is `block` tiles of rows by `group`
    panels of columns. `even`: the tiles of m differ by one row at most (m is known); otherwise all
    have `rows` but the last. `turned`: there is one row, and the columns of rhs lie along k: they
    are turned in registers. `tables`: lhs is read where it lies, through tables of rows and k's.
    `beside`: so are vectors of lhs and rhs, which are multiplied lane by lane.
    `fold`: an element of the packed panels holds so many k's (see `folded`). `chain`: a chunk of k
    is not longer. `ahead`: rhs, which few rows read once, is fetched so many k's ahead. `slab`: so
    many panels of rhs are packed at once.
    """

    rows: int
    vectors: int
    lanes: int
    pack_lhs: bool
    pack_rhs: bool
    even: bool
    block: Size
    group: Size
    turned: bool = False
    tables: bool = False
    beside: bool = False
    fold: int = 1
    chain: int = CHUNK
    ahead: int = 0
    slab: int = 1

    @property
    def offset(self) -> bool:
        """Whether lhs is packed with 128 added, and rhs with the sums of its columns."""
        return self.fold == 4

    @property
    def columns(self) -> int:
        """The columns of a tile, which are those of a panel."""
        return self.vectors * self.lanes


@dataclass(frozen=True, slots=True)
class Cut:
    """How a product of known size is launched.

    A task takes `block` tiles by `group` panels, of which there are `tasks`; a thread is worth its
    waking for `tasks_per_thread`, and asks its context for `scratch_bytes` at most.
    """

    block: int
    group: int
    tasks: int
    tasks_per_thread: int
    scratch_bytes: int


def choose_tiling(spec: ProductSpec, isa: Isa, block: Size = 0, group: Size = 0) -> Tiling:
    """The tiling for `spec`: by its extents where they are known, else one that suits most.

    With unknown extents, `block` and `group` name the parameters; `cut` gives their numbers.
    """
    tiling = _chosen(spec, isa, block, group)
    return replace(tiling, slab=_slab(spec, tiling))


def _chosen(spec: ProductSpec, isa: Isa, block: Size, group: Size) -> Tiling:
    if spec.beside:
        return _beside(spec, isa, block, group)
    lanes = isa.lanes(_accumulator_bits(spec.dtype))
    if (spec.m, spec.n) == (1, 1):
        # The least that there are instructions for.
        lanes = 4 if _in_pairs(spec.dtype, isa) else 1
    tables = spec.tables is not None
    turned = _turns_rhs(spec) and not tables
    pack_rhs = _packs_rhs(spec) and not turned
    rows, vectors = (1, 1) if turned else _register_tile(spec, isa, lanes, pack_rhs)
    pack_lhs = not tables and _packs_lhs(spec, rows, vectors * lanes)
    if not (pack_lhs or tables) and rows > 8 and _collides(spec):
        rows, vectors = _low_tile(spec, isa, rows, vectors)
    folding = _folding(spec.dtype, isa, tables or lanes == 1)
    if not spec.is_static:
        even = isinstance(spec.m, int) and not tables
        rows = _even_rows(spec, spec.m, rows) if isinstance(spec.m, int) else rows
        tiling = Tiling(
            rows, vectors, lanes, pack_lhs, pack_rhs, even, block, group, turned, tables
        )
        return replace(tiling, ahead=_ahead(spec, tiling), **folding)
    batch, m, n, k = extents_of(spec)
    rows = _even_rows(spec, m, rows)
    tiling = Tiling(rows, vectors, lanes, pack_lhs, pack_rhs, not tables, 1, 1, turned, tables)
    tiling = replace(tiling, ahead=_ahead(spec, tiling), **folding)
    made = cut(spec.dtype, tiling, batch, m, n, k)
    return replace(tiling, block=made.block, group=made.group)


def _beside(spec: ProductSpec, isa: Isa, block: Size, group: Size) -> Tiling:
    # Nine rows are the places of a 3x3 window, whose weights' derivative has no others.
    rows, vectors = (9, 2) if isa.registers >= 32 else (9, 1)
    lanes = isa.lanes(_accumulator_bits(spec.dtype))
    tiling = Tiling(
        rows, vectors, lanes, False, False, False, block, group, tables=True, beside=True
    )
    tiling = replace(tiling, **_folding(spec.dtype, isa, plain=True))
    if not spec.is_static:
        return tiling
    batch, m, n, k = extents_of(spec)
    tiling = replace(tiling, rows=_even_rows(spec, m, rows), block=1, group=1)
    made = cut(spec.dtype, tiling, batch, m, n, k)
    return replace(tiling, block=made.block, group=made.group)


def cut(dtype: DType, tiling: Tiling, batch: int, m: int, n: int, k: int) -> Cut:
    """The launch of a size-generic product, whose tiling leaves block and group open.

    The cheapest of a few ways: packing repeated for each block or group costs time, and so do tasks
    too few or too uneven to share out, and a block of lhs too large for the second-level cache.
    """
    block, group = ranked_ways(tiling, batch, m, n, k)[0]
    return _launch(dtype, replace(tiling, block=block, group=group), batch, m, n, k)


def ranked_ways(tiling: Tiling, batch: int, m: int, n: int, k: int) -> list[tuple[int, int]]:
    """The (block, group) that a task may take, the cheapest by the cost model first."""
    tiles, panels = _tiles_and_panels(tiling, m, n)
    blocks, groups = _ways(tiles), _ways(panels)
    # Through tables the rows of a block mostly read what their neighbours read; beside rhs, a line
    # of n for each row, which each panel reads a part of.
    depth = -(-k // tiling.fold)
    deep = (
        8 * n if tiling.beside else min(depth, CHUNK) * (1 if tiling.tables else 4)
    ) * tiling.rows
    fits = [block for block in blocks if block * deep <= _cached()] or [blocks[-1]]
    ways = product(fits, groups)
    return sorted(ways, key=lambda way: _cost(tiling, batch, tiles, panels, depth, *way))


def static_cut(spec: ProductSpec, tiling: Tiling) -> Cut:
    """The launch of a static product."""
    return _launch(spec.dtype, tiling, *extents_of(spec))


def one_task(dtype: DType, tiling: Tiling, m: int, n: int, k: int) -> Cut:
    """The launch of a size-generic product as one task; the sizes are the largest it may get."""
    tiles, panels = _tiles_and_panels(tiling, m, n)
    whole = replace(tiling, block=max(tiles, 1), group=max(panels, 1))
    return _launch(dtype, whole, 1, m, n, k)


def chunk_length(k: int, most: int = CHUNK) -> int:
    """The length of the chunks of k, but of the last: all the same, and not over `most`.

    >>> chunk_length(784), chunk_length(512), chunk_length(513)
    (392, 512, 264)
    """
    even = -(-k // max(1, -(-k // most)))
    return max(8, -(-even // 8) * 8)


def lhs_width(tiling: Tiling) -> int:
    """The columns of a packed panel of lhs: its rows, in whole vectors."""
    return -(-tiling.rows // tiling.lanes) * tiling.lanes


def panel_depth(chunk: int, tiling: Tiling) -> int:
    """The rows of a packed panel, for a chunk of so many k's: one more for the sums of columns."""
    return chunk // tiling.fold + tiling.offset


def _launch(dtype: DType, tiling: Tiling, batch: int, m: int, n: int, k: int) -> Cut:
    block, group = _known(tiling.block), _known(tiling.group)
    tiles, panels = _tiles_and_panels(tiling, m, n)
    tasks = batch * -(-tiles // block) * -(-panels // group)
    products = block * tiling.rows * group * tiling.columns * max(k, 1)
    chunk = chunk_length(k, tiling.chain)
    span = SPAN if tiling.pack_lhs else min(SPAN, KEPT // (block * tiling.rows))
    kept = min(max(span // (group * tiling.columns), 1) * group, panels)
    deep = panel_depth(chunk, tiling)
    counts = (
        tiling.slab * deep * tiling.columns,
        tiling.pack_lhs * block * deep * lhs_width(tiling),
        block * kept * tiling.rows * tiling.columns,
    )
    bytes = [-(-count * _accumulator_bits(dtype) // 512) * 64 for count in counts]
    tables = -(-(block + 1) * tiling.rows // 8) + -(-chunk // 8) if tiling.tables else 0
    return Cut(block, group, tasks, -(-_WORTH_A_THREAD // products), sum(bytes) + 64 * tables)


def _tiles_and_panels(tiling: Tiling, m: int, n: int) -> tuple[int, int]:
    return -(-m // tiling.rows), -(-n // tiling.columns)


# Multiplications.
_WORTH_A_THREAD = 100_000
# In vector multiply-adds: what a task costs to hand out, a vector of either to pack, and one of rhs
# to read again where it lies.
_TASK, _LHS, _RHS, _AGAIN = 4000, 8, 10, 4
# A thread takes a quarter of its share of the tasks at once.
_SHARES = 4


def _cost(
    tiling: Tiling, batch: int, tiles: int, panels: int, k: int, block: int, group: int
) -> float:
    blocks, groups = -(-tiles // block), -(-panels // group)
    tasks = batch * blocks * groups
    work = block * group * tiling.rows * tiling.vectors * k
    fetched_rhs = group * tiling.vectors * k * (_RHS if tiling.pack_rhs else _AGAIN)
    # Rows are packed for all tasks that a thread does one after the other.
    packed_lhs = tiling.pack_lhs * batch * tiles * tiling.rows * k / tiling.lanes * _LHS
    turns = fmean(_turns(tasks, threads) for threads in _thread_counts())
    # A thread may come late: the last task is waited for.
    return (work + fetched_rhs) * (turns + 0.25) + packed_lhs * min(groups, 2) + _TASK * tasks


def _cached() -> int:
    """Bytes of lhs that a block may take of the second-level cache; rhs and sums need some too."""
    return cache_bytes(2) * 11 // 16


@cache
def _thread_counts() -> tuple[int, ...]:
    """The numbers of threads that a kernel should suit: powers of two up to the cores, or to 16."""
    return tuple(1 << n for n in range(5) if 1 << n <= usable_cores())


def _turns(tasks: int, threads: int) -> int:
    """Tasks that fit into the time it takes so many threads to do these."""
    share = -(-tasks // max(min(tasks, threads * _SHARES), 1))
    shares = -(-tasks // max(share, 1))
    return -(-shares // threads) * share * threads


def _ways(count: int) -> list[int]:
    """Sizes of equal parts of `count`, from all of it down; 1 where there is nothing."""
    count = max(count, 1)
    return sorted({-(-count // parts) for parts in _PARTS if parts <= count}, reverse=True)


_PARTS = (*range(1, 9), 10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 128, 256, 512, 1024)


def _register_tile(spec: ProductSpec, isa: Isa, lanes: int, packed: bool) -> tuple[int, int]:
    # rows * vectors sums, a vector of rhs each and one broadcast of lhs must fit the registers.
    tallest, widest = {512: (14, 2), 256: (6, 2)}.get(isa.vector_bits, (4, 2))
    needed = -(-spec.n // lanes) if isinstance(spec.n, int) else widest
    if needed <= 1 and spec.m != 1:
        return (isa.registers - 4, 1)
    if isinstance(spec.m, int) and spec.m < tallest - 1:
        rows = max(1, spec.m)
        if rows == 1 and not packed and needed > 8:
            # A wide piece of each row of rhs, which the memory gives faster than many narrow ones.
            return 1, -(-needed // -(-needed // (isa.registers // 2)))
        room = (8 if not packed else 4) if rows == 1 else (isa.registers - 1) // (rows + 1)
        return rows, max(1, min(room, 8, needed if isinstance(spec.n, int) else room))
    if needed % 2 and needed <= _FEW_VECTORS and spec.tables is None and spec.dtype in NATIVE:
        # Panels of two vectors would leave half of the last one idle.
        return ((isa.registers - 1) // 3 - 1, 3) if needed % 3 == 0 else (isa.registers - 4, 1)
    return tallest, widest


_FEW_VECTORS = 9
"""Columns in so many vectors or fewer: half a panel is a tenth of the work."""


def _ahead(spec: ProductSpec, tiling: Tiling) -> int:
    """How many k's ahead rhs is fetched: further where each lies in a page of its own."""
    few = isinstance(spec.m, int) and spec.m <= _ONE_TILE
    if not few or tiling.pack_rhs or tiling.turned or tiling.tables or tiling.lanes == 1:
        return 0
    step = spec.rhs.first * spec.dtype.bytes if isinstance(spec.rhs.first, int) else _PAGE
    return 16 if step <= _PAGE else 32


_PAGE = 4096
"""Bytes of a page of memory."""


def fetches_panels(spec: ProductSpec) -> bool:
    """Whether tiles that tables serve fetch the next panel of rhs: along lines of memory."""
    return spec.tables is not None and not spec.beside and spec.rhs.second == 1


def fetched_rows(spec: ProductSpec, tiling: Tiling) -> int:
    """The level of cache to which such tiles fetch the rows of the next one; 0: they do not.

    It is the nearest one if that can hold a line of each row of both, wherever k stands.
    """
    if spec.tables is None or spec.beside or spec.tables.depth_strides[-1:] != (1,):
        return 0
    step = spec.tables.row_strides[-1]
    if not isinstance(step, int):
        return 2
    # Lines 4 KiB apart share a set of eight.
    held = 8 * (_PAGE // gcd(step * spec.dtype.bytes, _PAGE))
    return 1 if 2 * tiling.rows <= held else 2


def _low_tile(spec: ProductSpec, isa: Isa, rows: int, vectors: int) -> tuple[int, int]:
    """A tile low enough for rows of lhs that collide, if there are columns for it."""
    wide = isinstance(spec.n, int) and spec.n % (4 * isa.lanes(_accumulator_bits(spec.dtype))) == 0
    return (7, 4) if wide and isa.registers >= 32 else (rows, vectors)


def _even_rows(spec: ProductSpec, m: int, tallest: int) -> int:
    """The height of tiles that are as even as can be; through tables, one that divides a line.

    128 rows are 18 tiles of 6 and 4 of 5, not 21 and one of 2. Where no height divides a line, rows
    too many are weighed against a row's worth that each tile costs: 49 are 5 of 10, not 4 of 13.
    """
    if spec.tables is None:
        return -(-m // -(-m // tallest)) if m else tallest
    line = spec.tables.rows[-1] if spec.tables.rows else 0
    if isinstance(line, int) and line:
        for rows in range(min(tallest, line), -(-6 * tallest // 7) - 1, -1):
            if line % rows == 0:
                return rows
    tallest = min(tallest, max(m, 1))
    heights = range(-(-5 * tallest // 7), tallest + 1)
    return min(heights, key=lambda rows: (-(-m // rows) * (rows + 1), -rows))


def _packs_rhs(spec: ProductSpec) -> bool:
    if spec.dtype not in NATIVE:
        return True
    if (spec.m, spec.n) == (1, 1):
        return False
    # A panel of a long row is a few cache lines in each page: packing gathers them, which pays once
    # a panel is used by many tiles of rows.
    few = isinstance(spec.m, int) and spec.m <= (_FEW_ROWS if _is_near(spec) else _ONE_TILE)
    row = spec.rhs.first * spec.dtype.bytes if isinstance(spec.rhs.first, int) else _SHORT_ROW + 1
    return spec.rhs.second != 1 or not (few or row <= _SHORT_ROW)


def _is_near(spec: ProductSpec) -> bool:
    """Whether rhs may be in the last cache, or is not known to be larger."""
    if not (isinstance(spec.k, int) and isinstance(spec.n, int)):
        return True
    return 2 * spec.k * spec.n * spec.dtype.bytes < cache_bytes(3)


_FEW_ROWS = 96
"""Rows of lhs up to which panels of rhs are read where they lie, however long its rows are."""

_ONE_TILE = 8
"""The same where rhs comes from memory: rows that a single tile takes."""

_SHORT_ROW = 2048
"""Bytes from one k of rhs to the next up to which its panels are read where they lie."""


def _slab(spec: ProductSpec, tiling: Tiling) -> int:
    """How many panels of rhs have a cache line of each row together, where they are packed."""
    line = tiling.columns * spec.dtype.bytes
    whole = tiling.pack_rhs and spec.rhs.second == 1 and line < _LINE and _LINE % line == 0
    return _LINE // line if whole and tiling.fold > 1 else 1


_LINE = 64
"""Bytes of a cache line."""


def _turns_rhs(spec: ProductSpec) -> bool:
    one_row = spec.m == 1 and spec.n != 1
    return one_row and spec.rhs.first == 1 and spec.rhs.second != 1 and spec.dtype in NATIVE


def _packs_lhs(spec: ProductSpec, rows: int, columns: int) -> bool:
    if spec.dtype not in NATIVE:
        return True
    if spec.m == 1 or (isinstance(spec.n, int) and spec.n <= columns):
        return False
    wide = isinstance(spec.n, int) and spec.n >= 8 * columns
    return spec.lhs.second != 1 or (wide and rows > 8 and _collides(spec))


def _collides(spec: ProductSpec) -> bool:
    """Whether rows of lhs lie so that a nearest cache of 4 KiB a way can hold few of them at once.

    Lines a multiple of that apart share a set, of eight lines at least.
    """
    step = spec.lhs.first * spec.dtype.bytes if isinstance(spec.lhs.first, int) else 0
    return step > 0 and step % 4096 == 0


NATIVE = (float32, float64, int32, uint32, int64, uint64)
"""Dtypes whose accumulator is themselves, so that a tile may read them where they lie."""


def _in_pairs(dtype: DType, isa: Isa) -> bool:
    """Whether products are summed two at a time, which is then part of the bit contract."""
    return dtype.is_floating and fold_of(dtype, isa) == 2


def _folding(dtype: DType, isa: Isa, plain: bool) -> dict[str, int]:
    """The fold of a tiling, and the length of its chains; `plain` integers are not folded."""
    fold = fold_of(dtype, isa)
    if _in_pairs(dtype, isa):
        return {"fold": fold}
    return {} if plain else {"fold": fold, "chain": CHUNK * fold}


def _accumulator_bits(dtype: DType) -> int:
    return 64 if dtype.bits == 64 else 32


def extents_of(spec: ProductSpec) -> tuple[int, int, int, int]:
    """The batch, m, n and k of a static product."""
    return prod(map(_known, spec.batch)), _known(spec.m), _known(spec.n), _known(spec.k)


def _known(size: Size) -> int:
    assert isinstance(size, int), "this is asked of static products only"
    return size
