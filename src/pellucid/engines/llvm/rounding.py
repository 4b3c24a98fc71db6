"""Rounding to whole numbers, and division that leaves a remainder, as NumPy has them.

The remainder of floats is exact however large the quotient: 16 bits of it are taken off at a time,
in float64, until nothing is left in any lane (mostly at once). Integers divided by 0 give 0.
"""

from __future__ import annotations

import math

from pellucid.core.dtype import DType
from pellucid.engines.llvm.maths import FLOAT64, FORMATS, two_to
from pellucid.engines.llvm.maths_wide import Pair, in_float64, signed, two_product
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import I64, Value


def floor(f: Function, x: Value) -> Value:
    """The largest whole number that is not above x."""
    if _rounds(f):
        return f.intrinsic("llvm.floor", x)
    near = nearest(f, x)
    return f.copysign(f.fsub(near, _one_where(f, f.fcmp("ogt", near, x), x)), x)


def ceil(f: Function, x: Value) -> Value:
    """The smallest whole number that is not below x."""
    if _rounds(f):
        return f.intrinsic("llvm.ceil", x)
    near = nearest(f, x)
    return f.copysign(f.fadd(near, _one_where(f, f.fcmp("olt", near, x), x)), x)


def trunc(f: Function, x: Value) -> Value:
    """The whole number next to x on the side of 0."""
    if _rounds(f):
        return f.intrinsic("llvm.trunc", x)
    return f.copysign(floor(f, f.fabs(x)), x)


def nearest(f: Function, x: Value) -> Value:
    """The nearest whole number, ties to the even one."""
    if _rounds(f):
        return f.intrinsic("llvm.roundeven", x)
    # Beside 2**23 (2**52) no float has a fraction: adding it rounds.
    size, edge = f.fabs(x), 2.0 ** FORMATS[x.type.with_lanes(1)].mantissa
    rounded = f.fsub(f.fadd(size, edge), edge)
    return f.copysign(f.select(f.fcmp("olt", size, edge), rounded, size), x)


def sign(f: Function, dtype: DType, x: Value) -> Value:
    """-1, 0 or 1; NaN where x is NaN."""
    one, zero = f.splat(1.0 if dtype.is_floating else 1, x.type), 0.0 if dtype.is_floating else 0
    if not dtype.is_floating:
        above = f.select(f.icmp("ugt" if dtype.kind == "uint" else "sgt", x, zero), one, zero)
        return above if dtype.kind == "uint" else f.select(f.icmp("slt", x, zero), -1, above)
    below = f.select(f.fcmp("olt", x, zero), -1.0, f.select(f.fcmp("oeq", x, zero), zero, x))
    return f.select(f.fcmp("ogt", x, zero), one, below)


def floor_divide(f: Function, dtype: DType, lhs: Value, rhs: Value) -> Value:
    """floor(lhs / rhs), of the exact quotient."""
    if dtype.is_floating:
        return in_float64(f, "floor_divide", (lhs, rhs), _floor_divide)
    return _whole_division(f, dtype, lhs, rhs)[0]


def remainder(f: Function, dtype: DType, lhs: Value, rhs: Value) -> Value:
    """lhs - rhs * floor_divide(lhs, rhs), with the sign of rhs."""
    if dtype.is_floating:
        return in_float64(f, "remainder", (lhs, rhs), _remainder)
    return _whole_division(f, dtype, lhs, rhs)[1]


def _rounds(f: Function) -> bool:
    """Whether rounding is an instruction (SSE4.1); else it would be a call."""
    return "+sse4.1" in f.isa.features


def _one_where(f: Function, test: Value, like: Value) -> Value:
    return f.select(test, f.splat(1.0, like.type), 0.0)


def _floor_divide(f: Function, bits: int, lhs: Value, rhs: Value) -> Value:
    left = _left_over(f, bits, lhs, rhs)
    quotient = f.fdiv(f.fsub(lhs, left), rhs)
    opposite = f.fcmp("olt", f.fmul(_unit(f, left), _unit(f, rhs)), 0.0)
    lower = f.and_(opposite, f.fcmp("une", left, 0.0))
    quotient = f.fsub(quotient, _one_where(f, lower, lhs))
    # The quotient is whole but for rounding.
    below = floor(f, quotient)
    missing = f.fcmp("ogt", f.fsub(quotient, below), 0.5)
    whole = f.fadd(below, _one_where(f, missing, lhs))
    direct = f.fdiv(lhs, rhs)
    zero = signed(f, f.splat(0.0, lhs.type), direct)
    whole = f.select(f.fcmp("oeq", quotient, 0.0), zero, whole)
    return f.select(f.fcmp("oeq", rhs, 0.0), direct, whole)


def _remainder(f: Function, bits: int, lhs: Value, rhs: Value) -> Value:
    left = _left_over(f, bits, lhs, rhs)
    opposite = f.fcmp("olt", f.fmul(_unit(f, left), _unit(f, rhs)), 0.0)
    moved = f.select(opposite, f.fadd(left, rhs), left)
    zero = signed(f, f.splat(0.0, lhs.type), rhs)
    return f.select(f.fcmp("oeq", left, 0.0), zero, moved)


def _unit(f: Function, x: Value) -> Value:
    return f.copysign(f.splat(1.0, x.type), x)


def _left_over(f: Function, bits: int, lhs: Value, rhs: Value) -> Value:
    """lhs - rhs * trunc(lhs / rhs), exactly, with the sign of lhs."""
    size, divisor = f.fabs(lhs), f.fabs(rhs)
    defined = f.and_(f.fcmp("olt", size, math.inf), f.fcmp("ogt", divisor, 0.0))
    # An infinite divisor leaves all; where nothing is defined no turn shall be taken either.
    divided = f.and_(defined, f.fcmp("olt", divisor, math.inf))
    left, divisor = (f.select(divided, one, f.splat(1.0, lhs.type)) for one in (size, divisor))
    turns = f.add(f.lshr(_apart(f, left, divisor), 4), 1)
    with f.loop(0, _largest_lane(f, turns), accs=(left,), name="digits") as loop:
        (rest,) = loop.accs
        smaller = _taken_off(f, bits, rest, divisor)
        loop.next(f.select(f.fcmp("oge", rest, divisor), smaller, rest))
    left = f.select(divided, loop.results[0], size)
    return f.select(defined, signed(f, left, lhs), math.nan)


def _apart(f: Function, size: Value, divisor: Value) -> Value:
    """How many powers of 2 lie between them; 0 where the divisor is the larger."""
    difference = f.sub(_exponent(f, size), _exponent(f, divisor))
    return f.min_max("smax", difference, 0)


def _exponent(f: Function, x: Value) -> Value:
    small = f.fcmp("olt", x, 2.0**-1022)
    normal = f.select(small, f.fmul(x, 2.0**54), x)
    biased = f.lshr(f.bitcast(normal, I64.with_lanes(x.type.lanes)), 52)
    return f.select(small, f.sub(biased, 54), biased)


def _largest_lane(f: Function, numbers: Value) -> Value:
    if numbers.type.lanes == 1:
        return numbers
    name = f"llvm.vector.reduce.umax.{numbers.type.mangled}"
    return f.call(name, I64, (numbers,), hint="most")


def _taken_off(f: Function, bits: int, left: Value, divisor: Value) -> Value:
    """`left` less a multiple of the divisor: below it if the quotient has up to 18 bits."""
    apart = _apart(f, left, divisor)
    skipped = f.select(f.icmp("sgt", apart, 18), f.sub(apart, 16), 0)
    # From the smallest subnormal it takes three powers of 2 to the largest number.
    third = f.lshr(f.mul(skipped, 0x5556), 16)
    unit = f.fmul(divisor, two_to(f, FLOAT64, third))
    unit = f.fmul(unit, two_to(f, FLOAT64, third))
    unit = f.fmul(unit, two_to(f, FLOAT64, f.sub(f.sub(skipped, third), third)))
    # Far from the largest number, where exact products would overflow on their way.
    large = f.fcmp("ogt", left, 2.0**900)
    down = f.select(large, f.splat(2.0**-100, left.type), 1.0)
    up = f.select(large, f.splat(2.0**100, left.type), 1.0)
    left, unit = f.fmul(left, down), f.fmul(unit, down)
    digits = f.fdiv(left, unit)
    rounded = f.fsub(f.fadd(digits, 2.0**52), 2.0**52)
    whole = f.fsub(rounded, _one_where(f, f.fcmp("ogt", rounded, digits), left))
    product, error = _product(f, bits, whole, unit)
    rest = f.fsub(f.fsub(left, product), error)
    # The quotient may have been rounded up to the next whole number.
    rest = f.select(f.fcmp("olt", rest, 0.0), f.fadd(rest, unit), rest)
    return f.fmul(rest, up)


def _product(f: Function, bits: int, whole: Value, unit: Value) -> Pair:
    if bits == 24:
        # 18 bits times 24 bits fit.
        return f.fmul(whole, unit), f.splat(0.0, unit.type)
    return two_product(f, whole, unit)


def _whole_division(f: Function, dtype: DType, lhs: Value, rhs: Value) -> Pair:
    """The quotient, rounded down, and the remainder of integers; both 0 where rhs is 0."""
    none = f.icmp("eq", rhs, 0)
    if dtype.kind == "uint":
        divisor = f.select(none, 1, rhs)
        pair = f.udiv(lhs, divisor), f.urem(lhs, divisor)
        return f.select(none, 0, pair[0]), f.select(none, 0, pair[1])
    # The lowest integer over -1 is not divided but negated, and wraps.
    minus = f.icmp("eq", rhs, -1)
    divisor = f.select(f.or_(none, minus), 1, rhs)
    quotient, left = f.sdiv(lhs, divisor), f.srem(lhs, divisor)
    quotient = f.select(minus, f.sub(0, lhs), quotient)
    opposite = f.icmp("slt", f.xor(left, rhs), 0)
    lower = f.and_(opposite, f.icmp("ne", left, 0))
    quotient = f.select(lower, f.sub(quotient, 1), quotient)
    left = f.select(lower, f.add(left, rhs), left)
    return f.select(none, 0, quotient), f.select(none, 0, left)
