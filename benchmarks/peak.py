"""How fast can one core multiply and add at most? As a loop over registers, without memory."""

from __future__ import annotations

import ctypes
import time

import numpy as np

from pellucid.engines.llvm import jit
from pellucid.engines.llvm.target import host_isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.types import F32, I64, PTR, VOID, constant

TURNS = 100_000
ROUNDS = 30


def peak_rate() -> float:
    """Floating operations a second of one core in float32, a multiply-add being two of them."""
    isa = host_isa()
    sums = isa.registers - 4
    vector = F32.with_lanes(isa.lanes(32))
    module = Module(isa)
    f = module.function("peak", VOID, [("turns", I64), ("memory", PTR)])
    count, memory = f.parameters
    x, y = f.load(vector, memory), f.load(vector, f.gep(memory, vector.lanes, F32))
    with f.loop(0, count, accs=[constant(vector, 0)] * sums, unroll=1) as loop:
        loop.next(*(f.multiply_add(x, y, acc) for acc in loop.accs))
    for number, total in enumerate(loop.results):
        f.store(total, f.gep(memory, number * vector.lanes, F32))
    f.ret()
    code = jit.load(jit.compile_text(module.text(), isa), ["peak"])
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(code["peak"])
    data = np.zeros(sums * vector.lanes + 16, np.float32)
    spent: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(TURNS, data.ctypes.data)
        spent.append(time.perf_counter() - start)
    return 2.0 * TURNS * sums * vector.lanes / min(spent)
