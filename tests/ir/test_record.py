"""Are stages kept for those who listen, and only for them?"""

from __future__ import annotations

import threading

from pellucid.ir.record import add_stage, is_recording, recording


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
