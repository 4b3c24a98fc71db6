"""Are running sums and differences NumPy's, eager and compiled, and are they differentiated?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from tests.graphs import same_bits

SHAPES = [((1,), 0), ((7,), 0), ((64,), 0), ((3, 5), 1), ((3, 5), 0), ((2, 3, 4), 1), ((0,), 0)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8, np.bool_])
def test_running_sums_and_products_are_numpys(shape: Any, axis: int, dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 4, shape).astype(dtype)
    for function, reference in ((pe.cumulative_sum, np.cumsum), (pe.cumulative_prod, np.cumprod)):
        found = np.asarray(function(pe.asarray(x), axis=axis))
        assert found.dtype == reference(x, axis=axis).dtype
        np.testing.assert_array_equal(found, reference(x, axis=axis))
        assert same_bits(np.asarray(pe.jit(function)(pe.asarray(x), axis=axis)), found)


def test_an_initial_element_makes_the_axis_longer() -> None:
    x = pe.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert pe.cumulative_sum(x, axis=1, include_initial=True).tolist() == [[0, 1, 3], [0, 3, 7]]
    assert pe.cumulative_prod(x, axis=0, include_initial=True).tolist() == [[1, 1], [1, 2], [3, 8]]


def test_sums_of_negative_zeros_keep_their_sign() -> None:
    found = pe.cumulative_sum(pe.asarray(np.full(5, -0.0)))
    assert np.signbit(np.asarray(found)).all()


def test_a_running_sum_of_a_matrix_needs_an_axis() -> None:
    with pytest.raises(pe.OpAxisError, match="cumulative_sum: expected an axis for a tensor of 2"):
        pe.cumulative_sum(pe.ones((2, 2)))


def test_the_gradient_of_a_running_sum_runs_backwards() -> None:
    weights = pe.asarray(np.array([1.0, 10.0, 100.0]))
    slope = pe.grad(lambda x: pe.sum(weights * pe.cumulative_sum(x)))(pe.asarray(np.ones(3)))
    assert slope.tolist() == [111.0, 110.0, 100.0]


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_differences_are_numpys(n: int) -> None:
    x = np.random.default_rng(1).integers(-9, 9, (3, 6))
    for axis in (0, 1):
        found = pe.diff(pe.asarray(x), axis=axis, n=n)
        np.testing.assert_array_equal(np.asarray(found), np.diff(x, axis=axis, n=n))


def test_differences_of_what_is_joined_first() -> None:
    x = np.array([1, 4, 9])
    found = pe.diff(pe.asarray(x), prepend=pe.asarray([0]), append=pe.asarray([16]))
    np.testing.assert_array_equal(np.asarray(found), np.diff(x, prepend=0, append=16))


def test_bools_differ_or_not() -> None:
    assert pe.diff(pe.asarray([True, False, False])).tolist() == [True, False]
