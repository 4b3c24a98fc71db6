"""Do convolutions by transformed tiles come as near as they say, and only those that may?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import DType, float32, float64
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, TensorType, count_ops
from pellucid.nn import functional
from pellucid.ops.convolution import convolution, plain_attrs
from pellucid.passes.pipeline import hasten
from pellucid.passes.steady import split_steady
from pellucid.passes.winograd import keep_transformed, winograd
from tests.passes.evaluating import evaluate_as_engines_do

SAME: dict[str, Any] = plain_attrs(2) | {"padding": ((1, 1), (1, 1))}
IMAGES, WEIGHTS = (2, 22, 21, 48), (3, 3, 48, 50)


def graph_of(
    attrs: dict[str, Any],
    images: tuple[int, ...] = IMAGES,
    weights: tuple[int, ...] = WEIGHTS,
    dtype: DType = float32,
) -> Graph:
    with building() as builder:
        x, w = (builder.input(TensorType(dtype, shape)) for shape in (images, weights))
        return builder.graph([convolution(x, w, **attrs)])


def convolutions(graph: Graph) -> int:
    return count_ops(graph).get("convolution", 0)


@pytest.mark.parametrize(
    "attrs",
    [SAME, plain_attrs(2), SAME | {"flip": True}, SAME | {"padding": ((2, 0), (0, 5))}],
    ids=["padding", "none", "backwards", "uneven padding"],
)
def test_results_are_as_near_as_stated(attrs: dict[str, Any]) -> None:
    graph = graph_of(attrs)
    turned = winograd(graph)
    check(turned, "after winograd")
    assert convolutions(turned) == 0
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal(shape, np.float32) for shape in (IMAGES, WEIGHTS))
    (found,) = evaluate_as_engines_do(turned, arrays)
    exact = convolution.reference(*(a.astype(np.float64) for a in arrays), **attrs)
    assert np.abs(found - exact).max() <= 2e-5 * np.abs(exact).max()


LEFT: dict[str, Graph] = {
    "steps": graph_of(SAME | {"strides": (1, 2)}),
    "gaps": graph_of(SAME | {"rhs_dilation": (2, 2)}),
    "groups": graph_of(SAME | {"feature_groups": 2}, (2, 22, 21, 96)),
    "another window": graph_of(SAME, weights=(3, 5, 48, 50)),
    "few channels": graph_of(SAME, (2, 22, 21, 16), (3, 3, 16, 50)),
    "few tiles": graph_of(SAME, (2, 7, 7, 48)),
    "another dtype": graph_of(SAME, dtype=float64),
    "padding that cuts": graph_of(SAME | {"padding": ((-1, 1), (1, 1))}),
}


@pytest.mark.parametrize("graph", LEFT.values(), ids=LEFT)
def test_is_left_as_it_is_with(graph: Graph) -> None:
    assert winograd(graph) is graph


def test_few_tiles_meet_transformed_weights_that_are_kept_in_one_value() -> None:
    images = (1, 14, 14, 48)  # 16 tiles, where weights that change are left alone.
    graph = graph_of(SAME, images)
    assert winograd(graph) is graph
    _, w = graph.inputs
    turned, kept = keep_transformed(graph, lambda value: value is w)
    assert convolutions(turned) == 0
    assert [value.shape for value in kept] == [(36, 48, 50)]
    split = split_steady(turned, (1,), chosen=kept)
    assert split is not None
    assert "mul" in count_ops(split.steady)
    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal(shape, np.float32) for shape in (images, WEIGHTS))
    values = evaluate_as_engines_do(split.steady, (weights,))
    (found,) = evaluate_as_engines_do(split.rest, (x, weights, *values))
    exact = convolution.reference(x.astype(np.float64), weights.astype(np.float64), **SAME)
    assert np.abs(found - exact).max() <= 2e-5 * np.abs(exact).max()


UNKEPT: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "fewer tiles": ((1, 12, 8, 48), WEIGHTS),
    "many tiles": ((4, 22, 21, 48), WEIGHTS),
    "large weights": ((1, 14, 14, 400), (3, 3, 400, 400)),
}


@pytest.mark.parametrize(("images", "weights"), UNKEPT.values(), ids=UNKEPT)
def test_transformed_weights_are_not_kept_with(
    images: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    graph = graph_of(SAME, images, weights)
    assert keep_transformed(graph, lambda value: value is graph.inputs[1]) == (graph, frozenset())


def test_weights_that_change_are_not_kept() -> None:
    graph = graph_of(SAME)
    assert keep_transformed(graph, lambda _: False) == (graph, frozenset())


def test_kept_weights_are_counted_and_follow_the_cell() -> None:
    rng = np.random.default_rng(2)
    x = pe.asarray(rng.standard_normal(IMAGES, np.float32))
    with pe.device("cpu"):
        cell = pe.Variable(rng.standard_normal(WEIGHTS, np.float32))
        run = pe.jit(lambda x: functional.conv(x, cell, padding=1), fast=True)
        plain = pe.jit(lambda x: functional.conv(x, cell, padding=1))
        for _ in range(2):
            exact = np.asarray(plain(x))
            assert np.abs(np.asarray(run(x)) - exact).max() <= 2e-5 * np.abs(exact).max()
            cell.assign(cell * 2.0 + 1.0)
        kept = run.memory(x).constants - plain.memory(x).constants
        # Blocks of memory come in sizes up to an eighth apart.
        assert 36 * 48 * 50 * 4 <= kept < 36 * 48 * 50 * 4 * 9 / 8
        assert [(one.name, one.times) for one in run.compile(x).rewrites] == [("winograd", 1)]


def test_the_report_counts_convolutions() -> None:
    (rewrite,) = hasten(graph_of(SAME))[1]
    assert (rewrite.name, rewrite.times) == ("winograd", 1)


def test_a_gradient_is_taken_of_the_plain_convolution_and_comes_near() -> None:
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(shape, np.float32) for shape in (IMAGES, WEIGHTS))

    def loss(x: pe.Tensor) -> pe.Tensor:
        return pe.sum(pe.sin(functional.conv(x, pe.asarray(w), padding=1)))

    near, plain = (np.asarray(pe.jit(pe.grad(loss), fast=fast)(x)) for fast in (True, False))
    assert (near != plain).any()
    assert np.abs(near - plain).max() <= 1e-3 * np.abs(plain).max()
