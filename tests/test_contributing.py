"""Is an elementwise op added in the three lines that CONTRIBUTING shows? They are added to a copy.

In the copy the new op must pass every gate, and work where nobody told anything about it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
OP = "square"

USE = f"""
import numpy as np
import pellucid as pe
from pellucid.ops import lookup
from pellucid.tensor.dispatch import apply

def double_of_square(x):
    return pe.sum(apply(lookup("{OP}"), (x,)) * 2.0)

x = pe.asarray([1.0, -3.0])
compiled = pe.jit(lambda x: pe.exp(apply(lookup("{OP}"), (x,))))
with pe.recording() as record:
    compiled(x)
kernels = record.named("loops")
print(pe.grad(double_of_square)(x), pe.hessian(double_of_square)(x).tolist(), len(kernels))
print(pe.vmap(pe.grad(double_of_square))(pe.asarray([[1.0], [5.0]])).tolist())
"""


def additions() -> list[tuple[str, str, str]]:
    """Each line of the `diff` block: its file, the line that it follows, and the line itself."""
    found: list[tuple[str, str, str]] = []
    (block,) = blocks(CONTRIBUTING, "diff")
    file = before = ""
    for _, line in block:
        if line.startswith("--- "):
            file = line.removeprefix("--- ").partition(":")[0]
        elif line.startswith("+"):
            found.append((file, before, line[1:]))
        else:
            before = line[1:]
    return found


def add(folder: Path, file: str, before: str, line: str) -> None:
    """Put a line into a file of the copy, after the one line that reads `before`."""
    path = folder / file
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.count(before) == 1, f"{file} has not just one line {before!r}"
    lines.insert(lines.index(before) + 1, line)
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the lines added."""
    folder = tmp_path_factory.mktemp("project")
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for file, before, line in additions():
        add(folder, file, before, line)
    return folder


def python(folder: Path, *words: str) -> str:
    """What Python prints when it runs in the copy, with the copy's pellucid."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_are_three_lines():
    assert len(additions()) == 3


def test_the_new_op_passes_every_gate(copy: Path):
    gates = [f"tests/{floor}/test_gates.py" for floor in ("ops", "engines")]
    report = python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", OP, *gates)
    # At least: a case, its type, forward and reverse derivative, batching, and each engine.
    assert int(report.splitlines()[-1].split(" passed")[0].split()[-1]) >= 10, report


def test_the_new_op_differentiates_maps_and_fuses(copy: Path):
    assert python(copy, "-c", USE).splitlines() == [
        "[  4. -12.] [[4.0, 0.0], [0.0, 4.0]] 1",
        "[[4.0], [20.0]]",
    ]
