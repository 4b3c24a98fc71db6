"""How do functions of float32 and float64 share one algorithm, and how do they get a few more bits?

A function is written once, in float64 lanes, and told how many bits its result must have: 53, or 24
where float32 operands were widened and the result is rounded to float32 once. With 24 it takes
short polynomials and leaves the care out; float32 has half the lanes then, which measures faster
than careful arithmetic in float32 and gives the nearest float32 almost always.

Where 53 bits are not enough a number is a pair, the sum of a float64 and a much smaller one (Dekker
1971; Knuth, TAOCP 2, 4.2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from pellucid.engines.llvm.maths import FLOAT64, Format
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F32, F64, I64, Type, Value

Pair = tuple[Value, Value]
"""A number as head + tail, where the tail is at most half a unit of the head's last place."""

Body = Callable[..., Value]
"""body(f, bits, *operands): a function of float64 values, right to `bits` bits."""

Table = dict[int, tuple[float, ...]]
"""The coefficients of a polynomial, by the bits they are good for."""

FORM: Final[dict[int, Format]] = {
    24: replace(
        FLOAT64,
        exp=(
            0.5000000013457727,
            0.16666666681614256,
            0.04166646500604005,
            0.008333310934448869,
            0.0013933641031986701,
            0.00019890980869750327,
        ),
        log=(
            0.6666666655449709,
            0.40000121839806124,
            0.28550820815960665,
            0.23330467216303835,
        ),
    ),
    53: FLOAT64,
}
"""exp and log in float64, good for so many bits."""


def in_float64(f: Function, name: str, operands: Sequence[Value], body: Body) -> Value:
    """Call the module's one function of this name and type, which is inlined."""
    type = operands[0].type
    assert type.with_lanes(1) in (F32, F64), f"{name}: expected float32 or float64, got {type}"
    bits = 53 if type.with_lanes(1) == F64 else 24

    def build(g: Function) -> None:
        wide = [g.cast("fpext", x, F64) if bits == 24 else x for x in g.parameters]
        result = body(g, bits, *wide)
        g.ret(g.cast("fptrunc", result, F32) if bits == 24 else result)

    full_name = f"pellucid.{name}.{type.mangled}"
    names = ("x", "y")[: len(operands)]
    f.module.once(full_name, type, [(one, type) for one in names], build)
    return f.call(full_name, type, tuple(operands), hint=name)


def signed(f: Function, value: Value, sign: Value) -> Value:
    """A float64 times the sign of another: what is not negative gets that sign.

    By integers: a copysign in front of the rounding to float32 is pulled through it by LLVM, and
    through a further one to float16, for whose sign it then calls a library function.
    """
    whole = I64.with_lanes(sign.type.lanes)
    bit = f.and_(f.bitcast(sign, whole), -(2**63))
    return f.bitcast(f.xor(f.bitcast(value, whole), bit), sign.type)


def any_lane(f: Function, test: Value) -> Value:
    """Whether the truth holds in some lane, as a scalar for a branch.

    Lanes must select by their own truth on both ways, so that none depends on its neighbours.
    """
    if test.type.lanes == 1:
        return test
    return f.icmp("ne", f.bitcast(test, Type(f"i{test.type.lanes}")), 0)


def two_sum(f: Function, a: Value, b: Value) -> Pair:
    """a + b exactly."""
    total = f.fadd(a, b)
    back = f.fsub(total, a)
    return total, f.fadd(f.fsub(a, f.fsub(total, back)), f.fsub(b, back))


def fast_two_sum(f: Function, a: Value, b: Value) -> Pair:
    """a + b exactly, for a = 0 or |a| >= |b|."""
    total = f.fadd(a, b)
    return total, f.fsub(b, f.fsub(total, a))


def two_product(f: Function, a: Value, b: Value) -> Pair:
    """a * b exactly, unless the tail underflows; without fma |a| and |b| are below 2**995."""
    product = f.fmul(a, b)
    if f.isa.fused:
        return product, f.multiply_add(a, b, f.fneg(product))
    (a1, a2), (b1, b2) = _halves(f, a), _halves(f, b)
    error = f.fsub(f.fmul(a1, b1), product)
    error = f.fadd(f.fadd(error, f.fmul(a1, b2)), f.fmul(a2, b1))
    return product, f.fadd(error, f.fmul(a2, b2))


def pair_times(f: Function, a: Pair, b: Pair) -> Pair:
    """The product of two pairs, to about 2**-104."""
    head, tail = two_product(f, a[0], b[0])
    cross = f.multiply_add(a[0], b[1], f.fmul(a[1], b[0]))
    return fast_two_sum(f, head, f.fadd(tail, cross))


def pair_plus(f: Function, a: Pair, b: Pair) -> Pair:
    """The sum of two pairs, of which the first is the larger or zero."""
    head, tail = fast_two_sum(f, a[0], b[0])
    return fast_two_sum(f, head, f.fadd(tail, f.fadd(a[1], b[1])))


def pair_literal(f: Function, numbers: tuple[float, float], like: Value) -> Pair:
    """A constant pair in every lane."""
    return f.splat(numbers[0], like.type), f.splat(numbers[1], like.type)


def _halves(f: Function, a: Value) -> Pair:
    """a as two numbers of 26 bits (Veltkamp), whose products are exact."""
    lifted = f.fmul(a, 2.0**27 + 1)
    head = f.fsub(lifted, f.fsub(lifted, a))
    return head, f.fsub(a, head)
