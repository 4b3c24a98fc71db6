"""How else could a product be cut? Other tilings, of which measuring may find one faster.

All of them give the same bits; which are worth a try the cost model ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.tile_choice import NATIVE
from pellucid.engines.llvm.tiling import (
    ProductSpec,
    Tiling,
    extents_of,
    ranked_ways,
)
from pellucid.engines.llvm.turned_choice import blocks_of, launch_of, line_tiling

MOST_WAYS = 12
"""How many blocks and groups are worth a try."""


def tile_variants(spec: ProductSpec, isa: Isa, tiling: Tiling) -> tuple[Tiling, ...]:
    """Other register tiles and packings, each with the block and group that suit it."""
    found = dict[Tiling, None]()
    for (rows, vectors), pack_lhs, pack_rhs in product(
        _tiles(spec, isa, tiling), (False, True), (False, True)
    ):
        tile = replace(tiling, rows=rows, vectors=vectors, pack_lhs=pack_lhs, pack_rhs=pack_rhs)
        if fits(spec, isa, replace(tile, block=1, group=1)):
            block, group = _ways(spec, tile)[0]
            found[replace(tile, block=block, group=group)] = None
    found.pop(tiling, None)
    return tuple(found)


def task_variants(spec: ProductSpec, tiling: Tiling) -> tuple[Tiling, ...]:
    """Other blocks and groups for a tile, those first that the cost model holds the best."""
    ways = _ways(spec, tiling)[:MOST_WAYS]
    tilings = (replace(tiling, block=block, group=group) for block, group in ways)
    return tuple(one for one in tilings if one != tiling)


def fits(spec: ProductSpec, isa: Isa, tiling: Tiling) -> bool:
    """Whether a product of known sizes can be cut so: what a tile assumes holds of it."""
    _, m, n, _ = extents_of(spec)
    rows, vectors = tiling.rows, tiling.vectors
    numbers = rows, vectors, tiling.block, tiling.group
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        return False
    if tiling.in_lines:
        chosen = line_tiling(spec, isa)
        tile = chosen and (chosen.rows, chosen.vectors)
        return tile == (rows, vectors) and _is_within(spec, tiling)
    # Several rows share a vector of rhs; one row has it from memory.
    held = rows * vectors + (vectors if rows > 1 else 0)
    if not (tiling.beside or tiling.streamed or held <= isa.registers):
        return False
    if vectors > 1 and (vectors - 1) * tiling.lanes >= n:
        return False
    # Tiles of m differ by one row at most, each beginning a row earlier than it would.
    tiles = -(-m // rows)
    if not tiling.tables and (rows > max(m, 1) or tiles * rows - m > tiles):
        return False
    return _is_within(spec, tiling)


def _is_within(spec: ProductSpec, tiling: Tiling) -> bool:
    """Whether a tiling asks for no more scratch memory than may be, and packs what it can."""
    scratch = launch_of(spec, tiling).scratch_bytes
    return scratch <= _MOST_SCRATCH and _packs_well(spec, tiling)


_MOST_SCRATCH = 64 << 20


def _packs_well(spec: ProductSpec, tiling: Tiling) -> bool:
    """Whether what must be packed is, and what cannot be is not."""
    whole = (spec.m, spec.n) == (1, 1)
    if (tiling.tables and tiling.pack_lhs) or (
        (tiling.turned or tiling.streamed or tiling.beside) and tiling.pack_rhs
    ):
        return False
    if spec.dtype not in NATIVE:
        packed = tiling.pack_rhs or (spec.folded and spec.rhs.second == 1)
        return packed and (tiling.pack_lhs or tiling.tables)
    return tiling.pack_rhs or tiling.turned or tiling.beside or whole or spec.rhs.second == 1


def _tiles(spec: ProductSpec, isa: Isa, tiling: Tiling) -> Iterator[tuple[int, int]]:
    """Heights and widths of register tiles; each height as even as m can be cut."""
    yield tiling.rows, tiling.vectors
    _, m, _, _ = extents_of(spec)
    if spec.dtype not in NATIVE or tiling.beside or tiling.lanes == 1 or m == 0:
        return
    if tiling.streamed:
        yield from ((1, vectors) for vectors in (8, 16, 32, 64, 128))
        return
    for vectors in (1, 2, 3, 4, 8):
        most = (isa.registers - 1) // vectors - 1
        for tallest in (most, most - 1, most - 2, 3 * most // 4, most // 2):
            if tallest >= 1:
                yield -(-m // -(-m // tallest)), vectors


def _ways(spec: ProductSpec, tiling: Tiling) -> list[tuple[int, int]]:
    if tiling.across:
        return [(block, 1) for block in blocks_of(spec, tiling)]
    return ranked_ways(tiling, *extents_of(spec))
