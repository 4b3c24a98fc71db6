"""What can this machine do at most? Multiply and add in registers, and move bytes through memory.

The rate of a matrix product is bounded by the first, a loop of multiply-adds that touches no
memory, for each dtype by the instruction that its products are made of; what is larger than the
caches by the second, STREAM's triad a = b + s c (McCalpin, 1995), whose three arrays count once
each. On several threads each runs the same loop at the same time.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pellucid.core.dtype import DType, float32, int8, uint8
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.amx import AmxTile, begin_tiles, end_tiles
from pellucid.engines.llvm.folded import fold_of, multiply_add_folded
from pellucid.engines.llvm.panels import accumulator
from pellucid.engines.llvm.target import host_isa
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import F32, I32, I64, PTR, VOID, Value, constant

TURNS = 100_000
ROUNDS = 30
TRIAD = 1 << 24
"""Floats in each array of the triad: 64 MiB, more than the caches hold."""


def peak_rate(threads: int = 1, dtype: DType = float32) -> float:
    """Operations a second on numbers of a dtype, a multiply-add being two of them.

    By the instruction that products of the dtype are made of here: of int8 and bfloat16 one may
    multiply and add several numbers a lane.
    """
    isa = host_isa()
    if dtype in (int8, uint8) and isa.has_tiles:
        return tile_rate(threads)
    fold, sums = fold_of(dtype, isa), isa.registers - 4
    scalar = accumulator(dtype)
    vector = scalar.with_lanes(isa.lanes(scalar.bits))
    read = I32.with_lanes(vector.lanes) if fold > 1 else vector
    module = Module(isa)
    f = module.function("peak", VOID, [("turns", I64), ("memory", PTR)])
    count, memory = f.parameters
    x, y = f.load(read, memory), f.load(read, f.gep(memory, vector.lanes, scalar))
    with f.loop(0, count, accs=[constant(vector, 0)] * sums, unroll=1) as loop:
        loop.next(*(multiplied(f, fold, x, y, acc) for acc in loop.accs))
    for number, total in enumerate(loop.results):
        f.store(total, f.gep(memory, number * vector.lanes, scalar))
    f.ret()
    products, size = sums * vector.lanes * fold, sums * vector.lanes * scalar.bytes
    return 2.0 * products * turns_a_second(module, size, threads)


def multiplied(f: Function, fold: int, x: Value, y: Value, total: Value) -> Value:
    """A step of a sum, as products make it."""
    if fold > 1:
        return multiply_add_folded(f, fold, x, y, total)
    if total.type.is_float:
        return f.multiply_add(x, y, total)
    return f.add(f.mul(x, y), total)


def tile_rate(threads: int) -> float:
    """Operations a second on bytes in the tiles of AMX."""
    tile = AmxTile(32, 2, unsigned=False)
    module = Module(host_isa())
    f = module.function("peak", VOID, [("turns", I64), ("memory", PTR)])
    begin_tiles(f, tile)
    with f.loop(0, f.parameters[0], unroll=1):
        tile.multiply(f)
    end_tiles(f)
    f.ret()
    return 2.0 * 32 * 32 * 64 * turns_a_second(module, 64, threads)


def turns_a_second(module: Module, size: int, threads: int) -> float:
    """How often the threads together go through the loop `peak`, each with its own memory."""
    code = jit.load(jit.compile_text(module.text(), module.isa), ["peak"])
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(code["peak"])
    held = [np.zeros(size, np.uint8) for _ in range(threads)]
    spent = fastest([lambda data=data: run(TURNS, data.ctypes.data) for data in held], ROUNDS)
    return TURNS * threads / spent


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
