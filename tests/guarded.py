"""Does machine code stay inside the memory that it was given? Else the process ends at once.

    scripts/test -p tests.guarded tests/engines

As a plugin of pytest it gives each block of the CPU engine memory of its own that ends where a page
begins that nobody may touch, and so it does with each value inside an arena. Tests of what memory
is shared, or how large an arena is, have no meaning then; programs are not kept on disk.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from typing import Final

from pellucid.engines.cpu import runtime, storage
from pellucid.engines.cpu.storage import Block, BlockPool
from pellucid.passes import memory, packing

PAGE: Final = mmap.PAGESIZE
_NOBODY: Final = 0
_C: Final = ctypes.CDLL(None, use_errno=True)
_C.mprotect.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)

_guards: dict[int, list[int]] = {}
"""Offsets of the pages that nobody may touch, by the size of the arena; no two share one."""


def whole_pages(nbytes: int) -> int:
    """So many bytes in whole pages."""
    return -(-nbytes // PAGE) * PAGE


def forbid(address: int) -> None:
    """Let the process end if anybody touches this page."""
    if _C.mprotect(address, PAGE, _NOBODY):
        raise OSError(ctypes.get_errno(), "mprotect")


def fresh(pool: BlockPool, size: int) -> Block:
    """A block between two pages that nobody may touch, against the second."""
    pages = whole_pages(size)
    try:
        owner = mmap.mmap(-1, pages + 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError):
        raise MemoryError(f"no memory for {size} bytes") from None
    first = ctypes.addressof(ctypes.c_char.from_buffer(owner))
    forbid(first)
    forbid(first + PAGE + pages)
    pool.made += size
    return Block(first + PAGE + pages - size, size, owner)


def pack(blocks: Sequence[packing.Block]) -> int:
    """Give each block pages of its own, with one behind them; the arena's bytes."""
    guards: list[int] = []
    end = 0
    for block in blocks:
        behind = end + whole_pages(block.bytes)
        block.offset = behind - block.bytes
        guards.append(behind)
        end = behind + PAGE
    while guards and _guards.setdefault(end, guards) is not guards:
        end += PAGE
    return end


def allocate_for_long(nbytes: int) -> storage.Storage:
    """An arena, with the pages between its blocks."""
    arena = storage.allocate(nbytes)
    for offset in _guards.get(nbytes, ()):
        forbid(arena.address + offset)
    return arena


def install() -> None:
    """Guard all memory from now on: blocks are as large as they have to be, and not used again."""
    os.environ["PELLUCID_CACHE"] = "0"
    storage.block_bytes = lambda nbytes: max(64, packing.Block(nbytes, 0, 0).bytes)
    storage._pool.limit = 0
    BlockPool._fresh = fresh
    memory.pack = pack
    runtime.allocate_for_long = allocate_for_long


def pytest_configure() -> None:
    """What pytest calls in a plugin before anything runs."""
    install()
