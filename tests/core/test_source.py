"""Is the user's line found, and shown in messages?"""

from __future__ import annotations

from pathlib import Path

from pellucid.core.source import Source, at_line, user_source
from pellucid.core.tree import map_tree


def test_the_callers_line_is_found() -> None:
    source = user_source()
    assert source is not None
    assert Path(source.file).name == "test_source.py"
    assert source.code == "source = user_source()"


def test_lines_inside_the_package_are_passed_over() -> None:
    (source,) = map_tree(lambda leaf: user_source(), [1])
    assert source is not None
    assert source.code == "(source,) = map_tree(lambda leaf: user_source(), [1])"


def test_a_line_reads_as_file_number_and_code() -> None:
    source = user_source()
    assert source is not None
    assert str(source) == f"test_source.py:{source.line}  source = user_source()"
    assert at_line(source) == f"\n  at {source}"


def test_a_line_that_cannot_be_read_is_still_named() -> None:
    assert str(Source("/nowhere/model.py", 3)) == "model.py:3"


def test_without_a_line_nothing_is_said() -> None:
    assert at_line(None) == ""
