"""What can this machine do at most? Multiply and add in registers, and move bytes through memory.

The rate of a matrix product is bounded by the first, a loop of multiply-adds that touches no
memory; what is larger than the caches by the second, STREAM's triad a = b + s c (McCalpin, 1995),
whose three arrays count once each. On several threads each runs the same loop at the same time.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pellucid.core.dtype import named_dtype
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.folded import fold_of, multiply_add_folded
from pellucid.engines.llvm.target import host_isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.types import F32, I64, PTR, VOID, Value, constant

TURNS = 100_000
ROUNDS = 30
TRIAD = 1 << 24
"""Floats in each array of the triad: 64 MiB, more than the caches hold."""


def peak_rate(threads: int = 1, dtype: str = "float32") -> float:
    """Floating operations a second, a multiply-add being two of them.

    In bfloat16 that is twice as many where there are instructions for pairs, with sums of float32.
    """
    isa = host_isa()
    fold = fold_of(named_dtype(dtype), isa)
    sums = isa.registers - 4
    vector = F32.with_lanes(isa.lanes(32))
    module = Module(isa)
    f = module.function("peak", VOID, [("turns", I64), ("memory", PTR)])
    count, memory = f.parameters
    x, y = f.load(vector, memory), f.load(vector, f.gep(memory, vector.lanes, F32))

    def added(total: Value) -> Value:
        return multiply_add_folded(f, 2, x, y, total) if fold == 2 else f.multiply_add(x, y, total)

    with f.loop(0, count, accs=[constant(vector, 0)] * sums, unroll=1) as loop:
        loop.next(*map(added, loop.accs))
    for number, total in enumerate(loop.results):
        f.store(total, f.gep(memory, number * vector.lanes, F32))
    f.ret()
    code = jit.load(jit.compile_text(module.text(), isa), ["peak"])
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(code["peak"])
    held = [np.zeros(sums * vector.lanes + 16, np.float32) for _ in range(threads)]
    spent = fastest([lambda data=data: run(TURNS, data.ctypes.data) for data in held], ROUNDS)
    return 2.0 * fold * TURNS * sums * vector.lanes * threads / spent


def triad_rate(threads: int = 1) -> float:
    """Bytes a second of a = b + s c over arrays larger than the caches, read and written."""
    isa = host_isa()
    vector = F32.with_lanes(isa.lanes(32))
    module = Module(isa)
    f = module.function("triad", VOID, [("turns", I64), ("a", PTR), ("b", PTR), ("c", PTR)])
    count, *arrays = f.parameters
    with f.loop(0, count, unroll=4) as loop:
        place = f.mul(loop.index, constant(I64, vector.lanes))
        a, b, c = (f.gep(array, place, F32) for array in arrays)
        f.store(f.multiply_add(f.load(vector, c), constant(vector, 3), f.load(vector, b)), a)
        loop.next()
    f.ret()
    code = jit.load(jit.compile_text(module.text(), isa), ["triad"])
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * 3)(code["triad"])
    held = [np.ones(TRIAD, np.float32) for _ in range(3)]
    part = TRIAD // threads // vector.lanes

    def of(thread: int) -> Callable[[], None]:
        offset = 4 * thread * part * vector.lanes
        places = [array.ctypes.data + offset for array in held]
        return lambda: run(part, *places)

    spent = fastest([of(thread) for thread in range(threads)], ROUNDS // 3)
    return 12.0 * part * vector.lanes * threads / spent


def fastest(calls: list[Callable[[], None]], rounds: int) -> float:
    """The least seconds in which all calls, each in a thread of its own, are done.

    Of one thread its CPU time, which others on its core disturb least.
    """
    if len(calls) == 1:
        return min(seconds_of(calls[0], time.thread_time) for _ in range(rounds))

    def together() -> None:
        for done in [workers.submit(call) for call in calls]:
            done.result()

    with ThreadPoolExecutor(len(calls)) as workers:
        return min(seconds_of(together, time.perf_counter) for _ in range(rounds))


def seconds_of(call: Callable[[], None], clock: Callable[[], float]) -> float:
    """How long one call takes by a clock."""
    start = clock()
    call()
    return clock() - start
