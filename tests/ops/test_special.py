"""Are the references themselves right? The special functions and the rest beside mpmath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.error import OpTypeError
from pellucid.ops import REGISTRY

RANGES: dict[str, tuple[Any, float, float]] = {
    "exp2": (lambda x: mpmath.mpf(2) ** x, -1000, 1000),
    "expm1": (mpmath.expm1, -30, 300),
    "log1p": (mpmath.log1p, -0.9, 1e5),
    "log2": (lambda x: mpmath.log(x, 2), 1e-5, 1e5),
    "log10": (lambda x: mpmath.log(x, 10), 1e-5, 1e5),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), -1e5, 1e5),
    "sin": (mpmath.sin, -1e5, 1e5),
    "cos": (mpmath.cos, -1e5, 1e5),
    "tan": (mpmath.tan, -1e5, 1e5),
    "asin": (mpmath.asin, -1, 1),
    "acos": (mpmath.acos, -1, 1),
    "atan": (mpmath.atan, -100, 100),
    "sinh": (mpmath.sinh, -600, 600),
    "cosh": (mpmath.cosh, -600, 600),
    "asinh": (mpmath.asinh, -1e5, 1e5),
    "acosh": (mpmath.acosh, 1, 1e5),
    "atanh": (mpmath.atanh, -0.99, 0.99),
    "erf": (mpmath.erf, -6, 6),
    "erfc": (mpmath.erfc, -6, 26),
    "lgamma": (mpmath.loggamma, 0.001, 50),
    "digamma": (lambda x: mpmath.psi(0, x), 0.001, 50),
}


def errors(found: NDArray[Any], true: Callable[..., Any], x: NDArray[Any]) -> list[float]:
    """In units of the last place of what was found."""
    with mpmath.workdps(60):
        pairs = zip(found.tolist(), x.tolist(), np.spacing(np.abs(found)).tolist(), strict=True)
        return [
            float(abs(mpmath.mpf(got) - mpmath.re(true(mpmath.mpf(at)))) / unit)
            for got, at, unit in pairs
        ]


@pytest.mark.parametrize("name", RANGES)
def test_float64_reference_is_near_mpmath(name: str) -> None:
    true, low, high = RANGES[name]
    random = np.random.default_rng(0)
    x = np.concatenate(
        [random.uniform(low, high, 150), random.uniform(max(low, -2), min(high, 3), 150)]
    )
    # The C library's own functions are within 3, the series of ours within 1.
    assert max(errors(REGISTRY[name].evaluate(x)[0], true, x)) <= 3


@pytest.mark.parametrize("order", [1, 2, 3, 8])
def test_polygamma_reference_is_near_mpmath(order: int) -> None:
    x = np.random.default_rng(1).uniform(-8, 20, 150)
    found = REGISTRY["polygamma"].evaluate(x, order=order)[0]
    assert max(errors(found, lambda at: mpmath.psi(order, at), x)) <= 2


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_references_are_near_mpmath_below_zero_and_at_their_zeros(name: str) -> None:
    true = {
        "lgamma": lambda x: mpmath.log(abs(mpmath.gamma(x))),
        "digamma": lambda x: mpmath.psi(0, x),
    }
    near = {"lgamma": (1, 2), "digamma": (1.4616321449683622,)}
    # Nearer still, even long double loses digits.
    steps = 2.0 ** np.random.default_rng(2).uniform(-8, -1, 40)
    x = np.concatenate(
        [np.random.default_rng(1).uniform(-8, 0, 150), *(zero + steps for zero in near[name])]
    )
    assert max(errors(REGISTRY[name].evaluate(x)[0], true[name], x)) <= 2


def test_special_references_at_their_poles() -> None:
    x = np.array([0.0, -0.0, -1.0, np.inf, -np.inf, np.nan])
    inf, nan = np.inf, np.nan
    wanted = {
        "lgamma": [inf, inf, inf, inf, inf, nan],
        "digamma": [-inf, inf, nan, inf, nan, nan],
        "erf": [0, -0.0, -0.8427007929497149, 1, -1, nan],
    }
    for name, numbers in wanted.items():
        np.testing.assert_array_equal(REGISTRY[name].evaluate(x)[0], numbers)
    for order, numbers in ((1, [inf, inf, inf, 0, nan, nan]), (2, [-inf, inf, nan, 0, nan, nan])):
        np.testing.assert_array_equal(REGISTRY["polygamma"].evaluate(x, order=order)[0], numbers)


@pytest.mark.parametrize("order", [0, -1, 101])
def test_polygamma_of_an_order_out_of_range_is_refused(order: int) -> None:
    with pytest.raises(
        OpTypeError, match=f"polygamma: expected an order from 1 to 100, got {order}"
    ):
        REGISTRY["polygamma"].evaluate(np.ones(2), order=order)


def test_neighbours_are_those_of_the_dtype() -> None:
    one = np.array([1.0], np.float32)
    (found,) = REGISTRY["nextafter"].evaluate(one, one + 1)
    assert found.tolist() == [1 + 2.0**-23]


def test_integers_divided_by_zero_give_zero_and_do_not_warn() -> None:
    x, none = np.array([5, -5, 0], np.int32), np.zeros(3, np.int32)
    for name in ("floor_divide", "remainder"):
        assert REGISTRY[name].evaluate(x, none)[0].tolist() == [0, 0, 0]
