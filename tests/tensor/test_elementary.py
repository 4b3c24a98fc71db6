"""Do the mathematical functions give NumPy's values, dtypes, and derivatives?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import DType
from pellucid.core.error import OpTypeError
from pellucid.tensor import elementary as el

Function = Callable[..., Any]

SHAPES = ((), (0,), (3,), (2, 3), (3, 0, 2), (5, 1, 7))
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6, "float64": 4e-15}
FLOATS = (pe.float16, pe.bfloat16, pe.float32, pe.float64)

WHOLE_LINE: dict[str, tuple[Function, Function]] = {
    "exp2": (el.exp2, np.exp2),
    "expm1": (el.expm1, np.expm1),
    "cbrt": (el.cbrt, np.cbrt),
    "sin": (el.sin, np.sin),
    "cos": (el.cos, np.cos),
    "tan": (el.tan, np.tan),
    "atan": (el.atan, np.arctan),
    "sinh": (el.sinh, np.sinh),
    "cosh": (el.cosh, np.cosh),
    "asinh": (el.asinh, np.arcsinh),
    "erf": (el.erf, np.vectorize(math.erf, otypes=[np.float64])),
    "erfc": (el.erfc, np.vectorize(math.erfc, otypes=[np.float64])),
    "floor": (el.floor, np.floor),
    "ceil": (el.ceil, np.ceil),
    "trunc": (el.trunc, np.trunc),
    "round": (el.round, np.rint),
    "sign": (el.sign, np.sign),
    "isnan": (el.isnan, np.isnan),
    "isinf": (el.isinf, np.isinf),
    "isfinite": (el.isfinite, np.isfinite),
    "signbit": (el.signbit, np.signbit),
}
UNIT: dict[str, tuple[Function, Function]] = {
    "asin": (el.asin, np.arcsin),
    "acos": (el.acos, np.arccos),
    "atanh": (el.atanh, np.arctanh),
    "log1p": (el.log1p, np.log1p),
}
ABOVE_ONE: dict[str, tuple[Function, Function]] = {
    "acosh": (el.acosh, np.arccosh),
    "log2": (el.log2, np.log2),
    "log10": (el.log10, np.log10),
    "rsqrt": (el.rsqrt, lambda x: 1 / np.sqrt(x)),
    "lgamma": (el.lgamma, np.vectorize(math.lgamma, otypes=[np.float64])),
}
BINARY: dict[str, tuple[Function, Function]] = {
    "atan2": (el.atan2, np.arctan2),
    "floor_divide": (el.floor_divide, np.floor_divide),
    "remainder": (el.remainder, np.remainder),
    "copysign": (el.copysign, np.copysign),
    "hypot": (el.hypot, np.hypot),
    "logaddexp": (el.logaddexp, np.logaddexp),
}
UNARY = WHOLE_LINE | UNIT | ABOVE_ONE


def sample(name: str, dtype: DType, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    low, high = (-3, 3) if name in WHOLE_LINE or name in BINARY else (-0.9, 0.9)
    if name in ABOVE_ONE:
        low, high = 1.1, 5
    return np.asarray(random.uniform(low, high, shape)).astype(dtype.numpy)


def check(found: pe.Tensor, wanted: Any, dtype: DType) -> None:
    assert found.dtype is dtype
    got = np.asarray(found)
    assert got.shape == np.shape(wanted)
    error = TOLERANCE.get(dtype.name, 0)
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=error, atol=error)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_functions_of_one_number_are_numpys(name: str, dtype: DType) -> None:
    function, reference = UNARY[name]
    for shape in SHAPES:
        x = sample(name, dtype, shape)
        wanted = reference(x.astype(np.float64))
        result = pe.bool if np.asarray(wanted).dtype == np.bool_ else dtype
        check(function(pe.asarray(x)), wanted, result)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_functions_of_two_numbers_are_numpys(name: str, dtype: DType) -> None:
    function, reference = BINARY[name]
    for shape in SHAPES:
        x, y = (sample(name, dtype, shape, seed) for seed in (1, 2))
        wanted = reference(x.astype(np.float64), y.astype(np.float64))
        check(function(pe.asarray(x), pe.asarray(y)), wanted, dtype)


@pytest.mark.parametrize("name", ["sin", "exp2", "erf", "atan"])
def test_integers_become_float32(name: str) -> None:
    function, reference = UNARY[name]
    x = np.arange(-3, 4)
    check(function(pe.asarray(x)), reference(x.astype(np.float64)), pe.float32)


@pytest.mark.parametrize("function", [el.floor, el.ceil, el.trunc, el.round])
def test_rounding_leaves_integers_alone(function: Function) -> None:
    x = pe.asarray(np.array([-3, 2], np.int8))
    assert function(x).dtype is pe.int8
    assert np.asarray(function(x)).tolist() == [-3, 2]


def test_rounding_of_a_bool_is_refused() -> None:
    with pytest.raises(OpTypeError, match="floor: expected one of float16"):
        el.floor(pe.asarray([True]))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint32, np.uint64])
def test_division_of_integers_is_numpys_with_0_for_none(dtype: Any) -> None:
    info = np.iinfo(dtype)
    numbers = np.array([info.min, info.max, 0, 1, 2, 3, 7, info.max - 1], dtype)
    numbers = np.concatenate([numbers, -numbers]) if info.min < 0 else numbers
    x, y = (grid.ravel() for grid in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        wanted = np.floor_divide(x, y), np.remainder(x, y)
    found = (
        el.floor_divide(pe.asarray(x), pe.asarray(y)),
        el.remainder(pe.asarray(x), pe.asarray(y)),
    )
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(got), want)


def test_operands_are_broadcast_and_numbers_are_weak() -> None:
    x = pe.asarray(np.array([[1.0], [2.0]], np.float16))
    y = pe.asarray(np.array([3.0, 4.0, 5.0], np.float16))
    assert el.atan2(x, y).shape == (2, 3)
    assert el.remainder(x, 2).dtype is pe.float16
    assert el.nextafter(x, 9.0).dtype is pe.float16


def test_power_is_numpys() -> None:
    x, y = np.array([0.5, 2.0, 3.0, 0.0, -2.0]), np.array([2.5, -1.0, 0.0, 2.0, 3.0])
    check(el.pow(pe.asarray(x), pe.asarray(y)), x**y, pe.float64)
    check(el.pow(pe.asarray(x), 3), x**3, pe.float64)
    check(el.pow(pe.asarray(abs(x)), 1.7), abs(x) ** 1.7, pe.float64)
    check(el.pow(2.0, pe.asarray(y)), 2.0**y, pe.float64)


def test_small_whole_power_of_integers_stays_whole() -> None:
    found = el.pow(pe.asarray(np.array([2, -3], np.int32)), 3)
    assert found.dtype is pe.int32
    assert np.asarray(found).tolist() == [8, -27]


def test_power_of_two_integer_tensors_names_the_way_out() -> None:
    x = pe.asarray(np.array([2, 3]))
    with pytest.raises(OpTypeError, match=r"pow: .*got int64(?s:.*)pe.astype\(x, pe.float64\)"):
        el.pow(x, x)


def test_bits_are_read_as_another_dtype_and_back() -> None:
    x = np.array([1.5, -0.0, np.inf], np.float32)
    found = el.bitcast(pe.asarray(x), pe.uint32)
    np.testing.assert_array_equal(np.asarray(found), x.view(np.uint32))
    np.testing.assert_array_equal(np.asarray(el.bitcast(found, pe.float32)), x)


def test_bitcast_to_another_size_is_refused() -> None:
    with pytest.raises(OpTypeError, match=r"bitcast: expected a dtype of 32 bits .* got float64"):
        el.bitcast(pe.asarray(np.float32(1)), pe.float64)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
def test_shifts_and_flipped_bits_are_numpys(dtype: Any) -> None:
    x = np.array([0, 1, 5, 100, 127, 0], dtype)
    x = np.concatenate([x, -x]) if np.iinfo(dtype).min < 0 else x
    by = np.resize(np.array([0, 1, 3, 7, 8, 70], dtype), x.size)
    left, right = pe.asarray(x), pe.asarray(by)
    np.testing.assert_array_equal(np.asarray(el.bitwise_left_shift(left, right)), x << by)
    np.testing.assert_array_equal(np.asarray(el.bitwise_right_shift(left, right)), x >> by)
    np.testing.assert_array_equal(np.asarray(el.bitwise_invert(left)), ~x)


def test_edges_of_hypot_and_logaddexp_are_numpys() -> None:
    numbers = np.array([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 1e300])
    x, y = (grid.ravel() for grid in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        lengths, sums = np.hypot(x, y), np.logaddexp(x, y)
    np.testing.assert_allclose(np.asarray(el.hypot(pe.asarray(x), pe.asarray(y))), lengths, 1e-15)
    np.testing.assert_allclose(np.asarray(el.logaddexp(pe.asarray(x), pe.asarray(y))), sums, 1e-15)


@pytest.mark.parametrize(
    ("function", "slope", "at"),
    [
        (el.sin, math.cos, 0.7),
        (el.asin, lambda x: 1 / math.sqrt(1 - x * x), 0.3),
        (el.log2, lambda x: 1 / (x * math.log(2)), 3.0),
        (el.erf, lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x), 0.4),
        (lambda x: el.pow(x, 2.5), lambda x: 2.5 * x**1.5, 1.3),
        (lambda x: el.pow(2.0, x), lambda x: 2.0**x * math.log(2), 1.3),
        (lambda x: el.remainder(7.3, x), lambda x: -3.0, 2.1),
        (lambda x: el.hypot(x, 2.0), lambda x: x / math.hypot(x, 2.0), 1.5),
        (el.floor, lambda x: 0.0, 1.5),
    ],
)
def test_gradients_are_the_slopes(function: Function, slope: Function, at: float) -> None:
    x = pe.asarray(np.float64(at))
    assert float(pe.grad(function)(x)) == pytest.approx(slope(at), rel=1e-12)
    assert float(pe.jit(pe.grad(function))(x)) == pytest.approx(slope(at), rel=1e-12)


def test_slope_of_a_power_at_zero_is_finite() -> None:
    def power(x: pe.Tensor, y: pe.Tensor) -> pe.Tensor:
        return el.pow(x, y)

    by_base, by_exponent = pe.grad(power, argnums=(0, 1))(
        pe.asarray(np.float64(0)), pe.asarray(np.float64(2))
    )
    assert (float(by_base), float(by_exponent)) == (0.0, 0.0)


def test_gamma_functions_differentiate_one_another() -> None:
    x = pe.asarray(np.float64(2.3))
    assert float(pe.grad(el.lgamma)(x)) == pytest.approx(float(el.digamma(x)), rel=1e-14)
    assert float(pe.grad(el.digamma)(x)) == pytest.approx(float(el.polygamma(1, x)), rel=1e-14)
    second = pe.grad(lambda x: el.polygamma(1, x))
    assert float(second(x)) == pytest.approx(float(el.polygamma(2, x)), rel=1e-14)


def test_polygamma_of_order_0_is_digamma() -> None:
    x = pe.asarray(np.array([0.5, 1.0]))
    np.testing.assert_array_equal(np.asarray(el.polygamma(0, x)), np.asarray(el.digamma(x)))


def test_polygamma_of_a_wrong_order_is_refused() -> None:
    with pytest.raises(OpTypeError, match="polygamma: expected an order from 1 to 100, got 101"):
        el.polygamma(101, pe.asarray(1.0))
