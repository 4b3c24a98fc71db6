"""Powers, roots, and the logarithms and exponentials to other bases than e.

All but the roots stand on the logarithm to base 2 as a pair: x**y is 2**(y log2(x)), where the
product, up to 1100, must be right to 53 bits behind the point. Its polynomial is short since its
first two terms are taken with care (see `_log2_pair`).
"""

from __future__ import annotations

import math
from typing import Final

from pellucid.engines.llvm.maths import (
    FLOAT64,
    at_least,
    at_most,
    exp_near_zero,
    guard_log,
    log_of_parts,
    once_per_type,
    polynomial,
    scaled,
    split_positive,
)
from pellucid.engines.llvm.maths_wide import (
    FORM,
    Pair,
    Table,
    fast_two_sum,
    in_float64,
    pair_literal,
    pair_plus,
    pair_times,
    signed,
    two_product,
)
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F64, I64, Value

ONE_OVER_LN2: Final = (1.4426950408889634, 2.0355273740931033e-17)
LOG10_OF_2: Final = (0.3010299956639812, -2.8037281277851704e-18)
LOG10_OF_E: Final = (0.4342944819032518, 1.098319650216765e-17)
TWO_THIRDS: Final = (0.6666666666666666, 3.700743415417188e-17)
LN2: Final = 0.6931471805599453

# log((1 + s) / (1 - s)) = 2 s + (2/3) s z + s z² LOG_REST(z), where z = s².
LOG_REST: Final[Table] = {
    53: (
        0.4,
        0.28571428571429364,
        0.22222222221656232,
        0.18181818335314404,
        0.15384594970895457,
        0.13334804238225345,
        0.11706248540922386,
        0.11723051028097753,
    ),
}
# 1 / cbrt(1 + r) for |r| <= 0.1.
CBRT: Final[Table] = {
    24: (
        0.9999981856172365,
        -0.3333317603338776,
        0.22367232985848506,
        -0.17409664011396903,
    ),
    53: (
        1.0,
        -0.33332939289078367,
        0.2222187185023617,
        -0.17441251238878044,
        0.1454315026217107,
    ),
}


def exp2(f: Function, x: Value) -> Value:
    """2**x; exact for whole x. Within 0.51 ulp in float32, 1 in float64."""
    return in_float64(f, "exp2", (x,), _exp2)


def log2(f: Function, x: Value) -> Value:
    """The logarithm to base 2, exact for powers of 2. Within 0.51 ulp, or 0.6 in float64."""
    return in_float64(f, "log2", (x,), _log2)


def log10(f: Function, x: Value) -> Value:
    """The logarithm to base 10. Within 0.51 ulp in float32, 0.6 in float64."""
    return in_float64(f, "log10", (x,), _log10)


def power(f: Function, x: Value, y: Value) -> Value:
    """x**y with the special values of IEEE 754's pow. Within 0.51 ulp in float32, 1 in float64."""
    return in_float64(f, "power", (x, y), _power)


def rsqrt(f: Function, x: Value) -> Value:
    """1 / sqrt(x); ±inf at ±0. Within 1.5 ulp."""
    return once_per_type(f, "rsqrt", x, lambda g, form, x: g.fdiv(1.0, g.sqrt(x)))


def cbrt(f: Function, x: Value) -> Value:
    """The cube root, with the sign of x. Within 0.51 ulp in float32, 0.85 in float64."""
    return in_float64(f, "cbrt", (x,), _cbrt)


def _exp2(f: Function, bits: int, x: Value) -> Value:
    bounded = at_least(f, at_most(f, x, 1100.0), -1100.0)
    return _two_to(f, bits, bounded, None)


def _two_to(f: Function, bits: int, x: Value, tail: Value | None) -> Value:
    """2**(x + tail) for |x| <= 1100."""
    number = f.fsub(f.fadd(x, FLOAT64.shifter), FLOAT64.shifter)
    rest = f.fsub(x, number)
    if tail is not None:
        rest = f.fadd(rest, tail)
    return scaled(f, FLOAT64, exp_near_zero(f, FORM[bits], f.fmul(rest, LN2)), number)


def _log2(f: Function, bits: int, x: Value) -> Value:
    exponent, fraction = split_positive(f, FLOAT64, x)
    if bits == 24:
        near = f.fmul(_log1p(f, bits, fraction)[0], ONE_OVER_LN2[0])
        return guard_log(f, x, 0.0, f.fadd(exponent, near))
    head, tail = _log2_pair(f, bits, exponent, fraction)
    return guard_log(f, x, 0.0, f.fadd(head, tail))


def _log10(f: Function, bits: int, x: Value) -> Value:
    exponent, fraction = split_positive(f, FLOAT64, x)
    near = _log1p(f, bits, fraction)
    if bits == 24:
        share = f.fmul(near[0], LOG10_OF_E[0])
        total = f.multiply_add(exponent, LOG10_OF_2[0], share)
        return guard_log(f, x, 0.0, total)
    share = pair_times(f, near, pair_literal(f, LOG10_OF_E, x))
    head, tail = two_product(f, exponent, f.splat(LOG10_OF_2[0], x.type))
    tail = f.multiply_add(exponent, LOG10_OF_2[1], tail)
    head, tail = pair_plus(f, (head, tail), share)
    return guard_log(f, x, 0.0, f.fadd(head, tail))


def _log2_pair(f: Function, bits: int, exponent: Value, fraction: Value) -> Pair:
    """exponent + log2(1 + fraction)."""
    near = _log1p(f, bits, fraction)
    if bits == 24:
        total = f.multiply_add(near[0], ONE_OVER_LN2[0], exponent)
        return total, f.splat(0.0, total.type)
    share = pair_times(f, near, pair_literal(f, ONE_OVER_LN2, exponent))
    head, tail = fast_two_sum(f, exponent, share[0])
    return fast_two_sum(f, head, f.fadd(tail, share[1]))


def _log1p(f: Function, bits: int, fraction: Value) -> Pair:
    """log(1 + fraction) between the roots of 1/2 and 2, by s = fraction / (2 + fraction)."""
    zero = f.splat(0.0, fraction.type)
    if bits == 24:
        return log_of_parts(f, FORM[24], zero, fraction, None), zero
    over, lost = fast_two_sum(f, f.splat(2.0, fraction.type), fraction)
    head = f.fdiv(fraction, over)
    product, error = two_product(f, head, over)
    rest = f.fsub(f.fsub(f.fsub(fraction, product), error), f.fmul(head, lost))
    s = (head, f.fdiv(rest, over))
    z = pair_times(f, s, s)
    # 2 s + s z (2/3 + z rest): the first is exact, and 2/3 a pair.
    curve = f.fmul(z[0], polynomial(f, z[0], LOG_REST[53]))
    thirds = fast_two_sum(f, f.splat(TWO_THIRDS[0], curve.type), curve)
    factor = (thirds[0], f.fadd(thirds[1], TWO_THIRDS[1]))
    bent = pair_times(f, s, pair_times(f, z, factor))
    return pair_plus(f, (f.fadd(s[0], s[0]), f.fadd(s[1], s[1])), bent)


def _power(f: Function, bits: int, x: Value, y: Value) -> Value:
    magnitude = f.fabs(x)
    exponent, fraction = split_positive(f, FLOAT64, magnitude)
    log_head, log_tail = _log2_pair(f, bits, exponent, fraction)
    # Already 2**65 overflows or vanishes whatever x is, unless it is 1.
    bounded = at_least(f, at_most(f, y, 2.0**65), -(2.0**65))
    head, tail = two_product(f, bounded, log_head)
    tail = f.multiply_add(bounded, log_tail, tail)
    whole = f.fadd(head, tail)
    tail = f.fadd(f.fsub(head, whole), tail)
    inside = f.fcmp("olt", f.fabs(whole), 1100.0)
    tail = f.select(inside, tail, f.splat(0.0, x.type))
    usual = _two_to(f, bits, at_least(f, at_most(f, whole, 1100.0), -1100.0), tail)
    return _power_specials(f, x, y, usual)


def _power_specials(f: Function, x: Value, y: Value, usual: Value) -> Value:
    magnitude, size = f.fabs(x), f.fabs(y)
    # 0 and inf to a power are inf or 0.
    zero, infinite = f.fcmp("oeq", magnitude, 0.0), f.fcmp("oeq", magnitude, math.inf)
    grows = f.xor(zero, f.fcmp("ogt", y, 0.0))
    limit = f.select(grows, f.splat(math.inf, x.type), 0.0)
    result = f.select(f.or_(zero, infinite), limit, usual)
    # A negative number: the sign of an odd power; NaN for one that is not whole.
    whole, odd = _whole(f, size), _odd(f, size)
    below = f.fcmp("olt", x, 0.0)
    undefined = f.and_(f.and_(below, f.not_(whole)), f.not_(infinite))
    result = f.select(undefined, math.nan, result)
    result = f.select(odd, signed(f, result, x), result)
    result = f.select(f.fcmp("uno", x, y), math.nan, result)
    one = f.or_(f.fcmp("oeq", x, 1.0), f.fcmp("oeq", y, 0.0))
    minus_one = f.and_(f.fcmp("oeq", x, -1.0), f.fcmp("oeq", size, math.inf))
    return f.select(f.or_(one, minus_one), 1.0, result)


def _whole(f: Function, size: Value) -> Value:
    """Whether a number that is not negative has no fraction."""
    rounded = f.fsub(f.fadd(size, 2.0**52), 2.0**52)
    return f.or_(f.fcmp("oge", size, 2.0**52), f.fcmp("oeq", rounded, size))


def _odd(f: Function, size: Value) -> Value:
    """Whether it is an odd whole number: its half is not whole, and below 2**53."""
    half = f.fmul(size, 0.5)
    inside = f.fcmp("olt", size, 2.0**53)
    return f.and_(f.and_(inside, _whole(f, size)), f.not_(_whole(f, half)))


def _cbrt(f: Function, bits: int, x: Value) -> Value:
    """A guess from a third of the bits, improved by a polynomial, then by a step of Newton's."""
    magnitude = f.fabs(x)
    # A float64 subnormal is lifted; the root of 2**54 is 2**18.
    small = f.fcmp("olt", magnitude, 2.0**-1022)
    magnitude = f.select(small, f.fmul(magnitude, 2.0**54), magnitude)
    guess = _third_of_bits(f, magnitude)
    error = f.fsub(f.fmul(f.fmul(guess, guess), f.fdiv(guess, magnitude)), 1.0)
    guess = f.fmul(guess, polynomial(f, error, CBRT[bits]))
    # With 26 bits its square is exact.
    whole = f.bitcast(guess, I64.with_lanes(x.type.lanes))
    guess = f.bitcast(f.and_(f.add(whole, 2**26), -(2**27)), x.type)
    ratio = f.fdiv(magnitude, f.fmul(guess, guess))
    step = f.fdiv(f.fsub(ratio, guess), f.fadd(f.fadd(guess, guess), ratio))
    result = f.multiply_add(guess, step, guess)
    result = f.select(small, f.fmul(result, 2.0**-18), result)
    # 0, inf and NaN are their own roots.
    usual = f.and_(f.fcmp("ogt", f.fabs(x), 0.0), f.fcmp("olt", f.fabs(x), math.inf))
    return f.select(usual, signed(f, result, x), x)


def _third_of_bits(f: Function, x: Value) -> Value:
    """The cube root of x > 0 within 5 %: dividing the bits divides the exponent by 3."""
    top = f.lshr(f.bitcast(x, I64.with_lanes(x.type.lanes)), 32)
    # A 32-bit number times (2**33 + 1) / 3, shifted down by 33, is a third of it.
    third = f.lshr(f.mul(top, 0xAAAAAAAB), 33)
    return f.bitcast(f.shl(f.add(third, 715094163), 32), F64.with_lanes(x.type.lanes))
