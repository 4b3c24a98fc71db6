"""Which convolutions are made line by line, and in which tiles? Those whose columns are grouped.

Where few channels make few features, or one makes one, a vector holds the columns of several
groups, and the elements of lhs that these see lie in a line of memory. Results then are made line
by line (`lines`); where they are a window's weights, sums over k run along lines (`line_sums`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pellucid.core.machine import cache_bytes
from pellucid.engines.llvm.folded import fold_of
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.tiling import (
    CHUNK,
    Bound,
    Groups,
    ProductSpec,
    Size,
    Tables,
    Tiling,
    accumulator_bits,
    extents_of,
    ranked_ways,
)


def grouped_tiling(spec: ProductSpec, isa: Isa) -> Tiling | None:
    """The tiling of a product whose columns are grouped, or beside lhs; None: another suits it."""
    tiling = _line_tiling(spec, isa) or _sums_tiling(spec, isa)
    if tiling is None:
        return None
    block, group = ranked_ways(tiling, *extents_of(spec))[0]
    return replace(tiling, block=block, group=group)


def groups_of(spec: ProductSpec) -> Groups | None:
    """The groups of columns: one column each where lhs lies beside rhs."""
    return Groups(1, 1) if spec.beside else spec.groups


def known(sizes: Sequence[Size]) -> tuple[int, ...]:
    """Sizes that are all known."""
    found = tuple(size for size in sizes if isinstance(size, int))
    assert len(found) == len(sizes), "lines are those of products of known sizes"
    return found


def _grouped(spec: ProductSpec) -> tuple[Tables, Groups] | None:
    """Where lhs lies and the groups of columns, if everything is known and nothing goes back."""
    tables, groups = spec.tables, groups_of(spec)
    if tables is None or groups is None or not spec.is_static or spec.rhs.second != 1:
        return None
    steps = (*tables.row_strides, *tables.depth_strides, spec.rhs.first)
    sizes = (*tables.rows, *tables.depths, *spec.lhs.batch, *spec.rhs.batch)
    if not all(isinstance(number, int) for number in (*steps, *sizes)) or min(known(steps)) < 0:
        return None
    _, m, n, k = extents_of(spec)
    return (tables, groups) if m and k and n and n % groups.columns == 0 else None


def _lies_along(groups: Groups, sizes: Sequence[Size], steps: Sequence[Size]) -> bool:
    """Whether the last of some loops goes along what a group sees, if it sees more than one."""
    return groups.step == 1 or (sizes[-1:], steps[-1:]) == ((groups.step,), (1,))


# Results in lines.


@dataclass(frozen=True, slots=True)
class Line:
    """What windows along one line of results meet.

    Results are `length`, at `step` in lhs; windows have `places` along the line, `apart`, for each
    of the `outer` loops of k, and `run` k's at a place. All steps are of elements. The line of lhs
    ends where `bound` says, if it says so.
    """

    length: int
    step: int
    places: int
    apart: int
    run: int
    outer: tuple[int, ...]
    bound: Bound | None


def line_of(spec: ProductSpec) -> Line | None:
    """The lines of a product whose results are made in them; None: it is not one."""
    grouped = _grouped(spec)
    if grouped is None or extents_of(spec)[3] > CHUNK:
        return None
    tables, groups = grouped
    if not tables.rows or not _lies_along(groups, tables.depths, tables.depth_strides):
        return None
    if tables.row_strides[-1] == 0:
        # One place, which bounds tell from padding result by result.
        return None
    sizes, steps = known(tables.depths), known(tables.depth_strides)
    window = len(sizes) - (groups.step > 1)
    met = [bound for bound in tables.bounds if bound.rows[-1]]
    if len(met) > 1 or any(any(bound.depths[window:]) for bound in tables.bounds):
        return None
    along = window > 0 and _goes_along(tables, window - 1, groups.step)
    places, apart = (sizes[window - 1], steps[window - 1]) if along else (1, 0)
    length, step = known(tables.rows)[-1], known(tables.row_strides)[-1]
    bound = met[0] if met else None
    return Line(length, step, places, apart, groups.step, sizes[: window - along], bound)


def _goes_along(tables: Tables, axis: int, run: int) -> bool:
    """Whether a window's last axis lies along the line, and is short enough to be written out."""
    step, apart = known(tables.row_strides)[-1], known(tables.depth_strides)[axis]
    if apart == 0 or known(tables.depths)[axis] * run > MOST_WRITTEN:
        return False
    # Where two places are one element, they have one position, also as bounds see it.
    return all(bound.rows[-1] * apart == bound.depths[axis] * step for bound in tables.bounds)


MOST_WRITTEN = 24
"""k's along a line that are written out for each result of a tile: more take long to compile."""


def _line_tiling(spec: ProductSpec, isa: Isa) -> Tiling | None:
    line, lanes = line_of(spec), _lanes(spec, isa)
    if line is None or lanes is None or line.length < SHORTEST:
        return None
    vectors = _vectors(spec, line, isa, lanes)
    rows = _rows(line, vectors, isa, _is_one_group(spec, lanes[0]))
    return replace(_tiling(rows, vectors, lanes), line=line.length)


SHORTEST = 4
"""Results, or k's, of a line that is worth a tile."""


def _lanes(spec: ProductSpec, isa: Isa) -> tuple[int, int] | None:
    """The lanes of a vector, and how many are idle; None where vectors do not suit the groups.

    A vector holds whole groups, which see what two vectors of lhs hold at most.
    """
    groups = groups_of(spec)
    if groups is None or not spec.dtype.is_floating or fold_of(spec.dtype, isa) > 1:
        return None
    lanes, columns = isa.lanes(accumulator_bits(spec.dtype)), groups.columns
    if columns == lanes:
        return lanes, 0
    if columns > lanes or lanes // columns * groups.step > 2 * lanes:
        return None
    return lanes, lanes % columns


def _tiling(rows: int, vectors: int, lanes: tuple[int, int]) -> Tiling:
    width, idle = lanes
    tiling = Tiling(rows, vectors, width, False, False, False, 1, 1, tables=True, beside=True)
    return replace(tiling, idle=idle)


def _is_one_group(spec: ProductSpec, lanes: int) -> bool:
    groups = groups_of(spec)
    return groups is not None and groups.columns == lanes


def _vectors(spec: ProductSpec, line: Line, isa: Isa, lanes: tuple[int, int]) -> int:
    """The width of a panel."""
    _, m, n, _ = extents_of(spec)
    needed = -(-n // (lanes[0] - lanes[1]))
    if _is_one_group(spec, lanes[0]):
        # A vector of which no column exists would see a group that does not.
        return 2 if needed % 2 == 0 else 1
    if line.run > 1:
        return 1
    # What comes from far comes faster in long pieces, what is near in tiles that hold weights.
    far = m * n * spec.dtype.bytes > 4 * cache_bytes(2) and isa.registers >= 32
    return min(needed, 4 if far else 2)


def holds_weights(line: Line, rows: int, vectors: int, isa: Isa) -> bool:
    """Whether the weights of a window's places along a line stay in registers beside the sums."""
    weights = line.places * line.run * vectors
    return weights + (rows + 1) * vectors + 1 <= isa.registers


def _rows(line: Line, vectors: int, isa: Isa, one_group: bool) -> int:
    """The height of a tile: as tall as registers allow, and even along the line."""
    tallest = (isa.registers - 1) // vectors - 1
    if not one_group:
        room = tallest - line.places * line.run
        tallest = room if room >= LOWEST else tallest
    return even_part(line.length, max(1, min(tallest, line.length)))


LOWEST = 6
"""Rows of a tile that are worth keeping weights in registers for."""


def even_part(length: int, most: int) -> int:
    """The part, of those not much less than `most`, in which a length is cut with the least waste.

    >>> even_part(112, 14), even_part(56, 10), even_part(9, 7)
    (14, 8, 5)
    """
    parts = range(max(1, most // 2), most + 1)
    return min(parts, key=lambda part: (-(-length // part) * (part + 1), -part))


# Sums along lines.


@dataclass(frozen=True, slots=True)
class SumLine:
    """What sums along lines meet.

    k runs along lines of `length`, at `step` in lhs; m over `places`, of `run` each. All steps are
    of elements. The line of lhs ends where `bound` says, if it says so.
    """

    length: int
    step: int
    places: int
    run: int
    bound: Bound | None


def sum_line_of(spec: ProductSpec) -> SumLine | None:
    """The lines along which k of a product runs; None: it is not summed so."""
    grouped = _grouped(spec)
    if grouped is None:
        return None
    tables, groups = grouped
    if not _lies_along(groups, tables.rows, tables.row_strides):
        return None
    met = [bound for bound in tables.bounds if bound.depths[-1]]
    if len(met) > 1 or (groups.step > 1 and any(bound.rows[-1] for bound in tables.bounds)):
        return None
    length, step = known(tables.depths)[-1], known(tables.depth_strides)[-1]
    places = extents_of(spec)[1] // groups.step
    return SumLine(length, step, places, groups.step, met[0] if met else None)


def _sums_tiling(spec: ProductSpec, isa: Isa) -> Tiling | None:
    line, lanes = sum_line_of(spec), _lanes(spec, isa)
    if line is None or lanes is None or line.length < SHORTEST:
        return None
    needed = -(-extents_of(spec)[2] // (lanes[0] - lanes[1]))
    wide = needed > 1 and not _is_one_group(spec, lanes[0])
    vectors = 2 if wide and 2 * FEWEST * line.run <= isa.registers - 4 else 1
    most = (isa.registers - 2 - vectors) // (line.run * vectors)
    if most < 1:
        return None
    places = even_part(line.places, min(most, line.places))
    return replace(_tiling(places * line.run, vectors, lanes), sums=True)


FEWEST = 3
"""Places of a tile of sums that is worth two vectors of columns."""
