"""Numbers as bits: reading them as another dtype, stepping to the next one, shifting.

A 16-bit float is a float32 in registers; its own 16 bits are what is meant here.
"""

from __future__ import annotations

import math

from pellucid.core.dtype import DType, bfloat16, float16
from pellucid.engines.llvm.narrow import (
    narrow_bfloat16,
    narrow_float16,
    widen_bfloat16,
    widen_float16,
)
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F32, F64, Type, Value


def to_bits(f: Function, value: Value, dtype: DType) -> Value:
    """A number in registers as an integer of its dtype's size."""
    if dtype is bfloat16:
        return narrow_bfloat16(f, value)
    if dtype is float16:
        return narrow_float16(f, value)
    return f.bitcast(value, Type(f"i{dtype.bits}", value.type.lanes))


def from_bits(f: Function, bits: Value, dtype: DType) -> Value:
    """An integer of its dtype's size as a number in registers."""
    if dtype is bfloat16:
        return widen_bfloat16(f, bits)
    if dtype is float16:
        return widen_float16(f, bits)
    if not dtype.is_floating:
        return bits
    return f.bitcast(bits, (F64 if dtype.bits == 64 else F32).with_lanes(bits.type.lanes))


def next_after(f: Function, dtype: DType, x: Value, y: Value) -> Value:
    """The number of `dtype` next to x towards y; y itself where they are equal."""
    bits = to_bits(f, x, dtype)
    # Away from zero the bits count up, for either sign.
    away = f.xor(f.fcmp("olt", x, y), f.fcmp("olt", x, 0.0))
    stepped = f.add(bits, f.select(away, f.splat(1, bits.type), -1))
    sign = f.and_(to_bits(f, y, dtype), -(2 ** (dtype.bits - 1)))
    stepped = f.select(f.fcmp("oeq", x, 0.0), f.or_(sign, 1), stepped)
    result = f.select(f.fcmp("oeq", x, y), y, from_bits(f, stepped, dtype))
    return f.select(f.fcmp("uno", x, y), math.nan, result)


def shift_left(f: Function, dtype: DType, x: Value, by: Value) -> Value:
    """x << by; 0 from the bit width on."""
    inside = f.icmp("ult", by, dtype.bits)
    return f.select(inside, f.shl(x, f.select(inside, by, 0)), 0)


def shift_right(f: Function, dtype: DType, x: Value, by: Value) -> Value:
    """x >> by, filling with zeros; 0 from the bit width on."""
    inside = f.icmp("ult", by, dtype.bits)
    return f.select(inside, f.lshr(x, f.select(inside, by, 0)), 0)


def shift_right_arithmetic(f: Function, dtype: DType, x: Value, by: Value) -> Value:
    """x >> by, filling with the sign, of which nothing else is left from the bit width on."""
    if dtype.kind == "uint":
        return shift_right(f, dtype, x, by)
    # One less than the width leaves the sign alone.
    return f.ashr(x, f.min_max("umin", by, dtype.bits - 1))
