"""How is a file of cases measured and shown? Each count of threads in a fresh process.

A process is bound to as many cores as it has threads. First come the times beside the peers', then
what pellucid's work moves through memory and how near it is to what the machine can do; of models
also the first call, cold and with code from the cache, and the peak of memory, each in a process of
its own. Results are kept as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import case as contests
from benchmarks.case import Case
from benchmarks.measure import Timing, child, write
from benchmarks.peers import PEERS, library_of, settings

Found = dict[str, Any]


def parser(name: str) -> argparse.ArgumentParser:
    """The arguments of every file of cases."""
    made = argparse.ArgumentParser(prog=f"scripts/bench {name}")
    made.add_argument("--case", nargs="+", default=[], help="those alone whose names begin so")
    made.add_argument("--peer", nargs="+", help="those alone: torch, jax.jit, ...; `none` for none")
    made.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    made.add_argument("--seconds", type=float, default=20.0, help="of timing, for all its cases")
    made.add_argument("--starts", type=int, default=2, help="fresh processes for first calls")
    made.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    made.add_argument("--tiny", action="store_true", help="the smallest sizes: does it run?")
    made.add_argument("--json", type=Path)
    made.add_argument("--child", choices=("compare", "start", "memory"), help=argparse.SUPPRESS)
    made.add_argument("--of", help=argparse.SUPPRESS)
    return made


def cases_of(name: str, tiny: bool) -> tuple[Case, ...]:
    """The cases of a file, at their sizes or as small as they can be."""
    return importlib.import_module(f"benchmarks.{name}").cases(tiny)


def main(name: str, words: Sequence[str]) -> Found:
    """Do what the command line asks for: the whole report, or a child's part of it."""
    arguments = parser(name).parse_args(words)
    if arguments.child:
        print(json.dumps(part(name, arguments)))
        return {}
    found = report(name, arguments, words)
    write(name, found, arguments.json)
    return found


def chosen(name: str, arguments: argparse.Namespace) -> list[Case]:
    """The cases and peers that are asked for."""
    wanted = tuple(arguments.case) or ("",)
    cases = [case for case in cases_of(name, arguments.tiny) if case.name.startswith(wanted)]
    if not cases:
        raise SystemExit(f"{name} has no case {arguments.case}")
    return cases if arguments.peer is None else [case.only(arguments.peer) for case in cases]


# A child's part.


def part(name: str, arguments: argparse.Namespace) -> Found:
    """What one process measures."""
    cases = chosen(name, arguments)
    if arguments.child == "start":
        return contests.first_call(cases[0])
    if arguments.child == "memory":
        return contests.footprint(cases[0], arguments.of)
    (threads,) = arguments.threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    # Before and after: of a machine that is busy for a while, the better one is its limit.
    dtypes, seconds = [case.dtype for case in cases], arguments.seconds / len(cases)
    before = contests.limits_of(threads, dtypes)
    found = {case.name: contests.compare(case, threads, seconds) for case in cases}
    after = contests.limits_of(threads, dtypes)
    return {"cases": found, "limits": {key: max(rate, after[key]) for key, rate in before.items()}}


# The whole.


def report(name: str, arguments: argparse.Namespace, words: Sequence[str]) -> Found:
    """Measure everything, and print it as it comes."""
    itself = ("-m", "benchmarks", name, *without(words, "--threads"))
    available = len(os.sched_getaffinity(0))
    found: Found = {"threads": {}, "memory": {}, "start": {}}
    for threads in arguments.threads:
        if threads > available:
            print(f"{threads} threads: skipped, this machine has {available} cores")
            continue
        more = ("--child", "compare", "--threads", str(threads))
        one = child(*itself, *more, **settings(threads))
        found["threads"][str(threads)] = one
        for case, measured in one["cases"].items():
            print_times(case, threads, measured, one["limits"])
    for case in [case for case in chosen(name, arguments) if case.model]:
        alone = ("-m", "benchmarks", name, *without(words, "--case"), "--case", case.name)
        if arguments.memory:
            found["memory"][case.name] = peaks(alone, case)
            print_peaks(case.name, found["memory"][case.name])
        if arguments.starts:
            found["start"][case.name] = starts(alone, arguments.starts)
            print_starts(case.name, found["start"][case.name])
    return found


def without(words: Sequence[str], option: str) -> list[str]:
    """The words without this option and what belongs to it."""
    kept: list[str] = []
    dropping = False
    for word in words:
        dropping = word == option or (dropping and not word.startswith("--"))
        if not dropping:
            kept.append(word)
    return kept


def peaks(alone: Sequence[str], case: Case) -> dict[str, float]:
    """By how many bytes a process grows for each contender's work.

    Not for torch.compile's, whose compiler would be the most of it.
    """
    found: dict[str, float] = {}
    for name in ("pellucid", *(peer for peer in case.peers if peer != "torch.compile")):
        one = child(*alone, "--child", "memory", "--of", name, **settings(1))
        if one:
            found[name] = one["peak"]
    return found


def starts(alone: Sequence[str], count: int) -> dict[str, Timing]:
    """Seconds of the first call in fresh processes: with an empty cache, then with what it left."""
    cold: list[float] = []
    cached: list[float] = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            for seconds in (cold, cached):
                place = f"{folder}/kernels"
                one = child(*alone, "--child", "start", PELLUCID_CACHE_DIR=place)
                seconds.append(one["first_call"])
    return {"cold": Timing.of(cold), "cached": Timing.of(cached)}


# Tables.


def print_times(name: str, threads: int, found: Found, limits: dict[str, float]) -> None:
    """One case on so many threads: all contenders, and how near the machine's limit it is."""
    clock = "CPU time" if threads == 1 else "wall time"
    print(f"\n{name}: {found['title']}\n{threads} thread{'s' * (threads > 1)}, {clock}")
    mine = found["times"]["pellucid"]["median"]
    for who, timing in found["times"].items():
        low, median, high = (1e3 * timing[key] for key in ("low", "median", "high"))
        peer = PEERS.get(library_of(who))
        note = f"   {peer.note}" if peer and peer.note else ""
        print(
            f"  {who:22} {median:9.3f} ms  [{low:.3f} {high:.3f}]"
            f"   {timing['median'] / mine:5.2f} x pellucid{note}"
        )
    for who, why in found["skipped"].items():
        print(f"  {who:22} skipped: {why}")
    print(f"  {judged(found, limits)}")
    traffic = found["traffic"]
    moved, fewest = traffic["moved_bytes"], max(1, traffic["fewest_bytes"])
    print(
        f"  {traffic['launches']} launches of {traffic['kernels']} kernels; moves "
        f"{moved / 1e6:.1f} MB, {moved / fewest:.2f} x the fewest; equal to "
        f"{found['difference']:.0e}",
        flush=True,
    )


def judged(found: Found, limits: dict[str, float]) -> str:
    """Beside the best peer, and of the machine's limit, in words."""
    best, ratio = beside_best(found)
    share, bound = of_limit(found, limits)
    against = f"{ratio:.2f} x the speed of {best}, the best peer; " if best else ""
    unit = "GB/s" if bound == "bytes" else f"GFLOP/s of {bound}"
    return f"{against}{share:.0%} of the limit, {limits[bound] / 1e9:.0f} {unit}"


def beside_best(found: Found) -> tuple[str, float]:
    """The fastest peer, and how many times as fast as it pellucid is."""
    times = {who: one["median"] for who, one in found["times"].items()}
    peers = {who: spent for who, spent in times.items() if not who.startswith("pellucid")}
    if not peers:
        return "", math.nan
    best = min(peers, key=peers.__getitem__)
    return best, peers[best] / times["pellucid"]


def of_limit(found: Found, limits: dict[str, float]) -> tuple[float, str]:
    """The least time that the machine needs, over pellucid's; and what bounds it."""
    traffic, dtype = found["traffic"], found["dtype"]
    least = {
        dtype: traffic["flops"] / limits[dtype],
        "bytes": traffic["fewest_bytes"] / limits["bytes"],
    }
    bound = max(least, key=least.__getitem__)
    return least[bound] / found["times"]["pellucid"]["median"], bound


def print_peaks(name: str, found: dict[str, float]) -> None:
    """The memory of each contender."""
    each = ", ".join(f"{who} {peak / 2**20:.0f}" for who, peak in found.items())
    print(f"\n{name}: the process grows by at most, MiB: {each}", flush=True)


def print_starts(name: str, found: dict[str, Timing]) -> None:
    """The first call."""
    each = ", ".join(f"{how} {timing.median:.2f} s" for how, timing in found.items())
    print(f"{name}: first call in a fresh process, {each}", flush=True)


def print_summary(files: Iterable[Found]) -> None:
    """All cases in a line each, and the geometric means."""
    print(f"\n{'case':34}{'threads':>8}{'ms':>11}{'best peer':>24}{'ratio':>7}{'of limit':>10}")
    ratios: dict[str, list[float]] = {}
    for found in files:
        for threads, one in found["threads"].items():
            for name, measured in one["cases"].items():
                best, ratio = beside_best(measured)
                share, bound = of_limit(measured, one["limits"])
                spent = 1e3 * measured["times"]["pellucid"]["median"]
                what = f"{share:.0%} {'B' if bound == 'bytes' else ''}"
                print(f"{name:34}{threads:>8}{spent:11.3f}{best:>24}{ratio:7.2f}{what:>10}")
                if best:
                    ratios.setdefault(threads, []).append(ratio)
    for threads, found in ratios.items():
        mean = math.exp(sum(map(math.log, found)) / len(found))
        print(f"geometric mean of {len(found)} ratios, {threads} thread(s): {mean:.2f}")
    print("of limit: of its dtype's peak of multiply-adds; B: of the triad's, on the fewest bytes")
