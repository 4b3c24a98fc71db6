"""In which dtype do two operands meet? Numbers are weak (NEP 50), floats win over integers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import DTYPES, FLOATING, INTEGERS, DType


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("number", [2, 2.5, True])
def test_a_number_takes_a_floating_tensors_dtype(dtype: DType, number: Any):
    t = pe.ones((2,), dtype=dtype)
    for found in (t + number, number + t, t * number, t / number, pe.where(t > 0, t, number)):
        assert found.dtype is dtype


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_a_whole_number_takes_an_integer_tensors_dtype(dtype: DType):
    assert (pe.ones((2,), dtype=dtype) + 2).dtype is dtype
    assert (3 * pe.ones((2,), dtype=dtype)).dtype is dtype


@pytest.mark.parametrize("dtype", [*INTEGERS, pe.bool], ids=str)
def test_a_float_lifts_an_integer_tensor_to_the_default_float(dtype: DType):
    assert (pe.ones((2,), dtype=dtype) + 0.5).dtype is pe.float32


def test_a_whole_number_lifts_bool_to_the_default_integer():
    assert (pe.asarray([True]) + 1).dtype is pe.int64


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("whole", INTEGERS, ids=str)
def test_an_integer_tensor_takes_the_floating_dtype_beside_it(dtype: DType, whole: DType):
    found = pe.ones((2,), dtype=whole) + pe.ones((2,), dtype=dtype)
    assert found.dtype is dtype


def test_floats_meet_in_the_wider_one():
    def meet(a: str, b: str) -> str:
        return (pe.ones((1,), dtype=a) + pe.ones((1,), dtype=b)).dtype.name

    assert meet("float32", "float64") == "float64"
    assert meet("float16", "float32") == "float32"
    assert meet("float16", "bfloat16") == "float32"


@pytest.mark.parametrize(("left", "right"), list(itertools.product(INTEGERS, repeat=2)), ids=str)
def test_integers_meet_as_in_numpy(left: DType, right: DType):
    expected = np.result_type(left.numpy, right.numpy)
    if expected.kind == "f":
        with pytest.raises(
            pe.OpTypeError, match=r"no integer dtype holds both.*\n.*test_promotion"
        ):
            _ = pe.ones((1,), dtype=left) + pe.ones((1,), dtype=right)
    else:
        found = pe.ones((1,), dtype=left) + pe.ones((1,), dtype=right)
        assert found.dtype.numpy == expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bool_takes_the_other_dtype(dtype: DType):
    assert pe.result_type(pe.bool, dtype) is dtype


def test_numpy_scalars_are_not_weak():
    assert (pe.ones((2,)) + np.float64(1.0)).dtype is pe.float64


def test_two_numbers_make_a_default_tensor():
    assert pe.add(1, 2).dtype is pe.int64
    assert pe.add(1, 2.0).dtype is pe.float32


def test_bool_has_no_arithmetic_and_it_says_so():
    with pytest.raises(pe.OpTypeError, match=r"add: expected one of .*got bool \(1,\)"):
        _ = pe.asarray([True]) + pe.asarray([False])


def test_a_cached_number_keeps_its_sign_and_type():
    x = pe.asarray([1.0])
    assert np.signbit(np.asarray(x * 0.0))[0] == np.False_
    assert np.signbit(np.asarray(x * -0.0))[0] == np.True_
    ones = pe.asarray([1])
    assert (ones + True).dtype is pe.int64
    assert (ones + 1.0).dtype is pe.float32
    assert (ones + 1).dtype is pe.int64


@pytest.mark.parametrize("number", [0.1, 1e-8, 3.3e38, 1 / 3])
def test_a_number_is_rounded_once_also_in_a_graph(number: float):
    for dtype in FLOATING:
        x = pe.zeros((1,), dtype=dtype)
        eager, traced = x + number, pe.jit(lambda x: x + number)(x)
        assert np.asarray(eager).tobytes() == np.asarray(traced).tobytes()
