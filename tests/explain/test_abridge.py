"""Does an abridged text fit, and say what it left out?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.explain import abridge

LINES = "\n".join(f"line {number}" for number in range(100))


@given(
    lines=st.lists(st.sampled_from(["load", "fma", "store with a long tail"]), min_size=1),
    rows=st.integers(3, 30),
    width=st.integers(1, 30),
    around=st.sampled_from(["", "fma", "nothing"]),
)
def test_it_never_takes_more_rows_or_columns_than_allowed(
    lines: list[str], rows: int, width: int, around: str
):
    found = abridge("\n".join(lines), rows, width, around).split("\n")
    assert len(found) <= rows
    assert max(map(len, found)) <= width


@pytest.mark.parametrize("around", ["", "nothing like it"])
def test_what_fits_is_left_as_it_is(around: str):
    assert abridge("one\ntwo", rows=2, around=around) == "one\ntwo"


def test_the_lines_left_out_are_counted():
    found = abridge(LINES, rows=10).split("\n")
    assert "… 91 lines more …" in found
    assert len(found) - 1 == 100 - 91


def test_both_ends_stay():
    found = abridge(LINES, rows=10).split("\n")
    assert (found[0], found[-1]) == ("line 0", "line 99")


def test_the_part_that_matters_stays():
    work = ["vfmadd"] * 6
    text = "\n".join(["mov"] * 40 + work + ["mov"] * 60 + ["vfmadd"])
    assert abridge(text, rows=10, around="vfmadd").split("\n").count("vfmadd") == len(work)


def test_lines_left_out_on_both_sides_add_up():
    found = abridge(LINES, rows=12, around="line 50$").split("\n")
    left_out = [int(line.split()[1]) for line in (found[0], found[-1])]
    assert sum(left_out) + len(found) - 2 == 100
