"""Derivatives by differences, which the tests of layers and losses compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pellucid as pe

Function = Callable[[Any], pe.Tensor]


def assert_gradient_is_the_difference(function: Function, at: Any, tolerance: float = 1e-6) -> None:
    """The gradient of sum(function(x) * some weights) at a float64 array, eager and jitted."""
    x = np.asarray(at, np.float64)
    weights = np.random.default_rng(5).normal(size=function(pe.asarray(x)).shape)

    def weighed(tensor: Any) -> pe.Tensor:
        return pe.sum(function(tensor) * weights)

    expected, step = np.zeros_like(x), 1e-6
    for index in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[index] += step
        low[index] -= step
        expected[index] = (float(weighed(high)) - float(weighed(low))) / (2 * step)
    for gradient in (pe.grad(weighed), pe.jit(pe.grad(weighed))):
        found = np.asarray(gradient(pe.asarray(x)))
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=tolerance)
