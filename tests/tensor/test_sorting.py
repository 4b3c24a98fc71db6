"""Is what is sorted in NumPy's order, and does its gradient find the way back?"""

from __future__ import annotations

import numpy as np
import pytest

import pellucid as pe

X = np.random.default_rng(0).integers(-5, 5, (3, 40, 4)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sorting_is_numpys_eager_and_compiled(axis: int):
    order = np.argsort(X, axis=axis, kind="stable")
    for function in (
        pe.argsort,
        pe.jit(lambda t, axis: pe.argsort(t, axis=axis), static=("axis",)),
    ):
        assert np.array_equal(np.asarray(function(pe.asarray(X), axis=axis)), order)
    assert np.array_equal(np.asarray(pe.sort(X, axis=axis)), np.sort(X, axis=axis))


def test_falling_order_keeps_equal_elements_in_order_and_nan_last():
    x = pe.asarray([1.0, float("nan"), 3.0, 1.0, 3.0])
    assert pe.argsort(x, descending=True).tolist() == [2, 4, 0, 3, 1]


def test_the_gradient_of_a_sorted_element_goes_to_where_it_came_from():
    weights = pe.asarray([1.0, 10.0, 100.0])
    slope = pe.grad(lambda t: pe.sum(pe.sort(t) * weights))
    assert slope(pe.asarray([3.0, 1.0, 2.0])).tolist() == [100.0, 1.0, 10.0]


def test_each_example_is_sorted_by_itself_under_vmap():
    rows = pe.vmap(lambda row: pe.sort(row, axis=0))(pe.asarray(X[:, :, 0]))
    assert np.array_equal(np.asarray(rows), np.sort(X[:, :, 0], axis=1))


def test_a_number_has_no_order():
    with pytest.raises(pe.OpAxisError, match="argsort"):
        pe.argsort(1.0)
