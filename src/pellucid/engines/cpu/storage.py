"""Where does the CPU engine's memory come from? From freed blocks of the same size, else anew.

Results come and go at each step with the same sizes, so a block that was let go of is kept for the
next request of its size; asking the operating system each time would cost page faults. The objects
of small blocks are kept whole: a `Ring` gives out again what nobody else holds. How many
bytes are held, `live_bytes`, and were at most, `metered`, follows from the blocks that there are
and those that are free: giving and taking back need not count.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from sys import getrefcount
from typing import Final

import numpy as np

from pellucid.engines.base import ALIGNMENT, MOST_BYTES, Storage

KEPT_BYTES: Final = 256 << 20
"""Freed large blocks beyond this many bytes in all go back to the operating system."""

SMALL: Final = 4096
"""Up to this many bytes a block is small: of each size so many are kept, without counting bytes."""
KEPT_SMALL: Final = 256

MUCH: Final = 1 << 20
"""Bytes of a lasting block before which it is worth it to give free ones back."""

RING: Final = 64
"""So many small blocks of one size take turns."""

assert ALIGNMENT == 64, "small sizes are rounded up by a mask"


@dataclass(slots=True)
class Meter:
    """The most bytes that were held at once since the measurement began."""

    peak: int


# The C library keeps what it gets back between blocks in use, unless it is told (glibc only).
trim_heap: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


class Ring:
    """Small blocks of one size, which it holds as well; a block is free while only the ring does.

    So nothing is done when one is let go of. They take turns, and one that is still held when its
    turn comes leaves the ring: what lives long is not looked at again and again. A thread that
    looks at a block holds it meanwhile, so that two never take the same one.
    """

    __slots__ = ("_at", "_blocks", "_pool", "_size")

    def __init__(self, pool: BlockPool, size: int) -> None:
        self._pool, self._size, self._at = pool, size, 0
        self._blocks = [pool.block(size)]
        self._blocks[0].kept = 1

    def take(self) -> Storage:
        """A block that nobody holds."""
        blocks = self._blocks
        self._at = at = (self._at + 1) % len(blocks)
        block = blocks[at]
        # The ring, the name here and the call of getrefcount hold it.
        if getrefcount(block) != 3:
            block = self._another(at)
        if self._pool.meters:
            self._pool.read_meters()
        return block

    @property
    def free_blocks(self) -> int:
        """How many of its blocks nobody holds."""
        return sum(getrefcount(block) == 3 for block in self._blocks)

    def _another(self, at: int) -> Storage:
        block = self._pool.block(self._size)
        block.kept = 1
        if len(self._blocks) < RING:
            self._blocks.append(block)
        else:
            # Said before it is done: who counts meanwhile finds one holder too many, not too few.
            self._blocks[at].kept = 0
            self._blocks[at] = block
        return block


class BlockPool:
    """Freed blocks by size. Those of small blocks are popped and appended to, without a lock.

    Small ones come by way of `rings`, and go back here once they left those.
    """

    # Its own names for these: when the program ends, those of the module go before the last blocks.
    small, kept_small = SMALL, KEPT_SMALL

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.limit = kept_bytes
        self.kept = 0
        # The bytes of all blocks that there are, in use or free.
        self.made = 0
        self.meters: list[Meter] = []
        self.free: dict[int, list[tuple[int, object]]] = {}
        self.rings: dict[int, Ring] = {}
        # A collection of garbage may free a block while this very thread holds the lock.
        self._lock = threading.RLock()

    def allocate(self, nbytes: int) -> Storage:
        """A block of at least this many bytes, aligned; raises MemoryError."""
        if nbytes <= SMALL:
            return self.ring(nbytes).take()
        block = self.block(block_bytes(nbytes))
        if self.meters:
            self.read_meters()
        return block

    def ring(self, nbytes: int) -> Ring:
        """The blocks for requests of so many bytes, which are few."""
        size = (nbytes + 63) & -64 or ALIGNMENT
        found = self.rings.get(size)
        # setdefault: two threads that meet here must get one object.
        return self.rings.setdefault(size, Ring(self, size)) if found is None else found

    def block(self, size: int) -> Storage:
        """A block that comes back when it is let go of."""
        try:
            address, owner = self.free[size].pop()
        except (KeyError, IndexError):
            return self._fresh(size)
        if size > SMALL:
            with self._lock:
                self.kept -= size
        return Block(address, size, owner)

    def allocate_for_long(self, nbytes: int) -> Storage:
        """As `allocate`; where much is to be made, what lies free goes back to the system first.

        A compiled program begins with it, which seldom needs the sizes that were needed before.
        """
        if nbytes >= MUCH and not self.free.get(block_bytes(nbytes)):
            self.release()
        return self.allocate(nbytes)

    def release(self) -> None:
        """Give the large blocks that lie free back to the operating system."""
        for size, blocks in list(self.free.items()):
            while size > SMALL:
                # Another thread may take the last one.
                try:
                    blocks.pop()
                except IndexError:
                    break
                with self._lock:
                    self.kept -= size
                    self.made -= size
        if trim_heap is not None:
            trim_heap(0)

    def take_back(self, size: int, address: int, owner: object) -> None:
        """Keep a block for the next request of its size, as long as there is room."""
        blocks = self.free.get(size)
        if blocks is None:
            blocks = self.free.setdefault(size, [])
        if size > self.small:
            with self._lock:
                if self.kept + size > self.limit:
                    self.made -= size
                    return
                self.kept += size
        elif len(blocks) >= self.kept_small:
            with self._lock:
                self.made -= size
            return
        blocks.append((address, owner))

    @property
    def live_bytes(self) -> int:
        """The bytes of the blocks that somebody holds; right while no other thread is at work."""
        free = sum(size * len(blocks) for size, blocks in list(self.free.items()))
        return self.made - free - sum(s * ring.free_blocks for s, ring in list(self.rings.items()))

    def renew_after_fork(self) -> None:
        """In a forked child: whoever held the lock is not here any more."""
        self._lock = threading.RLock()

    def _fresh(self, size: int) -> Block:
        try:
            memory = np.empty(size + ALIGNMENT, np.uint8)
        except MemoryError:
            raise MemoryError(f"no memory for {size} bytes") from None
        with self._lock:
            self.made += size
        start = memory.ctypes.data
        return Block(start + -start % ALIGNMENT, size, memory)

    def read_meters(self) -> None:
        """Let the running measurements see what is held now."""
        live = self.live_bytes
        for meter in self.meters:
            meter.peak = max(meter.peak, live)


def block_bytes(nbytes: int) -> int:
    """The size of the block that a request for so many bytes gets; raises MemoryError.

    Up to 4096 bytes it is rounded up to 64. Larger requests that differ by little share a size, for
    which at most 1/8 is added.

    >>> block_bytes(1), block_bytes(4096), block_bytes(4097), block_bytes(1_000_000)
    (64, 4096, 4608, 1048576)
    """
    if nbytes <= SMALL:
        return max(ALIGNMENT, (nbytes + 63) & -64)
    if nbytes > MOST_BYTES:
        raise MemoryError(f"no memory for {nbytes} bytes")
    step = 1 << (nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


_pool = BlockPool()
allocate = _pool.allocate
allocate_for_long = _pool.allocate_for_long


def allocator(nbytes: int) -> Callable[[], Storage]:
    """What `allocate` does for so many bytes, quicker where it is asked for again and again."""
    return _pool.ring(nbytes).take if nbytes <= SMALL else partial(allocate, nbytes)


os.register_at_fork(after_in_child=_pool.renew_after_fork)


class Block(Storage):
    """A storage whose memory goes back to the pool when nobody holds it."""

    __slots__ = ()

    def __del__(self, _take_back: Callable[[int, int, object], None] = _pool.take_back) -> None:
        # An interrupt may have come before the block was whole; its owner is set last.
        owner = getattr(self, "owner", None)
        if owner is not None:
            _take_back(self.nbytes, self.address, owner)


def live_bytes() -> int:
    """The bytes of this engine's memory that somebody holds: Tensors, cells, arenas, constants.

    Memory that was borrowed from others does not count, nor does what kernels use as scratch.
    """
    return _pool.live_bytes


@contextmanager
def metered() -> Generator[Meter]:
    """Measure the most bytes that are held at once inside.

    >>> with metered() as meter:
    ...     before = live_bytes()
    ...     del [allocate(100), allocate(100)][:]
    >>> meter.peak - before
    256
    """
    meter = Meter(_pool.live_bytes)
    _pool.meters.append(meter)
    try:
        yield meter
    finally:
        # By identity: meters that read the same are equal.
        _pool.meters[:] = [other for other in _pool.meters if other is not meter]
