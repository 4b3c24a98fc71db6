"""Is memory that was let go of used again, within bounds, whoever lets go of it and when?"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from itertools import pairwise

import pytest

from pellucid.engines.base import ALIGNMENT
from pellucid.engines.cpu import storage
from pellucid.engines.cpu.storage import (
    KEPT_SMALL,
    RING,
    SMALL,
    BlockPool,
    allocate,
    block_bytes,
    live_bytes,
    metered,
)

SIZES = (0, 1, 63, 64, 65, 1000, SMALL, SMALL + 1, 5000, 70_000, 1 << 20, (1 << 20) + 1)


@pytest.mark.parametrize("nbytes", SIZES)
def test_block_is_aligned_and_large_enough(nbytes: int) -> None:
    block = allocate(nbytes)
    assert block.address % ALIGNMENT == 0
    assert nbytes <= block.nbytes <= max(nbytes + nbytes // 8, nbytes + 64, 64)


@pytest.mark.parametrize("nbytes", SIZES)
def test_freed_block_is_used_again(nbytes: int) -> None:
    block = allocate(nbytes)
    address = block.address
    del block
    # Small ones take turns.
    turns = RING if nbytes <= SMALL else 1
    assert address in {allocate(nbytes).address for _ in range(turns)}


def test_a_block_that_is_held_for_long_leaves_its_ring_and_comes_back() -> None:
    held = [allocate(3000) for _ in range(2 * RING)]
    addresses = {block.address for block in held}
    assert len(addresses) == len(held)
    assert sum(block.kept for block in held) <= RING
    before = storage._pool.made
    held.clear()
    again = [allocate(3000) for _ in range(2 * RING)]
    assert {block.address for block in again} == addresses
    assert storage._pool.made == before


def test_held_blocks_are_apart() -> None:
    blocks = sorted(map(allocate, SIZES * 3), key=lambda block: block.address)
    for one, after in pairwise(blocks):
        assert one.address + one.nbytes <= after.address


def test_large_blocks_are_kept_up_to_the_limit() -> None:
    pool = BlockPool(kept_bytes=3 << 20)
    for number in range(5):
        pool.take_back(1 << 20, number, None)
    assert pool.kept == 3 << 20
    assert len(pool.free[1 << 20]) == 3
    pool.allocate(1 << 20)
    assert pool.kept == 2 << 20


def test_small_blocks_are_kept_up_to_their_number() -> None:
    pool = BlockPool(kept_bytes=0)
    for number in range(KEPT_SMALL + 5):
        pool.take_back(64, number, None)
    assert len(pool.free[64]) == KEPT_SMALL


def test_threads_never_get_one_block_twice() -> None:
    clashes: list[int] = []

    def work(number: int) -> None:
        for turn in range(2000):
            blocks = [allocate(64 + 64 * (turn % 3)), allocate(20_000)]
            for block in blocks:
                stamp(block.address, number)
            clashes.extend(number for block in blocks if stamped(block.address) != number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes


def test_what_is_kept_and_held_stays_counted_when_threads_race() -> None:
    before = settled_bytes()

    def work() -> None:
        for _ in range(2000):
            allocate(20_000)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool = storage._pool
    held = sum(size * len(blocks) for size, blocks in pool.free.items() if size > SMALL)
    assert pool.kept == held
    assert live_bytes() == before


@pytest.mark.parametrize("nbytes", SIZES)
def test_block_has_the_size_that_is_said_before(nbytes: int) -> None:
    assert allocate(nbytes).nbytes == block_bytes(nbytes)


def test_bytes_are_live_from_the_request_until_they_are_let_go_of() -> None:
    before = settled_bytes()
    with metered() as outer:
        first = allocate(1000)
        with metered() as inner:
            second = allocate(100_000)
            assert live_bytes() - before == first.nbytes + second.nbytes
            del second
        third = allocate(5000)
        assert live_bytes() - before == first.nbytes + third.nbytes
        del first, third
    assert live_bytes() == before
    assert outer.peak == inner.peak == before + block_bytes(1000) + block_bytes(100_000)


def test_what_is_not_kept_is_not_live_either(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settled_bytes()
    monkeypatch.setattr(storage._pool, "limit", 0)
    blocks = [allocate(1 << 20) for _ in range(3)]
    blocks += [allocate(192) for _ in range(KEPT_SMALL + 3)]
    assert live_bytes() - before == sum(block.nbytes for block in blocks)
    blocks.clear()
    assert live_bytes() == before


@pytest.mark.parametrize("nbytes", [1 << 55, 1 << 70])
def test_more_than_there_is_is_a_memory_error(nbytes: int) -> None:
    with pytest.raises(MemoryError, match=r"no memory for \d+ bytes"):
        allocate(nbytes)


def test_blocks_held_to_the_end_of_the_program_say_nothing() -> None:
    # A module that was imported earlier goes later: the pool's names are gone when its blocks go.
    code = (
        "import collections, sys, pellucid as pe\n"
        "from pellucid.engines.cpu import storage\n"
        "collections.kept = [pe.asarray([1.0, 2.0]), pe.ones((100, 100)) + 1]\n"
        "sys.kept = collections, storage\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_child_frees_though_another_thread_held_the_lock() -> None:
    statuses: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            allocate(100_000)
            os._exit(0)
        statuses.append(os.waitpid(child, 0)[1])

    # Only the forking thread comes along: in the child nobody would ever let go of the lock.
    with storage._pool._lock:
        other = threading.Thread(target=fork)
        other.start()
        other.join()
    assert statuses == [0]


def settled_bytes() -> int:
    """The live bytes, once nothing is left that a collection of garbage could let go of."""
    gc.collect()
    return live_bytes()


def stamp(address: int, number: int) -> None:
    byte_at(address).value = number


def stamped(address: int) -> int:
    return byte_at(address).value


def byte_at(address: int) -> ctypes.c_uint8:
    return ctypes.c_uint8.from_address(address)
