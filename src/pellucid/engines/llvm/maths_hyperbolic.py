"""The hyperbolic functions but tanh, and their inverses.

sinh and cosh are half an exponential plus or minus its inverse, of which the half is taken from the
exponent, so that nothing overflows before the result does. The inverses are logarithms of 1 + u,
where u is found without cancellation.
"""

from __future__ import annotations

import math
from typing import Final

from pellucid.engines.llvm.maths import (
    at_most,
    exp_near_zero,
    log1p_body,
    polynomial,
    reduce_exponent,
    scaled,
)
from pellucid.engines.llvm.maths_wide import FORM, Table, in_float64, signed
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value

# sinh(x) = x + x z SINH(z) for z = x², |x| <= 1.
SINH: Final[Table] = {
    24: (
        0.16666666646842135,
        0.00833333967591706,
        0.00019838101968683888,
        2.8062802582276946e-06,
    ),
    53: (
        0.16666666666666666,
        0.008333333333333333,
        0.00019841269841269773,
        2.755731922404034e-06,
        2.505210836405804e-08,
        1.6059048396350562e-10,
        7.646625361656657e-13,
        2.8445264169895285e-15,
    ),
}

LN2: Final = 0.6931471805599453
LARGE: Final = 2.0**30
"""From here on x² + 1 is x² and asinh(x) = log(2 x), to the last bit."""


def sinh(f: Function, x: Value) -> Value:
    """The hyperbolic sine. Within 0.51 ulp in float32, 1.6 in float64."""
    return in_float64(f, "sinh", (x,), _sinh)


def cosh(f: Function, x: Value) -> Value:
    """The hyperbolic cosine. Within 0.51 ulp in float32, 1.6 in float64."""
    return in_float64(f, "cosh", (x,), _cosh)


def asinh(f: Function, x: Value) -> Value:
    """The inverse of sinh. Within 0.51 ulp in float32, 2 in float64."""
    return in_float64(f, "asinh", (x,), _asinh)


def acosh(f: Function, x: Value) -> Value:
    """The inverse of cosh, from 0 on; nan below 1. Within 0.51 ulp in float32, 2.3 in float64."""
    return in_float64(f, "acosh", (x,), _acosh)


def atanh(f: Function, x: Value) -> Value:
    """The inverse of tanh; ±inf at ±1, nan beyond. Within 0.51 ulp in float32, 2 in float64."""
    return in_float64(f, "atanh", (x,), _atanh)


def _sinh(f: Function, bits: int, x: Value) -> Value:
    size = f.fabs(x)
    square = f.fmul(x, x)
    curve = f.fmul(square, polynomial(f, square, SINH[bits]))
    near = f.multiply_add(size, curve, size)
    half, inverse = _half_exponentials(f, bits, size)
    far = f.fsub(half, inverse)
    return signed(f, f.select(f.fcmp("olt", size, 1.0), near, far), x)


def _cosh(f: Function, bits: int, x: Value) -> Value:
    half, inverse = _half_exponentials(f, bits, f.fabs(x))
    return f.fadd(half, inverse)


def _half_exponentials(f: Function, bits: int, size: Value) -> tuple[Value, Value]:
    """e**size / 2 and e**-size / 2."""
    form = FORM[bits]
    power, rest, _ = reduce_exponent(f, form, at_most(f, size, 712.0))
    half = scaled(f, form, exp_near_zero(f, form, rest), f.sub(power, 1))
    return half, f.fdiv(0.25, half)


def _asinh(f: Function, bits: int, x: Value) -> Value:
    """sinh y = x: e**y = 1 + x + x² / (1 + sqrt(x² + 1))."""
    size = f.fabs(x)
    bounded = at_most(f, size, LARGE)
    square = f.fmul(bounded, bounded)
    under = f.fadd(f.sqrt(f.fadd(square, 1.0)), 1.0)
    offset = f.fadd(bounded, f.fdiv(square, under))
    return signed(f, _log_of_one_more(f, bits, size, offset), x)


def _acosh(f: Function, bits: int, x: Value) -> Value:
    """cosh y = x = 1 + t: e**y = 1 + t + sqrt(2 t + t²)."""
    t = f.fsub(at_most(f, x, LARGE), 1.0)
    offset = f.fadd(t, f.sqrt(f.multiply_add(t, t, f.fadd(t, t))))
    return f.select(f.fcmp("olt", x, 1.0), math.nan, _log_of_one_more(f, bits, x, offset))


def _log_of_one_more(f: Function, bits: int, size: Value, offset: Value) -> Value:
    """log(1 + offset), or log(2 size) where size is LARGE; NaN and infinity remain."""
    far = f.fcmp("oge", size, LARGE)
    argument = f.select(far, f.fsub(size, 1.0), offset)
    near = log1p_body(f, FORM[bits], argument)
    return f.fadd(near, f.select(far, f.splat(LN2, size.type), 0.0))


def _atanh(f: Function, bits: int, x: Value) -> Value:
    """Half of log((1 + x) / (1 - x)) = log(1 + 2 x / (1 - x))."""
    size = f.fabs(x)
    double = f.fadd(size, size)
    ratio = f.fdiv(double, f.fsub(1.0, size))
    result = f.fmul(log1p_body(f, FORM[bits], ratio), 0.5)
    result = f.select(f.fcmp("oeq", size, 1.0), math.inf, result)
    result = f.select(f.fcmp("ogt", size, 1.0), math.nan, result)
    return signed(f, result, x)
