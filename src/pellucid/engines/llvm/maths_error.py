"""The error function and its complement, by one polynomial over the whole half-line.

(1 + 2 x) exp(x²) erfc(x) runs from 1 to 2 / sqrt(pi) and is smooth in (x - 4) / (x + 4). Where a
float32 is wanted, erf has a polynomial of its own that needs neither exp nor division.
"""

from __future__ import annotations

from typing import Final

from pellucid.engines.llvm.maths import (
    at_most,
    exp_near_zero,
    polynomial,
    reduce_exponent,
    scaled,
)
from pellucid.engines.llvm.maths_wide import FORM, Table, in_float64, signed, two_product
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value

# erf(x) = x + x ERF(x²) for |x| <= 1.
ERF: Final[Table] = {
    53: (
        0.1283791670955126,
        -0.3761263890318375,
        0.11283791670954879,
        -0.026866170645076792,
        0.0052239776248180145,
        -0.000854832698083379,
        0.0001205533111164271,
        -1.4925595266831182e-05,
        1.6461000484121368e-06,
        -1.6350312701054695e-07,
        1.4659775274047436e-08,
        -1.1372848856791674e-09,
        5.957176147748911e-11,
    ),
}
# erf(x) = x ERF_WHOLE(x² / 8 - 1) for |x| <= 4; beyond, the nearest float32 is 1.
ERF_WHOLE: Final[Table] = {
    24: (
        0.35353099633699614,
        -0.17657623355634394,
        0.13167500462304274,
        -0.1077104012536239,
        0.09021197583802171,
        -0.07472896226500954,
        0.05985653048124558,
        -0.04575393377883074,
        0.03321488463790601,
        -0.022530380754105718,
        0.013912674213802432,
        -0.008445061534000995,
        0.005571999462168701,
        -0.0028438421375724847,
        0.0006199186266208,
        -0.00036323960546510515,
        0.0005955966060005109,
        -0.0002375303008633824,
    ),
}
# erfc(x) = exp(-x²) / (1 + 2 x) SCALED_ERFC((x - 4) / (x + 4)).
SCALED_ERFC: Final[Table] = {
    24: (
        1.232995118611678,
        -0.13962111682540307,
        0.01537965387790656,
        0.06809705231227348,
        -0.10103910324946785,
        0.09373287600452719,
        -0.06633006919539637,
        0.037167184110216245,
        -0.016198891729773256,
        0.005033294614172266,
        -0.0007553330994075096,
        -0.000202164581271282,
        0.00014780836396869327,
        -2.0784215642683516e-05,
        -9.600045996213345e-06,
        3.2421422701780612e-06,
    ),
    53: (
        1.2329951186255526,
        -0.1396211168405625,
        0.01537965210261959,
        0.0680970542546913,
        -0.1010390660362999,
        0.0937328349984105,
        -0.06633036581219905,
        0.03716751553632399,
        -0.01619773405968329,
        0.0050319699895242515,
        -0.000757773262030915,
        -0.00019925676026410458,
        0.00015062149237837335,
        -2.43989944557621e-05,
        -1.1221292615314274e-05,
        5.709314113532492e-06,
        2.9198219084548256e-07,
        -8.25078338681245e-07,
        7.74606863568198e-08,
        1.1025271999000152e-07,
        -2.05545313698593e-08,
        -1.4806988146925795e-08,
        3.1672611119361695e-09,
        1.825695118953907e-09,
        -2.655726616312575e-10,
        -1.4311318470928162e-10,
    ),
}


def erf(f: Function, x: Value) -> Value:
    """The error function, -1 ... 1. Within 0.6 ulp in float32, 1.5 in float64."""
    return in_float64(f, "erf", (x,), _erf)


def erfc(f: Function, x: Value) -> Value:
    """1 - erf(x), exact in the tail too. Within 0.6 ulp in float32, 4 in float64."""
    return in_float64(f, "erfc", (x,), _erfc)


def _erf(f: Function, bits: int, x: Value) -> Value:
    size = f.fabs(x)
    if bits == 24:
        bounded = at_most(f, size, 4.0)
        place = f.multiply_add(f.fmul(bounded, bounded), 0.125, -1.0)
        return signed(f, f.fmul(bounded, polynomial(f, place, ERF_WHOLE[24])), x)
    near = f.multiply_add(size, polynomial(f, f.fmul(x, x), ERF[53]), size)
    far = f.fsub(1.0, _tail(f, bits, size))
    return signed(f, f.select(f.fcmp("olt", size, 1.0), near, far), x)


def _erfc(f: Function, bits: int, x: Value) -> Value:
    tail = _tail(f, bits, f.fabs(x))
    return f.select(f.fcmp("olt", x, 0.0), f.fsub(2.0, tail), tail)


def _tail(f: Function, bits: int, size: Value) -> Value:
    """erfc of a number that is not negative."""
    # At 28 even the smallest subnormal is passed.
    bounded = at_most(f, size, 28.0)
    form = FORM[bits]
    square, cut = two_product(f, bounded, bounded)
    power, rest, lost = reduce_exponent(f, form, f.fneg(square))
    near = exp_near_zero(f, form, rest)
    near = f.multiply_add(near, f.fsub(lost, cut), near)
    place = f.fdiv(f.fsub(bounded, 4.0), f.fadd(bounded, 4.0))
    curve = polynomial(f, place, SCALED_ERFC[bits])
    share = f.fdiv(curve, f.fadd(f.fadd(bounded, bounded), 1.0))
    return scaled(f, form, f.fmul(near, share), power)
