"""What a number is made of: is it finite, which is next to it, its bits, and moving them.

Shift counts are taken as unsigned; from the bit width on everything is shifted out. These functions
look at a dtype's own grid, so their references compute in it.
"""

from __future__ import annotations

import numpy as np

from pellucid.core.dtype import FLOATING, INTEGERS, NUMERIC, DType, as_dtype, bool_
from pellucid.core.error import OpTypeError
from pellucid.ir.graph import TensorType
from pellucid.ops.define import Array, NoDerivative
from pellucid.ops.elementwise import (
    COMPARED,
    EXACT,
    WHOLE,
    define_elementwise,
    elementwise,
    require_count,
)

isnan = elementwise(
    "isnan",
    on=FLOATING,
    reference=np.isnan,
    why=COMPARED,
    result=bool_,
    what="whether a is not a number",
)
isinf = elementwise(
    "isinf",
    on=FLOATING,
    reference=np.isinf,
    why=COMPARED,
    result=bool_,
    what="whether a is infinite",
)
isfinite = elementwise(
    "isfinite",
    on=FLOATING,
    reference=np.isfinite,
    why=COMPARED,
    result=bool_,
    what="whether a is finite",
)


def _nextafter_reference(x: Array, y: Array) -> Array:
    # Of two zeros it is the second, whose sign counts; NumPy's float16 gives the first.
    return np.where(x == y, y, np.nextafter(x, y))


nextafter = elementwise(
    "nextafter",
    on=FLOATING,
    reference=_nextafter_reference,
    arity=2,
    why="it steps through the numbers of its dtype",
    own_dtype=True,
    what="the neighbour of a towards b",
)
"""The number of the dtype next to the first operand in the direction of the second."""

bit_not = elementwise(
    "bit_not", on=INTEGERS, reference=np.invert, why=WHOLE, what="each bit flipped"
)


def _shift_left_reference(x: Array, by: Array) -> Array:
    count, inside = _count(by)
    return np.where(inside, x << count, 0).astype(x.dtype)


def _shift_right_reference(x: Array, by: Array) -> Array:
    count, inside = _count(by)
    # In x's own dtype: beside a signed number NumPy would make a uint64 a float64.
    return np.where(inside, x >> count, np.where(x < 0, -1, 0).astype(x.dtype))


def _count(by: Array) -> tuple[Array, Array]:
    unsigned = by.view(np.dtype(f"u{by.dtype.itemsize}"))
    inside = unsigned < 8 * by.dtype.itemsize
    return np.where(inside, by, 0).astype(by.dtype), inside


shift_left = elementwise(
    "shift_left",
    on=INTEGERS,
    reference=_shift_left_reference,
    arity=2,
    why=WHOLE,
    what="a moved up by b bits",
)
shift_right_arithmetic = elementwise(
    "shift_right_arithmetic",
    on=INTEGERS,
    reference=_shift_right_reference,
    arity=2,
    why=WHOLE,
    what="a moved down by b bits, its sign from above",
)
"""Shifting right and filling with the sign."""


def _bitcast_infer(*types: TensorType, dtype: DType) -> TensorType:
    require_count("bitcast", types, 1)
    (x,), target = types, as_dtype(dtype)
    if bool_ in (x.dtype, target) or x.dtype.bits != target.bits:
        raise OpTypeError(
            f"bitcast: expected a dtype of {x.dtype.bits} bits that is not bool, got {target} "
            f"for {x.message()}"
        )
    return TensorType(target, x.shape)


def _bitcast_reference(x: Array, *, dtype: DType) -> Array:
    return x.view(as_dtype(dtype).numpy)


bitcast = define_elementwise(
    "bitcast",
    _bitcast_infer,
    _bitcast_reference,
    NoDerivative("it reads a number's bits as another number"),
    EXACT,
    own_dtype=True,
    on=NUMERIC,
    what="the bits of a as another dtype",
)
"""The same bits as a number of another dtype of the same size; a NaN may lose its payload."""
