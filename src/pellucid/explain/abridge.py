"""How does a text of a thousand lines fit on a screen? By its two ends, or by its best part."""

from __future__ import annotations

import re
from itertools import accumulate

HEAD = 2 / 3
"""The share of a cut text's lines that come from its beginning."""


def abridge(text: str, rows: int, width: int | None = None, around: str = "") -> str:
    r"""At most `rows` lines of `text`, each at most `width` characters; says what is left out.

    `around` is a regular expression: the lines shown are then those where most of them match it,
    for the few lines of machine code that do the work lie deep inside.

    >>> print(abridge("a\nb\nc\nd\ne", rows=4))
    a
    b
    … 2 lines more …
    e
    >>> print(abridge("setup\nsetup\nloop: fma\nfma\nret\nret", rows=4, around="fma"))
    … 2 lines before …
    loop: fma
    fma
    … 2 lines after …
    """
    lines = text.rstrip("\n").split("\n")
    if len(lines) > rows:
        lines = _densest(lines, rows, around) if around else _both_ends(lines, rows)
    return "\n".join(line if width is None else clip(line, width) for line in lines)


def clip(line: str, width: int) -> str:
    """The line, cut with an ellipsis where it is longer than `width` characters."""
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def _both_ends(lines: list[str], rows: int) -> list[str]:
    kept = max(rows - 1, 2)
    head = max(round(kept * HEAD), 1)
    tail = kept - head
    return [*lines[:head], f"… {_count(len(lines) - kept)} more …", *lines[len(lines) - tail :]]


def _densest(lines: list[str], rows: int, around: str) -> list[str]:
    """The window with most matches; the first such one, moved so that its matches are inside."""
    size = max(rows - 2, 1)
    sums = [0, *accumulate(bool(re.search(around, line)) for line in lines)]
    last = len(lines) - size
    best = max(sums[start + size] - sums[start] for start in range(last + 1))
    good = [start for start in range(last + 1) if sums[start + size] - sums[start] == best]
    # Of equal windows in a row the middle one has the matches in its middle.
    together = next((i for i, start in enumerate(good) if start != good[0] + i), len(good))
    start = good[together // 2] if together > 1 else good[0]
    before = [f"… {_count(start)} before …"] if start else []
    after = [f"… {_count(last - start)} after …"] if start < last else []
    return [*before, *lines[start : start + size], *after]


def _count(lines: int) -> str:
    return "1 line" if lines == 1 else f"{lines:,} lines"
