"""How do the benchmarks measure? In turns, by medians, each number with its spread and its machine.

What is compared runs in one process, one after the other, round by round: a machine that is busy
for a while is then busy for all of them.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = (
    *("pellucid", "numpy", "llvmlite", "torch", "jax", "jaxlib"),
    *("onnxruntime", "onnx", "mlx", "tinygrad"),
)
TURN = 0.02
"""Seconds that one turn of a call takes at least."""

FEWEST, MOST = 3, 21
"""Rounds."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median over the rounds, and the quartiles about it."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(seconds: Sequence[float]) -> Timing:
        """The median and quartiles of some measurements; of one, it three times."""
        if len(seconds) < 2:
            return Timing(seconds[0], seconds[0], seconds[0])
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return Timing(median, low, high)


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int | Mapping[str, int],
    repeats: int | Mapping[str, int],
    clock: Callable[[], float],
    rest: float = 0.0,
) -> dict[str, Timing]:
    """Time each call `repeats` times in a row, all of them in each round, after one round unseen.

    Both may be said for each call by itself. Before each come `rest` seconds of sleep, and as
    long of calls unseen: threads that another library left waiting busily have then gone to sleep,
    and its own ones are awake.
    """
    turns = rounds if isinstance(rounds, Mapping) else dict.fromkeys(calls, rounds)
    in_a_row = repeats if isinstance(repeats, Mapping) else dict.fromkeys(calls, repeats)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(max(turns.values()) + 1):
        for name, call in calls.items():
            if turn > turns[name]:
                continue
            if rest:
                time.sleep(rest)
                awake = time.perf_counter() + rest
                while time.perf_counter() < awake:
                    call()
            start = clock()
            for _ in range(in_a_row[name]):
                call()
            if turn:
                seconds[name].append((clock() - start) / in_a_row[name])
    return {name: Timing.of(found) for name, found in seconds.items()}


def plan_turns(
    calls: Mapping[str, Callable[[], object]], seconds: float, patience: float
) -> tuple[dict[str, int], dict[str, int]]:
    """How many rounds, and calls in a row in each, fit into about so many seconds in all.

    A turn takes at least TURN seconds, so that the clock does not matter. What takes `patience`
    times as long as the first of the calls gets FEWEST rounds.
    """
    once = {name: seconds_of(call) for name, call in calls.items()}
    repeats = {name: max(1, round(TURN / spent)) for name, spent in once.items()}
    own = next(iter(once.values()))
    patient = {name for name, spent in once.items() if spent <= patience * own}
    a_round = sum(once[name] * repeats[name] for name in patient)
    many = min(MOST, max(FEWEST, int(seconds / a_round)))
    return {name: many if name in patient else FEWEST for name in calls}, repeats


def seconds_of(call: Callable[[], object]) -> float:
    """About how long a call takes, once it is warm."""
    call()
    start, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < TURN / 4:
        call()
        calls += 1
    return spent / calls


def child(*words: str, **variables: str) -> dict[str, Any]:
    """Run Python with these words in a fresh process; its last line of output is JSON."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"python {' '.join(words)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := version(name))},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown")


def version(name: str) -> str | None:
    """The version of an installed library, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def write(case: str, found: dict[str, Any], path: Path | None) -> None:
    """Keep what was found, with the machine, as JSON; beside the benchmarks if nowhere else."""
    target = path or RESULTS / f"{case}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".writing")
    text = json.dumps({"case": case, "machine": machine(), **found}, indent=2, default=asdict)
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(target)
    print(f"\nwritten to {target}")
