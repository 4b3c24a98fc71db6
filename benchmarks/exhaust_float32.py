"""How far off are the functions of one number, over every float32 there is?

Each of the 2**32 inputs is compared with the op's reference in float64; the distance is in units
of the last place of the float32 nearest the true value. Special values and the sign of zero must be
right exactly. On a machine with AVX-512 its code is tried, and AVX2's must give the same bits.

    python benchmarks/exhaust_float32.py                    every function, every input
    python benchmarks/exhaust_float32.py exp --sample 1e6   one function, so many inputs
    python benchmarks/exhaust_float32.py --isa sse2         another instruction set
    python benchmarks/exhaust_float32.py --page             docs/accuracy.md, of what was found

What a whole sweep has found stands in benchmarks/results; one that was stopped goes on from there,
and one that is done is not run again while the function's code is the same.

erf, erfc and the gamma functions have references that would take days. For them the true value is
the function's own float64 kernel (whose error, by other polynomials, is far below a float32's);
every 8191st input, and each that seems to be off by more than SUSPECT, is compared with the
reference itself.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import float32, float64
from pellucid.core.error import OpError
from pellucid.engines.llvm import cache
from pellucid.engines.llvm.elementwise import apply, supports
from pellucid.engines.llvm.target import ISAS, Isa, host_isa, isa_named
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.types import F32, F64, I64, PTR, VOID
from pellucid.ir.graph import TensorType
from pellucid.ops import REGISTRY
from pellucid.ops.define import Op

ROOT = Path(__file__).parent.parent
FOUND = ROOT / "benchmarks" / "results" / "exhaust_float32.json"
PAGE = ROOT / "docs" / "accuracy.md"
ALL = 1 << 32
CHUNK = 1 << 16
SLOW = ("erf", "erfc", "lgamma", "digamma", "polygamma.1")
SPOT = 8191
SUSPECT = 0.505
SAVED_EVERY = 10.0


@dataclass
class Sweep:
    """What is known of one function: the worst of the first `done` inputs of `inputs`."""

    name: str
    isa: str
    kernel: str
    inputs: int = ALL
    done: int = 0
    worst: float = 0.5
    at: str = ""
    seconds: float = 0.0
    processor: str = ""
    date: str = ""


def parts(name: str) -> tuple[Op, dict[str, Any]]:
    """The op of a function and its attributes: "polygamma.1" is the one of order 1."""
    op, _, order = name.partition(".")
    return REGISTRY[op], {"order": int(order)} if order else {}


def functions() -> list[str]:
    """Every op that makes one float32 of one float32, as the engine names it."""
    return [name for name in [*REGISTRY, "polygamma.1"] if _is_of_one(name)]


def _is_of_one(name: str) -> bool:
    op, attrs = parts(name)
    type = TensorType(float32, (1,))
    try:
        return supports(op.name) and op.result_types((type,), attrs) == (type,)
    except OpError:
        return False


def text_of(name: str, isa: Isa, wide: bool = False) -> str:
    """A loop over whole vectors of float32 (or float64): void run(ptr data, ptr out, i64 count)."""
    module = Module(isa)
    f = module.function("run", VOID, [("data", PTR), ("out", PTR), ("count", I64)])
    data, out, count = f.parameters
    scalar, dtype = (F64, float64) if wide else (F32, float32)
    lanes = isa.lanes(64 if wide else 32)
    with f.loop(0, count, lanes) as loop:
        x = f.load(scalar.with_lanes(lanes), f.gep(data, loop.index, scalar))
        f.store(apply(f, name, (x,), (dtype,), dtype), f.gep(out, loop.index, scalar))
    f.ret()
    return module.text()


def compiled(text: str, isa: Isa) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The function over an array whose size is a multiple of 64, as native code."""
    code = cache.load(text, isa, ("run",))
    code.keep_forever()
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(code["run"])

    def run(x: NDArray[Any]) -> NDArray[Any]:
        out = np.empty_like(x)
        call(x.ctypes.data, out.ctypes.data, x.size)
        return out

    return run


def ulps(got: NDArray[np.float32], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance of each result; infinite where a special value or the sign of zero is wrong."""
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
    # What vanishes from either side keeps its sign; of an exact 0 the reference knows it too.
    unlike = (got == 0) & (true == 0) & (np.signbit(got) != np.signbit(true))
    distance[unlike] = np.inf
    return distance


@dataclass(frozen=True)
class Judge:
    """Says how far a function's results are off."""

    reference: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    quick: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    is_slow: bool

    def distances(self, x: NDArray[np.float32], got: NDArray[np.float32]) -> NDArray[np.float64]:
        """In units of the last place; the nearest float32 counts as 0.5 without a closer look."""
        wide = x.astype(np.float64)
        true = self.quick(wide)
        far = np.full(x.shape, 0.5)
        unlike = got.view(np.int32) != true.astype(np.float32).view(np.int32)
        # One NaN is as good as another.
        others = np.flatnonzero(unlike & ~(np.isnan(got) & np.isnan(true)))
        far[others] = ulps(got[others], true[others])
        if self.is_slow:
            asked = far > SUSPECT
            asked[::SPOT] = True
            far[asked] = ulps(got[asked], self.reference(wide[asked]))
        return far


def judge_of(name: str, isa: Isa) -> Judge:
    """The judge of a function: its reference, or where that is slow its float64 kernel first."""
    op, attrs = parts(name)

    def reference(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(op.reference(x, **attrs))

    is_slow = name in SLOW
    quick = compiled(text_of(name, isa, wide=True), isa) if is_slow else reference
    return Judge(reference, quick, is_slow)


def exhaust(sweep: Sweep, isa: Isa, save: Callable[[Sweep], None]) -> None:
    """Go on with the sweep to its end."""
    judge = judge_of(sweep.name, isa)
    run = compiled(text_of(sweep.name, isa), isa)
    others = [compiled(text_of(sweep.name, one), one) for one in narrower(isa)]
    step, saved = ALL // sweep.inputs | 1 if sweep.inputs < ALL else 1, time.perf_counter()
    while sweep.done < sweep.inputs:
        started = time.process_time()
        # Whole vectors; beyond the last input it begins anew.
        count = min(CHUNK, -(-(sweep.inputs - sweep.done) // 64) * 64)
        places = np.arange(sweep.done, sweep.done + count, dtype=np.uint64) * step
        x = places.astype(np.uint32).view(np.float32)
        got = run(x)
        if any((other(x).view(np.int32) != got.view(np.int32)).any() for other in others):
            raise SystemExit(f"{sweep.name}: the bits of {isa.name} are not those of its class")
        far = judge.distances(x, got)
        at = int(np.argmax(far))
        if far[at] > sweep.worst:
            sweep.worst, sweep.at = float(far[at]), repr(float(x[at]))
        sweep.done += count
        sweep.seconds += time.process_time() - started
        if time.perf_counter() - saved > SAVED_EVERY or sweep.done >= sweep.inputs:
            save(sweep)
            saved = time.perf_counter()


def narrower(isa: Isa) -> list[Isa]:
    """The smaller instruction sets that must give the same bits."""
    same = [one for one in ISAS if one.bit_class == isa.bit_class]
    return [one for one in same if one.vector_bits < isa.vector_bits]


def load() -> dict[str, Sweep]:
    """What whole sweeps have found so far, by function and instruction set."""
    if not FOUND.exists():
        return {}
    return {key: Sweep(**found) for key, found in json.loads(FOUND.read_text()).items()}


def keep(sweep: Sweep) -> None:
    """Write a sweep beside the others."""
    sweep.processor, sweep.date = processor(), datetime.now(UTC).date().isoformat()
    found = load() | {f"{sweep.name} {sweep.isa}": sweep}
    FOUND.parent.mkdir(exist_ok=True)
    beside = FOUND.with_suffix(".part")
    beside.write_text(json.dumps({key: asdict(found[key]) for key in sorted(found)}, indent=1))
    beside.replace(FOUND)


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def begun(name: str, isa: Isa) -> Sweep:
    """A whole sweep of the function's code as it is: the one that was begun, or a new one."""
    kernel = hashlib.sha256(text_of(name, isa).encode()).hexdigest()[:16]
    found = load().get(f"{name} {isa.name}")
    return found if found and found.kernel == kernel else Sweep(name, isa.name, kernel)


def sweep_all(names: list[str], isa: Isa, sample: int) -> None:
    """Sweep each function and print the worst."""
    for name in names:
        sweep = Sweep(name, isa.name, "", min(sample, ALL)) if sample else begun(name, isa)
        exhaust(sweep, isa, (lambda sweep: None) if sample else keep)
        print(
            f"{name} on {isa.name}: {sweep.worst:.3f} ulp at worst, at {sweep.at}; "
            f"{sweep.inputs} inputs, {sweep.seconds:.0f} s",
            flush=True,
        )


HEAD = """# How exact the functions are

Each function of one number was computed for all 2^32 float32 inputs and compared with its reference
in float64 by `python benchmarks/exhaust_float32.py`, which also wrote this page (`--page`). An
*ulp* is the distance between two neighbouring float32 at the true value; 0.5 is the nearest float32
always. The bound is what the op's card promises. NaN, infinities and the signs of zeros were right
at every input. Where avx512 is named, code for avx2 gave the same bits at every input.

erf, erfc and the gamma functions are compared with their own float64 kernels, and with the
reference at every 8,191st input and wherever they seem to be off by more than 0.505.

What other dtypes promise stands in the [table of ops](ops.md).

| function | instruction set | worst, in ulp | at | bound | processor | date |
|---|---|---|---|---|---|---|
"""


def write_page() -> None:
    """Write docs/accuracy.md from the sweeps that are done."""
    rows = [row(sweep) for sweep in load().values() if sweep.done >= ALL]
    PAGE.write_text(HEAD + "".join(rows), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(rows)} functions of {len(functions())}")


def row(sweep: Sweep) -> str:
    """A sweep as a line of the table."""
    op, attrs = parts(sweep.name)
    bound = op.ulps(float32, attrs)
    return (
        f"| {sweep.name} | {sweep.isa} | {sweep.worst:.3f} | {sweep.at or 'everywhere'} | {bound} "
        f"| {sweep.processor} | {sweep.date} |\n"
    )


def main() -> None:
    """Read the arguments, run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("functions", nargs="*", metavar="FUNCTION", help="all by default")
    parser.add_argument("--sample", type=float, default=0, help="so many inputs, spread evenly")
    parser.add_argument("--isa", default="", help="avx512, avx2 or sse2; the widest by default")
    parser.add_argument("--page", action="store_true", help="write docs/accuracy.md and stop")
    arguments = parser.parse_args()
    known = functions()
    if unknown := set(arguments.functions) - set(known):
        raise SystemExit(f"no such function: {', '.join(sorted(unknown))}; {', '.join(known)}")
    if arguments.page:
        write_page()
        return
    isa = isa_named(arguments.isa) if arguments.isa else host_isa()
    with np.errstate(all="ignore"):
        sweep_all(arguments.functions or known, isa, int(arguments.sample))


if __name__ == "__main__":
    main()
