"""What does pellucid cost before it does anything: to import, and on disk?

    scripts/bench footprint [--starts 10] [--json PATH]

Each import is that of a fresh process, pellucid's after NumPy's. Sizes are those of the files that
an installed package lists, pellucid's with all that it requires.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
from pathlib import Path

from benchmarks.measure import ROOT, Timing, child, write

IMPORTS = """
import time; begin = time.perf_counter()
import numpy; middle = time.perf_counter()
import pellucid; end = time.perf_counter()
import json; print(json.dumps({"numpy": middle - begin, "pellucid": end - middle}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = [child("-c", IMPORTS) for _ in range(arguments.starts)]
    imports = {name: Timing.of([one[name] for one in found]) for name in ("numpy", "pellucid")}
    for name, timing in imports.items():
        low, median, high = (1e3 * x for x in (timing.low, timing.median, timing.high))
        print(f"import {name:20} {median:8.1f} ms  [{low:.1f} {high:.1f}]")
    sizes = {name: size_of(name) for name in sorted(required("pellucid"))}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"on disk {name:19} {size / 1e6:8.1f} MB")
    print(f"on disk {'all':19} {sum(sizes.values()) / 1e6:8.1f} MB")
    write("footprint", {"imports": imports, "bytes": sizes}, arguments.json)


def required(name: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """A package and all that it requires, without extras."""
    seen |= {name}
    for line in importlib.metadata.requires(name) or ():
        other = re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-")
        if "extra ==" not in line and other not in seen and is_installed(other):
            seen |= required(other, seen)
    return seen


def is_installed(name: str) -> bool:
    """A requirement for another system or Python is not there."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def size_of(name: str) -> int:
    """Bytes of a package's files; of pellucid those of its source, however it is installed."""
    if name == "pellucid":
        files = [path for path in (ROOT / "src").rglob("*") if path.suffix != ".pyc"]
    else:
        listed = importlib.metadata.files(name) or ()
        files = [Path(str(path.locate())) for path in listed if path.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files if path.is_file())


if __name__ == "__main__":
    main()
