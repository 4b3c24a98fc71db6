"""What is the product to be made, and how is it cut into tiles, blocks and tasks?

A `ProductSpec` says what: extents and strides, each known now or a parameter of the kernel. A
`Tiling` says how: the register tile, what is packed, how much one task takes. Nothing here touches
the bits of a result; a tiling only decides how fast it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import prod
from statistics import fmean

from pellucid.core.dtype import DType
from pellucid.core.machine import cache_bytes, usable_cores
from pellucid.engines.llvm.amx import TILE_BYTES, TILE_ROWS

CHUNK = 512
"""The most k's in one chain of multiply-adds: part of the bit contract."""

SPAN = 1024
"""Columns whose running totals a thread keeps at once, if one group has not more."""

KEPT = 1 << 16
"""How many running totals it keeps at once, if one group has not more: they are to stay near.

Where rows are packed for each span there may be more, for packing costs more than far totals.
"""

LINE = 64
"""Bytes of a cache line."""


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

    def in_elements(self, fold: int) -> Strides:
        """The same steps, known and multiples of `fold`, in elements that hold so many numbers."""
        batch = tuple(_known(step) // fold for step in self.batch)
        return Strides(batch, _known(self.first) // fold, _known(self.second) // fold)


@dataclass(frozen=True, slots=True)
class Bound:
    """Steps of a position along the loops of m and of k; from 0 to below `size` an element is read.

    Elsewhere there are zeros. Everything is known.
    """

    rows: tuple[int, ...]
    depths: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Tables:
    """Where lhs lies if m, and k, are several loops each (row-major): their extents and strides.

    Elements are zeros where they are not within all `bounds`; the first would lie at `offset`.
    """

    rows: tuple[Size, ...]
    depths: tuple[Size, ...]
    row_strides: tuple[Size, ...]
    depth_strides: tuple[Size, ...]
    bounds: tuple[Bound, ...] = ()
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Groups:
    """So many `columns` of rhs see the same elements of lhs, the next so many those `step` on."""

    columns: int
    step: int


@dataclass(frozen=True, slots=True)
class ProductSpec:
    """out[b, m, n] = sum over k of lhs[b, m, k] * rhs[b, k, n], in `dtype`.

    Strides are those of lhs as (m, k), rhs as (k, n) and, where no epilogue stores, out as (m, n).
    `pointers` counts the kernel's buffers. A unit stride should be given as the int 1. With
    `tables`, lhs[b, m, k] lies at the sum of a number for m and a number for k; it then may also be
    `beside` rhs: lhs[b, m, k, n], at step 1 along n, takes its place; or columns come in `groups`.
    `folded`: rhs lies in memory in elements of 32 bits that hold several k's, as many as the tiling
    folds; K is a multiple of it. Its strides are in such elements, from one to the next.
    `whole`: K is not known, but not more than CHUNK.
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
    folded: bool = False
    groups: Groups | None = None
    whole: bool = False

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
    are turned in registers. `streamed`: there is one row, whose sums are kept in memory while rows
    of rhs are read side by side. `tables`: lhs is read where it lies, through tables of rows and
    k's. `beside`: so are vectors of lhs and rhs, which are multiplied lane by lane.
    `fold`: an element of the packed panels holds so many k's (see `folded`). `chain`: a chunk of k
    is not longer. `ahead`: rhs, which few rows read once, is fetched so many k's ahead. `slab`: so
    many panels of rhs are packed at once. `fetched`: tiles fetch those that are packed next. `amx`:
    the register tile is a square of AMX's tiles. `line`: rows come in lines of so many, each cut by
    itself; a task is `block` lines. `idle`: so many lanes of each vector have no column. `sums`: it
    is k that runs along lines. `across`: so do vectors, and rows are lines (see
    `turned_choice`). `shared`: at each k all rows see the same few elements of lhs, which come from
    far: so many. `whole`: k, though not known, is one chunk.
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
    amx: bool = False
    streamed: bool = False
    fetched: bool = False
    line: int = 0
    idle: int = 0
    sums: bool = False
    across: bool = False
    shared: int = 0
    whole: bool = False

    @property
    def offset(self) -> bool:
        """Whether one operand has 128 added, and the other is packed with its sums over k.

        It is added to lhs, as that is packed, or to a rhs that is folded in memory, as it is read.
        """
        return self.fold == 4 and not self.amx

    @property
    def in_lines(self) -> bool:
        """Whether results, or sums over k, are made line by line."""
        return self.line > 0 or self.sums

    @property
    def columns(self) -> int:
        """The columns of a tile, which are those of a panel."""
        return self.vectors * (self.lanes - self.idle)


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
    deep = (8 * n if tiling.beside else min(depth, CHUNK) * (1 if tiling.tables else 4)) * (
        tiling.line or tiling.rows
    )
    fits = [block for block in blocks if block * deep <= _cached()] or [blocks[-1]]
    ways = product(fits, groups)
    return sorted(ways, key=lambda way: _cost(tiling, batch, tiles, panels, depth, *way))


def static_cut(spec: ProductSpec, tiling: Tiling) -> Cut:
    """The launch of a static product."""
    made = _launch(spec.dtype, tiling, *extents_of(spec))
    if tiling.in_lines:
        return replace(made, scratch_bytes=sums_bytes(spec, tiling) if tiling.sums else 0)
    if spec.tables is None or not spec.tables.bounds:
        return made
    # Which places of each row exist, and a line of zeros.
    bits = 64 * -(-(made.block + 1) * tiling.rows // 8)
    zeros = 64 * -(-zeros_of(spec, tiling) * accumulator_bits(spec.dtype) // 512)
    return replace(made, scratch_bytes=made.scratch_bytes + bits + zeros)


def sums_bytes(spec: ProductSpec, tiling: Tiling) -> int:
    """The scratch memory of a task that sums along lines: a table of its rows, and its totals."""
    tiles = _known(tiling.block) * _known(tiling.group)
    totals = tiles * tiling.rows * tiling.vectors * tiling.lanes
    return table_bytes(spec) + 64 * -(-totals * accumulator_bits(spec.dtype) // 512)


def table_bytes(spec: ProductSpec) -> int:
    """The first of it: a number for each row, and one for each of its bounds."""
    assert spec.tables is not None, "lines are found by tables"
    return 64 * -(-_known(spec.m) * (1 + len(spec.tables.bounds)) // 8)


def run_of(spec: ProductSpec) -> int:
    """The k's that tables with bounds find at one place: a line of memory within all or none."""
    tables = spec.tables
    assert tables is not None, "a window is found by tables"
    line = tables.depth_strides[-1] == 1 and not any(bound.depths[-1] for bound in tables.bounds)
    return _known(tables.depths[-1]) if line and not spec.beside else 1


def zeros_of(spec: ProductSpec, tiling: Tiling) -> int:
    """The elements of a line of zeros: as many as are read from one place on."""
    return tiling.columns if spec.beside else run_of(spec)


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
    if tiling.amx:
        return tiling.rows
    return -(-tiling.rows // tiling.lanes) * tiling.lanes


def panel_depth(chunk: int, tiling: Tiling) -> int:
    """The rows of a packed panel, for a chunk of so many k's: one more for the sums of columns."""
    if tiling.amx:
        return -(-chunk // TILE_BYTES) * TILE_ROWS
    return chunk // tiling.fold + tiling.offset


def _launch(dtype: DType, tiling: Tiling, batch: int, m: int, n: int, k: int) -> Cut:
    block, group = _known(tiling.block), _known(tiling.group)
    tiles, panels = _tiles_and_panels(tiling, m, n)
    tasks = batch * -(-tiles // block) * -(-panels // group)
    products = block * _height(tiling) * group * tiling.columns * max(k, 1)
    chunk = chunk_length(k, tiling.chain)
    span = SPAN if tiling.pack_lhs else min(SPAN, KEPT // (block * tiling.rows))
    kept = min(max(span // (group * tiling.columns), 1) * group, panels)
    totals = 1 if tiling.whole else block * kept
    deep = panel_depth(chunk, tiling)
    counts = (
        tiling.slab * deep * tiling.columns,
        tiling.pack_lhs * block * deep * lhs_width(tiling),
        totals * tiling.rows * tiling.columns,
    )
    bytes = [-(-count * accumulator_bits(dtype) // 512) * 64 for count in counts]
    tables = -(-(block + 1) * tiling.rows // 8) + -(-chunk // 8) if tiling.tables else 0
    return Cut(block, group, tasks, -(-WORTH_A_THREAD // products), sum(bytes) + 64 * tables)


def _tiles_and_panels(tiling: Tiling, m: int, n: int) -> tuple[int, int]:
    return -(-m // (tiling.line or tiling.rows)), -(-n // tiling.columns)


def _height(tiling: Tiling) -> int:
    """The rows that a tile, or all tiles of a line, compute."""
    return -(-tiling.line // tiling.rows) * tiling.rows if tiling.line else tiling.rows


# Multiplications.
WORTH_A_THREAD = 100_000
# In vector multiply-adds: what a task costs to hand out, a vector of either to pack, one of rhs to
# read again where it lies, and one of lhs from memory.
TASK, _LHS, _RHS, _AGAIN, _FAR = 4000, 8, 10, 4, 16
# A thread takes a quarter of its share of the tasks at once.
_SHARES = 4


def _cost(
    tiling: Tiling, batch: int, tiles: int, panels: int, k: int, block: int, group: int
) -> float:
    blocks, groups = -(-tiles // block), -(-panels // group)
    tasks = batch * blocks * groups
    work = block * group * _height(tiling) * tiling.vectors * k
    fetched_lhs = min(tiling.shared, block * tiling.rows) * k / tiling.lanes * _FAR
    fetched_rhs = group * tiling.vectors * k * (_RHS if tiling.pack_rhs else _AGAIN)
    # Rows are packed for all tasks that a thread does one after the other.
    packed_lhs = tiling.pack_lhs * batch * tiles * tiling.rows * k / tiling.lanes * _LHS
    return (
        (work + fetched_lhs + fetched_rhs) * waited_for(tasks)
        + packed_lhs * min(groups, 2)
        + TASK * tasks
    )


def _cached() -> int:
    """Bytes of lhs that a block may take of the second-level cache; rhs and sums need some too."""
    return cache_bytes(2) * 11 // 16


@cache
def _thread_counts() -> tuple[int, ...]:
    """The numbers of threads that a kernel should suit: powers of two up to the cores, or to 16."""
    return tuple(1 << n for n in range(5) if 1 << n <= usable_cores())


def waited_for(tasks: int) -> float:
    """Tasks, of so many, that fit into the time until all are done, by some numbers of threads."""
    # A thread may come late: the last task is waited for.
    return fmean(_turns(tasks, threads) for threads in _thread_counts()) + 0.25


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


def accumulator_bits(dtype: DType) -> int:
    """The bits of the sums of products of `dtype`."""
    return 64 if dtype.bits == 64 else 32


def extents_of(spec: ProductSpec) -> tuple[int, int, int, int]:
    """The batch, m, n and k of a static product."""
    return prod(map(_known, spec.batch)), _known(spec.m), _known(spec.n), _known(spec.k)


def _known(size: Size) -> int:
    assert isinstance(size, int), "this is asked of static products only"
    return size
