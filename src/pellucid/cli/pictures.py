"""How do you draw a handwritten digit in a terminal? Two characters a pixel, dark where ink is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

BLOCKS: Final = " ░▒▓█"
PLAIN: Final = " .:*#"
"""The shades of a terminal that cannot show blocks."""

GAP: Final = 3


@dataclass(frozen=True)
class Picture:
    """An image (rows, columns) from 0 to 1, and the line that stands under it."""

    image: NDArray[Any]
    caption: str


def draw(image: NDArray[Any], shades: str = BLOCKS) -> list[str]:
    """The lines of an image.

    >>> import numpy as np
    >>> draw(np.array([[0.0, 0.5, 1.0]]), shades=" .#")
    ['  ..##']
    """
    last = len(shades) - 1
    return ["".join(2 * shades[round(float(ink) * last)] for ink in row) for row in image]


def side_by_side(pictures: Sequence[Picture], width: int, shades: str = BLOCKS) -> list[str]:
    """As many pictures as fit in `width` characters, in one row, each with its caption."""
    found: list[list[str]] = []
    taken = 0
    for picture in pictures:
        lines = draw(picture.image, shades)
        size = max(len(line) for line in lines)
        if found and taken + size > width:
            break
        taken += size + GAP
        found.append([line.ljust(size) for line in (*lines, picture.caption.center(size))])
    return [_joined(lines) for lines in zip(*found, strict=True)]


def _joined(parts: Iterable[str]) -> str:
    return (" " * GAP).join(parts).rstrip()
