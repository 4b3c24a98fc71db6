"""The hyperbolic functions and their inverses.

sinh and cosh are half an exponential plus or minus its inverse, of which the half is taken from the
exponent, so that nothing overflows before the result does. The inverses are logarithms of 1 + u,
where u is found without cancellation. tanh of float32 is sixteen polynomials; in the bit class
"sse2", and of float64, a polynomial near 0 and an exponential beyond.
"""

from __future__ import annotations

import math
from typing import Final

from pellucid.engines.llvm.maths import (
    Format,
    at_most,
    exp_near_zero,
    log1p_body,
    once_per_type,
    polynomial,
    reduce_exponent,
    scaled,
    two_to,
)
from pellucid.engines.llvm.maths_pieces import find, pieces
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

PIECES: Final = pieces(
    offset=0.625,
    first=0.625,
    most=9.125,
    table="""
    1.6102726 2.1325793 2.610446 3.127848 3.8993378 4.8583884
    5.832855 6.467114 8.317766 0.0 0.18859243
    0.3114524 0.5010054 0.75651747 0.99867326 1.2527828
    0.9232003 0.97229004 0.98925304 0.9961684 0.9991798 0.9998795
    0.99998283 0.9999952 0.9999999 0.0 0.1863879
    0.3017578 0.4629075 0.6390211 0.7610364 0.84906214
    0.14770128 0.054652084 0.021378387 0.007648574 0.0016399133 0.00024102388
    3.432961e-05 9.6570975e-06 2.3910468e-07 1.0 0.96525955
    0.9089422 0.7857167 0.59165204 0.4208236 0.27909347
    -0.13636494 -0.053136755 -0.021147631 -0.0076187546 -0.0016365204 -0.00024070874
    -3.4293967e-05 -9.6468475e-06 -2.3575674e-07 3.1189697e-07 -0.17991237
    -0.27427992 -0.36370903 -0.37807813 -0.32026404 -0.23696919
    0.07664356 0.03344767 0.013798048 0.005039929 0.0010865538 0.00016067096
    2.2944801e-05 6.299736e-06 1.5307354e-07 -0.33335564 -0.2882218
    -0.22021425 -0.093562946 0.04437886 0.10345552 0.10817266
    -0.024936948 -0.014857064 -0.006651859 -0.002507672 -0.00056811183 -8.4015424e-05
    -1.1945461e-05 -2.7452695e-06 -9.078333e-08 0.00047280054 0.11338727
    0.15748045 0.16346273 0.09766243 0.028427735 -0.012533143
    0.0011049799 0.004452287 0.0023592291 0.0009759511 0.00023674825 3.2476262e-05
    4.4034455e-06 6.11691e-07 4.187978e-08 0.12998602 0.09692815
    0.04583154 -0.025707984 -0.06347818 -0.046325315 -0.019298665
    """,
)

LN2: Final = 0.6931471805599453
LARGE: Final = 2.0**30
"""From here on x² + 1 is x² and asinh(x) = log(2 x), to the last bit."""


def sinh(f: Function, x: Value) -> Value:
    """The hyperbolic sine. Within 0.51 ulp in float32, 1.6 in float64."""
    return in_float64(f, "sinh", (x,), _sinh)


def cosh(f: Function, x: Value) -> Value:
    """The hyperbolic cosine. Within 0.51 ulp in float32, 1.6 in float64."""
    return in_float64(f, "cosh", (x,), _cosh)


def tanh(f: Function, x: Value) -> Value:
    """The hyperbolic tangent. Within 1.5 ulp."""
    return once_per_type(f, "tanh", x, _tanh)


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
    parts = reduce_exponent(f, form, at_most(f, size, 712.0))
    half = scaled(f, form, exp_near_zero(f, form, parts.rest), f.fsub(parts.number, 1.0))
    return half, f.fdiv(0.25, half)


def _tanh(f: Function, form: Format, x: Value) -> Value:
    """By pieces; or x + x³ p(x²) up to 5/8, then 1 - e / (1/2 + e / 2), where e = exp(-2 |x|)."""
    if form.mantissa == 23 and f.isa.fused:
        return _tanh32(f, x)
    square = f.fmul(x, x)
    near = f.multiply_add(f.fmul(x, square), polynomial(f, square, form.tanh), x)
    magnitude = f.fabs(x)
    parts = reduce_exponent(f, form, f.fmul(at_most(f, magnitude, -form.minus_one), -2.0))
    rest, scale = parts.rest, two_to(f, form, f.sub(parts.power, 1))
    tail = f.fmul(f.fmul(rest, rest), polynomial(f, rest, form.exp))
    half_e = f.multiply_add(scale, f.fadd(rest, tail), scale)
    quotient = f.fdiv(f.fadd(half_e, half_e), f.fadd(half_e, 0.5))
    far = f.fsub(1.0, quotient)
    # A NaN is in neither range and goes through the second; the sign is also that of zero.
    return f.copysign(f.select(f.fcmp("olt", magnitude, 0.625), near, far), x)


def _tanh32(f: Function, x: Value) -> Value:
    spot = find(f, PIECES, x)
    return f.copysign(f.multiply_add(spot.way, spot.slope, spot.value), x)


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
