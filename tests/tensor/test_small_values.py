"""Do small values come in, out and into other shapes unchanged, by the short ways and the long?"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import DTYPES
from pellucid.tensor.memory import FEW


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_number_is_read_as_numpy_reads_it(dtype: Any) -> None:
    for number in (0, 1, 100):
        tensor = pe.asarray(np.asarray([7, number]).astype(dtype.numpy))[1]
        found, expected = tensor.item(), tensor.numpy().item()
        assert found == expected
        assert type(found) is type(expected)


def test_the_number_of_a_view_is_the_one_at_its_place() -> None:
    x = pe.asarray(np.arange(6.0, dtype=np.float32).reshape(2, 3))
    assert [float(x.T[2, 1]), float(x[1:, -1:]), int(x[0, 1])] == [5.0, 5.0, 1]


@pytest.mark.parametrize("count", [0, 1, FEW // 8, FEW // 8 + 1])
@pytest.mark.parametrize("order", ["<f8", ">f8"])
def test_arrays_are_copied_in_their_order_whatever_their_size_and_bytes(
    count: int, order: str
) -> None:
    rows = np.arange(2.0 * count).astype(order).reshape(2, count)
    for array in (rows[0], rows.T[:, 1], rows[::-1].T[:, 0]):
        tensor = pe.asarray(array, copy=True)
        np.testing.assert_array_equal(tensor.numpy(), array)
        assert not np.shares_memory(tensor.numpy(), array)


def test_a_list_is_copied_once_it_is_an_array_and_never_lent() -> None:
    assert pe.asarray([1.0, 2.0]).dtype is pe.float32
    with pytest.raises(ValueError, match="no memory to borrow"):
        pe.asarray([1.0], copy=False)


KEYS: list[Any] = [
    None,
    ...,
    (None, 0),
    (..., None),
    (0, ..., 1),
    (slice(None), None, 1),
    (1, None),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_new_axes_and_dots_are_as_numpys_each_time(key: Any) -> None:
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    x = pe.asarray(array)
    for _ in range(2):
        np.testing.assert_array_equal(x[key].numpy(), array[key], strict=True)
    w = pe.Parameter(array)
    pe.sum(w[key] * 2.0).backward()
    expected = np.zeros_like(array)
    expected[key] = 2.0
    assert w.grad is not None
    np.testing.assert_array_equal(w.grad.numpy(), expected)


def test_a_shape_that_was_asked_for_before_is_given_for_this_tensor() -> None:
    for turned in (False, True):
        for start in range(2):
            array = np.arange(start, start + 6.0).reshape(2, 3)
            x, array = (pe.asarray(array).T, array.T) if turned else (pe.asarray(array), array)
            for shape in ((3, 2), (6,), (-1,), (1, -1, 2), (2, 3)):
                np.testing.assert_array_equal(x.reshape(shape).numpy(), array.reshape(shape))


def test_whole_numbers_beside_tensors_keep_the_tensors_dtype_and_their_range() -> None:
    for dtype in (pe.int8, pe.uint16, pe.float32, pe.float16):
        x = pe.asarray([1, 2]).astype(dtype)
        for found in (x + 3, 3 + x, 3 - x, x * 0):
            assert found.dtype is dtype
    assert (1 - pe.asarray([1.0, 2.0])).tolist() == [0.0, -1.0]
    with pytest.raises(pe.PellucidError, match="300"):
        pe.asarray([1]).astype(pe.int8) + 300
