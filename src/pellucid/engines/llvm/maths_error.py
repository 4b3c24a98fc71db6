"""The error function and its complement, by one polynomial over the whole half-line.

(1 + 2 x) exp(x²) erfc(x) runs from 1 to 2 / sqrt(pi) and is smooth in (x - 4) / (x + 4). Where a
float32 is wanted, erf needs neither exp nor division: it is sixteen polynomials of float32, or in
the bit class "sse2", whose products round, one of float64.
"""

from __future__ import annotations

from typing import Final

from pellucid.engines.llvm.maths import (
    Format,
    at_most,
    exp_near_zero,
    once_per_type,
    polynomial,
    reduce_exponent,
    scaled,
)
from pellucid.engines.llvm.maths_pieces import find, pieces
from pellucid.engines.llvm.maths_wide import FORM, Table, in_float64, signed, two_product
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F32, Value

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
PIECES: Final = pieces(
    offset=0.0625,
    first=0.25,
    most=3.921875,
    table="""
    2.180468 2.7003665 3.1169581 3.832507 0.0 0.27939132
    0.34429955 0.40656924 0.498958 0.62261516 0.74670583
    0.87380373 1.0621855 1.3199232 1.5659815 1.8071661
    0.9979552 0.99986595 0.99998957 0.99999994 1.1283792 0.30724493
    0.37368008 0.4346923 0.5195837 0.62141734 0.7090325
    0.78344667 0.8669435 0.93805 0.9732147 0.9894031
    0.0097191 0.00076841697 6.809095e-05 4.7156738e-07 -5.8635383e-08 1.0436485
    1.0022426 0.95646 0.8796978 0.7657746 0.6461088
    0.525844 0.3651468 0.19761889 0.09714837 0.04306403
    -0.021192241 -0.0020750368 -0.00021217576 -1.7976021e-06 -5.990507e-07 -0.29158676
    -0.3450717 -0.388867 -0.43893233 -0.47678283 -0.48245326
    -0.45948443 -0.38785365 -0.26084176 -0.15213256 -0.077823855
    0.027570706 0.0034772702 0.00041848238 4.4844883e-06 -0.37609223 -0.29357484
    -0.2548764 -0.21342011 -0.14722657 -0.05735635 0.024797102
    0.09238523 0.15293115 0.16365439 0.12644239 0.079407394
    -0.02299227 -0.0040016742 -0.00058665354 -8.979207e-06 -0.0006338558 0.13932405
    0.15898475 0.17239726 0.18309253 0.17675054 0.1515853
    0.11279703 0.048067335 -0.021055005 -0.048292927 -0.045810387
    0.011639665 0.003352697 0.00060381956 3.0007322e-06 0.11798759 0.07648414
    0.0553876 0.036915746 0.0076200375 -0.02686123 -0.0525388
    -0.067155726 -0.06600944 -0.037967823 -0.0078116255 0.00911205
    -0.002326417 -0.0019498445 -0.0003627224 -3.042986e-05 -0.01912258 -0.7837669
    -0.09912891 0.36249548 -0.058452785 -0.03614146 -0.031275768
    -0.010276735 0.01038635 0.022068739 0.016956367 0.0067257313
    """,
)
TINY_SLOPE: Final = 0.12837916612625122
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
    if x.type.with_lanes(1) == F32 and f.isa.fused:
        return once_per_type(f, "erf", x, _erf32)
    return in_float64(f, "erf", (x,), _erf)


def erfc(f: Function, x: Value) -> Value:
    """1 - erf(x), exact in the tail too. Within 0.6 ulp in float32, 4 in float64."""
    return in_float64(f, "erfc", (x,), _erfc)


def _erf32(f: Function, form: Format, x: Value) -> Value:
    spot = find(f, PIECES, x)
    slope = f.select(spot.begins, spot.value, spot.slope)
    start = f.select(spot.begins, f.fmul(spot.way, spot.slope), spot.value)
    # Where the product would be rounded as coarsely as the result.
    tiny = f.fcmp("olt", spot.size, 2.0**-100)
    slope = f.select(tiny, TINY_SLOPE, slope)
    start = f.select(tiny, spot.size, start)
    return f.copysign(f.multiply_add(spot.way, slope, start), x)


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
    parts = reduce_exponent(f, form, f.fneg(square))
    near = exp_near_zero(f, form, parts.rest)
    near = f.multiply_add(near, f.fsub(parts.cut, cut), near)
    place = f.fdiv(f.fsub(bounded, 4.0), f.fadd(bounded, 4.0))
    curve = polynomial(f, place, SCALED_ERFC[bits])
    share = f.fdiv(curve, f.fadd(f.fadd(bounded, bounded), 1.0))
    return scaled(f, form, f.fmul(near, share), parts.number)
