"""Which tiling suits a product? The register tile, what is packed, how far rhs is fetched ahead.

By the extents where they are known, else what suits most. Nothing here touches a result's bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import gcd

from pellucid.core.dtype import (
    DType,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
    uint32,
    uint64,
)
from pellucid.core.machine import cache_bytes, usable_cores
from pellucid.engines.llvm.amx import TILE_BYTES, TILE_ROWS
from pellucid.engines.llvm.folded import fold_of
from pellucid.engines.llvm.one_row import TOGETHER
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.tiling import (
    CHUNK,
    LINE,
    ProductSpec,
    Size,
    Tiling,
    accumulator_bits,
    chunk_length,
    cut,
    extents_of,
)
from pellucid.engines.llvm.turned_choice import line_tiling


def choose_tiling(spec: ProductSpec, isa: Isa, block: Size = 0, group: Size = 0) -> Tiling:
    """The tiling for `spec`: by its extents where they are known, else one that suits most.

    With unknown extents, `block` and `group` name the parameters; `cut` gives their numbers.
    """
    chosen = _in_tiles if _suits_amx(spec, isa) else _chosen
    tiling = chosen(spec, isa, block, group)
    tiling = replace(tiling, slab=_slab(spec, tiling), whole=spec.whole)
    return replace(tiling, fetched=_fetches_packed(spec, tiling))


def _suits_amx(spec: ProductSpec, isa: Isa) -> bool:
    """Whether rows of lhs lie along k, as tiles read them; what does not is summed in vectors."""
    rows = spec.lhs.second == 1 and spec.lhs.first != 1 and spec.tables is None
    plain = not spec.folded and (spec.m, spec.n) != (1, 1)
    return isa.has_tiles and spec.dtype in (int8, uint8) and rows and plain


def _in_tiles(spec: ProductSpec, isa: Isa, block: Size, group: Size) -> Tiling:
    fold = fold_of(spec.dtype, isa)
    vectors = 1 if isinstance(spec.n, int) and spec.n <= TILE_ROWS else 2
    tiling = Tiling(2 * TILE_ROWS, vectors, 16, True, True, False, block, group, amx=True)
    tiling = replace(tiling, fold=fold, chain=CHUNK * fold)
    if not spec.is_static:
        return tiling
    batch, m, n, k = extents_of(spec)
    # Where they lie, rows of lhs have to end with whole tiles.
    whole = k % TILE_BYTES == 0 and chunk_length(k, tiling.chain) % TILE_BYTES == 0
    rows = _even(m, max(-(-m // tiling.rows), 1))
    tiling = replace(tiling, rows=rows, pack_lhs=not whole, even=True, block=1, group=1)
    made = cut(spec.dtype, tiling, batch, m, n, k)
    return replace(tiling, block=made.block, group=made.group)


def _chosen(spec: ProductSpec, isa: Isa, block: Size, group: Size) -> Tiling:
    in_lines = line_tiling(spec, isa)
    if in_lines is not None:
        return in_lines
    if spec.beside:
        return _beside(spec, isa, block, group)
    lanes = isa.lanes(accumulator_bits(spec.dtype))
    if (spec.m, spec.n) == (1, 1):
        # The least that there are instructions for.
        lanes = 4 if _in_pairs(spec.dtype, isa) else 1
    tables = spec.tables is not None
    turned = _turns_rhs(spec) and not tables
    pack_rhs = _packs_rhs(spec) and not turned
    streamed = not (tables or turned or pack_rhs) and _streams_rhs(spec, lanes)
    rows, vectors = (1, 1) if turned else _register_tile(spec, isa, lanes, pack_rhs)
    if streamed:
        vectors = _streamed_vectors(spec, lanes)
    pack_lhs = not tables and _packs_lhs(spec, rows, vectors * lanes)
    if not (pack_lhs or tables) and rows > _lines_held(spec):
        rows, vectors = _low_tile(spec, isa, lanes)
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
    tiling = replace(tiling, streamed=streamed, shared=_shared(spec), **folding)
    tiling = replace(tiling, ahead=_ahead(spec, tiling))
    made = cut(spec.dtype, tiling, batch, m, n, k)
    return replace(tiling, block=made.block, group=made.group)


def _beside(spec: ProductSpec, isa: Isa, block: Size, group: Size) -> Tiling:
    # Nine rows are the places of a 3x3 window, whose weights' derivative has no others.
    rows, vectors = (9, 2) if isa.registers >= 32 else (9, 1)
    lanes = isa.lanes(accumulator_bits(spec.dtype))
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


def _shared(spec: ProductSpec) -> int:
    """The elements of lhs that rows have in common at each k, if they are many and lie far.

    Rows of a window's weights are its places by channels: they all see the same images.
    """
    tables = spec.tables
    if tables is None or tables.row_strides[-1:] != (1,):
        return 0
    (channels,), k = (tables.rows[-1:], extents_of(spec)[3])
    assert isinstance(channels, int), "this is asked of static products only"
    return channels if k * channels * spec.dtype.bytes > 4 * cache_bytes(2) else 0


def _register_tile(spec: ProductSpec, isa: Isa, lanes: int, packed: bool) -> tuple[int, int]:
    # rows * vectors sums, a vector of rhs each and one broadcast of lhs must fit the registers.
    tallest, widest = {512: (14, 2), 256: (6, 2)}.get(isa.vector_bits, (4, 2))
    needed = -(-spec.n // lanes) if isinstance(spec.n, int) else widest
    if needed <= 1 and spec.m != 1:
        return (isa.registers - 4, 1)
    if spec.tables is not None and isinstance(spec.n, int) and spec.m != 1:
        tallest, widest = _wide_tile(spec, isa, needed) or (tallest, widest)
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


def _wide_tile(spec: ProductSpec, isa: Isa, needed: int) -> tuple[int, int] | None:
    """A tile of three or four vectors, where tables find lhs; None: of two.

    It reads lhs half as often, and writes longer pieces of results: that pays where there are few
    k's beside. Columns in three vectors leave none of it idle.
    """
    if isa.registers < 32 or spec.dtype not in NATIVE or spec.beside:
        return None
    if needed % 4 == 0:
        return (6, 4) if isinstance(spec.k, int) and spec.k <= _FEW_DEPTHS else None
    return (8, 3) if needed % 3 == 0 else None


_FEW_DEPTHS = 320
"""The k's up to which it is worth more to read lhs once than to have tall tiles."""

_FEW_VECTORS = 9
"""Columns in so many vectors or fewer: half a panel is a tenth of the work."""


def _ahead(spec: ProductSpec, tiling: Tiling) -> int:
    """How many k's ahead rhs is fetched: further where each lies in a page of its own."""
    if tiling.streamed:
        return 0 if _is_near(spec) else TOGETHER
    few = isinstance(spec.m, int) and (spec.folded or spec.m <= _ONE_TILE)
    if not few or tiling.pack_rhs or tiling.turned or tiling.tables or tiling.lanes == 1:
        return 0
    bytes = 4 if spec.folded else spec.dtype.bytes
    step = spec.rhs.first * bytes if isinstance(spec.rhs.first, int) else _PAGE
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
    return 1 if 2 * tiling.rows <= _rows_held(step * spec.dtype.bytes) else 2


def _low_tile(spec: ProductSpec, isa: Isa, lanes: int) -> tuple[int, int]:
    """A tile low enough for rows of lhs that collide: the widest, unless much of it were idle."""
    # Beside sums and a line of rhs there is a number of lhs; 32 registers are those of AVX-512.
    held, registers = _lines_held(spec), isa.registers - (1 if isa.registers == 32 else 2)
    tiles = [(min(held, registers // vectors - 1), vectors) for vectors in (1, 2, 3, 4)]
    needed = -(-spec.n // lanes) if isinstance(spec.n, int) else tiles[-1][1]

    def cost(tile: tuple[int, int]) -> float:
        # In multiply-adds of a row of the result; a tile costs one more for each k.
        rows, vectors = tile
        return -(-needed // vectors) * (vectors + 1 / rows)

    return min(tiles, key=cost)


def _lines_held(spec: ProductSpec) -> int:
    """Of how many rows of lhs the nearest cache can hold a line, as far as that is known."""
    step = spec.lhs.first if isinstance(spec.lhs.first, int) else 0
    return _rows_held(step * spec.dtype.bytes)


def _rows_held(step: int) -> int:
    """Of how many rows so many bytes apart the nearest cache can hold a line, wherever k stands.

    Lines 4 KiB apart share a set, of eight lines at least.
    """
    return 8 * (_PAGE // gcd(step or 1, _PAGE))


def _even_rows(spec: ProductSpec, m: int, tallest: int) -> int:
    """The height of tiles that are as even as can be; through tables, one that divides a line.

    128 rows are 18 tiles of 6 and 4 of 5, not 21 and one of 2. Rows too many, which are computed
    twice, are weighed against a row's worth that each tile costs: 256 are 20 tiles of 13, not 19 of
    14; 49 through tables are 5 of 10, not 4 of 13.
    """
    if spec.tables is None:
        fewest = max(-(-m // tallest), 1)
        return _least_rows(m, (_even(m, tiles) for tiles in (fewest, fewest + 1)))
    line = spec.tables.rows[-1] if spec.tables.rows else 0
    if isinstance(line, int) and line:
        for rows in range(min(tallest, line), -(-6 * tallest // 7) - 1, -1):
            if line % rows == 0:
                return rows
    tallest = min(tallest, max(m, 1))
    return _least_rows(m, range(-(-5 * tallest // 7), tallest + 1))


def _even(m: int, tiles: int) -> int:
    """The height of so many tiles."""
    return max(-(-m // tiles), 1)


def _least_rows(m: int, heights: Iterable[int]) -> int:
    """The height of tiles by which the fewest rows are computed; the taller one of equals."""
    return min(heights, key=lambda rows: (-(-m // rows) * (rows + 1), -rows))


def _packs_rhs(spec: ProductSpec) -> bool:
    if spec.folded:
        return spec.rhs.second != 1
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


def _fetches_packed(spec: ProductSpec, tiling: Tiling) -> bool:
    """Whether tiles fetch the panels of rhs that are packed next: short pieces of long rows."""
    along = spec.rhs.second == 1 and spec.is_static and not (tiling.amx or tiling.tables)
    return tiling.pack_rhs and along and not spec.folded and tiling.block != 1


def _slab(spec: ProductSpec, tiling: Tiling) -> int:
    """How many panels of rhs have a cache line of each row together, where they are packed."""
    if tiling.streamed:
        return 0
    line = tiling.columns * spec.dtype.bytes
    plain = tiling.pack_rhs and not spec.folded
    whole = plain and spec.rhs.second == 1 and line < LINE and LINE % line == 0
    return LINE // line if whole and tiling.fold > 1 else 1


def _turns_rhs(spec: ProductSpec) -> bool:
    one_row = spec.m == 1 and spec.n != 1
    return one_row and spec.rhs.first == 1 and spec.rhs.second != 1 and spec.dtype in NATIVE


def _streams_rhs(spec: ProductSpec, lanes: int) -> bool:
    """Whether rhs is read in long lines: one row, too wide for its sums to stay in registers."""
    one_row = spec.is_static and spec.m == 1 and spec.dtype in NATIVE
    return one_row and isinstance(spec.n, int) and spec.n > _NARROW * lanes


def _streamed_vectors(spec: ProductSpec, lanes: int) -> int:
    """How wide a line is: a page of memory at most, less if there are threads to share it."""
    _, _, n, _ = extents_of(spec)
    needed = -(-n // lanes)
    widest = _PAGE * 8 // (accumulator_bits(spec.dtype) * lanes)
    parts = max(-(-needed // widest), min(needed // _NARROW, usable_cores()))
    return -(-needed // parts)


_NARROW = 16
"""Columns in so many vectors: a line no longer is summed up in registers."""


def _packs_lhs(spec: ProductSpec, rows: int, columns: int) -> bool:
    if spec.dtype not in NATIVE:
        return True
    if spec.m == 1 or (isinstance(spec.n, int) and spec.n <= columns):
        return False
    wide = isinstance(spec.n, int) and spec.n >= 8 * columns
    if spec.whole and spec.lhs.first == 1 and not wide:
        # Few k's, for few panels: a tile's rows are neighbours in a line of each k.
        return False
    return spec.lhs.second != 1 or (wide and rows > _lines_held(spec))


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
