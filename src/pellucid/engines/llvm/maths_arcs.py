"""The inverse trigonometric functions: which angle has this sine, cosine or tangent?

An arc tangent is that of a ratio num / den, so that one reduction and one division serve `atan` and
`atan2`. Arc sine and cosine have a polynomial up to 1/2, and from there on half-angle formulae.
"""

from __future__ import annotations

import math
from typing import Final

from pellucid.engines.llvm.maths import polynomial
from pellucid.engines.llvm.maths_wide import Table, in_float64, signed
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value

# atan(t) = t + t z ATAN(z) for z = t², |t| <= tan(pi / 8).
ATAN: Final[Table] = {
    24: (
        -0.333333332792548,
        0.19999977258688387,
        -0.14284151193628614,
        0.11071365021884794,
        -0.08624676145249494,
        0.050481385120797445,
    ),
    53: (
        -0.3333333333333333,
        0.19999999999999804,
        -0.14285714285659828,
        0.11111111105155447,
        -0.09090908753500877,
        0.07692296375032143,
        -0.06666424885738255,
        0.05878928997834775,
        -0.05230454270650244,
        0.04551593220626549,
        -0.034570561981427744,
        0.016285756855221028,
    ),
}
# asin(t) = t + t z ASIN(z) for z = t², |t| <= 1/2.
ASIN: Final[Table] = {
    24: (
        0.16666666686085643,
        0.07499992404401838,
        0.04464766388813485,
        0.030269138728589183,
        0.023611817008891752,
        0.010574415516912909,
        0.030974540371355073,
    ),
    53: (
        0.16666666666666666,
        0.07500000000000118,
        0.044642857142551895,
        0.03038194447553234,
        0.02237215744350722,
        0.017352816540325496,
        0.01396378001220357,
        0.011566459612121669,
        0.009621842970100282,
        0.009319560794767446,
        0.0030448799094556773,
        0.019554513336123378,
        -0.01924167174674304,
        0.02961201126495512,
    ),
}

TAN_OF_EIGHTH: Final = 0.41421356237309503
QUARTERS: Final = (
    (0.0, 0.0),
    (0.7853981633974483, 3.061616997868383e-17),
    (1.5707963267948966, 6.123233995736766e-17),
    (2.356194490192345, 9.184850993605148e-17),
    (3.141592653589793, 1.2246467991473532e-16),
)
"""0 to 4 times pi / 4, and what rounding cut off."""


def asin(f: Function, x: Value) -> Value:
    """The arc sine; nan beyond ±1. Within 0.51 ulp in float32, 2.2 in float64."""
    return in_float64(f, "asin", (x,), _asin)


def acos(f: Function, x: Value) -> Value:
    """The arc cosine, 0 ... pi; nan beyond ±1. Within 0.51 ulp in float32, 1.6 in float64."""
    return in_float64(f, "acos", (x,), _acos)


def atan(f: Function, x: Value) -> Value:
    """The arc tangent. Within 0.51 ulp in float32, 2 in float64."""
    return in_float64(f, "atan", (x,), _atan)


def atan2(f: Function, y: Value, x: Value) -> Value:
    """The angle of the point (x, y), -pi ... pi. Within 0.51 ulp in float32, 2 in float64."""
    return in_float64(f, "atan2", (y, x), _atan2)


def _asin(f: Function, bits: int, x: Value) -> Value:
    size = f.fabs(x)
    small, sine = _half_angle(f, bits, size)
    # pi / 2 - 2 asin(root)
    quarter, cut = QUARTERS[2]
    far = f.fsub(quarter, f.fsub(f.fadd(sine, sine), cut))
    return signed(f, f.select(small, sine, far), x)


def _acos(f: Function, bits: int, x: Value) -> Value:
    small, sine = _half_angle(f, bits, f.fabs(x))
    turned = signed(f, sine, x)
    quarter, cut = QUARTERS[2]
    near = f.fsub(quarter, f.fsub(turned, cut))
    double = f.fadd(sine, sine)
    left = f.fsub(QUARTERS[4][0], f.fsub(double, QUARTERS[4][1]))
    far = f.select(f.fcmp("olt", x, 0.0), left, double)
    return f.select(small, near, far)


def _half_angle(f: Function, bits: int, size: Value) -> tuple[Value, Value]:
    """Whether size < 1/2; asin(size) where it is, else asin(sqrt((1 - size) / 2))."""
    small = f.fcmp("olt", size, 0.5)
    rest = f.fmul(f.fsub(1.0, size), 0.5)
    square = f.select(small, f.fmul(size, size), rest)
    t = f.select(small, size, f.sqrt(rest))
    curve = f.fmul(square, polynomial(f, square, ASIN[bits]))
    return small, f.multiply_add(t, curve, t)


def _atan(f: Function, bits: int, x: Value) -> Value:
    one = f.splat(1.0, x.type)
    return signed(f, _angle(f, bits, f.fabs(x), one, None), x)


def _atan2(f: Function, bits: int, y: Value, x: Value) -> Value:
    num, den = f.fabs(y), f.fabs(x)
    # Where both are infinite, or both zero, the angle is that of the corner's or axis' direction.
    both = f.and_(f.fcmp("oeq", num, math.inf), f.fcmp("oeq", den, math.inf))
    num, den = (f.select(both, f.splat(1.0, x.type), one) for one in (num, den))
    none = f.and_(f.fcmp("oeq", num, 0.0), f.fcmp("oeq", den, 0.0))
    den = f.select(none, 1.0, den)
    if bits == 53:
        # So that their sum does not overflow; what underflows here is nothing beside the other.
        large = f.or_(f.fcmp("ogt", num, 2.0**1000), f.fcmp("ogt", den, 2.0**1000))
        scale = f.select(large, f.splat(2.0**-2, x.type), 1.0)
        num, den = f.fmul(num, scale), f.fmul(den, scale)
    negative = f.fcmp("olt", f.copysign(f.splat(1.0, x.type), x), 0.0)
    return signed(f, _angle(f, bits, num, den, negative), y)


def _angle(f: Function, bits: int, num: Value, den: Value, mirror: Value | None) -> Value:
    """The arc tangent of num / den >= 0, or pi less it where `mirror` holds.

    With t = num / den up to tan(pi / 8): 0 + atan(t); with t = -den / num from there mirrored:
    pi / 2 + atan(t); between, with t = (num - den) / (num + den): pi / 4 + atan(t).
    """
    low = f.fcmp("ole", num, f.fmul(den, TAN_OF_EIGHTH))
    high = f.fcmp("oge", f.fmul(num, TAN_OF_EIGHTH), den)
    over = f.select(low, num, f.select(high, f.fneg(den), f.fsub(num, den)))
    under = f.select(low, den, f.select(high, num, f.fadd(num, den)))
    t = f.fdiv(over, under)
    if mirror is not None:
        t = f.select(mirror, f.fneg(t), t)
    square = f.fmul(t, t)
    curve = f.fmul(f.fmul(t, square), polynomial(f, square, ATAN[bits]))
    head, tail = (_quarters(f, low, high, mirror, part, t) for part in range(2))
    return f.fadd(head, f.fadd(t, f.fadd(curve, tail)))


def _quarters(
    f: Function, low: Value, high: Value, mirror: Value | None, part: int, like: Value
) -> Value:
    numbers = [f.splat(quarter[part], like.type) for quarter in QUARTERS]
    base = f.select(low, numbers[0], f.select(high, numbers[2], numbers[1]))
    if mirror is None:
        return base
    mirrored = f.select(low, numbers[4], f.select(high, numbers[2], numbers[3]))
    return f.select(mirror, mirrored, base)
