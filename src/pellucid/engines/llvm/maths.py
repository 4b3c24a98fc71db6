"""Elementary functions, computed the same way in every lane of every width: exp, log, ...

Each is branch-free arithmetic in the type itself: reduce the argument, evaluate a polynomial, put
the exponent back; special values are selected at the end. Nothing is looked up here (that is in
maths_pieces.py) and nothing is called, so their bits depend on the bit class alone (`multiply_add`
is fused or not). Operands are float32 or float64 of any lane count; `sqrt` is the processor's own.
benchmarks/derive_polynomials.py derives the coefficients, benchmarks/exhaust_float32.py tries all
of float32.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F32, F64, I32, I64, Type, Value


@dataclass(frozen=True)
class Format:
    """A floating-point format, and the constants that the algorithms need in it."""

    whole: Type  # the integer type of its bits
    mantissa: int  # stored mantissa bits
    bias: int
    ln2_head: float  # short, so that its product with an exponent is exact
    ln2_tail: float
    one_over_ln2: float
    overflow: float  # exp is infinite from here on
    underflow: float  # and zero down to here
    minus_one: float  # expm1 is -1 down to here
    tiny: float  # expm1(x) and log1p(x) round to x below
    exp: tuple[float, ...]  # exp(r) = 1 + r + r² exp(r) for |r| <= ln(2) / 2
    log: tuple[float, ...]  # log((1 + s) / (1 - s)) = 2 s + s z log(z) for z = s²
    tanh: tuple[float, ...]  # tanh(x) = x + x z tanh(z) for z = x², |x| <= 5/8

    @property
    def shifter(self) -> float:
        """Adding it rounds to a whole number, which then stands in the lowest bits."""
        return 1.5 * 2.0**self.mantissa

    def bits(self, number: float) -> int:
        """The bits of `number` in this format, as an integer."""
        letter, whole = ("f", "i") if self.mantissa == 23 else ("d", "q")
        return struct.unpack(f"<{whole}", struct.pack(f"<{letter}", number))[0]


FLOAT32 = Format(
    whole=I32,
    mantissa=23,
    bias=127,
    ln2_head=0.693145751953125,
    ln2_tail=1.428606765330187e-06,
    one_over_ln2=1.4426950216293335,
    overflow=89.0,
    underflow=-104.0,
    minus_one=-20.0,
    tiny=2.0**-40,
    exp=(
        0.4999999403953552,
        0.1666652113199234,
        0.04166826233267784,
        0.00836867094039917,
        0.0013820999301970005,
    ),
    log=(
        0.6666666865348816,
        0.4000012278556824,
        0.2855081558227539,
        0.23330582678318024,
    ),
    tanh=(
        -0.3333333432674408,
        0.13333304226398468,
        -0.053959257900714874,
        0.02176889218389988,
        -0.008343859575688839,
        0.002292647259309888,
    ),
)
FLOAT64 = Format(
    whole=I64,
    mantissa=52,
    bias=1023,
    ln2_head=0.6931471805592082,
    ln2_tail=7.371002565167799e-13,
    one_over_ln2=1.4426950408889634,
    overflow=710.0,
    underflow=-746.0,
    minus_one=-40.0,
    tiny=2.0**-80,
    exp=(
        0.5,
        0.1666666666666667,
        0.04166666666666667,
        0.008333333333326136,
        0.0013888888888883748,
        0.00019841269874820627,
        2.4801587325547743e-05,
        2.7557255400206422e-06,
        2.75572736431103e-07,
        2.5105217004720745e-08,
        2.0914686968086876e-09,
    ),
    log=(
        0.666666666666667,
        0.39999999999899444,
        0.2857142862600327,
        0.22222211130259878,
        0.18182889455674947,
        0.15331710618210773,
        0.14616585424888623,
    ),
    tanh=(
        -0.3333333333333333,
        0.13333333333333042,
        -0.053968253967896666,
        0.021869488518994312,
        -0.008863235102935029,
        0.0035921217472709827,
        -0.0014557753814086393,
        0.0005896605030472117,
        -0.00023759014908800234,
        9.257015852602979e-05,
        -3.119996874178646e-05,
        6.484612156316395e-06,
    ),
)
FORMATS = {F32: FLOAT32, F64: FLOAT64}


def exp(f: Function, x: Value) -> Value:
    """e**x; within 1 ulp."""
    return once_per_type(f, "exp", x, _exp)


def expm1(f: Function, x: Value) -> Value:
    """e**x - 1, as exact near zero as elsewhere; within 1.2 ulp."""
    return once_per_type(f, "expm1", x, _expm1)


def log(f: Function, x: Value) -> Value:
    """The natural logarithm; -inf at ±0, nan below; within 1 ulp."""
    return once_per_type(f, "log", x, log_body)


def log1p(f: Function, x: Value) -> Value:
    """The natural logarithm of 1 + x, exact near zero too; -inf at -1, nan below; within 1 ulp."""
    return once_per_type(f, "log1p", x, log1p_body)


def polynomial(f: Function, x: Value, coefficients: tuple[float, ...]) -> Value:
    """c0 + c1 x + c2 x² + ..., by Horner's rule."""
    *lower, highest = coefficients
    total = f.splat(highest, x.type)
    for coefficient in reversed(lower):
        total = f.multiply_add(total, x, coefficient)
    return total


_Body = Callable[[Function, Format, Value], Value]


def once_per_type(f: Function, name: str, x: Value, body: _Body) -> Value:
    """Call the module's one function of this name and type, which is inlined."""
    scalar = x.type.with_lanes(1)
    assert scalar in FORMATS, f"{name}: expected float32 or float64, got {x.type}"

    def build(g: Function) -> None:
        g.ret(body(g, FORMATS[scalar], g.parameters[0]))

    full_name = f"pellucid.{name}.{x.type.mangled}"
    f.module.once(full_name, x.type, [("x", x.type)], build)
    return f.call(full_name, x.type, (x,), hint=name)


def _exp(f: Function, form: Format, x: Value) -> Value:
    # Beyond these bounds the result is infinite or zero anyway; NaN is neither above nor below.
    bounded = at_least(f, at_most(f, x, form.overflow), form.underflow)
    parts = reduce_exponent(f, form, bounded)
    return scaled(f, form, exp_near_zero(f, form, parts.rest), parts.number)


def exp_near_zero(f: Function, form: Format, rest: Value) -> Value:
    """e**rest for |rest| <= ln(2) / 2."""
    if f.isa.fused:
        return polynomial(f, rest, (1.0, 1.0, *form.exp))
    tail = f.fmul(f.fmul(rest, rest), polynomial(f, rest, form.exp))
    return f.fadd(f.fadd(rest, tail), 1.0)


def scaled(f: Function, form: Format, near_one: Value, number: Value) -> Value:
    """near_one 2**number, also where that power is beyond the type although the result is not.

    The number is a whole one. Where no instruction does it, it is multiplied in two halves, of
    which the first product is exact and the second rounds into a subnormal where it must: the same
    bits.
    """
    if f.scales(near_one.type):
        return f.scale(near_one, number)
    power = whole_of(f, form, f.fadd(number, form.shifter))
    half = f.sub(f.lshr(f.add(power, 2 * form.bias), 1), form.bias)
    first = f.fmul(near_one, two_to(f, form, half))
    return f.fmul(first, two_to(f, form, f.sub(power, half)))


def _expm1(f: Function, form: Format, x: Value) -> Value:
    """With x = power ln 2 + r and s = 2**power: s r + (s - 1) + s (e**r - 1 - r).

    The first sum's rounding error is found exactly and carried to the last sum. All is halved, so
    that s fits where the result does.
    """
    bounded = at_least(f, at_most(f, x, form.overflow), form.minus_one)
    parts = reduce_exponent(f, form, bounded)
    rest, cut = parts.rest, parts.cut
    scale = two_to(f, form, f.sub(parts.power, 1))
    tail = f.fmul(f.fmul(rest, rest), polynomial(f, rest, form.exp))
    tail = f.fadd(tail, f.multiply_add(cut, rest, cut))
    shift = f.fsub(scale, 0.5)
    head = f.multiply_add(scale, rest, shift)
    error = f.multiply_add(scale, rest, f.fsub(shift, head))
    half = f.fadd(head, f.multiply_add(scale, tail, error))
    # Below `tiny` x itself is the result, also in its sign of zero and in its last subnormal bit.
    return f.select(f.fcmp("olt", f.fabs(x), form.tiny), x, f.fadd(half, half))


def log_body(f: Function, form: Format, x: Value) -> Value:
    """log(x) in any form of x's type."""
    power, fraction = split_positive(f, form, x)
    return guard_log(f, x, 0.0, log_of_parts(f, form, power, fraction, None))


def split_positive(f: Function, form: Format, x: Value) -> tuple[Value, Value]:
    """As `split_exponent`, for subnormals too; zero and negatives give nonsense."""
    lift = form.mantissa + 2
    smallest_normal = 2.0 ** (1 - form.bias)
    small = f.fcmp("olt", x, smallest_normal)
    normal = f.select(small, f.fmul(x, 2.0**lift), x)
    power, fraction = split_exponent(f, form, normal)
    return f.select(small, f.fsub(power, float(lift)), power), fraction


def log1p_body(f: Function, form: Format, x: Value) -> Value:
    """log(1 + x) in any form of x's type."""
    total = f.fadd(x, 1.0)
    # What the sum lost, exactly (Knuth's two-sum), enters as its share of the total.
    back = f.fsub(total, 1.0)
    lost = f.fadd(f.fsub(1.0, f.fsub(total, back)), f.fsub(x, back))
    power, fraction = split_exponent(f, form, total)
    # Where 1 + x needs no power of two, x itself is the fraction and nothing was lost.
    plain = f.fcmp("oeq", power, 0.0)
    share = f.select(plain, f.splat(0.0, x.type), f.fdiv(lost, total))
    fraction = f.select(plain, x, fraction)
    result = guard_log(f, x, -1.0, log_of_parts(f, form, power, fraction, share))
    return f.select(f.fcmp("olt", f.fabs(x), form.tiny), x, result)


def log_of_parts(
    f: Function, form: Format, power: Value, fraction: Value, share: Value | None
) -> Value:
    """power ln 2 + log(1 + fraction) + share, by s = fraction / (2 + fraction).

    log(1 + fraction) = fraction - (h - s (h + z p(z))) with h = fraction² / 2: the first term is
    exact and by far the largest.
    """
    s = f.fdiv(fraction, f.fadd(fraction, 2.0))
    z = f.fmul(s, s)
    h = f.fmul(f.fmul(fraction, 0.5), fraction)
    inner = f.multiply_add(z, polynomial(f, z, form.log), h)
    low = f.fmul(power, form.ln2_tail)
    if share is not None:
        low = f.fadd(low, share)
    rest = f.fsub(h, f.multiply_add(s, inner, low))
    return f.multiply_add(power, form.ln2_head, f.fsub(fraction, rest))


def guard_log(f: Function, x: Value, pole: float, result: Value) -> Value:
    """-inf at the pole, NaN below it, and x itself where it is NaN or +inf."""
    result = f.select(f.fcmp("olt", x, math.inf), result, x)
    result = f.select(f.fcmp("olt", x, pole), math.nan, result)
    return f.select(f.fcmp("oeq", x, pole), -math.inf, result)


@dataclass(frozen=True)
class Reduced:
    """x = power ln 2 + rest + cut: an integer, up to ln(2) / 2, and what rounding it cut off."""

    power: Value
    number: Value  # the power as a float
    rest: Value
    cut: Value


def reduce_exponent(f: Function, form: Format, x: Value) -> Reduced:
    """Take the nearest multiple of ln 2 off x."""
    shifted = f.multiply_add(x, form.one_over_ln2, form.shifter)
    number = f.fsub(shifted, form.shifter)
    power = whole_of(f, form, shifted)
    high = f.multiply_add(number, -form.ln2_head, x)
    rest = f.multiply_add(number, -form.ln2_tail, high)
    cut = f.multiply_add(number, -form.ln2_tail, f.fsub(high, rest))
    return Reduced(power, number, rest, cut)


def whole_of(f: Function, form: Format, shifted: Value) -> Value:
    """The whole number, as an integer, to which the shifter was added."""
    bits = f.bitcast(shifted, form.whole.with_lanes(shifted.type.lanes))
    return f.sub(bits, form.bits(form.shifter))


def split_exponent(f: Function, form: Format, x: Value) -> tuple[Value, Value]:
    """Normal x = 2**power (1 + fraction), with 1 + fraction between the roots of 1/2 and 2."""
    whole = form.whole.with_lanes(x.type.lanes)
    bits = f.bitcast(x, whole)
    above = f.sub(bits, form.bits(math.sqrt(0.5)))
    # Shifting logically, since wide vectors of 64 bits lack the arithmetic shift: lift, then lower.
    lift = form.bias + 1
    power = f.sub(f.lshr(f.add(above, lift << form.mantissa), form.mantissa), lift)
    mantissa = f.sub(bits, f.shl(power, form.mantissa))
    shifted = f.bitcast(f.add(power, form.bits(form.shifter)), x.type)
    return f.fsub(shifted, form.shifter), f.fsub(f.bitcast(mantissa, x.type), 1.0)


def two_to(f: Function, form: Format, power: Value) -> Value:
    """2**power for a power in the normal range."""
    bits = f.shl(f.add(power, form.bias), form.mantissa)
    scalar = F32 if form.mantissa == 23 else F64
    return f.bitcast(bits, scalar.with_lanes(power.type.lanes))


def at_most(f: Function, x: Value, bound: float) -> Value:
    """The smaller of x and a number; NaN stays."""
    return f.select(f.fcmp("ogt", x, bound), bound, x)


def at_least(f: Function, x: Value, bound: float) -> Value:
    """The larger of x and a number; NaN stays."""
    return f.select(f.fcmp("olt", x, bound), bound, x)
