"""Which dtypes meet in which, and how are they named?"""

from __future__ import annotations

import copy
import pickle
from itertools import product

import numpy as np
import pytest

from pellucid.core.dtype import (
    DTYPES,
    DType,
    as_dtype,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    integer_range,
    named_dtype,
    promote,
    scalar_dtype,
    uint8,
    uint32,
    uint64,
)
from pellucid.core.error import OpTypeError

EVERY = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@EVERY
def test_name_numpy_and_copies_give_the_one_object(dtype: DType) -> None:
    assert named_dtype(dtype.name) is dtype
    assert as_dtype(dtype.numpy) is dtype
    assert as_dtype(dtype) is dtype
    assert as_dtype(dtype.numpy.type) is dtype
    assert copy.deepcopy(dtype) is dtype
    assert pickle.loads(pickle.dumps(dtype)) is dtype  # noqa: S301


@EVERY
def test_bytes_are_numpys(dtype: DType) -> None:
    assert dtype.bytes == dtype.numpy.itemsize
    assert dtype.bits == (1 if dtype is bool_ else 8 * dtype.numpy.itemsize)


def test_python_types_give_the_defaults() -> None:
    assert [as_dtype(kind) for kind in (bool, int, float)] == [bool_, int64, float32]


@pytest.mark.parametrize("spec", ["float128", complex, np.complex64, object, None, 3, "f4"])
def test_what_is_no_dtype_is_refused(spec: object) -> None:
    with pytest.raises(OpTypeError, match=r"no dtype is called|expected a dtype"):
        as_dtype(spec)


def test_promotion_within_a_kind_is_numpys() -> None:
    for lhs, rhs in product(DTYPES, DTYPES):
        if lhs.kind == rhs.kind and bfloat16 not in (lhs, rhs):
            assert promote(lhs, rhs).numpy == np.promote_types(lhs.numpy, rhs.numpy)


def test_promotion_of_whole_numbers_is_numpys_where_one_exists() -> None:
    for lhs, rhs in product(DTYPES, DTYPES):
        if lhs.is_integer and rhs.is_integer and {lhs.kind, rhs.kind} == {"int", "uint"}:
            wanted = np.promote_types(lhs.numpy, rhs.numpy)
            if wanted.kind != "f":
                assert promote(lhs, rhs).numpy == wanted
                continue
            with pytest.raises(OpTypeError, match="no integer dtype holds both"):
                promote(lhs, rhs)


def test_promotion_commutes() -> None:
    for lhs, rhs in product(DTYPES, DTYPES):
        if {lhs.kind, rhs.kind} != {"int", "uint"}:
            assert promote(lhs, rhs) is promote(rhs, lhs)


def test_floating_wins_over_whole_numbers_of_any_width() -> None:
    assert promote(int64, float32) is float32
    assert promote(uint64, float16) is float16
    assert promote(float16, bfloat16) is float32
    assert promote(bool_, int8) is int8


@pytest.mark.parametrize(
    ("value", "beside", "wanted"),
    [
        (2, float16, float16),
        (2.5, bfloat16, bfloat16),
        (True, int8, int8),
        (2, uint8, uint8),
        (2, bool_, int64),
        (0.5, int32, float32),
        (True, None, bool_),
        (1, None, int64),
        (1.0, None, float32),
    ],
)
def test_scalars_are_weak(value: float, beside: DType | None, wanted: DType) -> None:
    assert scalar_dtype(value, beside) is wanted


def test_ranges_of_whole_numbers() -> None:
    assert integer_range(int8) == (-128, 127)
    assert integer_range(uint32) == (0, 2**32 - 1)
    assert integer_range(int16) == (-(2**15), 2**15 - 1)


def test_a_dtype_reads_as_what_one_writes() -> None:
    assert repr(float64) == "pellucid.float64"
    assert str(bool_) == "bool"
