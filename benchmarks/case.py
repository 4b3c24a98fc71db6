"""What is a case? Work that pellucid and its peers do alike, and how it is timed in one process.

A case names its work once for each library: a function that makes a call. Every call is first made
a few times and what it gives compared; then all are timed in turns, one thread by the CPU time of
the process, several by the clock on the wall.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.measure import in_turns, plan_turns
from benchmarks.peak import peak_rate, triad_rate
from benchmarks.peers import Call, import_library, why_missing
from pellucid.core.dtype import DType, float32

REST = 0.05
"""Seconds after which the waiting threads of all libraries sleep."""

BFLOAT16 = 2.0**-7
"""How far losses of the first steps may be apart in bfloat16: one unit in its last place of 1."""

PATIENCE = 10
"""A peer that takes so many times as long as pellucid is timed in a few rounds only."""


@dataclass(frozen=True)
class Work:
    """pellucid's compiled function and what it is called with.

    Where the work is many calls, `whole` makes all `calls` of them.
    """

    function: Any
    arguments: tuple[Any, ...] = ()
    whole: Call | None = None
    calls: int = 1

    def __call__(self) -> Any:
        """Do the work once."""
        return self.whole() if self.whole else self.function(*self.arguments)


@dataclass(frozen=True)
class Case:
    """What is done (`title`), by pellucid and by its peers; `name` is its key in the results.

    `pellucid(given)` makes the work with the weights that the `peers` have (or, if not given, with
    weights of its own, made in the first call). The results of the first `checks` calls agree to
    `tolerance`, relative to the largest number of each array. A `model` is measured further: its
    first call in a fresh process, and its peak of memory. Its multiplications are of numbers of
    `dtype`.
    """

    name: str
    title: str
    pellucid: Callable[[bool], Work]
    peers: Mapping[str, Callable[[], Call]] = field(default_factory=dict[str, Any])
    checks: int = 1
    tolerance: float = 1e-4
    model: bool = False
    dtype: DType = float32

    def only(self, wanted: Sequence[str]) -> Case:
        """The case with those peers alone whose names begin with one of these words."""
        chosen = {k: v for k, v in self.peers.items() if k.startswith(tuple(wanted))}
        return Case(**{**vars(self), "peers": chosen})


def compare(case: Case, threads: int, seconds: float) -> dict[str, Any]:
    """Check that all give the same, then time them in turns for about so many seconds."""
    work = case.pellucid(True)
    made, skipped = make_all({"pellucid": lambda: work, **case.peers})
    difference = check_equal(case, made)
    clock = time.process_time if threads == 1 else time.perf_counter
    rounds, repeats = plan_turns(made, seconds, PATIENCE)
    times = in_turns(made, rounds, repeats, clock, rest=REST if threads > 1 else 0.0)
    return {
        "title": case.title,
        "times": {name: asdict(timing) for name, timing in times.items()},
        "skipped": skipped,
        "difference": difference,
        "traffic": traffic_of(work),
        "dtype": str(case.dtype),
    }


def limits_of(threads: int, dtypes: Iterable[DType]) -> dict[str, float]:
    """What so many threads of this machine do at most: bytes a second, and flops on each dtype."""
    rates = {str(dtype): peak_rate(threads, dtype) for dtype in dict.fromkeys(dtypes)}
    return {"bytes": triad_rate(threads), **rates}


def make_all(makers: Mapping[str, Callable[[], Call]]) -> tuple[dict[str, Call], dict[str, str]]:
    """Every call that can be made here, and why the others cannot."""
    made: dict[str, Call] = {}
    skipped: dict[str, str] = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except (ImportError, RuntimeError, OSError) as error:
            if name.startswith("pellucid"):
                raise
            skipped[name] = why_missing(name, error)
    return made, skipped


def check_equal(case: Case, made: Mapping[str, Call]) -> float:
    """How far the results are apart, relatively; ends the benchmark where it is too far."""
    found = {name: [arrays_of(call()) for _ in range(case.checks)] for name, call in made.items()}
    mine, farthest = found["pellucid"], 0.0
    for name, results in found.items():
        for number, (own, other) in enumerate(zip(mine, results, strict=True)):
            far = largest_difference(own, other)
            if not far <= case.tolerance:
                raise SystemExit(
                    f"{case.name}: not the same work: in call {number} {name} differs from "
                    f"pellucid by {far:.1e}, more than {case.tolerance:.0e}"
                )
            farthest = max(farthest, far)
    return farthest


def largest_difference(own: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The largest distance between two lists of arrays, each relative to its largest number."""
    apart = [0.0]
    for lhs, rhs in zip(own, other, strict=True):
        if lhs.shape != rhs.shape:
            return float("inf")
        scale = max(float(np.abs(lhs).max(initial=0.0)), 1e-30)
        apart.append(float(np.abs(lhs - rhs).max(initial=0.0)) / scale)
    return max(apart)


def arrays_of(result: Any) -> list[np.ndarray]:
    """The arrays of a result of any library, in float64."""
    if isinstance(result, list | tuple):
        return [array for one in result for array in arrays_of(one)]
    if hasattr(result, "detach"):
        result = result.detach()
        # NumPy itself has no such dtype.
        result = result.float() if str(result.dtype) == "torch.bfloat16" else result
    if hasattr(result, "numpy"):
        result = result.numpy()
    return [np.asarray(result).astype(np.float64)]


def traffic_of(work: Work) -> dict[str, int]:
    """What pellucid's work launches, moves and computes, and the fewest bytes it has to move."""
    found = asdict(work.function.traffic(*work.arguments))
    return {k: v if k == "kernels" else v * work.calls for k, v in found.items()}


def footprint(case: Case, name: str) -> dict[str, float]:
    """By how many bytes the process grows at most while one contender makes and repeats its work.

    What it takes to compile counts too. Nothing where it cannot be made here.
    """
    makers = {"pellucid": lambda: case.pellucid(True), **case.peers}
    # What the libraries themselves take is no part of it.
    import_library(name)
    before = resident()
    made, skipped = make_all({name: makers[name]})
    if skipped:
        return {}
    for _ in range(2):
        made[name]()
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0 - before}


def resident() -> float:
    """Bytes of this process that are in memory now."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))


def first_call(case: Case) -> dict[str, float]:
    """The seconds of this process's first call; model and data are there, nothing is compiled."""
    work = case.pellucid(False)
    begin = time.perf_counter()
    work.function(*work.arguments)
    return {"first_call": time.perf_counter() - begin}
