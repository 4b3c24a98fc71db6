"""Does every case give the same bits on any number of threads, quiet or busy, cold or cached?

    scripts/bench bits [--case FILE ...] [--tiny] [--json PATH]

Each row is a fresh process that does the work of all cases and says a digest of what came out. The
first finds no machine code, the others what it left; the last shares its cores with a process that
never rests. It ends with an error where a digest differs from that of one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

import pellucid as pe
from benchmarks.__main__ import cases
from benchmarks.case import Case, arrays_of
from benchmarks.measure import child, write

SETTINGS = ("1 cold", "1 cached", "2 cached", "3 cached", "5 cached", "2 busy")
"""How many threads, and what else there is."""

CALLS = 2
"""So many calls in a row: the second one reads what the first one assigned."""

BURN = "print(flush=True)\nwhile True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    files = list(cases(of="cases"))
    parser.add_argument("--case", nargs="+", choices=files, default=files, metavar="FILE")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: does it run?")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(digests(arguments.case, arguments.tiny)))
        return
    words = ["-m", "benchmarks.bits", "--child", *["--tiny"] * arguments.tiny]
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in SETTINGS:
            threads, how = setting.split()
            with busy() if how == "busy" else nullcontext():
                found[setting] = child(
                    *words, "--case", *arguments.case,
                    PELLUCID_THREADS=threads, PELLUCID_CACHE_DIR=folder,
                )  # fmt: skip
            wrong = differing(found[setting], found[SETTINGS[0]])
            print(f"{setting:10} {len(found[setting])} cases, {len(wrong)} differ", flush=True)
    write("bits", found, arguments.json)
    wrong = [name for one in found.values() for name in differing(one, found[SETTINGS[0]])]
    if wrong:
        raise SystemExit(f"other bits: {', '.join(dict.fromkeys(wrong))}")


def differing(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """The cases whose digests differ."""
    return [name for name, digest in found.items() if digest != expected[name]]


def digests(names: list[str], tiny: bool) -> dict[str, str]:
    """By case, a digest of what its first calls give."""
    each = (importlib.import_module(f"benchmarks.{name}").cases(tiny) for name in names)
    return {case.name: digest(case) for some in each for case in some}


def digest(case: Case) -> str:
    """One SHA-256 over the bits of a case's first results."""
    pe.random.seed(0)
    work, sums = case.pellucid(True), hashlib.sha256()
    for _ in range(CALLS):
        for array in arrays_of(work()):
            sums.update(np.ascontiguousarray(array).tobytes())
    return sums.hexdigest()


@contextmanager
def busy() -> Iterator[None]:
    """With a process beside that never rests."""
    burner = subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE)
    try:
        assert burner.stdout is not None
        burner.stdout.readline()
        yield
    finally:
        burner.kill()
        burner.communicate()


if __name__ == "__main__":
    main()
