"""Does README tell the truth? Its Python runs; its commands, and those of all pages, are there."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks, program, run

README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"

# Commands that are not ours, and that a reader has.
GIVEN = {"git", "cd", "pip", "python"}


def commands() -> list[tuple[str, list[str]]]:
    """Each command in the `sh` blocks of all pages: where it stands, and its words."""
    return [
        (f"{page.name}:{number}", line.partition("#")[0].split())
        for page in (README, CONTRIBUTING, *sorted((ROOT / "docs").rglob("*.md")))
        for block in blocks(page, "sh")
        for number, line in block
        if line.partition("#")[0].strip()
    ]


def test_the_example_in_the_readme_learns_to_read_digits(tmp_path: Path):
    accuracy = re.search(r"test accuracy ([\d.]+) ?%", run(README, tmp_path))
    assert accuracy
    assert float(accuracy[1]) >= 96.0


def test_the_example_in_the_readme_is_twenty_lines():
    assert len([line for line in program(README).splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize(("where", "words"), commands(), ids=lambda part: str(part))
def test_each_command_is_there(where: str, words: list[str]):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "scripts"
    ]
    if words[0] in GIVEN | scripts.keys():
        return
    assert os.access(ROOT / words[0], os.X_OK), f"{where}: {words[0]} is no script"


@pytest.mark.parametrize("script", ["tour", "test"])
def test_the_first_screen_shows_the_two_commands(script: str):
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:40])
    assert f"scripts/{script}" in first_screen
