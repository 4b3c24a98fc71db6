"""Is a spread what it is spelled as, and is what it shares with others made once?"""

from __future__ import annotations

import numpy as np

from pellucid.core.dtype import float32
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, count_ops
from pellucid.ops.control import evaluate
from pellucid.ops.elementwise import mul
from pellucid.ops.spread import distances, spread
from pellucid.passes.fuse import fuse
from pellucid.passes.pipeline import clean
from pellucid.passes.spell import with_parts
from pellucid.transforms.vjp import vjp


def standardised(scaled: bool = False) -> Graph:
    with building() as builder:
        x = builder.input(TensorType(float32, (600, 24)))
        found = spread(x, axes=(0,))
        return builder.graph([found, distances(x, (0,))] if scaled else [found])


def test_parts_take_its_place_and_share_the_mean() -> None:
    graph = clean(standardised(scaled=True))
    assert "spread" not in count_ops(graph)
    assert count_ops(graph)["sum"] == 2
    assert count_ops(graph)["sub"] == 1


def test_a_graph_without_one_is_left_alone() -> None:
    with building() as builder:
        x = builder.input(TensorType(float32, (3,)))
        graph = builder.graph([mul(x, x)])
    assert with_parts(graph) is graph


def test_its_derivative_sums_nothing_that_its_value_did_not() -> None:
    graph = clean(vjp(standardised(), (0,)))
    assert count_ops(graph)["sum"] == 2
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((600, 24)).astype(np.float32), np.full(24, 0.5, np.float32)
    *_, found = evaluate(fuse(graph), (x, g))
    np.testing.assert_allclose(found, x - x.mean(0), rtol=1e-4, atol=1e-5)
