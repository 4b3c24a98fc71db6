"""float16 and bfloat16 conversions against NumPy and ml_dtypes, over all their values."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.engines.llvm import narrow
from pellucid.engines.llvm.jit import assembly
from pellucid.engines.llvm.target import ISAS, Isa, host_isa
from tests.engines.llvm.running import elementwise_text, run

HERE = tuple(isa for isa in ISAS if isa.vector_bits <= host_isa().vector_bits)
EVERY_16_BITS = np.arange(1 << 16, dtype=np.uint16)
WIDEN = {np.float16: narrow.widen_float16, ml_dtypes.bfloat16: narrow.widen_bfloat16}
NARROW = {np.float16: narrow.narrow_float16, ml_dtypes.bfloat16: narrow.narrow_bfloat16}
both = pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
each_isa = pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)


def same(lhs: NDArray[Any], rhs: NDArray[Any]) -> NDArray[np.bool_]:
    """Equal bits, or NaN both (whose payload is nobody's promise)."""
    unsigned = f"u{lhs.dtype.itemsize}"
    nans = np.isnan(lhs.astype(np.float64)) & np.isnan(rhs.astype(np.float64))
    return (lhs.view(unsigned) == rhs.view(unsigned)) | nans


def many_floats(dtype: Any) -> NDArray[np.float32]:
    """Every narrow value, every tie between two, their neighbours, and a sample of the rest."""
    with np.errstate(all="ignore"):
        values = np.sort(EVERY_16_BITS.view(dtype).astype(np.float32))
        ties = (values[:-1] + values[1:]) / 2
        parts = [values, ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)]
    bits = np.arange(0, 1 << 32, 4099, dtype=np.uint64).astype(np.uint32)
    x = np.concatenate([*parts, bits.view(np.float32)])
    return np.resize(x.astype(np.float32), x.size // 8 * 8)


@both
@each_isa
def test_widening_is_exact(dtype: Any, isa: Isa) -> None:
    got = run(WIDEN[dtype], isa, EVERY_16_BITS, np.float32)
    with np.errstate(all="ignore"):
        assert same(got, EVERY_16_BITS.view(dtype).astype(np.float32)).all()


@both
@each_isa
def test_narrowing_rounds_to_nearest_even(dtype: Any, isa: Isa) -> None:
    x = many_floats(dtype)
    got = run(NARROW[dtype], isa, x, np.uint16).view(dtype)
    with np.errstate(all="ignore"):
        assert same(got, x.astype(dtype)).all()


@both
@each_isa
def test_float64_narrows_with_one_rounding(dtype: Any, isa: Isa) -> None:
    with np.errstate(all="ignore"):
        values = np.sort(EVERY_16_BITS.view(dtype).astype(np.float64))
        values = values[np.isfinite(values)]
        ties = (values[:-1] + values[1:]) / 2
    # Just beside a tie, by less than float32 can see.
    x = np.concatenate([ties, ties * (1 + 2.0**-45), ties * (1 - 2.0**-45), [np.nan, np.inf]])
    x = np.resize(x, x.size // 8 * 8)

    def through_odd(f, value):
        return NARROW[dtype](f, narrow.round_to_odd(f, value))

    got = run(through_odd, isa, x, np.uint16).view(dtype).astype(np.float64)
    assert same(got, once_rounded(x, values)).all()


def once_rounded(x: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest of the sorted narrow `values`, ties to the one whose last bit is 0."""
    values = np.unique(values)
    step = values[-1] - values[-2]
    values = np.concatenate([[-values[-1] - step], values, [values[-1] + step]])
    at = np.clip(np.searchsorted(values, x), 1, len(values) - 1)
    below, above = values[at - 1], values[at]
    even_below = (at - 1 + len(values) // 2) % 2 == 0
    nearest = np.where(x - below < above - x, below, above)
    nearest = np.where((x - below == above - x) & even_below, below, nearest)
    limit = values[-2]
    rounded = np.where(np.abs(nearest) > limit, np.copysign(np.inf, x), nearest)
    rounded = np.where(rounded == 0, np.copysign(0.0, x), rounded)
    return np.where(np.isfinite(x), rounded, x)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_no_library_function_is_called(isa: Isa) -> None:
    for body in (*WIDEN.values(), *NARROW.values()):
        operand = np.uint16 if body in WIDEN.values() else np.float32
        result = np.float32 if operand is np.uint16 else np.uint16
        assert "call" not in assembly(elementwise_text(body, isa, operand, result, 8), isa)
