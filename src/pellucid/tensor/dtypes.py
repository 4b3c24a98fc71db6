"""What can be asked of dtypes? Their limits, their kinds, and which becomes which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from pellucid.core.dtype import DType, as_dtype, integer_range, promote
from pellucid.core.error import OpTypeError
from pellucid.core.source import at_line, user_source
from pellucid.tensor.tensor import Tensor

_FAMILIES = {
    "bool": ("bool",),
    "signed integer": ("int",),
    "unsigned integer": ("uint",),
    "integral": ("int", "uint"),
    "real floating": ("float",),
    "complex floating": (),
    "numeric": ("int", "uint", "float"),
}


@dataclass(frozen=True)
class FloatingInfo:
    """The limits of a floating dtype: `eps` is the step from 1 up, the numbers are Python's."""

    dtype: DType
    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float


@dataclass(frozen=True)
class IntegerInfo:
    """The limits of an integer dtype."""

    dtype: DType
    bits: int
    max: int
    min: int


def finfo(type: Any, /) -> FloatingInfo:
    """The limits of a floating dtype, or that of a tensor; OpTypeError for another one.

    >>> finfo("float32").eps
    1.1920928955078125e-07
    """
    dtype = _dtype_of(type)
    if not dtype.is_floating:
        raise OpTypeError(f"finfo: expected a floating dtype, got {dtype}{at_line(user_source())}")
    # bfloat16 has the exponents of float32, and 8 bits of it in front.
    mantissa = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype.name]
    top = 16 if dtype.name == "float16" else 1024 if dtype.bits == 64 else 128
    eps = 2.0**-mantissa
    largest = (2 - eps) * 2.0 ** (top - 1)
    return FloatingInfo(dtype, dtype.bits, eps, largest, -largest, 2.0 ** (2 - top))


def iinfo(type: Any, /) -> IntegerInfo:
    """The limits of an integer dtype, or that of a tensor; OpTypeError for another one.

    >>> iinfo("int8").max
    127
    """
    dtype = _dtype_of(type)
    if not dtype.is_integer:
        raise OpTypeError(f"iinfo: expected an integer dtype, got {dtype}{at_line(user_source())}")
    low, high = integer_range(dtype)
    return IntegerInfo(dtype, dtype.bits, high, low)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is `kind`: another dtype, a family by name, or one of a tuple of these.

    Families are "bool", "signed integer", "unsigned integer", "integral", "real floating",
    "complex floating" (none) and "numeric".

    >>> isdtype("uint8", "integral"), isdtype("bool", ("numeric", "float32"))
    (True, False)
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in cast("tuple[Any, ...]", kind))
    if isinstance(kind, str) and kind in _FAMILIES:
        return as_dtype(dtype).kind in _FAMILIES[kind]
    return as_dtype(dtype) is as_dtype(kind)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether promotion would turn a dtype (or a tensor's) into `to`.

    >>> can_cast("int8", "int32"), can_cast("float64", "float32")
    (True, False)
    """
    source, target = _dtype_of(from_), as_dtype(to)
    try:
        return promote(source, target) is target
    except OpTypeError:
        return False


def _dtype_of(spec: Any) -> DType:
    if isinstance(spec, Tensor):
        return spec.dtype
    return as_dtype(spec)
