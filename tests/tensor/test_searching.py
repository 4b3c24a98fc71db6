"""Do searches give NumPy's places, and is one whose shape depends on numbers refused in a trace?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe


@pytest.mark.parametrize("side", ["left", "right"])
def test_places_in_sorted_numbers_are_numpys(side: Any) -> None:
    x1, x2 = np.array([1.0, 3.0, 3.0, 7.0]), np.array([[0.0, 1.0, 3.0], [5.0, 7.0, 9.0]])
    found = pe.searchsorted(pe.asarray(x1), pe.asarray(x2), side=side)
    np.testing.assert_array_equal(np.asarray(found), np.searchsorted(x1, x2, side=side))


def test_a_sorter_puts_the_vector_in_order() -> None:
    x1, x2 = np.array([7, 1, 3]), np.array([2, 8])
    found = pe.searchsorted(pe.asarray(x1), pe.asarray(x2), sorter=pe.argsort(pe.asarray(x1)))
    np.testing.assert_array_equal(np.asarray(found), np.searchsorted(x1, x2, sorter=np.argsort(x1)))


def test_places_of_what_is_not_zero_are_numpys() -> None:
    x = np.random.default_rng(0).integers(0, 2, (3, 4, 2))
    for found, wanted in zip(pe.nonzero(pe.asarray(x)), np.nonzero(x), strict=True):
        np.testing.assert_array_equal(np.asarray(found), wanted)


def test_distinct_elements_are_numpys() -> None:
    x = np.array([[3.0, 1.0, np.nan], [3.0, np.nan, -0.0]])
    found = pe.unique_all(pe.asarray(x))
    wanted = np.unique_all(x)
    for name in ("values", "indices", "inverse_indices", "counts"):
        np.testing.assert_array_equal(np.asarray(getattr(found, name)), getattr(wanted, name))
    np.testing.assert_array_equal(np.asarray(pe.unique_values(pe.asarray(x))), wanted.values)
    assert pe.unique_counts(pe.asarray(x)).counts.tolist() == wanted.counts.tolist()
    assert pe.unique_inverse(pe.asarray(x)).inverse_indices.shape == x.shape


@pytest.mark.parametrize("function", [pe.nonzero, pe.unique_values])
def test_shapes_that_depend_on_numbers_are_refused_in_a_trace(function: Any) -> None:
    with pytest.raises(pe.TraceError, match="the shape of its result depends on the numbers"):
        pe.jit(function)(pe.ones(3))
