"""The error function and the gamma function's logarithm, with all their derivatives.

lgamma -> digamma -> polygamma of order 1, 2, ...: the family is closed. The references of the gamma
functions are textbook series in NumPy's long double, which has 64 bits on most machines, so that
what cancels near their zeros is not lost.
"""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache

import numpy as np

from pellucid.core.dtype import FLOATING
from pellucid.core.error import OpTypeError
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import Array, Pointwise, require_dtype
from pellucid.ops.elementary import elementary, scaled_by
from pellucid.ops.elementwise import define_elementwise, exp, mul, neg, require_count, within

TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
PI = np.longdouble("3.14159265358979323846264338327950288")

BERNOULLI = tuple(
    Fraction(*pair)
    for pair in (
        (1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510),
        (43867, 798), (-174611, 330), (854513, 138), (-236364091, 2730),
    )
)  # fmt: skip
"""The Bernoulli numbers of index 2, 4, 6, ..."""

SHIFTED = 20
"""The asymptotic series are used from here on."""


def _each(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """Python's own function of one number, for each element."""
    return lambda x: np.asarray(np.vectorize(function, otypes=[np.float64])(x))


def _lgamma_reference(x: Array) -> Array:
    wide = np.asarray(x, np.longdouble)
    up = np.where(wide > 0, wide, 1 - wide)
    positive = _lgamma_positive(up)
    mirrored = np.log(PI / np.abs(_sine_of_pi(wide))) - positive
    found = np.where(wide > 0, positive, mirrored)
    return np.where(_is_pole(wide) | np.isinf(wide), np.inf, found).astype(np.float64)


def _lgamma_positive(x: Array) -> Array:
    """Around 1 and 2 the Taylor series at 2; elsewhere Stirling's series, after the recurrence."""
    t = np.where(x < 1.5, x - 1, x - 2)
    series = t * _horner(_taylor(), -t)
    near = np.where(x < 1.5, series - np.log1p(t), series)
    shifted, product = x, np.ones_like(x)
    for _ in range(SHIFTED):
        low = shifted < SHIFTED
        product = np.where(low, product * shifted, product)
        shifted = np.where(low, shifted + 1, shifted)
    terms = [_ratio(b, 2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI, 1)]
    rest = _horner(terms, 1 / shifted / shifted) / shifted
    head = (shifted - 0.5) * (np.log(shifted) - 1) + (np.log(2 * PI) - 1) / 2
    return np.where((x > 0.5) & (x < 2.5), near, head + rest - np.log(product))


@cache
def _taylor() -> tuple[Array, ...]:
    """lgamma(2 + t) = t (c0 - c1 t + c2 t² - ...): 1 - Euler's constant, (1 - zeta(k)) / k."""
    two = np.asarray(2, np.longdouble)
    slope = _digamma_positive(two)
    return (slope, *(-_hurwitz(k, two) / k for k in range(2, 60)))


def _digamma_reference(x: Array) -> Array:
    wide = np.asarray(x, np.longdouble)
    up = np.where(wide > 0, wide, 1 - wide)
    found = np.where(wide > 0, _digamma_positive(up), _digamma_positive(up) - _cotangent(wide))
    found = np.where(_is_pole(wide) | (wide == -np.inf), np.nan, found)
    return np.where(wide == 0, -np.copysign(np.inf, wide), found).astype(np.float64)


def _digamma_positive(x: Array) -> Array:
    total = np.zeros_like(x)
    for _ in range(SHIFTED):
        low = x < SHIFTED
        total = np.where(low, total + 1 / x, total)
        x = np.where(low, x + 1, x)
    terms = [_ratio(b, 2 * k) for k, b in enumerate(BERNOULLI, 1)]
    square = 1 / x / x
    return np.log(x) - 1 / (2 * x) - square * _horner(terms, square) - total


def _polygamma_reference(x: Array, *, order: int) -> Array:
    wide = np.asarray(x, np.longdouble)
    sign, size = (1.0 if order % 2 else -1.0), float(math.factorial(order))
    up = np.where(wide < 0, 1 - wide, wide)
    found = _hurwitz(order + 1, up) * (sign * size)
    mirrored = -sign * found - _cotangent(wide, order)
    found = np.where(wide < 0, mirrored, found)
    pole = np.inf if order % 2 else np.nan
    found = np.where(_is_pole(wide) & (wide != 0), pole, found)
    return np.where(wide == -np.inf, np.nan, found).astype(np.float64)


def _hurwitz(power: int, x: Array) -> Array:
    """x**-power + (x + 1)**-power + ...: some terms, then Euler's and Maclaurin's rest."""
    count = SHIFTED + power
    # Not x + 0, which has lost the sign of -0.0.
    others = (1 / (x + k) ** power for k in reversed(range(1, count)))
    total = sum(others, np.zeros_like(x)) + 1 / x**power
    far = x + count
    rest = 1 / (power - 1) + 1 / (2 * far)
    for k, bernoulli in enumerate(BERNOULLI, 1):
        rising = Fraction(math.factorial(2 * k + power - 2), math.factorial(power - 1))
        rest = rest + _ratio(bernoulli * rising, math.factorial(2 * k)) / far ** (2 * k)
    return total + rest / far ** (power - 1)


def _cotangent(x: Array, order: int = 0) -> Array:
    """The derivative of pi cot(pi x) of this order: a polynomial in the cotangent."""
    rest = _from_whole(x)
    cot = np.cos(PI * rest) / np.sin(PI * rest)
    # The slope of c**k is -k c**(k - 1) (1 + c²).
    curve = np.polynomial.Polynomial([0, 1])
    for _ in range(order):
        curve = -curve.deriv() * np.polynomial.Polynomial([1, 0, 1])
    powers = (float(c) * cot**k for k, c in enumerate(curve.coef))
    return sum(powers, np.zeros_like(cot)) * PI ** (order + 1)


def _sine_of_pi(x: Array) -> Array:
    return np.sin(PI * _from_whole(x))


def _from_whole(x: Array) -> Array:
    """How far x is from the nearest whole number; the sine and cotangent of pi x repeat so."""
    rest = x - np.rint(x)
    # The sine changes its sign from one to the next; only its size is asked for.
    return np.where(np.isfinite(x), rest, 0)


def _is_pole(x: Array) -> Array:
    return (x <= 0) & (x == np.rint(x)) & np.isfinite(x)


def _horner(coefficients: Sequence[Array], x: Array) -> Array:
    """c0 + c1 x + c2 x² + ..."""
    total = np.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _ratio(number: Fraction, by: int) -> Array:
    ratio = number / by
    return np.asarray(np.longdouble(ratio.numerator) / np.longdouble(ratio.denominator))


def _bell(x: Value) -> Value:
    """2 / sqrt(pi) exp(-x²)."""
    return scaled_by(exp(neg(mul(x, x))), TWO_OVER_ROOT_PI)


NEAR_ZEROS = 4e-15
"""The error of the gamma functions below 0, where zeros come by cancellation: of max(1, |y|)."""

erf = elementary(
    "erf",
    _each(math.erf),
    lambda y, x: _bell(x),
    float32=0.6,
    float64=1.5,
    what="the error function",
)
erfc = elementary(
    "erfc", _each(math.erfc), lambda y, x: neg(_bell(x)), float32=0.6, float64=4.0, what="1 - erf"
)
lgamma = elementary(
    "lgamma",
    _lgamma_reference,
    lambda y, x: digamma(x),
    float32=0.6,
    float64=4.0,
    near_zeros=NEAR_ZEROS,
    what="the logarithm of |gamma|",
)
digamma = elementary(
    "digamma",
    _digamma_reference,
    lambda y, x: polygamma(x, order=1),
    float32=0.6,
    float64=4.0,
    near_zeros=NEAR_ZEROS,
    what="the derivative of lgamma",
)

MAX_ORDER = 100


def _polygamma_infer(*types: TensorType, order: int) -> TensorType:
    require_count("polygamma", types, 1)
    require_dtype("polygamma", types[0], FLOATING)
    if not 1 <= order <= MAX_ORDER:
        raise OpTypeError(f"polygamma: expected an order from 1 to {MAX_ORDER}, got {order}")
    return types[0]


polygamma = define_elementwise(
    "polygamma",
    _polygamma_infer,
    _polygamma_reference,
    Pointwise((lambda y, x, *, order: polygamma(x, order=order + 1),)),
    lambda *, order: within(0.6, 2.0 * order + 4.0),
    near_zeros=NEAR_ZEROS,
    on=FLOATING,
    what="a further derivative of digamma",
)
"""The derivative of digamma of some order, from 1 on."""
