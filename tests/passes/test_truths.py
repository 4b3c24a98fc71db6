"""Is it seen where a value is one number and where another, and which places those are?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.ir.build import building
from pellucid.ir.graph import Value
from pellucid.ops.control import evaluate
from pellucid.passes.truths import Split, axes_among_ones, conjuncts, number_of, plane, split
from pellucid.tensor.traced import trace_function

N = 5
Masks = Callable[[pe.Tensor], pe.Tensor]


def value_of(function: Any) -> Value:
    """What a function of a bool (5, 5) gives, as a graph's value."""
    mask = pe.asarray(np.zeros((N, N), bool))
    return trace_function(function, [mask], [mask]).graph.outputs[0]


def places() -> tuple[pe.Tensor, pe.Tensor]:
    return pe.arange(N)[:, None], pe.arange(N)[None, :]


@pytest.mark.parametrize(
    ("function", "then", "other"),
    [
        (lambda m: (1.0 - pe.astype(m, "float32")) * -1e9, 0.0, -1e9),
        (lambda m: (pe.astype(m, "float32") - 1.0) * 1e9, 0.0, -1e9),
        (lambda m: pe.where(m, 0.0, -pe.full((), 7.0) * 1.0), 0.0, -7.0),
        (lambda m: pe.astype(m, "int32") == 0, False, True),
        (lambda m: pe.matrix_transpose(pe.where(m, 2, 3))[None], 2, 3),
        (lambda m: pe.stop_gradient(m), True, False),
    ],
)
def test_two_numbers_by_a_truth(function: Masks, then: float, other: float) -> None:
    with building():
        found = split(value_of(function))
    assert isinstance(found, Split)
    assert found.predicate is not None
    assert (found.then, found.other) == (then, other)


@pytest.mark.parametrize(
    "function",
    [
        lambda m: pe.astype(m, "float32") + pe.astype(pe.matrix_transpose(m), "float32"),
        lambda m: pe.where(m, pe.arange(N), 0),
        lambda m: pe.sum(pe.astype(m, "float32"), axis=0),
    ],
)
def test_more_than_two_numbers_are_none(function: Masks) -> None:
    with building():
        assert split(value_of(function)) is None


def test_a_number_is_known_through_what_is_computed_of_it() -> None:
    with building():
        assert number_of(value_of(lambda m: pe.ones((3, 2)) * 4.0 - 1.0)) == 3.0
        assert number_of(value_of(lambda m: pe.astype(m, "float32"))) is None


HALVES: list[Masks] = [
    lambda m: places()[0] >= places()[1],
    lambda m: places()[0] < places()[1] - 1,
    lambda m: pe.astype(places()[0], "float32") * 2.0 <= 3.0,
    lambda m: ~((-places()[0] + 2 * places()[1]) > 1),
    lambda m: pe.matrix_transpose(places()[0] >= places()[1])[None],
    lambda m: places()[0] - places()[1] * 3 + places()[0] >= 2,
]


@pytest.mark.parametrize("function", HALVES)
def test_a_plane_holds_where_the_truth_does(function: Masks) -> None:
    mask = pe.asarray(np.zeros((N, N), bool))
    graph = trace_function(function, [mask], [mask]).graph
    found = plane(graph.outputs[0])
    assert found is not None
    (wanted,) = evaluate(graph, (np.zeros((N, N), bool),))
    total = np.full(wanted.shape, found.offset)
    for axis, factor in found.factors:
        total += factor * np.arange(N).reshape([-1 if a == axis else 1 for a in range(wanted.ndim)])
    np.testing.assert_array_equal(total >= 0, wanted)
    np.testing.assert_array_equal(total < 0, ~wanted)
    assert found.opposite.opposite == found


@pytest.mark.parametrize(
    "function",
    [
        lambda m: m,
        lambda m: places()[0] * places()[1] <= 3,
        lambda m: pe.astype(pe.arange(300), "uint8") <= 40,
        lambda m: pe.arange(3, dtype="uint32") - pe.arange(1, 4, dtype="uint32") <= 0,
        lambda m: pe.astype(pe.arange(3), "float32") <= 0.5,
    ],
)
def test_what_is_no_half_of_the_places_is_none(function: Masks) -> None:
    assert plane(value_of(function)) is None


def test_truths_that_all_have_to_hold_are_told_apart() -> None:
    with building():
        joined = value_of(lambda m: ~(m | (places()[0] < places()[1]))[None])
        first, second = conjuncts(joined, True)
        assert conjuncts(joined, False) == [(joined.node.operands[0], True)]  # type: ignore[union-attr]
    assert (first[1], second[1]) == (False, False)
    assert plane(second[0]) is not None


def test_a_reshape_that_changes_sizes_has_no_axes() -> None:
    assert axes_among_ones((2, 3), (3, 2)) is None
    assert axes_among_ones((1, 2, 3), (2, 3, 1)) == {1: 0, 2: 1}
