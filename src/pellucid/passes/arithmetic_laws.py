"""Which laws of numbers keep every bit? Those of IEEE 754 and of wrapping integers.

x + 0.0 = x is not among them, because -0.0 + 0.0 is 0.0; nor is x * 0 = 0, because of NaN.
"""

from __future__ import annotations

from math import frexp

from pellucid.core.dtype import FLOATING, INTEGERS, DType, bool_, float16
from pellucid.ir.graph import Node, Value
from pellucid.ops.elementwise import (
    add,
    cast,
    mul,
    neg,
    sub,
)
from pellucid.ops.movement import full_like
from pellucid.passes.law import ANY, law, made_by, number, producer, uniform


@law("add", ANY, number(-0.0), on=FLOATING, commutes=True)
def plus_negative_zero(node: Node, x: Value, zero: Value) -> Value:
    """x + -0.0 = x"""
    return x


@law("add", ANY, number(0), on=INTEGERS, commutes=True)
def plus_zero(node: Node, x: Value, zero: Value) -> Value:
    """x + 0 = x, in integers"""
    return x


@law("add", ANY, made_by("neg"), commutes=True)
def plus_negative(node: Node, x: Value, minus_y: Value) -> Value:
    """x + -y = x - y"""
    return sub(x, producer(minus_y).operands[0])


@law("sub", ANY, number(0))
def minus_zero(node: Node, x: Value, zero: Value) -> Value:
    """x - 0.0 = x"""
    return x


@law("sub", ANY, made_by("neg"))
def minus_negative(node: Node, x: Value, minus_y: Value) -> Value:
    """x - -y = x + y"""
    return add(x, producer(minus_y).operands[0])


@law("mul", ANY, number(1), commutes=True)
def times_one(node: Node, x: Value, one: Value) -> Value:
    """x * 1 = x"""
    return x


@law("mul", ANY, number(-1), commutes=True)
def times_minus_one(node: Node, x: Value, minus_one: Value) -> Value:
    """x * -1 = -x"""
    return neg(x)


@law("mul", made_by("neg"), made_by("neg"))
def product_of_negatives(node: Node, minus_x: Value, minus_y: Value) -> Value:
    """-x * -y = x * y"""
    return mul(producer(minus_x).operands[0], producer(minus_y).operands[0])


@law("div", ANY, number(1))
def over_one(node: Node, x: Value, one: Value) -> Value:
    """x / 1 = x"""
    return x


@law("div", ANY, ANY)
def over_power_of_two(node: Node, x: Value, y: Value) -> Value | None:
    """x / 2^k = x * 2^-k, where 2^k and 2^-k are normal numbers: both are rounded once"""
    by = uniform(y)
    if by is None or not by or abs(frexp(by)[0]) != 0.5:
        return None
    limit = 13 if x.dtype is float16 else 125
    return mul(x, full_like(x, 1 / by)) if abs(frexp(by)[1]) <= limit else None


@law("neg", made_by("neg"))
def negative_of_negative(node: Node, minus_x: Value) -> Value:
    """-(-x) = x"""
    return producer(minus_x).operands[0]


@law("logical_and", ANY, number(True), commutes=True)
@law("logical_or", ANY, number(False), commutes=True)
def neutral_truth(node: Node, x: Value, neutral: Value) -> Value:
    """x and True = x or False = x"""
    return x


@law("logical_and", ANY, number(False), commutes=True)
@law("logical_or", ANY, number(True), commutes=True)
def deciding_truth(node: Node, x: Value, deciding: Value) -> Value:
    """x and False = False, x or True = True"""
    return deciding


@law("logical_not", made_by("logical_not"))
def not_not(node: Node, not_x: Value) -> Value:
    """not not x = x"""
    return producer(not_x).operands[0]


@law("select", number(True), ANY, ANY)
def always(node: Node, pred: Value, on_true: Value, on_false: Value) -> Value:
    """select(True, x, y) = x"""
    return on_true


@law("select", number(False), ANY, ANY)
def never(node: Node, pred: Value, on_true: Value, on_false: Value) -> Value:
    """select(False, x, y) = y"""
    return on_false


@law("select", ANY, ANY, ANY)
def same_branches(node: Node, pred: Value, on_true: Value, on_false: Value) -> Value | None:
    """select(c, x, x) = x"""
    return on_true if on_true is on_false else None


@law("cast", ANY)
def cast_to_itself(node: Node, x: Value) -> Value | None:
    """cast(x, dtype of x) = x"""
    return x if node.attr("dtype") is x.dtype else None


@law("cast", made_by("cast"))
def cast_through_wider(node: Node, middle: Value) -> Value | None:
    """cast(cast(x, wide), d) = cast(x, d), where `wide` holds every value of x exactly"""
    (x,) = producer(middle).operands
    target: DType = node.attr("dtype")
    # From floating to integer a value is clamped, from integer to integer it wraps around.
    clamps = middle.dtype.is_floating and not x.dtype.is_floating and not target.is_floating
    if not holds(middle.dtype, x.dtype) or (clamps and not holds(target, x.dtype)):
        return None
    return cast(x, dtype=target)


@law("stop_gradient", ANY)
def stopped(node: Node, x: Value) -> Value:
    """stop_gradient(x) = x, once no derivative is to come"""
    return x


def holds(wide: DType, narrow: DType) -> bool:
    """Whether `wide` has every value of `narrow`.

    >>> from pellucid.core.dtype import bfloat16, float32, int8
    >>> holds(float32, bfloat16), holds(float16, bfloat16), holds(float16, int8)
    (True, False, True)
    """
    if wide is narrow or narrow is bool_:
        return True
    if narrow.is_floating:
        return wide.is_floating and wide.bits > narrow.bits
    digits = narrow.bits - (narrow.kind == "int")
    if wide.is_floating:
        precision = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
        return digits <= precision[wide.name]
    signed_enough = wide.kind == "int" or narrow.kind == "uint"
    return signed_enough and wide.bits - (wide.kind == "int") >= digits and wide is not bool_
