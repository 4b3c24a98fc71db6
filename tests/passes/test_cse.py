"""Are equal nodes merged, and only equal ones?"""

from __future__ import annotations

import pytest

from pellucid.core.dtype import float32, float64, uint64
from pellucid.core.source import Source
from pellucid.ir.build import building
from pellucid.ir.graph import TensorType
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops import REGISTRY, lookup
from pellucid.ops.elementwise import cast, exp
from pellucid.ops.movement import full
from pellucid.ops.random import random_bits
from pellucid.passes.cse import COMMUTATIVE, cse
from pellucid.passes.dce import dce

F = TensorType(float32, (3,))


def test_equal_nodes_are_merged() -> None:
    before = parse_graph(
        """graph(%0: float32[3], %1: float32[3]) {
          %2: float32[3] = mul(%0, %1)
          %3: float32[3] = exp(%2)
          %4: float32[3] = mul(%1, %0)
          %5: float32[3] = exp(%4)
          %6: float32[3] = sub(%3, %5)
          return %6
        }""",
        lookup,
    )
    assert print_graph(dce(cse(before))) == (
        "graph(%0: float32[3], %1: float32[3]) {\n"
        "  %2: float32[3] = mul(%0, %1)\n"
        "  %3: float32[3] = exp(%2)\n"
        "  %4: float32[3] = sub(%3, %3)\n"
        "  return %4\n"
        "}"
    )


def test_other_attributes_are_another_node() -> None:
    with building() as builder:
        x = builder.input(F)
        graph = builder.graph([cast(x, dtype=float64), cast(x, dtype=float32)])
    assert len(cse(graph).nodes) == 2


def test_zeros_of_both_signs_stay_apart() -> None:
    with building() as builder:
        graph = builder.graph([full((), 0.0, float32), full((), -0.0, float32)])
    assert len(cse(graph).nodes) == 2


def test_equal_draws_are_one_and_others_stay_apart() -> None:
    with building() as builder:
        seed = builder.input(TensorType(uint64, ()))
        draws = [random_bits(seed, full((), k, uint64), shape=(4,)) for k in (1, 2, 1)]
        graph = builder.graph(draws)
    first, second, third = cse(graph).outputs
    assert first is third
    assert first is not second


@pytest.mark.parametrize("name", sorted(set(REGISTRY) & {"sub", "div", "less", "maximum"}))
def test_order_counts_where_it_can_show(name: str) -> None:
    with building() as builder:
        x, y = builder.input(F), builder.input(F)
        graph = builder.graph([REGISTRY[name](x, y), REGISTRY[name](y, x)])
    assert len(cse(graph).nodes) == 2
    assert name not in COMMUTATIVE


def test_the_first_keeps_its_line() -> None:
    with building() as builder:
        x = builder.input(F)
        builder.source = Source("first.py", 1)
        first = exp(x)
        builder.source = Source("second.py", 2)
        graph = builder.graph([first, exp(x)])
    (node,) = dce(cse(graph)).nodes
    assert node.source == Source("first.py", 1)
