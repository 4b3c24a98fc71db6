"""Where do the coefficients in engines/llvm/maths.py come from? This prints them.

Each is a Chebyshev approximation (within a small factor of the best possible) of a smooth part of
the function, computed with 60 digits and rounded to the type it is used in; beside it stands the
error of the rounded polynomial, weighed as it enters the result, in units of the last place of 1.
Only exp in float32 is fitted as the pieces are, by its weighed error: that saves a coefficient.

    python -m benchmarks.derive_polynomials
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpmath import chebyfit, exp, expm1, fabs, linspace, log, mp, mpf, sqrt, tanh

from benchmarks.derive_pieces import fitted, spread

mp.dps = 60

Real = mpf
Smooth = Callable[[Real], Real]


@dataclass(frozen=True)
class Part:
    """A smooth part of a function on an interval, and how much its error weighs at each point."""

    name: str
    function: Smooth
    weight: Smooth
    low: Real
    high: Real


def expm1_tail(r: Real) -> Real:
    """exp(r) = 1 + r + r² tail(r)."""
    if fabs(r) < mpf(10) ** -15:
        return mpf(1) / 2 + r / 6
    return (expm1(r) - r) / r**2


def log_tail(z: Real) -> Real:
    """log((1 + s) / (1 - s)) = 2 s + s z tail(z), where z = s²."""
    if z < mpf(10) ** -25:
        return mpf(2) / 3 + 2 * z / 5
    s = sqrt(z)
    return (log((1 + s) / (1 - s)) - 2 * s) / (s * z)


def tanh_tail(z: Real) -> Real:
    """tanh(x) = x + x z tail(z), where z = x²."""
    if z < mpf(10) ** -25:
        return -mpf(1) / 3 + 2 * z / 15
    x = sqrt(z)
    return (tanh(x) / x - 1) / z


HALF_LN2 = log(2) / 2
WIDEST = (sqrt(2) - 1) / (sqrt(2) + 1)
EXP = Part("exp(r) = 1 + r + r² p(r)", expm1_tail, lambda r: r**2 / exp(r), -HALF_LN2, HALF_LN2)
LOG = Part("log = 2 s + s z p(z)", log_tail, lambda z: z / 2, mpf(0), WIDEST**2)
# Up to 5/8, where the formula by exp is as good.
TANH = Part("tanh(x) = x + x z p(z)", tanh_tail, lambda z: z, mpf(0), mpf(25) / 64)
# The reduction itself rounds, so its interval is a little wider.
MARGIN = mpf("1.0001")


def derive(part: Part, terms: int, dtype: type[np.floating]) -> tuple[tuple[float, ...], float]:
    """Coefficients from the constant on, rounded to `dtype`; the error left, in ulps of 1."""
    low, high = part.low * MARGIN, part.high * MARGIN
    if part is EXP and dtype is np.float32:
        at = spread() * float(high)
        wanted, weight = ([float(f(mpf(x))) for x in at] for f in (part.function, part.weight))
        coefficients = tuple(fitted(at, np.array(wanted), np.array(weight), terms))
    else:
        falling = chebyfit(part.function, [low, high], terms)
        coefficients = tuple(float(dtype(str(c))) for c in reversed(falling))
    points = linspace(part.low, part.high, 2001)
    worst = max(fabs(part.weight(x) * (_at(coefficients, x) - part.function(x))) for x in points)
    return coefficients, float(worst / mpf(float(np.finfo(dtype).eps)))


def split_ln2(bits: int, dtype: type[np.floating]) -> tuple[float, float]:
    """ln 2 as a head of `bits` bits, which times a small integer is exact, and the rest."""
    head = mpf(int(log(2) * 2**bits)) / 2**bits
    return float(head), float(dtype(str(log(2) - head)))


def _at(coefficients: tuple[float, ...], x: Real) -> Real:
    total = mpf(0)
    for coefficient in reversed(coefficients):
        total = total * x + mpf(coefficient)
    return total


def main() -> None:
    """Print the tables."""
    for part, dtype, terms in (
        (EXP, np.float32, 5),
        (EXP, np.float64, 11),
        (LOG, np.float32, 4),
        (LOG, np.float64, 7),
        (TANH, np.float32, 6),
        (TANH, np.float64, 12),
    ):
        coefficients, error = derive(part, terms, dtype)
        print(f"{part.name}, {dtype.__name__}: off by {error:.4f} ulp at most")
        print("".join(f"    {coefficient!r},\n" for coefficient in coefficients))
    for dtype, bits in ((np.float32, 15), (np.float64, 40)):
        print(f"ln 2, {dtype.__name__}: {split_ln2(bits, dtype)!r}")
        print(f"1 / ln 2, {dtype.__name__}: {float(dtype(str(1 / log(2))))!r}")


if __name__ == "__main__":
    main()
