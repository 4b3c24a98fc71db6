"""The elementary functions: powers, logarithms, and those of angles and hyperbolas.

Each card states its derivative in the terms that lose least: 1 - x² is (1 - x)(1 + x), so that it
is right near 1.
"""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pellucid.core.dtype import FLOATING
from pellucid.ir.graph import Value
from pellucid.ops.define import Array, Op, Partial
from pellucid.ops.elementwise import (
    add,
    div,
    elementwise,
    equal,
    less_equal,
    log,
    logical_and,
    mul,
    neg,
    one_over,
    select,
    sub,
    within,
)
from pellucid.ops.movement import full_like


def elementary(
    name: str,
    reference: Callable[..., Array],
    *partials: Partial,
    float32: float = 0.51,
    float64: float,
    near_zeros: float = 0.0,
    what: str = "",
) -> Op:
    """A function of floating numbers, with its largest errors in ulp.

    In float32 most are computed in float64 and rounded once: 0.51.
    """
    return elementwise(
        name,
        on=FLOATING,
        reference=reference,
        partials=partials,
        accuracy=within(float32, float64),
        near_zeros=near_zeros,
        what=what,
    )


def scaled_by(x: Value, number: float) -> Value:
    """x times a number."""
    return mul(x, full_like(x, number))


def plus_one(x: Value) -> Value:
    """x + 1."""
    return add(x, full_like(x, 1.0))


def _one_minus_square(x: Value) -> Value:
    one = full_like(x, 1.0)
    return mul(sub(one, x), add(one, x))


def _square_minus_one(x: Value) -> Value:
    one = full_like(x, 1.0)
    return mul(sub(x, one), add(x, one))


def _one_plus_square(x: Value) -> Value:
    return plus_one(mul(x, x))


def _over_squares(over: Value, y: Value, x: Value) -> Value:
    return div(over, add(mul(y, y), mul(x, x)))


def _power_by_base(y: Value, base: Value, exponent: Value) -> Value:
    """exponent * base**(exponent - 1); 0 where the exponent is 0, also at base 0."""
    zero = full_like(exponent, 0.0)
    slope = mul(exponent, pow_(base, sub(exponent, full_like(exponent, 1.0))))
    return select(equal(exponent, zero), zero, slope)


def _power_by_exponent(y: Value, base: Value, exponent: Value) -> Value:
    """y log(base); 0 where 0 is raised to a power that is not negative. NaN for a base below 0."""
    zero = full_like(base, 0.0)
    flat = logical_and(equal(base, zero), less_equal(zero, exponent))
    return select(flat, zero, mul(y, log(select(flat, full_like(base, 1.0), base))))


pow_ = elementary(
    "pow", np.power, _power_by_base, _power_by_exponent, float64=1.1, what="a to the power b"
)
exp2 = elementary(
    "exp2", np.exp2, lambda y, x: scaled_by(y, math.log(2)), float64=1.0, what="2 to the power a"
)
expm1 = elementary(
    "expm1",
    np.expm1,
    lambda y, x: plus_one(y),
    float32=1.2,
    float64=1.2,
    what="e to the power a, less 1",
)
log1p = elementary(
    "log1p",
    np.log1p,
    lambda y, x: one_over(plus_one(x)),
    float32=1.0,
    float64=1.0,
    what="the logarithm of 1 + a",
)
log2 = elementary(
    "log2",
    np.log2,
    lambda y, x: one_over(scaled_by(x, math.log(2))),
    float64=0.6,
    what="the logarithm to base 2",
)
log10 = elementary(
    "log10",
    np.log10,
    lambda y, x: one_over(scaled_by(x, math.log(10))),
    float64=0.6,
    what="the logarithm to base 10",
)
rsqrt = elementary(
    "rsqrt",
    lambda x: 1.0 / np.sqrt(x),
    lambda y, x: div(scaled_by(y, -0.5), x),
    float32=1.5,
    float64=1.5,
    what="1 over the square root",
)
cbrt = elementary(
    "cbrt",
    np.cbrt,
    lambda y, x: one_over(scaled_by(mul(y, y), 3.0)),
    float64=0.85,
    what="the cube root",
)

sin = elementary("sin", np.sin, lambda y, x: cos(x), float64=0.8, what="the sine")
cos = elementary("cos", np.cos, lambda y, x: neg(sin(x)), float64=0.8, what="the cosine")
tan = elementary("tan", np.tan, lambda y, x: _one_plus_square(y), float64=2.1, what="the tangent")
asin = elementary(
    "asin",
    np.arcsin,
    lambda y, x: rsqrt(_one_minus_square(x)),
    float64=2.2,
    what="the inverse of sin",
)
acos = elementary(
    "acos",
    np.arccos,
    lambda y, x: neg(rsqrt(_one_minus_square(x))),
    float64=1.6,
    what="the inverse of cos",
)
atan = elementary(
    "atan",
    np.arctan,
    lambda y, x: one_over(_one_plus_square(x)),
    float64=2.0,
    what="the inverse of tan",
)
atan2 = elementary(
    "atan2",
    np.arctan2,
    lambda angle, y, x: _over_squares(x, y, x),
    lambda angle, y, x: _over_squares(neg(y), y, x),
    float64=2.0,
    what="the angle of the point (b, a)",
)

sinh = elementary("sinh", np.sinh, lambda y, x: cosh(x), float64=1.6, what="the hyperbolic sine")
cosh = elementary("cosh", np.cosh, lambda y, x: sinh(x), float64=1.6, what="the hyperbolic cosine")
asinh = elementary(
    "asinh",
    np.arcsinh,
    lambda y, x: rsqrt(_one_plus_square(x)),
    float64=2.0,
    what="the inverse of sinh",
)
acosh = elementary(
    "acosh",
    np.arccosh,
    lambda y, x: rsqrt(_square_minus_one(x)),
    float64=2.3,
    what="the inverse of cosh",
)
atanh = elementary(
    "atanh",
    np.arctanh,
    lambda y, x: one_over(_one_minus_square(x)),
    float64=2.0,
    what="the inverse of tanh",
)
