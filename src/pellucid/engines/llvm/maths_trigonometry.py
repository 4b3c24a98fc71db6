"""Sine, cosine and tangent: the angle is reduced to pi / 4, where two short polynomials do.

Both polynomials are evaluated in every lane, and the quadrant selects and signs.
"""

from __future__ import annotations

import math
from typing import Final

from pellucid.engines.llvm.maths import polynomial
from pellucid.engines.llvm.maths_reduction import reduce_angle
from pellucid.engines.llvm.maths_wide import Pair, Table, in_float64, signed
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value

# sin(r) = r + r z SINE(z) and cos(r) = 1 - z / 2 + z² COSINE(z), where z = r², |r| <= pi / 4.
SINE: Final[Table] = {
    24: (
        -0.16666666663853044,
        0.008333331873837089,
        -0.00019840086263755443,
        2.7249864655139585e-06,
    ),
    53: (
        -0.16666666666666666,
        0.008333333333330946,
        -0.0001984126983675497,
        2.755731610068303e-06,
        -2.5051131455427946e-08,
        1.591810123027412e-10,
    ),
}
COSINE: Final[Table] = {
    24: (
        0.04166666666431933,
        -0.0013888887671288108,
        2.480059998353171e-05,
        -2.7300908167996537e-07,
    ),
    53: (
        0.041666666666666664,
        -0.0013888888888887395,
        2.4801587298763433e-05,
        -2.7557317270560326e-07,
        2.0876146024689747e-09,
        -1.1382614868556325e-11,
    ),
}


def sin(f: Function, x: Value) -> Value:
    """The sine; nan at ±inf. Within 0.51 ulp in float32, 0.8 in float64."""
    return in_float64(f, "sin", (x,), _sin)


def cos(f: Function, x: Value) -> Value:
    """The cosine; nan at ±inf. Within 0.51 ulp in float32, 0.8 in float64."""
    return in_float64(f, "cos", (x,), _cos)


def tan(f: Function, x: Value) -> Value:
    """The tangent; nan at ±inf. Within 0.51 ulp in float32, 2.1 in float64."""
    return in_float64(f, "tan", (x,), _tan)


def _sin(f: Function, bits: int, x: Value) -> Value:
    rest, quadrant = reduce_angle(f, bits, x)
    value = f.select(_odd(f, quadrant), cos_near_zero(f, bits, rest), sin_near_zero(f, bits, rest))
    # The sign of x turns the result; x * 0 keeps it a NaN where the angle is infinite.
    return _finite(f, x, signed(f, f.select(_upper(f, quadrant), f.fneg(value), value), x))


def _cos(f: Function, bits: int, x: Value) -> Value:
    rest, quadrant = reduce_angle(f, bits, x)
    value = f.select(_odd(f, quadrant), sin_near_zero(f, bits, rest), cos_near_zero(f, bits, rest))
    upper = _upper(f, f.add(quadrant, 1))
    return _finite(f, x, f.select(upper, f.fneg(value), value))


def _tan(f: Function, bits: int, x: Value) -> Value:
    rest, quadrant = reduce_angle(f, bits, x)
    sine, cosine = sin_near_zero(f, bits, rest), cos_near_zero(f, bits, rest)
    odd = _odd(f, quadrant)
    over = f.select(odd, f.fneg(cosine), sine)
    return _finite(f, x, signed(f, f.fdiv(over, f.select(odd, sine, cosine)), x))


def sin_near_zero(f: Function, bits: int, rest: Pair) -> Value:
    """The sine of an angle up to pi / 4."""
    head, tail = rest
    square = f.fmul(head, head)
    curve = f.fmul(square, polynomial(f, square, SINE[bits]))
    if bits == 24:
        return f.multiply_add(head, curve, head)
    # The derivative, cos = 1 - z / 2, carries the tail over.
    share = f.multiply_add(f.fmul(square, -0.5), tail, tail)
    return f.fadd(head, f.multiply_add(head, curve, share))


def cos_near_zero(f: Function, bits: int, rest: Pair) -> Value:
    """The cosine of an angle up to pi / 4."""
    head, tail = rest
    square = f.fmul(head, head)
    curve = f.fmul(f.fmul(square, square), polynomial(f, square, COSINE[bits]))
    half = f.fmul(square, 0.5)
    near = f.fsub(1.0, half)
    if bits == 24:
        return f.fadd(near, curve)
    lost = f.fsub(f.fsub(1.0, near), half)
    return f.fadd(near, f.fadd(lost, f.fsub(curve, f.fmul(head, tail))))


def _odd(f: Function, quadrant: Value) -> Value:
    return f.icmp("ne", f.and_(quadrant, 1), 0)


def _upper(f: Function, quadrant: Value) -> Value:
    return f.icmp("ne", f.and_(quadrant, 2), 0)


def _finite(f: Function, x: Value, value: Value) -> Value:
    return f.select(f.fcmp("olt", f.fabs(x), math.inf), value, f.fsub(x, x))
