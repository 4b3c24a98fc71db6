"""Philox4x32-10: random bits as a function of a counter and a key, so any lane draws its own.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Integer
arithmetic only, so that every engine has the same bits.
"""

from __future__ import annotations

from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import I32, I64, Value

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

Words4 = tuple[Value, Value, Value, Value]


def philox4x32(f: Function, counter: Words4, key: tuple[Value, Value], rounds: int = 10) -> Words4:
    """Four random words (i32, any lane count) from four counter words and two key words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for turn in range(rounds):
        if turn:
            k0, k1 = f.add(k0, _KEY_STEPS[0]), f.add(k1, _KEY_STEPS[1])
        high0, low0 = _multiply(f, c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(f, c2, _MULTIPLIERS[1])
        c0, c1 = f.xor(f.xor(high1, c1), k0), low1
        c2, c3 = f.xor(f.xor(high0, c3), k1), low0
    return c0, c1, c2, c3


def _multiply(f: Function, word: Value, by: int) -> tuple[Value, Value]:
    """The upper and lower 32 bits of word * by."""
    product = f.mul(f.cast("zext", word, I64), by)
    return f.cast("trunc", f.lshr(product, 32), I32), f.cast("trunc", product, I32)
