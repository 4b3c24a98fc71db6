"""Which sizes, blocks and options has an attention? What its card and its engines share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pellucid.core.dtype import DType
from pellucid.core.shape import Shape, Size

HeadsFirst = tuple[bool, bool, bool, bool]
"""For query, key, value and result: whether heads come before rows or columns."""

USUAL: HeadsFirst = (False, False, False, False)
HEADS_AND_ROWS = (0, 2, 1, 3)
"""What exchanges these axes."""

MOST_ROWS = 84
"""Rows whose scores are held at once, unless there are many columns."""

TILE_ROWS = 14
"""Rows that a product with wide vectors takes at once."""

COLUMN_CHUNK = 512
"""Columns whose weighted values are one chain of multiply-adds."""


@cache
def rows_at_once(rows: int, columns: int) -> int:
    """How many rows form a block: smaller ones for long rows.

    Of the sizes that there may be, the one with which products take the least time, by tiles.

    >>> rows_at_once(256, 256), rows_at_once(1024, 1024), rows_at_once(8192, 8192)
    (64, 56, 28)
    """
    # Scores and weights of a block should stay in a second-level cache, on the way back too.
    most = MOST_ROWS if columns <= 512 else 56 if columns <= 4096 else 28
    if rows <= most:
        return max(rows, 1)
    return min(range(most, most // 2, -1), key=lambda block: _time(rows, block))


def _time(rows: int, block: int) -> int:
    """What blocks of so many rows take, in the time of a row: a tile, and a block, is one more.

    The height of tiles is their block's only where all blocks are the same.
    """
    blocks, left = divmod(rows, block)
    tiles = -(-block // TILE_ROWS)
    if not left:
        return blocks * (tiles * (-(-block // tiles) + 1) + 1)
    return (blocks * tiles + -(-left // TILE_ROWS)) * (TILE_ROWS + 1) + blocks + 1


@dataclass(frozen=True, slots=True)
class Options:
    """The attributes of both ops, and where the operands stand that come with them."""

    scale: float
    causal: bool
    mask: bool
    lengths: bool
    dropout: float
    precision: DType | None = None

    @property
    def count(self) -> int:
        """How many operands come after the numbers."""
        return self.mask + self.lengths + 2 * (self.dropout > 0.0)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of an attention; `groups` query heads look at each of the `shared` heads."""

    batch: Size
    rows: Size
    columns: Size
    shared: Size
    groups: Size
    size: Size
    features: Size


def sizes_of(query: Shape, key: Shape, value: Shape) -> Sizes:
    """The sizes of an attention from the shapes of its first operands."""
    shared = key[2]
    groups = query[2] // shared if isinstance(shared, int) and shared else 1
    return Sizes(query[0], query[1], key[1], shared, groups, query[3], value[3])


def heads_exchanged(shape: Shape, first: bool) -> Shape:
    """A shape with its second and third axes exchanged, where heads come first."""
    return (shape[0], shape[2], shape[1], *shape[3:]) if first and len(shape) == 4 else shape


def drawn_columns(columns: Any) -> Any:
    """The columns for which random bits are drawn: whole fours.

    >>> drawn_columns(5)
    8
    """
    return -(-columns // 4) * 4
