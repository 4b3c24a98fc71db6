"""Where do the coefficients in engines/llvm/maths_*.py come from? This prints them, by table.

As in derive_polynomials.py each is a Chebyshev approximation of a smooth part of a function,
computed with 60 digits. A table has two entries: under 53 what float64 needs, and under 24 what is
enough where the result becomes a float32; both are evaluated in float64. A table that differs from
the one in the source is marked so.

    python -m benchmarks.derive_special              all tables
    python -m benchmarks.derive_special SINE ATAN    some of them
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from mpmath import (
    asin,
    atan,
    atanh,
    cbrt,
    chebyfit,
    cos,
    erf,
    erfc,
    exp,
    fabs,
    findroot,
    linspace,
    log,
    loggamma,
    mp,
    mpf,
    pi,
    psi,
    sin,
    sinh,
    sqrt,
)

from benchmarks.derive_polynomials import EXP, LOG, MARGIN, Real
from pellucid.engines.llvm import (
    maths_arcs,
    maths_error,
    maths_gamma,
    maths_hyperbolic,
    maths_powers,
    maths_trigonometry,
    maths_wide,
)
from pellucid.engines.llvm.maths_wide import Table as Coefficients

mp.dps = 60

Smooth = Callable[[Real], Real]
TINY = mpf(10) ** -12


@dataclass(frozen=True)
class Table:
    """A smooth function of one variable on an interval, and how many terms each precision takes.

    `weight` is what an error of the polynomial is multiplied by in the relative error of the
    result. `limit` is the function at 0, where its formula is 0/0.
    """

    function: Smooth
    weight: Smooth
    low: Real
    high: Real
    terms: dict[int, int]
    limit: Real | None = None

    def at(self, x: Real) -> Real:
        """The function, also at 0."""
        return self.limit if self.limit is not None and fabs(x) < TINY**2 else self.function(x)


def root(z: Real) -> Real:
    """sqrt(z) for the odd functions, which are fitted in z = x²."""
    return sqrt(z)


def odd_tail(function: Smooth) -> Smooth:
    """f(x) = x + x z tail(z), where z = x²."""
    return lambda z: (function(root(z)) / root(z) - 1) / z


def scaled_erfc(q: Real) -> Real:
    """(1 + 2 x) exp(x²) erfc(x) by q = (x - 4) / (x + 4), which maps 0 ... inf to -1 ... 1."""
    if q > 1 - mpf(10) ** -9:
        return 2 / sqrt(pi)
    x = 4 * (1 + q) / (1 - q)
    return (1 + 2 * x) * _erfcx(x)


def _erfcx(x: Real) -> Real:
    if x < 50:
        with mp.workdps(70 + int(x * x / 2)):
            return exp(x * x) * erfc(x)
    total, term = mpf(1), mpf(1)
    for k in range(1, 40):
        term *= -(2 * k - 1) / (2 * x * x)
        total += term
    return total / (x * sqrt(pi))


def stirling_rest(w: Real) -> Real:
    """x (log Γ(x) - (x - 1/2) log x + x - log(2 pi) / 2) by w = 1/x²."""
    x = 1 / sqrt(w)
    with mp.workdps(90):
        rest = loggamma(x) - (x - mpf(1) / 2) * log(x) + x - log(2 * pi) / 2
        return x * rest


def digamma_rest(w: Real) -> Real:
    """x² (log x - 1 / (2 x) - ψ(x)) by w = 1/x²."""
    x = 1 / sqrt(w)
    with mp.workdps(90):
        return x * x * (log(x) - 1 / (2 * x) - psi(0, x))


def log_rest(z: Real) -> Real:
    """log((1 + s) / (1 - s)) = 2 s + (2/3) s z + s z² rest(z), where z = s²."""
    s = root(z)
    return (2 * atanh(s) - 2 * s - 2 * s * z / 3) / (s * z * z)


# A quotient rounded the wrong way leaves a little more than pi / 4.
QUARTER = (pi / 4 * MARGIN) ** 2
DIGAMMA_ROOT = findroot(lambda x: psi(0, x), 1.4616)
EIGHTH = (sqrt(mpf(2)) - 1) ** 2

TABLES: dict[str, Table] = {
    "EXP": Table(EXP.function, EXP.weight, EXP.low, EXP.high, {24: 6}, mpf(1) / 2),
    "LOG": Table(LOG.function, LOG.weight, LOG.low, LOG.high, {24: 4}, mpf(2) / 3),
    "LOG_REST": Table(
        log_rest, lambda z: z * z / 2, mpf(0), LOG.high, {53: 8}, mpf(2) / 5
    ),
    "SINE": Table(odd_tail(sin), lambda z: z, mpf(0), QUARTER, {24: 4, 53: 6}, -mpf(1) / 6),
    "COSINE": Table(
        lambda z: (cos(root(z)) - 1 + z / 2) / z**2,
        lambda z: z**2 * sqrt(mpf(2)),
        mpf(0),
        QUARTER,
        {24: 4, 53: 6},
        mpf(1) / 24,
    ),
    "ATAN": Table(odd_tail(atan), lambda z: z, mpf(0), EIGHTH, {24: 6, 53: 12}, -mpf(1) / 3),
    "ASIN": Table(odd_tail(asin), lambda z: z, mpf(0), mpf(1) / 4, {24: 7, 53: 14}, mpf(1) / 6),
    "SINH": Table(odd_tail(sinh), lambda z: z, mpf(0), mpf(1), {24: 4, 53: 8}, mpf(1) / 6),
    "CBRT": Table(
        lambda r: 1 / cbrt(1 + r), lambda r: mpf(1), mpf("-0.10"), mpf("0.10"), {24: 4, 53: 5}
    ),
    "ERF": Table(
        lambda z: erf(root(z)) / root(z) - 1,
        lambda z: mpf(1),
        mpf(0),
        mpf(1),
        {53: 13},
        2 / sqrt(pi) - 1,
    ),
    # Over the whole range: from 4 on erf is 1 in float32.
    "ERF_WHOLE": Table(
        lambda w: erf(sqrt(8 * (w + 1))) / sqrt(8 * (w + 1)),
        lambda w: mpf(4),
        mpf(-1),
        mpf(1),
        {24: 18},
    ),
    "SCALED_ERFC": Table(scaled_erfc, lambda q: mpf(1), mpf(-1), mpf(1), {24: 16, 53: 26}),
    "LGAMMA": Table(
        lambda t: loggamma(2 + t) / t, lambda t: mpf(2), -mpf(3) / 4, mpf(1) / 2, {53: 23},
        psi(0, 2),
    ),
    "STIRLING": Table(
        stirling_rest, lambda w: sqrt(w) / 8, mpf(0), mpf(1) / 64, {53: 6}, mpf(1) / 12
    ),
    "DIGAMMA": Table(
        lambda t: psi(0, mpf(3) / 2 + t) / (mpf(3) / 2 + t - DIGAMMA_ROOT),
        lambda t: mpf(1),
        -mpf(1) / 2,
        mpf(1) / 2,
        {53: 23},
    ),
    "DIGAMMA_REST": Table(
        digamma_rest, lambda w: w / 2, mpf(0), mpf(1) / 64, {53: 7}, mpf(1) / 12
    ),
}  # fmt: skip


SOURCES: dict[str, Coefficients] = {
    "EXP": {bits: form.exp for bits, form in maths_wide.FORM.items()},
    "LOG": {bits: form.log for bits, form in maths_wide.FORM.items()},
    "LOG_REST": maths_powers.LOG_REST,
    "SINE": maths_trigonometry.SINE,
    "COSINE": maths_trigonometry.COSINE,
    "ATAN": maths_arcs.ATAN,
    "ASIN": maths_arcs.ASIN,
    "SINH": maths_hyperbolic.SINH,
    "CBRT": maths_powers.CBRT,
    "ERF": maths_error.ERF,
    "ERF_WHOLE": maths_error.ERF_WHOLE,
    "SCALED_ERFC": maths_error.SCALED_ERFC,
    "LGAMMA": maths_gamma.LGAMMA,
    "STIRLING": maths_gamma.STIRLING,
    "DIGAMMA": maths_gamma.DIGAMMA,
    "DIGAMMA_REST": maths_gamma.DIGAMMA_REST,
}


def derive(table: Table, terms: int) -> tuple[tuple[float, ...], float]:
    """Coefficients from the constant on, as float64; the error left, in bits of the result."""
    falling = chebyfit(table.at, [table.low, table.high], terms)
    coefficients = tuple(float(c) for c in reversed(falling))
    points = linspace(table.low, table.high, 402)[1:-1]
    worst = max(fabs(table.weight(x) * (_at(coefficients, x) - table.at(x))) for x in points)
    return coefficients, float(log(worst, 2))


def pieces(number: Real, bits: tuple[int, ...]) -> tuple[float, ...]:
    """A number as a sum of floats with so many bits each, the largest first."""
    found: list[float] = []
    for count in bits:
        unit = mpf(2) ** (int(mp.floor(log(fabs(number), 2))) - count + 1)
        whole = mp.nint(number / unit) if count == 53 else mp.floor(number / unit)
        piece = float(whole * unit)
        found.append(piece)
        number = number - mpf(piece)
    return tuple(found)


def constants() -> dict[str, tuple[float, ...]]:
    """The numbers that are needed with more than 53 bits."""
    return {
        "HALF_PI, 53": pieces(pi / 2, (53, 53, 53)),
        "HALF_PI, 24": pieces(pi / 2, (25, 25, 53)),
        "PI": pieces(pi, (53, 53)),
        "1 / ln 2": pieces(1 / log(2), (53, 53)),
        "log10(2)": pieces(log(2, 10), (53, 53)),
        "log10(e)": pieces(1 / log(10), (53, 53)),
        "2 / 3": pieces(mpf(2) / 3, (53, 53)),
        "the root of digamma": pieces(DIGAMMA_ROOT, (53, 53)),
    }


def _at(coefficients: tuple[float, ...], x: Real) -> Real:
    total = mpf(0)
    for coefficient in reversed(coefficients):
        total = total * x + mpf(coefficient)
    return total


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="*", default=list(TABLES))
    for name in parser.parse_args().tables:
        print(f"{name}: Final = {{")
        for bits, terms in TABLES[name].terms.items():
            coefficients, error = derive(TABLES[name], terms)
            mark = "" if SOURCES[name][bits] == coefficients else ", NOT what the source has"
            print(f"    {bits}: (  # off by 2**{error:.1f} at most{mark}")
            print("".join(f"        {coefficient!r},\n" for coefficient in coefficients), end="")
            print("    ),")
        print("}")
    for name, numbers in constants().items():
        print(f"{name}: {numbers!r}")


if __name__ == "__main__":
    main()
