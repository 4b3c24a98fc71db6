"""Does the code in docs/ run, and do the links in all pages lead somewhere?"""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks, expected_output, run

PAGES = sorted((ROOT / "docs").rglob("*.md"))
RUNNABLE = [page for page in PAGES if blocks(page, "python")]
TEXTS = [*PAGES, *sorted(ROOT.glob("*.md"))]

# [the design](docs/design/README.md#top) -> docs/design/README.md
LINK = re.compile(r"\]\(([^)#\s]+)")


def name_of(page: Path) -> str:
    """How a page is called in the report."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_a_pages_program_prints_what_the_page_says(page: Path, tmp_path: Path):
    printed, expected = run(page, tmp_path), expected_output(page)
    if not doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS):
        assert printed == expected


def test_each_design_page_is_in_the_index():
    folder = ROOT / "docs" / "design"
    index = (folder / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in folder.glob("[0-9]*.md") if f"({page.name})" not in index]
    assert not missing


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links_within_the_project_lead_somewhere(page: Path):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    inner = [link for link in links if not link.startswith(("http://", "https://", "mailto:"))]
    assert not [link for link in inner if not (page.parent / link).exists()]
