"""What does the cache of machine code hold? Its place and size, and how to empty it.

Only files named as the cache names them are counted or removed, whatever else lies there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pellucid.core.config import setting
from pellucid.core.error import ConfigError
from pellucid.engines.llvm.cache import directory

# An entry is called by a hash; a file being written begins so.
_NAME: Final = re.compile(r"[0-9a-f]{64}\.o|\.writing-.*")


def describe() -> str:
    """A few lines: where the cache is, and what it holds."""
    off = "\nturned off by PELLUCID_CACHE=0" if setting("CACHE", "1") == "0" else ""
    found = _entries()
    size = sum(path.stat().st_size for path in found)
    return f"{directory()}\n{_count(len(found))}, {size / 1e6:.1f} MB{off}"


def clear() -> str:
    """Remove every entry, and say how many there were. Raises ConfigError where that fails."""
    found = _entries()
    for path in found:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"cache: cannot remove {path}: {error.strerror}") from None
    return f"removed {_count(len(found))}"


def _entries() -> list[Path]:
    try:
        return [path for path in directory().iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cache: cannot read {directory()}: {error.strerror}") from None


def _count(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries:,} entries"
