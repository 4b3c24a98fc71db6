"""Are stages kept for those who listen, and only for them?"""

from __future__ import annotations

import threading

import pytest

from pellucid.ir.graph import Graph
from pellucid.ir.record import (
    Run,
    add_run,
    add_stage,
    clocks,
    is_recording,
    is_timing,
    recording,
)


def test_stages_are_kept_in_order() -> None:
    with recording() as record:
        add_stage("dce", "first", "passes/dce", 0.5)
        add_stage("fuse", lambda: "second", "passes/fuse", 0.25)
        add_stage("dce", "third", "passes/dce", 0.0)
    assert [stage.text for stage in record.stages] == ["first", "second", "third"]
    assert [stage.text for stage in record.named("dce")] == ["first", "third"]
    assert record.stages[1].seconds == 0.25


def test_no_text_is_made_when_nobody_listens() -> None:
    def fail() -> str:
        raise AssertionError("nobody asked")

    assert not is_recording()
    add_stage("dce", fail, "passes/dce", 0.0)


def test_a_text_is_made_when_it_is_first_read_and_kept() -> None:
    made: list[str] = []

    def text() -> str:
        made.append("once")
        return "the text"

    with recording() as record:
        add_stage("assembly", text, "engines/llvm", 0.0)
    assert not made
    assert [record.stages[0].text, record.stages[0].text] == ["the text", "the text"]
    assert made == ["once"]


def test_recordings_nest_and_end() -> None:
    with recording() as outer:
        with recording() as inner:
            add_stage("a", "x", "test", 0.0)
        add_stage("b", "y", "test", 0.0)
    assert [stage.name for stage in outer.stages] == ["a", "b"]
    assert [stage.name for stage in inner.stages] == ["a"]
    assert not is_recording()


def test_equal_recordings_end_each_by_itself() -> None:
    with recording() as outer:
        with recording():
            pass
        add_stage("a", "x", "test", 0.0)
    assert len(outer.stages) == 1


def test_other_threads_are_not_heard() -> None:
    with recording() as record:
        thread = threading.Thread(target=add_stage, args=("a", "x", "test", 0.0))
        thread.start()
        thread.join()
    assert record.stages == []


RUN = Run(Graph((), (), (), ()), ())


def test_runs_are_kept_for_those_who_asked_for_times() -> None:
    with recording() as plain, recording(timed=True) as timed:
        assert is_timing()
        add_run(RUN)
    assert (plain.runs, timed.runs) == ([], [RUN])
    assert not is_timing()
    assert not clocks.running


def test_the_runs_of_other_threads_are_not_heard() -> None:
    def work() -> None:
        heard.append(is_timing())
        add_run(RUN)

    heard: list[bool] = []
    with recording(timed=True) as record:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert record.runs == []
    assert heard == [False]


def test_a_timed_recording_that_an_error_ends_listens_no_longer() -> None:
    with pytest.raises(ZeroDivisionError), recording(timed=True):
        _ = 1 / 0
    assert not clocks.running
