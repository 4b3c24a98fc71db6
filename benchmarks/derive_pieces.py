"""Where do the sixteen polynomials of a function in maths_pieces.py come from? This prints them.

The pieces are cut by the bits of |x| + offset. The first begins at 0, and may have a line through 0
taken off it; each other its value at a centre, which is chosen so that the value and the slope
there lie close to a float32 (Gal and Bachelis 1991): then only what is far smaller than the result
is rounded twice. What is left is divided by the distance and fitted so that the error of the
function, relative to its value, is least where it is largest (Lawson 1961); coefficient after
coefficient is rounded, and those behind it are fitted anew.

    python -m benchmarks.derive_pieces            the tables
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpmath import erf, mp, mpf, pi, sqrt, tanh
from numpy.typing import NDArray
from scipy import special

mp.dps = 40

COUNT, SHIFT = 16, 21
POINTS = 120
REACH = 0.06
"""How far from the middle of a piece its centre may lie, in halves of the piece."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A function from 0 on, its slope, how it is cut, and how many coefficients a piece has."""

    name: str
    exact: Callable[[mpf], mpf]
    quick: Callable[[Numbers], Numbers]
    slope: Callable[[Numbers], Numbers]
    line: mpf
    offset: float
    first: float
    most: float
    terms: int


CURVES = (
    Curve(
        "TANH",
        tanh,
        np.tanh,
        lambda x: 1 / np.cosh(x) ** 2,
        mpf(0),
        offset=0.625,
        first=0.625,
        most=9.125,
        terms=5,
    ),
    Curve(
        "ERF",
        erf,
        special.erf,
        lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x),
        2 / sqrt(pi),
        offset=0.0625,
        first=0.25,
        most=3.921875,
        terms=6,
    ),
)


def pieces_of(curve: Curve) -> list[list[float]]:
    """Centre, value and coefficients of each piece, in the order in which they are looked up."""
    start = _bits(curve.first) >> SHIFT
    rows: list[list[float]] = []
    for number in range(start, start + COUNT):
        low, high = (_float(n << SHIFT) - curve.offset for n in (number, number + 1))
        high = min(high, curve.most)
        rows.append(_later(curve, low, high) if rows else _first(curve, high))
    turned = start % COUNT
    return rows[-turned:] + rows[:-turned] if turned else rows


def _first(curve: Curve, high: float) -> list[float]:
    line = _rounded(curve.line)
    at = (spread() + 1) / 2 * high
    left = np.array([float((curve.exact(mpf(x)) - mpf(line) * mpf(x)) / mpf(x)) for x in at])
    slope = _rounded(mpf(float(curve.slope(np.zeros(())))) - mpf(line))
    return [0.0, line, *fitted(at, left, at / curve.quick(at), curve.terms, slope)]


def _later(curve: Curve, low: float, high: float) -> list[float]:
    centre = _centre(curve, low, high)
    value = _rounded(curve.exact(mpf(centre)))
    half = (high - low) / 2
    away = (low + high) / 2 + half * spread() - centre
    away = away[np.abs(away) > 1e-3 * half]
    rise = [float((curve.exact(mpf(centre) + mpf(d)) - mpf(value)) / mpf(d)) for d in away]
    weight = np.abs(away) / curve.quick(away + centre)
    return [centre, value, *fitted(away, np.array(rise), weight, curve.terms)]


def _centre(curve: Curve, low: float, high: float) -> float:
    middle, half, reach = (low + high) / 2, (high - low) / 2, REACH
    unit = np.spacing(np.float32(curve.quick(np.array(middle))))

    def rises() -> bool:
        """Whether there are values enough to choose from."""
        ends = curve.quick(np.array([middle - reach * half, middle + reach * half]))
        return bool(ends[1] - ends[0] >= 200 * unit)

    while not rises() and reach < 0.7:
        reach *= 1.5
    span = int(reach * half / float(np.spacing(np.float32(middle))))
    places = (_bits(middle) + np.arange(-span, span + 1)).astype(np.int32).view(np.float32)
    wide = places.astype(np.float64)
    share = half * float(curve.slope(np.array(middle)) / curve.quick(np.array(low)))
    off = _distance(curve.quick(wide)) + share * _distance(curve.slope(wide))
    return float(places[int(np.argmin(off))])


def _distance(x: Numbers) -> Numbers:
    """From the nearest float32, in units of its last place."""
    near = x.astype(np.float32)
    return np.abs(x - near) / np.spacing(near)


def fitted(at: Numbers, wanted: Numbers, weight: Numbers, terms: int, *known: float) -> list[float]:
    """Coefficients of a polynomial whose worst weighted error is least, the first ones given."""
    found = list(known)
    while len(found) < terms:
        rest = wanted - sum(c * at**power for power, c in enumerate(found))
        found.append(_rounded(mpf(_minimax(at, rest, weight, len(found), terms))))
    return found


def _minimax(at: Numbers, wanted: Numbers, weight: Numbers, lowest: int, terms: int) -> float:
    """The lowest coefficient of at**lowest, ..., at**(terms - 1) that errs least at worst."""
    scale = np.abs(at).max()
    powers = np.stack([(at / scale) ** power for power in range(lowest, terms)], 1)
    share, best, chosen = np.ones_like(at), np.inf, 0.0
    for _ in range(60):
        by = np.sqrt(share) * weight
        solved = np.linalg.lstsq(powers * by[:, None], wanted * by, rcond=None)[0]
        error = np.abs(weight * (powers @ solved - wanted))
        if error.max() < best:
            best, chosen = float(error.max()), float(solved[0] / scale**lowest)
        share = share * (error + 1e-30)
        share /= share.sum()
    return chosen


def spread() -> Numbers:
    """Points from 1 to -1, denser towards the ends."""
    return np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS)


def _bits(x: float) -> int:
    return int(np.float32(x).view(np.int32))


def _float(bits: int) -> float:
    return float(np.int32(bits).view(np.float32))


def _rounded(x: mpf) -> float:
    return float(np.float32(str(x)))


def main() -> None:
    """Print the tables, a line a coefficient."""
    for curve in CURVES:
        print(f"{curve.name}: offset {curve.offset}, first {curve.first}, most {curve.most}")
        for row in zip(*pieces_of(curve), strict=True):
            texts = [str(np.float32(number)) for number in row]
            for part in (texts[:6], texts[6:11], texts[11:]):
                print(f"    {' '.join(part)}")


if __name__ == "__main__":
    main()
