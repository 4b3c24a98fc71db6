"""Is x[...] what NumPy says, eager and compiled, with its gradient? And what is refused?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe

X = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
PAIR, SQUARE = np.array([1, -2]), np.array([[0, -1], [2, 1]])
ALL = slice(None)
KEYS: list[Any] = [
    0, -1, slice(1, 3), slice(None, None, -1), slice(3, 0, -2), slice(2, 2), None, ...,
    (0, ALL, 2), (..., 1), (ALL, ALL, 2), (0, 1, 2), (slice(-3, -1), slice(None, -1)),
    PAIR, SQUARE, SQUARE[:0], [0, 2], (ALL, SQUARE), (SQUARE, ALL, PAIR), (SQUARE, PAIR),
    (0, PAIR), (slice(1, 3), PAIR, 0), (0, ALL, PAIR), (PAIR, None, PAIR), (..., PAIR),
    (ALL, slice(None, None, -2), SQUARE), (None, PAIR, ..., None), (PAIR, PAIR, PAIR),
]  # fmt: skip
MASKS: list[Any] = [X > 0, X[:, :, 0] > 0, (ALL, X[0] > 0), (X[:, 0, 0] > 0, 0)]


@pytest.mark.parametrize("key", [*KEYS, *MASKS], ids=str)
def test_items_are_numpys(key: Any):
    assert np.array_equal(np.asarray(pe.asarray(X)[key]), X[key])


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_items_and_gradients_are_the_same_compiled(key: Any):
    def energy(t: pe.Tensor) -> pe.Tensor:
        return pe.sum(t[key] * t[key])

    t = pe.asarray(X)
    assert np.array_equal(np.asarray(pe.jit(lambda t: t[key])(t)), X[key])
    wanted = np.zeros_like(X)
    np.add.at(wanted, key, 2 * X[key])
    eager = np.asarray(pe.grad(energy)(t))
    np.testing.assert_allclose(eager, wanted, rtol=1e-6)
    assert np.array_equal(np.asarray(pe.jit(pe.grad(energy))(t)), eager)


def test_numbers_and_slices_share_the_memory():
    t = pe.asarray(X)
    part = t[1:3, :, 2]
    assert np.shares_memory(part.numpy(), t.numpy())


def test_keys_that_look_alike_stay_apart_when_asked_again():
    x = pe.asarray(np.arange(60.0).reshape(3, 4, 5))
    keys = [(0, 2, 1), slice(0, 2, 1), (slice(0, 2, 1),), 0, (0,), slice(None), (1, slice(2))]
    for key in 2 * keys:
        assert np.array_equal(np.asarray(x[key]), np.asarray(x)[key])


def test_a_part_that_was_taken_before_still_has_a_tape():
    w = pe.Parameter([[1.0, 2.0], [3.0, 4.0]])
    with pe.no_grad():
        assert not w[1].requires_grad
    for _ in range(2):
        w[1].sum().backward()
        w.T[0, 1].backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[0.0, 0.0], [4.0, 2.0]]


def test_a_traced_index_counts_from_the_end_and_reads_0_outside():
    take = pe.jit(lambda t, i: t[i])
    t = pe.asarray([10.0, 20.0, 30.0])
    assert take(t, pe.asarray([-1, 0, 3, -4])).tolist() == [30.0, 10.0, 0.0, 0.0]


def test_a_row_for_each_example_by_vmap():
    rows = pe.vmap(lambda row, i: row[i])(pe.asarray(X), pe.asarray([0, 1, 2, 3]))
    assert np.array_equal(np.asarray(rows), X[range(4), range(4)])


def test_iterating_gives_the_slices_along_the_first_axis():
    assert [row.tolist() for row in pe.asarray([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
    first, second = pe.Variable([1.0, 2.0])
    assert (first.item(), second.item()) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (7, pe.OpIndexError, "index 7 is out of range for an axis of size 4"),
        ((0, 0, 0, 0), pe.OpIndexError, "at most 3 indices"),
        ((ALL, np.array([9])), pe.OpIndexError, "index 9 is out of range for an axis of size 5"),
        (True, pe.OpTypeError, "a single truth is no index"),
        (1.5, pe.OpTypeError, "expected whole numbers"),
        (np.array([0.5]), pe.OpTypeError, "expected whole numbers or a mask"),
        (np.array([True]), pe.OpShapeError, "expected a mask of shape"),
    ],
    ids=str,
)
def test_a_wrong_key_is_refused_with_the_line(key: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message) as caught:
        _ = pe.asarray(X)[key]
    assert "test_indexing.py:" in str(caught.value)


def test_a_traced_mask_is_refused_with_what_to_write():
    with pytest.raises(pe.TracedBoolError, match=r"pe.where\(mask, x, 0\)"):
        pe.jit(lambda t: t[t > 0])(pe.asarray(X))


def test_take_is_numpys():
    for axis in (0, 1, -1, None):
        wanted = np.take(X, SQUARE, axis=axis)
        assert np.array_equal(np.asarray(pe.take(X, pe.asarray(SQUARE), axis=axis)), wanted)


def test_take_along_axis_is_numpys():
    order = np.argsort(X, axis=1)
    found = pe.take_along_axis(X, pe.asarray(order), axis=1)
    assert np.array_equal(np.asarray(found), np.take_along_axis(X, order, 1))
    with pytest.raises(pe.OpShapeError, match="take_along_axis"):
        pe.take_along_axis(X, pe.zeros((4, 5), dtype=pe.int64), axis=1)


def test_a_product_has_the_right_gradients_beside_zeros():
    x = pe.asarray(np.array([2.0, 0.0, 3.0]))
    assert pe.grad(lambda v: pe.prod(v))(x).tolist() == [0.0, 6.0, 0.0]
    assert pe.hessian(lambda v: pe.prod(v))(x).tolist() == [
        [0.0, 3.0, 0.0], [3.0, 0.0, 2.0], [0.0, 2.0, 0.0],
    ]  # fmt: skip
