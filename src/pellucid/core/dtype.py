"""Which numbers can a tensor hold, and what do two kinds of numbers become together?

A `DType` is a name, a kind and a size in bits; NumPy (and ml_dtypes, where NumPy has none) is one
way to store it. Promotion follows NumPy within a kind and lets the floating dtype win across
kinds, whatever the width of the integer: int64 with float32 is float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, cast

import numpy as np

from pellucid.core.error import OpTypeError

KINDS: Final = ("bool", "uint", "int", "float")
"""The kinds of dtype, in the order in which a Python scalar can lift one to the next."""


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """A number format; there is one object for each, so `is` and `==` agree.

    `kind` is "bool", "int", "uint" or "float"; `bits` the size of one element.
    """

    name: str
    kind: str
    bits: int

    def __repr__(self) -> str:
        return f"pellucid.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (named_dtype, (self.name,))

    @property
    def bytes(self) -> int:
        """Bytes that one element takes in memory (a bool takes one)."""
        return (self.bits + 7) // 8

    @property
    def is_floating(self) -> bool:
        """Whether it is one of the floating dtypes."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer dtype (bool is not)."""
        return self.kind in ("int", "uint")

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype that stores it."""
        return _numpy_dtype(self.name)


bool_ = DType("bool", "bool", 1)
int8 = DType("int8", "int", 8)
int16 = DType("int16", "int", 16)
int32 = DType("int32", "int", 32)
int64 = DType("int64", "int", 64)
uint8 = DType("uint8", "uint", 8)
uint16 = DType("uint16", "uint", 16)
uint32 = DType("uint32", "uint", 32)
uint64 = DType("uint64", "uint", 64)
float16 = DType("float16", "float", 16)
bfloat16 = DType("bfloat16", "float", 16)
float32 = DType("float32", "float", 32)
float64 = DType("float64", "float", 64)

DTYPES: Final = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
    float16, bfloat16, float32, float64,
)  # fmt: skip
INTEGERS: Final = tuple(d for d in DTYPES if d.is_integer)
FLOATING: Final = tuple(d for d in DTYPES if d.is_floating)
NUMERIC: Final = INTEGERS + FLOATING

_BY_NAME: Final = {dtype.name: dtype for dtype in DTYPES}


def named_dtype(name: str) -> DType:
    """The dtype called `name`; raises OpTypeError where there is none.

    >>> named_dtype("float32")
    pellucid.float32
    """
    if name not in _BY_NAME:
        raise OpTypeError(f"no dtype is called {name!r}; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def as_dtype(spec: Any) -> DType:
    """The dtype meant by a DType, its name, a NumPy dtype or one of bool, int, float.

    >>> as_dtype(np.float64), as_dtype("int8"), as_dtype(float)
    (pellucid.float64, pellucid.int8, pellucid.float32)
    """
    if isinstance(spec, DType):
        return spec
    if isinstance(spec, np.dtype):
        return _of_numpy(cast("np.dtype[Any]", spec))
    # By identity: np.dtype("float64") == float is true, and would be taken for float32.
    for python, own in ((bool, bool_), (int, int64), (float, float32)):
        if spec is python:
            return own
    if isinstance(spec, str):
        return named_dtype(spec)
    try:
        # NumPy takes None for float64; nobody means that here.
        return named_dtype(np.dtype(spec if spec is not None else "none").name)
    except TypeError:
        raise OpTypeError(f"expected a dtype, got {spec!r}") from None


@lru_cache(maxsize=64)
def _of_numpy(dtype: np.dtype[Any]) -> DType:
    return named_dtype(dtype.name)


@cache
def promote(lhs: DType, rhs: DType) -> DType:
    """The dtype in which `lhs` and `rhs` meet; raises OpTypeError where there is none.

    >>> promote(int64, float32), promote(uint8, int8), promote(float16, bfloat16)
    (pellucid.float32, pellucid.int16, pellucid.float32)
    """
    if lhs is rhs:
        return lhs
    low, high = sorted((lhs, rhs), key=lambda d: (KINDS.index(d.kind), d.bits))
    if low.kind == "bool":
        return high
    if low.kind == high.kind:
        return float32 if low.is_floating and low.bits == high.bits else high
    if high.is_floating:
        return high
    return _join_signed(low, high)


def scalar_dtype(value: bool | int | float, beside: DType | None) -> DType:
    """The dtype of a Python scalar: weak beside a tensor of `beside`, the default when alone.

    A weak scalar takes the tensor's dtype unless its kind is higher (NEP 50).

    >>> scalar_dtype(2, float16), scalar_dtype(0.5, int8), scalar_dtype(3, None)
    (pellucid.float16, pellucid.float32, pellucid.int64)
    """
    own = as_dtype(type(value)) if type(value) in (bool, int, float) else as_dtype(float)
    if beside is None:
        return own
    rank = {"bool": 0, "uint": 1, "int": 1, "float": 2}
    return beside if rank[own.kind] <= rank[beside.kind] else own


def integer_range(dtype: DType) -> tuple[int, int]:
    """The least and the greatest value of an integer dtype."""
    if dtype.kind == "uint":
        return 0, 2**dtype.bits - 1
    return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1


def _join_signed(unsigned: DType, signed: DType) -> DType:
    # uint8 and int8 meet in int16, the least signed dtype that holds both.
    bits = max(signed.bits, 2 * unsigned.bits)
    if bits > 64:
        raise OpTypeError(f"no integer dtype holds both {unsigned} and {signed}: cast one of them")
    return named_dtype(f"int{bits}")


@cache
def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
