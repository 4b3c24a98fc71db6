"""How float16 and bfloat16 become float32 and back, on any ISA, without library calls.

In memory and in these functions both are their bits, an i16 a lane. Widening is exact; narrowing
rounds to nearest, ties to even, overflows to infinity, keeps subnormals and makes every NaN quiet.
"""

from __future__ import annotations

from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import F16, F32, I16, I32, Value


def widen_bfloat16(f: Function, bits: Value) -> Value:
    """bfloat16 bits (i16) -> float32: they are its upper half."""
    upper = f.shl(f.cast("zext", bits, I32), 16)
    return f.bitcast(upper, F32.with_lanes(bits.type.lanes))


def narrow_bfloat16(f: Function, value: Value) -> Value:
    """float32 -> bfloat16 bits (i16)."""
    bits = f.bitcast(value, I32.with_lanes(value.type.lanes))
    # Adding just under half a unit, and one more where the kept part is odd, rounds ties to even.
    odd = f.and_(f.lshr(bits, 16), 1)
    rounded = f.lshr(f.add(f.add(bits, odd), 0x7FFF), 16)
    # A NaN must not be carried over into infinity: keep its upper half and set the quiet bit.
    quiet = f.or_(f.lshr(bits, 16), 0x40)
    return f.cast("trunc", f.select(f.fcmp("uno", value, value), quiet, rounded), I16)


def widen_float16(f: Function, bits: Value) -> Value:
    """float16 bits (i16) -> float32."""
    lanes = bits.type.lanes
    if f.isa.converts_half:
        return f.cast("fpext", f.bitcast(bits, F16.with_lanes(lanes)), F32)
    wide = f.cast("zext", bits, I32)
    magnitude = f.shl(f.and_(wide, 0x7FFF), 13)
    # Exponent and mantissa stand in place but for the bias, 15 and not 127: times 2**112, exactly,
    # and a float16 subnormal, read as a float32 subnormal, becomes normal by the same product.
    scaled = f.fmul(f.bitcast(magnitude, F32.with_lanes(lanes)), 2.0**112)
    finite = f.bitcast(scaled, magnitude.type)
    special = f.or_(magnitude, 0x7F800000)
    unsigned = f.select(f.icmp("uge", magnitude, 0x7C00 << 13), special, finite)
    signed = f.or_(unsigned, f.shl(f.and_(wide, 0x8000), 16))
    return f.bitcast(signed, F32.with_lanes(lanes))


def narrow_float16(f: Function, value: Value) -> Value:
    """float32 -> float16 bits (i16)."""
    lanes = value.type.lanes
    if f.isa.converts_half:
        return f.bitcast(f.cast("fptrunc", value, F16), I16.with_lanes(lanes))
    bits = f.bitcast(value, I32.with_lanes(lanes))
    magnitude = f.and_(bits, 0x7FFFFFFF)
    # From 2**16 on all is infinite, or NaN; below 2**-14 adding 0.5 leaves float16's subnormal
    # mantissa, rounded by the addition, in the lowest bits; between, the exponent is rebiased.
    nan_or_inf = f.select(
        f.icmp("ugt", magnitude, 0x7F800000),
        f.splat(0x7E00, magnitude.type),
        f.splat(0x7C00, magnitude.type),
    )
    shifted = f.fadd(f.bitcast(magnitude, F32.with_lanes(lanes)), 0.5)
    subnormal = f.sub(f.bitcast(shifted, magnitude.type), 126 << 23)
    odd = f.and_(f.lshr(magnitude, 13), 1)
    normal = f.lshr(f.add(f.add(magnitude, 0xFFF - (112 << 23)), odd), 13)
    finite = f.select(f.icmp("ult", magnitude, 113 << 23), subnormal, normal)
    result = f.select(f.icmp("uge", magnitude, 143 << 23), nan_or_inf, finite)
    signed = f.or_(result, f.and_(f.lshr(bits, 16), 0x8000))
    return f.cast("trunc", signed, I16)


def round_to_odd(f: Function, value: Value) -> Value:
    """float64 -> float32 such that narrowing the result further rounds only once.

    Cut towards zero, and where something was cut off the last bit is set: a tie that was none in
    float64 does not look like one (Boldo and Melquiond, 2008).
    """
    nearest = f.cast("fptrunc", value, F32)
    back = f.cast("fpext", nearest, value.type)
    bits = f.bitcast(nearest, I32.with_lanes(value.type.lanes))
    too_far = f.fcmp("ogt", f.fabs(back), f.fabs(value))
    cut = f.select(too_far, f.sub(bits, 1), bits)
    # "one": ordered and unequal, so that a NaN stays as it is.
    odd = f.select(f.fcmp("one", back, value), f.or_(cut, 1), cut)
    return f.bitcast(odd, nearest.type)
