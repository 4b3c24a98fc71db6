"""How far off are the elementary functions, over every float32 there is?

Each of the 2**32 inputs is compared with the op's reference in float64; the distance is in units
of the last place of the float32 nearest the true value. Special values must be right exactly.

    python benchmarks/exhaust_float32.py                 all functions, all inputs (minutes each)
    python benchmarks/exhaust_float32.py exp --every 16  one function, every 16th input

Minutes turn into hours for erf and erfc, whose reference is Python's, and for the gamma functions,
whose reference is a series in long double.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.engines.llvm import cache
from pellucid.engines.llvm.elementary import OF_ONE
from pellucid.engines.llvm.maths_gamma import polygamma
from pellucid.engines.llvm.target import Isa, host_isa, isa_named
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import F32, I64, PTR, VOID, Value
from pellucid.ops import REGISTRY

FUNCTIONS: dict[str, tuple[Callable[[Function, Value], Value], Callable[..., Any]]] = {
    name: (function, REGISTRY[name].reference) for name, function in OF_ONE.items()
} | {
    "polygamma": (
        lambda f, x: polygamma(f, x, 1),
        lambda x: REGISTRY["polygamma"].reference(x, order=1),
    )
}
CHUNK = 1 << 21


def compiled(body: Callable[[Function, Value], Value], isa: Isa) -> Any:
    """The function over an array, as native code: call(data, out, count)."""
    module = Module(isa)
    f = module.function("run", VOID, [("data", PTR), ("out", PTR), ("count", I64)])
    data, out, count = f.parameters
    lanes = isa.lanes(32)
    with f.loop(0, count, lanes) as loop:
        x = f.load(F32.with_lanes(lanes), f.gep(data, loop.index, F32))
        f.store(body(f, x), f.gep(out, loop.index, F32))
    f.ret()
    code = cache.load(module.text(), isa, ("run",))
    code.keep_forever()
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(code["run"])


def ulps(got: NDArray[np.float32], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance of each result; infinite where a special value is wrong."""
    nearest = true.astype(np.float32)
    exponent = np.maximum(np.frexp(true)[1], -125).astype(np.int32)
    distance = np.abs(got - true) * np.ldexp(1.0, 24 - exponent)
    special = ~(np.isfinite(nearest) & np.isfinite(got))
    if special.any():
        same = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
        distance[special] = np.where(same[special], 0.0, np.inf)
        # Just below the overflow either the largest float32 or infinity is within reach.
        edge = special & ~same & np.isinf(nearest) & (np.abs(true) < 2.0**128 * (1 + 2.0**-23))
        distance[edge] = 1.0
    return distance


def exhaust(name: str, isa: Isa, every: int) -> None:
    """Print the worst of one function."""
    body, reference = FUNCTIONS[name]
    call = compiled(body, isa)
    out = np.empty(CHUNK, np.float32)
    worst, where, seconds, begin = 0.0, 0.0, 0.0, time.perf_counter()
    total = (1 << 32) // every
    for first in range(0, total, CHUNK):
        # Whole vectors; beyond the last input it begins anew.
        count = min(CHUNK, -(-(total - first) // 64) * 64)
        bits = (np.arange(first, first + count, dtype=np.uint64) * every).astype(np.uint32)
        x = bits.view(np.float32)
        started = time.perf_counter()
        call(x.ctypes.data, out.ctypes.data, count)
        seconds += time.perf_counter() - started
        distance = ulps(out[:count], reference(x.astype(np.float64)))
        at = int(np.argmax(distance))
        if distance[at] > worst:
            worst, where = float(distance[at]), float(x[at])
    print(
        f"{name} on {isa.name}: {worst:.3f} ulp at worst, at {where!r}; {total} inputs, "
        f"{seconds / total * 1e9:.2f} ns each, {time.perf_counter() - begin:.0f} s in all"
    )


def main() -> None:
    """Read the arguments, run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("functions", nargs="*", default=list(FUNCTIONS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--isa", default="")
    arguments = parser.parse_args()
    isa = isa_named(arguments.isa) if arguments.isa else host_isa()
    with np.errstate(all="ignore"):
        for name in arguments.functions:
            exhaust(name, isa, arguments.every)


if __name__ == "__main__":
    main()
