"""Which line of the user's program asked for this? The nearest frame outside the package."""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
from dataclasses import dataclass
from pathlib import Path

# The package, and what stands between a `with` of the user's and its scopes.
_PASSED = (str(Path(__file__).resolve().parent.parent) + os.sep, contextlib.__file__)


@dataclass(frozen=True, slots=True)
class Source:
    """A line of the user's program: file and line number, counted from 1."""

    file: str
    line: int

    @property
    def code(self) -> str:
        """The text of the line, or nothing where it cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        where = f"{Path(self.file).name}:{self.line}"
        return f"{where}  {self.code}" if self.code else where


def user_source() -> Source | None:
    """The line of the caller nearest to us that is not pellucid's own."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PASSED):
            return Source(file, frame.f_lineno)
        frame = frame.f_back
    return None


def at_line(source: Source | None) -> str:
    """The ending of a message that names the user's line; nothing where it is unknown."""
    return f"\n  at {source}" if source is not None else ""
