"""Does docs/ops.md say what the cards say, and does every card say enough?"""

from __future__ import annotations

import pytest

from pellucid.explain.cards import TITLES, page
from pellucid.ops import REGISTRY
from tests.pages import ROOT


def test_the_page_of_ops_is_what_the_cards_say() -> None:
    written = (ROOT / "docs" / "ops.md").read_text(encoding="utf-8")
    assert written == page(), "run scripts/docs --ops"


@pytest.mark.parametrize("name", REGISTRY)
def test_every_op_has_a_row_that_says_what_it_computes(name: str) -> None:
    op = REGISTRY[name]
    assert op.what
    assert op.kind in TITLES
    assert f"| `{name}` | {op.what.replace('|', chr(92) + '|')} |" in page()
