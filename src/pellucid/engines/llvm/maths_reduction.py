"""How far is an angle from a multiple of pi / 2, and from which? For every float64, however large.

Near zero three pieces of pi / 2 are subtracted. Far away (Payne and Hanek, 1983) the angle is an
integer times a power of two, and 2 / pi a long row of bits: those left of a window make whole turns
and are dropped, those right of it are too small to matter, and the product with the window is a
fixed-point number whose first two bits are the quadrant. The window is found by selects, and the
far way is taken only where a vector has a large angle; it changes no other lane.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from pellucid.engines.llvm.maths import FLOAT64
from pellucid.engines.llvm.maths_wide import (
    Pair,
    any_lane,
    fast_two_sum,
    pair_literal,
    pair_times,
    two_product,
    two_sum,
)
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F64, I64, Value

HALF_PI: Final[dict[int, tuple[float, ...]]] = {
    # The first two are short, so that their products with a quotient below 2**28 are exact.
    24: (1.5707963109016418, 1.5893254712295857e-08, 6.123233995736766e-17),
    53: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
TWO_OVER_PI: Final = 0.6366197723675814
FAR: Final = {24: 2.0**28, 53: 2.0**30}
"""From here on an angle is reduced by integers."""

# The bits of 2 / pi after the point.
_BITS: Final = (
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a42"
    "4dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991"
    "d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09"
    "b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046"
)
_WORDS: Final = (0, *(int(_BITS[at : at + 8], 16) for at in range(0, len(_BITS), 8)))
_LOW: Final = 2**32 - 1

# Words of a window: the angle's bits, as many to be right, and those that cancel in the worst case
# (61 of them for float64, 30 for float32).
_WINDOW: Final = {24: 3, 53: 6}
_LARGEST: Final = {24: 127, 53: 1023}


def reduce_angle(f: Function, bits: int, x: Value) -> tuple[Pair, Value]:
    """|x| = quadrant pi / 2 + rest: the rest, at most pi / 4 in size, and the quadrant modulo 4.

    Only the lowest two bits of the quadrant (an i64) count. The tail is zero for 24 bits. NaN and
    infinity give nonsense.
    """
    angle = f.fabs(x)
    near, quadrant = _near(f, bits, angle)
    is_far = f.fcmp("oge", angle, FAR[bits])

    def far() -> list[Value]:
        (head, tail), turned = _far(f, bits, angle)
        pairs = ((head, near[0]), (tail, near[1]), (turned, quadrant))
        return [f.select(is_far, yes, no) for yes, no in pairs]

    head, tail, quadrant = f.if_else(
        any_lane(f, is_far), far, lambda: [*near, quadrant], name="far"
    )
    return (head, tail), quadrant


def _near(f: Function, bits: int, angle: Value) -> tuple[Pair, Value]:
    shifted = f.multiply_add(angle, TWO_OVER_PI, FLOAT64.shifter)
    number = f.fsub(shifted, FLOAT64.shifter)
    quadrant = f.bitcast(shifted, I64.with_lanes(angle.type.lanes))
    first, second, third = HALF_PI[bits]
    if bits == 24:
        rest = angle
        for piece in (first, second, third):
            rest = f.multiply_add(number, -piece, rest)
        return (rest, f.splat(0.0, angle.type)), quadrant
    product, error = two_product(f, number, f.splat(first, angle.type))
    # Exact: the difference is a small multiple of the last place of pi / 2.
    rest = f.fsub(f.fsub(angle, product), error)
    product, error = two_product(f, number, f.splat(second, angle.type))
    head, tail = two_sum(f, rest, f.fneg(product))
    tail = f.multiply_add(number, -third, f.fsub(tail, error))
    return fast_two_sum(f, head, tail), quadrant


def _far(f: Function, bits: int, angle: Value) -> tuple[Pair, Value]:
    raw = f.bitcast(angle, I64.with_lanes(angle.type.lanes))
    exponent = f.sub(f.lshr(raw, 52), 1023)
    mantissa = f.lshr(f.or_(f.and_(raw, 2**52 - 1), 2**52), 53 - bits)
    # The word in front of the bits is zero: a window may begin before the point.
    window = _window(f, bits, f.add(exponent, 31 - bits))
    product = _times(f, window, [f.and_(mantissa, _LOW), f.lshr(mantissa, 32)][: bits // 24])
    # 2 bits of quadrant, rounded to nearest, and a fraction of either sign.
    quadrant = f.lshr(f.add(product[0], 2**29), 30)
    top = f.sub(product[0], f.shl(quadrant, 30))
    negative = f.icmp("slt", top, 0)
    flip = f.select(negative, f.splat(_LOW, top.type), 0)
    top = f.and_(f.xor(top, flip), _LOW)
    limbs = [_number(f, limb) for limb in (top, *(f.xor(limb, flip) for limb in product[1:]))]
    head, tail = f.fmul(limbs[0], 2.0**-30), f.splat(0.0, angle.type)
    for place, limb in enumerate(limbs[1:], start=1):
        head, error = fast_two_sum(f, head, f.fmul(limb, 2.0 ** (-30 - 32 * place)))
        tail = f.fadd(tail, error)
    pi_half = pair_literal(f, (HALF_PI[53][0], HALF_PI[53][1]), angle)
    pair = pair_times(f, (head, tail), pi_half)
    head, tail = (f.select(negative, f.fneg(one), one) for one in pair)
    return (head, tail if bits == 53 else f.splat(0.0, angle.type)), quadrant


def _window(f: Function, bits: int, position: Value) -> list[Value]:
    """32-bit words of 2 / pi, one in each i64, from the bit at `position` of _WORDS on."""
    count = _WINDOW[bits] + 1
    steps = (_LARGEST[bits] + 31 - bits).bit_length() - 5
    longest = count + (1 << steps) - 1
    words = [f.splat(word, position.type) for word in _WORDS[:longest]]
    for step in reversed(range(steps)):
        width = 1 << step
        skip = f.icmp("ne", f.and_(position, 32 * width), 0)
        kept = range(count + width - 1)
        words = [f.select(skip, words[at + width], words[at]) for at in kept]
    down = f.sub(32, f.and_(position, 31))
    joined = [f.or_(f.shl(one, 32), two) for one, two in pairwise(words)]
    return [f.and_(f.lshr(pair, down), _LOW) for pair in joined]


def _times(f: Function, words: list[Value], factor: list[Value]) -> list[Value]:
    """The words, as one number, times the factor (its words, lowest first), modulo the length."""
    product = [f.splat(0, words[0].type)] * len(words)
    for row, digit in enumerate(factor):
        carry = f.splat(0, digit.type)
        for at in reversed(range(len(words) - row)):
            term = f.add(f.mul(digit, words[at + row]), f.add(product[at], carry))
            product[at], carry = f.and_(term, _LOW), f.lshr(term, 32)
    return product


def _number(f: Function, limb: Value) -> Value:
    """A number below 2**32 as float64."""
    lifted = f.or_(limb, FLOAT64.bits(2.0**52))
    return f.fsub(f.bitcast(lifted, F64.with_lanes(limb.type.lanes)), 2.0**52)
