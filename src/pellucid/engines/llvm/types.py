"""What a value in LLVM text is: its type (a scalar and a number of lanes) and its spelling.

A `Type` with one lane is a scalar and with more a vector, so that one function can build a kernel's
vector body and its scalar tail. A `Value` is a typed name or literal; numbers become literals here,
spelled exactly (a float32 literal is the float32, never a decimal near it).
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_MANGLED = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64", "ptr": "p0"}
_BYTES = {"half": 2, "bfloat": 2, "float": 4, "double": 8, "ptr": 8, "i1": 1}


@dataclass(frozen=True, slots=True)
class Type:
    """An LLVM type: `scalar` repeated over `lanes`; one lane is the scalar itself.

    >>> str(Type("float")), str(Type("float", 8))
    ('float', '<8 x float>')
    """

    scalar: str
    lanes: int = 1

    def __str__(self) -> str:
        return self.scalar if self.lanes == 1 else f"<{self.lanes} x {self.scalar}>"

    @property
    def mangled(self) -> str:
        """The suffix LLVM's overloaded intrinsics carry: f32, v8f32, i64, p0."""
        scalar = _MANGLED.get(self.scalar, self.scalar)
        return scalar if self.lanes == 1 else f"v{self.lanes}{scalar}"

    @property
    def is_float(self) -> bool:
        """Whether the scalar is a floating-point type."""
        return self.scalar in ("half", "bfloat", "float", "double")

    @property
    def bits(self) -> int:
        """Bits of one lane (64 for a pointer)."""
        return int(self.scalar[1:]) if self.scalar[0] == "i" else 8 * _BYTES[self.scalar]

    @property
    def bytes(self) -> int:
        """Bytes of one lane in memory."""
        return _BYTES.get(self.scalar) or self.bits // 8

    def with_lanes(self, lanes: int) -> "Type":
        """The same scalar over another number of lanes."""
        return Type(self.scalar, lanes)

    def with_scalar(self, scalar: "Type | str") -> "Type":
        """Another scalar over the same number of lanes."""
        return Type(scalar if isinstance(scalar, str) else scalar.scalar, self.lanes)


VOID = Type("void")
I1, I8, I16, I32, I64, I128 = (Type(f"i{bits}") for bits in (1, 8, 16, 32, 64, 128))
F16, BF16, F32, F64 = Type("half"), Type("bfloat"), Type("float"), Type("double")
PTR = Type("ptr")


@dataclass(frozen=True, slots=True)
class Value:
    """A typed SSA name (`%sum1`), parameter or literal (`1.0`)."""

    type: Type
    text: str

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


Operand = Value | int | float
NULL = Value(PTR, "null")


def undefined(type: Type) -> Value:
    """A value whose bits nobody reads, such as what a masked load leaves in its idle lanes."""
    return Value(type, "poison")


def constant(type: Type, number: float) -> Value:
    """`number` as a literal of `type`, in every lane; floats must be exact in the type.

    >>> str(constant(F32, 0.5)), str(constant(Type("i32", 4), 7))
    ('float 0.5', '<4 x i32> splat (i32 7)')
    """
    literal = _literal(type, number)
    return Value(type, literal if type.lanes == 1 else f"splat ({type.scalar} {literal})")


def constants(scalar: Type, numbers: Sequence[int | float]) -> Value:
    """A vector literal with one number a lane.

    >>> str(constants(I32, (0, 1)))
    '<2 x i32> <i32 0, i32 1>'
    """
    if len(numbers) == 1:
        return constant(scalar, numbers[0])
    lanes = ", ".join(f"{scalar} {_literal(scalar, number)}" for number in numbers)
    return Value(scalar.with_lanes(len(numbers)), f"<{lanes}>")


def _literal(type: Type, number: float) -> str:
    if type.is_float:
        return _float_literal(type.scalar, float(number))
    if type.scalar == "i1":
        return "true" if number else "false"
    assert isinstance(number, int), f"a literal of {type} must be an int, got {number!r}"
    return str(number)


def _float_literal(scalar: str, number: float) -> str:
    if not math.isfinite(number):
        return _special_literal(scalar, number)
    if scalar == "float":
        exact = struct.unpack("<f", struct.pack("<f", number))[0]
        assert exact == number, f"{number!r} is not a float32: round it before emitting it"
    digits = repr(number)
    mantissa, _, exponent = digits.partition("e")
    # LLVM's grammar wants the point: 1e-05 is spelled 1.0e-05.
    mantissa = mantissa if "." in mantissa else mantissa + ".0"
    return f"{mantissa}e{exponent}" if exponent else mantissa


def _special_literal(scalar: str, number: float) -> str:
    bits = {"half": ("0xH", 5, 10), "bfloat": ("0xR", 8, 7)}.get(scalar, ("0x", 11, 52))
    prefix, exponent, mantissa = bits
    pattern = ((1 << exponent) - 1) << mantissa
    if math.isnan(number):
        pattern |= 1 << (mantissa - 1)
    elif number < 0:
        pattern |= 1 << (exponent + mantissa)
    return f"{prefix}{pattern:0{(1 + exponent + mantissa) // 4}X}"
