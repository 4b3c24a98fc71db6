"""What is one scalar op in LLVM? The same few instructions for one element or a vector of them.

In registers a bool is an i1, a 16-bit float is a float32 that the dtype can hold exactly, and any
other number is itself; in memory a bool is a byte and a 16-bit float its 16 bits. After every op a
16-bit float is rounded to its dtype, so that fusing ops changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from pellucid.core.dtype import DType, bfloat16, bool_, float16, float32, float64, integer_range
from pellucid.engines.llvm import rounding
from pellucid.engines.llvm.bits import (
    from_bits,
    next_after,
    shift_left,
    shift_right,
    shift_right_arithmetic,
    to_bits,
)
from pellucid.engines.llvm.elementary import FAMILIES, OF_ONE, OF_TWO
from pellucid.engines.llvm.narrow import (
    narrow_bfloat16,
    narrow_float16,
    round_to_odd,
    widen_bfloat16,
    widen_float16,
)
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F32, F64, I1, I8, I16, Type, Value, constant


def register_type(dtype: DType) -> Type:
    """The scalar type in which an element of `dtype` is computed with."""
    if dtype.is_floating:
        return F64 if dtype is float64 else F32
    return I1 if dtype is bool_ else Type(f"i{dtype.bits}")


def memory_type(dtype: DType) -> Type:
    """The scalar type of an element of `dtype` in memory."""
    if dtype is bool_:
        return I8
    return I16 if _is_narrow(dtype) else register_type(dtype)


def from_memory(f: Function, raw: Value, dtype: DType) -> Value:
    """An element as it was read, made ready to compute with."""
    if dtype is bool_:
        return f.icmp("ne", raw, 0)
    if dtype is bfloat16:
        return widen_bfloat16(f, raw)
    return widen_float16(f, raw) if dtype is float16 else raw


def to_memory(f: Function, value: Value, dtype: DType) -> Value:
    """An element as it is written."""
    if dtype is bool_:
        return f.cast("zext", value, I8)
    if dtype is bfloat16:
        return narrow_bfloat16(f, value)
    return narrow_float16(f, value) if dtype is float16 else value


def literal(number: bool | int | float, dtype: DType) -> Value:
    """A number of `dtype`; an integer may be given by any value with the same low bits."""
    if dtype is bool_:
        return constant(I1, int(bool(number)))
    if dtype.is_floating:
        return constant(register_type(dtype), _rounded(float(number), dtype))
    return constant(register_type(dtype), int(number))


def apply(
    f: Function, op: str, operands: Sequence[Value], dtypes: Sequence[DType], result: DType
) -> Value:
    """The op called `op` on operands of `dtypes` (all of one lane count), giving `result`."""
    if op == "cast":
        return cast(f, operands[0], dtypes[0], result)
    if op == "bitcast":
        return from_bits(f, to_bits(f, operands[0], dtypes[0]), result)
    if op == "select":
        pred, on_true, on_false = operands
        return f.select(pred, on_true, on_false)
    family, _, number = op.partition(".")
    if number:
        value = FAMILIES[family](f, operands[0], int(number))
    elif op in _UNARY:
        (operand,) = operands
        value = _UNARY[op](f, dtypes[0], operand)
    else:
        lhs, rhs = operands
        value = _BINARY[op](f, dtypes[0], lhs, rhs)
    return rounded(f, value, result) if family in _ROUNDING else value


def supports(op: str) -> bool:
    """Whether `apply` knows the op."""
    special = ("cast", "bitcast", "select")
    return any(op in table for table in (special, _UNARY, _BINARY, FAMILIES))


def rounded(f: Function, value: Value, dtype: DType) -> Value:
    """A computed value rounded to what `dtype` can hold."""
    return from_memory(f, to_memory(f, value, dtype), dtype) if _is_narrow(dtype) else value


def larger(f: Function, dtype: DType, lhs: Value, rhs: Value) -> Value:
    """The larger of two; NaN if either is NaN."""
    if not dtype.is_floating:
        return f.min_max("umax" if dtype.kind == "uint" else "smax", lhs, rhs)
    return _or_nan(f, lhs, rhs, f.select(f.fcmp("ogt", lhs, rhs), lhs, rhs))


def smaller(f: Function, dtype: DType, lhs: Value, rhs: Value) -> Value:
    """The smaller of two; NaN if either is NaN."""
    if not dtype.is_floating:
        return f.min_max("umin" if dtype.kind == "uint" else "smin", lhs, rhs)
    return _or_nan(f, lhs, rhs, f.select(f.fcmp("olt", lhs, rhs), lhs, rhs))


def plus(f: Function, dtype: DType, lhs: Value, rhs: Value) -> Value:
    """lhs + rhs, not rounded to a 16-bit float."""
    return f.fadd(lhs, rhs) if dtype.is_floating else f.add(lhs, rhs)


def times(f: Function, dtype: DType, lhs: Value, rhs: Value) -> Value:
    """lhs * rhs, not rounded to a 16-bit float."""
    return f.fmul(lhs, rhs) if dtype.is_floating else f.mul(lhs, rhs)


def combine(f: Function, how: str, dtype: DType, lhs: Value, rhs: Value) -> Value:
    """Two elements as one: their "sum", "prod", "max" or "min", not rounded to a 16-bit float."""
    return {"sum": plus, "prod": times, "max": larger, "min": smaller}[how](f, dtype, lhs, rhs)


def identity(how: str, dtype: DType) -> Value:
    """What a reduction starts with: it changes nothing, not even the sign of a zero."""
    low, high = (-math.inf, math.inf) if dtype.is_floating else integer_range(dtype)
    zero = -0.0 if dtype.is_floating else 0
    return literal({"sum": zero, "prod": 1, "max": low, "min": high}[how], dtype)


def cast(f: Function, value: Value, source: DType, target: DType) -> Value:
    """A number of one dtype as another.

    To an integer: floats towards zero and clamped to its range, NaN to 0; integers wrap. To a
    float: the nearest, ties to even. To bool: whether it differs from 0.
    """
    if source is target:
        return value
    if target is bool_:
        return _differs_from_zero(f, value, source)
    if target.is_floating:
        return _to_float(f, value, source, target)
    if source.is_floating:
        return _clamped(f, value, target)
    return _resized(f, value, source, register_type(target))


def _or_nan(f: Function, lhs: Value, rhs: Value, chosen: Value) -> Value:
    # A sum with NaN is NaN. Choosing lhs or rhs once more would do too, but LLVM writes a choice
    # between a value and what was read from memory with a masked store, which can be very slow.
    return f.select(f.fcmp("uno", lhs, rhs), f.fadd(lhs, rhs), chosen)


def _is_narrow(dtype: DType) -> bool:
    return dtype.is_floating and dtype.bits == 16


def _rounded(number: float, dtype: DType) -> float:
    with np.errstate(over="ignore"):
        return float(dtype.numpy.type(number))


def _differs_from_zero(f: Function, value: Value, source: DType) -> Value:
    if source.is_floating:
        return f.fcmp("une", value, 0.0)
    return f.icmp("ne", value, 0)


def _to_float(f: Function, value: Value, source: DType, target: DType) -> Value:
    if source.is_floating:
        return _float_to_float(f, value, target)
    how = "sitofp" if source.kind == "int" else "uitofp"
    if not _is_narrow(target):
        return f.cast(how, value, register_type(target))
    if source.bits <= 16:
        return rounded(f, f.cast(how, value, F32), target)
    return _float_to_float(f, f.cast(how, value, F64), target)


def _float_to_float(f: Function, value: Value, target: DType) -> Value:
    wide = value.type.scalar == F64.scalar
    if target is float64:
        return value if wide else f.cast("fpext", value, F64)
    if target is float32:
        return f.cast("fptrunc", value, F32) if wide else value
    # Two roundings to nearest could differ from one: the first is to odd.
    return rounded(f, round_to_odd(f, value) if wide else value, target)


def _clamped(f: Function, value: Value, target: DType) -> Value:
    kind = "fptosi" if target.kind == "int" else "fptoui"
    result = register_type(target).with_lanes(value.type.lanes)
    low, high = integer_range(target)
    # What is out of range is replaced before it is converted: the instruction leaves it undefined.
    top = 2.0**target.bits if target.kind == "uint" else 2.0 ** (target.bits - 1)
    over, under = f.fcmp("oge", value, top), f.fcmp("ole", value, float(low))
    inside = f.fcmp("ord", value, value)
    usual = f.and_(inside, f.not_(f.or_(over, under)))
    whole = _converted(f, kind, f.select(usual, value, 0.0), result)
    return f.select(over, high, f.select(under, low, whole))


def _converted(f: Function, kind: str, value: Value, result: Type) -> Value:
    # Through 32 or 64 signed bits, for which there are instructions; the low bits are the number.
    if result.bits < 32:
        return f.cast("trunc", f.cast("fptosi", value, Type("i32")), result)
    return f.cast(kind, value, result)


def _resized(f: Function, value: Value, source: DType, target: Type) -> Value:
    if target.bits < value.type.bits:
        return f.cast("trunc", value, target)
    return f.cast("sext" if source.kind == "int" else "zext", value, target)


def _negate(f: Function, dtype: DType, x: Value) -> Value:
    return f.fneg(x) if dtype.is_floating else f.sub(0, x)


def _magnitude(f: Function, dtype: DType, x: Value) -> Value:
    if dtype.is_floating:
        return f.fabs(x)
    if dtype.kind == "uint":
        return x
    return f.select(f.icmp("slt", x, 0), f.sub(0, x), x)


def _compare(floating: str, signed: str, unsigned: str) -> Binary:
    def emit(f: Function, dtype: DType, lhs: Value, rhs: Value) -> Value:
        if dtype.is_floating:
            return f.fcmp(floating, lhs, rhs)
        return f.icmp(signed if dtype.kind == "int" else unsigned, lhs, rhs)

    return emit


Unary = Callable[[Function, DType, Value], Value]
Binary = Callable[[Function, DType, Value, Value], Value]


def _of_one(function: Callable[[Function, Value], Value]) -> Unary:
    return lambda f, dtype, x: function(f, x)


def _of_two(function: Callable[[Function, Value, Value], Value]) -> Binary:
    return lambda f, dtype, x, y: function(f, x, y)


_UNARY: Final[dict[str, Unary]] = {
    "neg": _negate,
    "abs": _magnitude,
    "sqrt": lambda f, dtype, x: f.sqrt(x),
    "logical_not": lambda f, dtype, x: f.not_(x),
    "bit_not": lambda f, dtype, x: f.not_(x),
    "floor": lambda f, dtype, x: rounding.floor(f, x),
    "ceil": lambda f, dtype, x: rounding.ceil(f, x),
    "trunc": lambda f, dtype, x: rounding.trunc(f, x),
    "round": lambda f, dtype, x: rounding.nearest(f, x),
    "sign": rounding.sign,
    "isnan": lambda f, dtype, x: f.fcmp("uno", x, x),
    "isinf": lambda f, dtype, x: f.fcmp("oeq", f.fabs(x), math.inf),
    "isfinite": lambda f, dtype, x: f.fcmp("olt", f.fabs(x), math.inf),
    **{name: _of_one(function) for name, function in OF_ONE.items()},
}

_BINARY: Final[dict[str, Binary]] = {
    "add": plus,
    "sub": lambda f, dtype, lhs, rhs: (f.fsub if dtype.is_floating else f.sub)(lhs, rhs),
    "mul": times,
    "div": lambda f, dtype, lhs, rhs: f.fdiv(lhs, rhs),
    "maximum": larger,
    "minimum": smaller,
    "equal": _compare("oeq", "eq", "eq"),
    "not_equal": _compare("une", "ne", "ne"),
    "less": _compare("olt", "slt", "ult"),
    "less_equal": _compare("ole", "sle", "ule"),
    "logical_and": lambda f, dtype, lhs, rhs: f.and_(lhs, rhs),
    "logical_or": lambda f, dtype, lhs, rhs: f.or_(lhs, rhs),
    "bit_and": lambda f, dtype, lhs, rhs: f.and_(lhs, rhs),
    "bit_or": lambda f, dtype, lhs, rhs: f.or_(lhs, rhs),
    "bit_xor": lambda f, dtype, lhs, rhs: f.xor(lhs, rhs),
    "shift_left": shift_left,
    "shift_right": shift_right,
    "shift_right_arithmetic": shift_right_arithmetic,
    "floor_divide": rounding.floor_divide,
    "remainder": rounding.remainder,
    "nextafter": next_after,
    **{name: _of_two(function) for name, function in OF_TWO.items()},
}

_ROUNDING: Final = frozenset(
    ("add", "sub", "mul", "div", "sqrt", "floor_divide", "remainder", *OF_ONE, *OF_TWO, *FAMILIES)
)
"""The ops whose result on 16-bit floats, computed in float32, may have to be rounded."""
