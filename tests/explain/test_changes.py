"""Is what a pass did told truly? Against graphs whose fate is known."""

from __future__ import annotations

from itertools import pairwise

import pytest

import pellucid as pe
from pellucid.core.error import ParseError
from pellucid.engines.cpu import pipeline
from pellucid.explain import Change, changes, graph_of
from pellucid.ir.graph import count_ops
from pellucid.ir.record import Record, Stage


def recorded(function: object) -> Record:
    with pe.recording() as record:
        pe.jit(function).compile(pe.zeros((3,)))
    return record


def named(found: tuple[Change, ...], name: str) -> Change:
    return next(change for change in found if change.name == name)


def unused_exp(x: pe.Tensor) -> pe.Tensor:
    pe.exp(x)
    return pe.tanh(x)


def test_what_dead_code_removal_took_is_told():
    change = named(changes(recorded(unused_exp)), "dce")
    assert change.gone == (("exp", 1),)
    assert change.come == ()


def test_what_is_said_twice_goes_once():
    change = named(changes(recorded(lambda x: pe.tanh(x) * pe.tanh(x))), "cse")
    assert change.gone == (("tanh", 1),)


def test_a_pass_that_does_nothing_changed_nothing():
    assert not named(changes(recorded(pe.tanh)), "simplify").changed


def test_each_pass_is_compared_with_the_one_before():
    found = changes(recorded(unused_exp))
    assert all(one.nodes_after == two.nodes_before for one, two in pairwise(found))


def test_nodes_add_up():
    for change in changes(recorded(unused_exp)):
        gained = sum(n for _, n in change.come) - sum(n for _, n in change.gone)
        assert change.nodes_after - change.nodes_before == gained


def test_two_compilations_are_not_mixed_up():
    with pe.recording() as record:
        pe.jit(pe.tanh).compile(pe.zeros((3,)))
        pe.jit(unused_exp).compile(pe.zeros((3,)))
    alone = changes(recorded(unused_exp))
    assert [str(c) for c in changes(record)[-len(alone) :]] == [str(c) for c in alone]


def test_a_pass_without_its_graph_before_is_left_out():
    record = recorded(unused_exp)
    assert changes(Record([s for s in record.stages if s.name == "dce"][:1])) == ()


def test_recording_and_reading_the_passes_makes_no_assembly(monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []
    monkeypatch.setattr(pipeline, "assembly", lambda text, isa: made.append(text) or "ret")
    with pe.device("cpu"):
        record = recorded(unused_exp)
    assert changes(record)
    assert not made
    assert record.named("assembly")[0].text == "ret"
    assert len(made) == 1


def test_a_stage_gives_its_graph_back():
    record = recorded(unused_exp)
    assert count_ops(graph_of(record.named("trace")[0])) == {"exp": 1, "tanh": 1}


def test_a_stage_that_is_no_graph_is_an_error_that_names_it():
    with pytest.raises(ParseError, match="'memory'"):
        graph_of(Stage("memory", "arena 64 bytes", "passes/memory", 0.0))
