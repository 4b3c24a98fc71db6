"""Are the limits and kinds of dtypes those that NumPy and ml_dtypes know?"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import FLOATING, INTEGERS, DType


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_limits_of_floats(dtype: DType) -> None:
    found, known = pe.finfo(dtype), ml_dtypes.finfo(dtype.numpy)
    assert (found.bits, found.dtype) == (known.bits, dtype)
    for name in ("eps", "max", "min", "smallest_normal"):
        assert getattr(found, name) == float(getattr(known, name)), name


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_limits_of_integers(dtype: DType) -> None:
    found, known = pe.iinfo(pe.zeros(1, dtype=dtype)), np.iinfo(dtype.numpy)
    assert (found.bits, found.max, found.min) == (known.bits, known.max, known.min)


def test_limits_of_the_other_kind_are_refused() -> None:
    with pytest.raises(pe.OpTypeError, match="finfo: expected a floating dtype, got int8"):
        pe.finfo("int8")
    with pytest.raises(pe.OpTypeError, match="iinfo: expected an integer dtype, got bool"):
        pe.iinfo(pe.bool)


def test_kinds() -> None:
    assert pe.isdtype(pe.bfloat16, "real floating")
    assert pe.isdtype(pe.uint8, ("signed integer", "unsigned integer"))
    assert not pe.isdtype(pe.bool, "numeric")
    assert not pe.isdtype(pe.float64, "complex floating")
    assert pe.isdtype(pe.int32, pe.int32)


def test_casts_that_promotion_would_make() -> None:
    assert pe.can_cast(pe.zeros(1, dtype=pe.int8), pe.int64)
    assert not pe.can_cast(pe.int64, pe.uint64)
    assert not pe.can_cast(pe.float32, pe.int32)


def test_grids_are_numpys() -> None:
    vectors = [np.arange(2), np.arange(3) + 5, np.arange(4)]
    for indexing in ("xy", "ij"):
        for count in (1, 2, 3):
            some = vectors[:count]
            found = pe.meshgrid(*map(pe.asarray, some), indexing=indexing)
            for got, want in zip(found, np.meshgrid(*some, indexing=indexing), strict=True):  # type: ignore[call-overload]
                np.testing.assert_array_equal(np.asarray(got), want)


def test_empty_tensors_have_shape_and_dtype() -> None:
    x = pe.empty((2, 3), dtype="int8")
    assert (x.shape, pe.empty_like(x).dtype) == ((2, 3), pe.int8)
