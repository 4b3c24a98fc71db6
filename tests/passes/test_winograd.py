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
from pellucid.passes.winograd import winograd
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
