"""Where does the CPU engine's memory come from? From freed blocks of the same size, else anew.

Results come and go at each step with the same sizes, so a block that was let go of is kept for the
next request of its size; asking the operating system each time would cost page faults.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

import numpy as np

from pellucid.engines.base import ALIGNMENT, MOST_BYTES, Storage

KEPT_BYTES: Final = 256 << 20
"""Freed large blocks beyond this many bytes in all go back to the operating system."""

SMALL: Final = 4096
"""Up to this many bytes a block is small: of each size so many are kept, without counting bytes."""
KEPT_SMALL: Final = 256

assert ALIGNMENT == 64, "small sizes are rounded up by a mask"


class BlockPool:
    """Freed blocks by size. Those of small blocks are popped and appended to, without a lock."""

    # Its own names for these: when the program ends, those of the module go before the last blocks.
    small, kept_small = SMALL, KEPT_SMALL

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.limit = kept_bytes
        self.kept = 0
        self.free: dict[int, list[tuple[int, object]]] = {}
        # A collection of garbage may free a block while this very thread holds the lock.
        self._lock = threading.RLock()

    def allocate(self, nbytes: int) -> Storage:
        """A block of at least this many bytes, aligned; raises MemoryError."""
        size = (nbytes + 63) & -64 if 0 < nbytes <= SMALL else _rounded(nbytes)
        try:
            address, owner = self.free[size].pop()
        except (KeyError, IndexError):
            return _fresh(size)
        if size > SMALL:
            with self._lock:
                self.kept -= size
        return Block(address, size, owner)

    def take_back(self, size: int, address: int, owner: object) -> None:
        """Keep a block for the next request of its size, as long as there is room."""
        blocks = self.free.get(size)
        if blocks is None:
            blocks = self.free.setdefault(size, [])
        if size > self.small:
            with self._lock:
                if self.kept + size > self.limit:
                    return
                self.kept += size
        elif len(blocks) >= self.kept_small:
            return
        blocks.append((address, owner))

    def renew_after_fork(self) -> None:
        """In a forked child: whoever held the lock is not here any more."""
        self._lock = threading.RLock()


_pool = BlockPool()
allocate = _pool.allocate
os.register_at_fork(after_in_child=_pool.renew_after_fork)


class Block(Storage):
    """A storage whose memory goes back to the pool when nobody holds it."""

    __slots__ = ()

    def __del__(self, _take_back: Callable[[int, int, object], None] = _pool.take_back) -> None:
        # An interrupt may have come before the block was whole; its owner is set last.
        owner = getattr(self, "owner", None)
        if owner is not None:
            _take_back(self.nbytes, self.address, owner)


def _rounded(nbytes: int) -> int:
    """A size for large requests; those that differ by little share one: at most 1/8 is lost."""
    if nbytes <= SMALL:
        return ALIGNMENT
    if nbytes > MOST_BYTES:
        raise MemoryError(f"no memory for {nbytes} bytes")
    step = 1 << (nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


def _fresh(size: int) -> Storage:
    try:
        block = np.empty(size + ALIGNMENT, np.uint8)
    except MemoryError:
        raise MemoryError(f"no memory for {size} bytes") from None
    start = block.ctypes.data
    return Block(start + -start % ALIGNMENT, size, block)
