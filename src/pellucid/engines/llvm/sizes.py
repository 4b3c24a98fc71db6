"""Sizes and strides that are known now (an int) or only when the kernel runs (an LLVM value).

Static kernels bake numbers in, size-generic ones read them; with these few functions one piece of
code emits both, and the text of a static kernel shows plain numbers.
"""

from collections.abc import Sequence

from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import I64, Value, constant

Number = int | Value
"""A count of elements: an int, or an i64 value."""


def value(number: Number) -> Value:
    """The number as an i64 value.

    >>> str(value(3))
    'i64 3'
    """
    return number if isinstance(number, Value) else constant(I64, number)


def add(f: Function, lhs: Number, rhs: Number) -> Number:
    """lhs + rhs."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs + rhs
    if lhs == 0 or rhs == 0:
        return lhs if rhs == 0 else rhs
    return f.add(lhs, rhs, nsw=True)


def sub(f: Function, lhs: Number, rhs: Number) -> Number:
    """lhs - rhs."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs - rhs
    return lhs if rhs == 0 else f.sub(lhs, rhs, nsw=True)


def mul(f: Function, lhs: Number, rhs: Number) -> Number:
    """lhs * rhs."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs * rhs
    if lhs == 0 or rhs == 0:
        return 0
    if lhs == 1 or rhs == 1:
        return lhs if rhs == 1 else rhs
    return f.mul(lhs, rhs, nsw=True)


def dot(f: Function, start: Number, indexes: Sequence[Number], steps: Sequence[Number]) -> Number:
    """`start` and the sum of indexes times steps."""
    total = start
    for index, step in zip(indexes, steps, strict=True):
        total = add(f, total, mul(f, index, step))
    return total


def quotient(f: Function, lhs: Number, rhs: Number) -> Number:
    """lhs // rhs for lhs >= 0, rhs > 0."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs // rhs
    return lhs if rhs == 1 else f.udiv(lhs, rhs)


def remainder(f: Function, lhs: Number, rhs: Number) -> Number:
    """lhs % rhs for lhs >= 0, rhs > 0."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs % rhs
    return 0 if rhs == 1 else f.urem(lhs, rhs)


def parts(f: Function, lhs: Number, rhs: Number) -> Number:
    """How many parts of `rhs` cover `lhs`: the quotient rounded up."""
    return quotient(f, add(f, lhs, sub(f, rhs, 1)), rhs)


def least(f: Function, lhs: Number, rhs: Number) -> Number:
    """The smaller one."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return min(lhs, rhs)
    return lhs if lhs == rhs else f.min_max("smin", lhs, rhs)


def greatest(f: Function, lhs: Number, rhs: Number) -> Number:
    """The larger one."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return max(lhs, rhs)
    return lhs if lhs == rhs else f.min_max("smax", lhs, rhs)
