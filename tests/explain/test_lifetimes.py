"""Do the bars of the memory plan tell when each value of the arena lives?"""

from __future__ import annotations

from itertools import combinations

import pytest

import pellucid as pe
from pellucid.explain import graph_of
from pellucid.explain.lifetimes import BAR, Lifetime, chart, lifetimes
from pellucid.ir.graph import Graph


@pytest.fixture(scope="module")
def plan() -> tuple[str, Graph]:
    def f(x: pe.Tensor, w: pe.Tensor) -> pe.Tensor:
        for _ in range(4):
            x = pe.tanh(x @ w) @ w
        return pe.sum(x)

    with pe.device("cpu"), pe.recording() as record:
        pe.jit(f).compile(pe.ones((8, 8)), pe.ones((8, 8)))
    return record.named("memory")[-1].text, graph_of(record.named("fuse")[-1])


def test_every_value_of_the_arena_has_a_life_and_no_other(plan: tuple[str, Graph]):
    text, graph = plan
    found = lifetimes(text, graph)
    assert len(found) == text.count(" at arena+")
    values = {number: value for value, number in graph.numbering.items()}
    for one in found:
        readers = [n for n, node in enumerate(graph.nodes) if values[one.number] in node.operands]
        assert values[one.number] in graph.results[one.first]
        assert one.last == max(readers)


def test_values_that_share_bytes_never_meet_but_where_one_takes_over(plan: tuple[str, Graph]):
    for a, b in combinations(lifetimes(*plan), 2):
        apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
        assert apart or min(a.last, b.last) <= max(a.first, b.first)


def test_the_chart_shows_the_largest_and_counts_the_rest(plan: tuple[str, Graph]):
    text, graph = plan
    lines = chart(lifetimes(text, graph), len(graph.nodes), rows=2).splitlines()
    assert len(lines) == 4
    assert lines[-1].split()[1] == str(len(lifetimes(text, graph)) - 2)


@pytest.mark.parametrize("kernels", [1, 5, BAR, 200])
def test_a_bar_is_as_long_as_the_program_and_full_while_the_value_lives(
    plan: tuple[str, Graph], kernels: int
):
    type = lifetimes(*plan)[0].type
    born, late = Lifetime(0, type, 0, 0, 0), Lifetime(1, type, 0, kernels - 1, kernels - 1)
    bars = [line.split()[-1] for line in chart((born, late), kernels, 9).splitlines()[1:]]
    assert {len(bar) for bar in bars} == {min(kernels, BAR)}
    assert bars[0].startswith("█")
    assert bars[1].endswith("█")
    assert all(bar.count("█") == 1 for bar in bars)
