"""How is the code in a page of Markdown run? As its reader would: all blocks of a page, in order,
are one program in a Python of its own, so that nothing leaks into other tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

FENCE = re.compile(r"^```(\w*)$")


def blocks(page: Path, language: str) -> list[list[tuple[int, str]]]:
    """Each fenced block of `language` in a page, as (line number, line)."""
    found: list[list[tuple[int, str]]] = []
    inside: str | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = FENCE.match(line)
        if fence and inside is None:
            inside = fence[1]
            if inside == language:
                found.append([])
        elif line == "```":
            inside = None
        elif inside == language:
            found[-1].append((number, line))
    return found


def program(page: Path) -> str:
    """The Python blocks of a page; each line keeps its number, so an error points into the page."""
    lines = {number: line for block in blocks(page, "python") for number, line in block}
    return "\n".join(lines.get(number, "") for number in range(1, max(lines, default=0) + 1)) + "\n"


def expected_output(page: Path) -> str:
    """The `text` blocks of a page, joined: what its program prints, `...` standing for anything."""
    return "".join(f"{line}\n" for block in blocks(page, "text") for _, line in block)


def run(page: Path, folder: Path) -> str:
    """Run a page's program inside `folder` with warnings as errors; returns what it printed."""
    assert blocks(page, "python"), f"{page.name} has no Python to run"
    script = folder / f"{page.stem}.py"
    script.write_text(program(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{page.relative_to(ROOT)}:\n{done.stderr}"
    return done.stdout
