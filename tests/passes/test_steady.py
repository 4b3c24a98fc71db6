"""Is what seldom changes split off, only where it pays, and with the same bits?"""

from __future__ import annotations

import pytest

from pellucid.ir.check import check
from pellucid.ir.graph import Graph
from pellucid.ir.text import parse_graph
from pellucid.ops import lookup
from pellucid.ops.control import evaluate
from pellucid.passes.steady import split_steady
from tests.graphs import random_graph, same_bits

NORM = """graph(%0: float32[4, 3], %1: float32[3], %2: float32[3]) {
  %3: float32[3] = rsqrt(%2)
  %4: float32[3] = mul(%1, %3)
  %5: float32[4, 3] = broadcast(%4) [axes=(1,), shape=(4, 3)]
  %6: float32[4, 3] = mul(%0, %5)
  return %6
}"""


def parsed(text: str) -> Graph:
    return parse_graph(text, lookup)


def ops(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def test_what_depends_on_steady_inputs_alone_is_split_off() -> None:
    split = split_steady(parsed(NORM), {1, 2})
    assert split is not None
    assert (ops(split.steady), ops(split.rest)) == (["rsqrt", "mul"], ["broadcast", "mul"])
    assert (split.reads, len(split.rest.inputs)) == ((1, 2), 4)
    check(split.steady)
    check(split.rest)


def test_what_an_unsteady_input_takes_part_in_is_not() -> None:
    split = split_steady(parsed(NORM), {2})
    assert split is not None
    assert (ops(split.steady), split.reads) == (["rsqrt"], (2,))


@pytest.mark.parametrize("steady", [(), (0,), (1,)])
def test_nothing_is_split_off_where_nothing_is_worth_it(steady: tuple[int, ...]) -> None:
    assert split_steady(parsed(NORM), steady) is None


def test_movement_and_single_numbers_are_not_kept() -> None:
    graph = parsed(
        """graph(%0: float32[4, 3], %1: float32[3, 4], %2: float32[]) {
          %3: float32[4, 3] = transpose(%1) [permutation=(1, 0)]
          %4: float32[] = neg(%2)
          %5: float32[4, 3] = broadcast(%4) [axes=(), shape=(4, 3)]
          %6: float32[4, 3] = mul(%0, %3)
          %7: float32[4, 3] = mul(%6, %5)
          return %7
        }"""
    )
    assert split_steady(graph, {1, 2}) is None


def test_what_is_larger_than_its_sources_is_made_anew_from_what_is_not() -> None:
    graph = parsed(
        """graph(%0: float64[4, 3], %1: float32[3]) {
          %2: float32[3] = exp(%1)
          %3: float64[3] = cast(%2) [dtype=float64]
          %4: float64[4, 3] = broadcast(%3) [axes=(1,), shape=(4, 3)]
          %5: float64[4, 3] = mul(%0, %4)
          return %5
        }"""
    )
    split = split_steady(graph, {1})
    assert split is not None
    assert (ops(split.steady), ops(split.rest)) == (["exp"], ["cast", "broadcast", "mul"])


def test_an_output_may_be_kept_too_if_something_else_reads_it() -> None:
    graph = parsed(
        """graph(%0: float32[3], %1: float32[3]) {
          %2: float32[3] = exp(%1)
          %3: float32[3] = mul(%0, %2)
          return %3, %2
        }"""
    )
    split = split_steady(graph, {1})
    assert split is not None
    assert split.rest.outputs[1] is split.rest.inputs[2]


def test_what_no_output_needs_is_not_kept() -> None:
    graph = parsed(
        """graph(%0: float32[3], %1: float32[3]) {
          %2: float32[3] = exp(%1)
          %3: float32[3] = mul(%0, %2)
          return %0
        }"""
    )
    assert split_steady(graph, {1}) is None


def test_both_parts_together_give_the_bits_of_the_graph() -> None:
    split_off = 0
    for seed in range(100):
        graph, arrays = random_graph(seed, size=80)
        split = split_steady(graph, (0,))
        if split is None:
            continue
        split_off += 1
        kept = evaluate(check(split.steady), [arrays[number] for number in split.reads])
        found = evaluate(check(split.rest), [*arrays, *kept])
        for one, other in zip(found, evaluate(graph, arrays), strict=True):
            assert same_bits(one, other)
    assert split_off > 5
