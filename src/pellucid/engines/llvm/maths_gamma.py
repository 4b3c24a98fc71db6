"""The logarithm of the gamma function and its derivatives: lgamma, digamma, polygamma.

Between 8 and infinity there is an asymptotic series; below, a recurrence leads to an interval with
a polynomial that has the function's zeros as factors; from negative numbers one leads to positive
ones (Abramowitz and Stegun, chapter 6). float32 takes the same way as float64, for the zeros on the
negative side come by cancellation: there the absolute error is what is bounded.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

from pellucid.engines.llvm.maths import FLOAT64, log_body, polynomial
from pellucid.engines.llvm.maths_trigonometry import cos_near_zero, sin_near_zero
from pellucid.engines.llvm.maths_wide import Table, any_lane, in_float64, two_product
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value
from pellucid.ops.special import BERNOULLI

# log(gamma(2 + t)) = t LGAMMA(t) for -3/4 <= t <= 1/2.
LGAMMA: Final[Table] = {
    53: (
        0.42278433509846713,
        0.3224670334241132,
        -0.06735230105319803,
        0.020580808427784605,
        -0.007385551028681512,
        0.002890510330735603,
        -0.0011927539113632116,
        0.0005096695250613079,
        -0.00022315476626183224,
        9.94575037206372e-05,
        -4.492613417222439e-05,
        2.050735916377729e-05,
        -9.440295643329289e-06,
        4.373455647232756e-06,
        -2.035450933367171e-06,
        9.634073192949235e-07,
        -4.5855335925043413e-07,
        1.8327792622502426e-07,
        -9.423130042125474e-08,
        1.0227175181175715e-07,
        -2.4687569244652835e-09,
        -3.150027782334188e-08,
        -3.9681207194105607e-08,
    ),
}
# x (log(gamma(x)) - (x - 1/2) log(x) + x - log(2 pi) / 2) = STIRLING(1 / x²) for x >= 8.
STIRLING: Final[Table] = {
    53: (
        0.0833333333333333,
        -0.002777777777606244,
        0.0007936506649488252,
        -0.0005952025951802712,
        0.0008372834512071336,
        -0.0016526004455595122,
    ),
}
# digamma(3/2 + t) = (3/2 + t - ROOT) DIGAMMA(t) for |t| <= 1/2.
DIGAMMA: Final[Table] = {
    53: (
        0.9510558760318328,
        -0.4236274212814606,
        0.24054248424078697,
        -0.14840492305388092,
        0.09498872445289039,
        -0.06192213327548831,
        0.040760833940846085,
        -0.026975796659787055,
        0.017907248317313294,
        -0.011908220105959716,
        0.007927021796868154,
        -0.005279937255532708,
        0.003518106563802472,
        -0.0023454947397380833,
        0.0015633696313653504,
        -0.0010364584817312839,
        0.0006909255761282986,
        -0.00048595039220036254,
        0.00032395945401345196,
        -0.00014480643368061614,
        9.653646261410062e-05,
        -0.0001782188548855923,
        0.00011881232908510335,
    ),
}
ROOT: Final = (1.4616321449683622, 9.549995429965697e-17)
# x² (log(x) - 1 / (2 x) - digamma(x)) = DIGAMMA_REST(1 / x²) for x >= 8.
DIGAMMA_REST: Final[Table] = {
    53: (
        0.08333333333333333,
        -0.008333333333278636,
        0.0039682539119537084,
        -0.0041666448230497,
        0.007571689620283902,
        -0.020697987372370493,
        0.06362150587634356,
    ),
}

PI: Final = (3.141592653589793, 1.2246467991473532e-16)
LARGE: Final = 8.0
STEPS: Final = 6
"""The recurrence comes down from LARGE by so many steps at most."""


def lgamma(f: Function, x: Value) -> Value:
    """log |gamma(x)|; inf at 0, at negative whole numbers and at ±inf.

    Within 0.6 ulp in float32 and 4 in float64; below -1/2, within 4e-15 of the larger of 1 and the
    result (its zeros are there).
    """
    return in_float64(f, "lgamma", (x,), _lgamma)


def digamma(f: Function, x: Value) -> Value:
    """The derivative of lgamma; ∓inf at ±0, nan at negative whole numbers and at -inf.

    Within 0.6 ulp in float32 and 4 in float64; below 0, within 4e-15 of the larger of 1 and the
    result (its zeros are there).
    """
    return in_float64(f, "digamma", (x,), _digamma)


def polygamma(f: Function, x: Value, order: int) -> Value:
    """The derivative of digamma of this order, from 1 on.

    At the poles inf for odd orders; for even ones ∓inf at ±0, else nan. Within 0.6 ulp in float32
    and 2 order + 4 in float64; below 0, as for `digamma`, if the order is even.
    """

    def body(g: Function, bits: int, x: Value) -> Value:
        return _polygamma(g, x, order)

    return in_float64(f, f"polygamma{order}", (x,), body)


def _lgamma(f: Function, bits: int, x: Value) -> Value:
    size = f.fabs(x)
    near = f.fcmp("olt", size, 0.5)
    # Near 0 gamma(x) = gamma(x + 2) / (x (x + 1)), for either sign.
    total = _lgamma_positive(f, size, f.select(near, x, size))
    below = f.fcmp("ole", x, -0.5)

    def reflected() -> list[Value]:
        sine, _ = _sine_and_cosine(f, size)
        mirror = f.fdiv(PI[0], f.fmul(size, f.fabs(sine)))
        result = f.fsub(log_body(f, FLOAT64, mirror), total)
        # From 2**52 on all numbers are whole; there the series is infinite before its mirror is.
        pole = f.fcmp("oeq", sine, 0.0)
        return [f.select(below, f.select(pole, math.inf, result), total)]

    (result,) = f.if_else(any_lane(f, below), reflected, lambda: [total], name="below")
    return f.select(f.fcmp("oeq", size, math.inf), math.inf, result)


def _lgamma_positive(f: Function, size: Value, x: Value) -> Value:
    """lgamma(x) for x > -1/2; `size` is its absolute value."""
    one = f.splat(1.0, x.type)
    tests = [f.fcmp("olt", size, bound) for bound in (0.5, 1.25, 2.5)]
    steps, product = f.splat(2.0, x.type), one
    # Down to 3/2 ... 5/2, dividing by each factor.
    for step in range(1, STEPS + 1):
        longer = f.fcmp("oge", size, step + 1.5)
        steps = f.select(longer, step + 2.0, steps)
        product = f.select(longer, f.fmul(product, f.fsub(size, float(step))), product)
    product = f.select(tests[1], size, product)
    product = f.select(tests[0], f.fmul(size, f.fadd(x, 1.0)), product)
    steps = f.select(tests[1], 1.0, steps)
    steps = f.select(tests[0], 0.0, steps)
    large = f.fcmp("oge", size, LARGE)
    log = log_body(f, FLOAT64, f.select(large, size, product))
    t = f.fsub(x, steps)
    curve = f.fmul(t, polynomial(f, t, LGAMMA[53]))
    low = f.fadd(curve, f.select(tests[1], f.fneg(log), log))
    inverse = f.fdiv(1.0, size)
    rest = f.fmul(inverse, polynomial(f, f.fmul(inverse, inverse), STIRLING[53]))
    # (x - 1/2) log(x) - x = (x - 1/2) (log(x) - 1) - 1/2
    rest = f.fadd(rest, 0.5 * math.log(2 * math.pi) - 0.5)
    high = f.multiply_add(f.fsub(size, 0.5), f.fsub(log, 1.0), rest)
    return f.select(large, high, low)


def _digamma(f: Function, bits: int, x: Value) -> Value:
    size = f.fabs(x)
    far = f.fcmp("ole", x, -1.0)
    total = _digamma_positive(f, f.select(far, size, x))

    def reflected() -> list[Value]:
        # digamma(-z) = digamma(z) + 1 / z + pi cot(pi z)
        sine, cosine = _sine_and_cosine(f, size)
        turn = f.fdiv(f.fmul(cosine, PI[0]), sine)
        result = f.fadd(f.fadd(total, f.fdiv(1.0, size)), turn)
        pole = f.fcmp("oeq", sine, 0.0)
        return [f.select(far, f.select(pole, math.nan, result), total)]

    (result,) = f.if_else(any_lane(f, far), reflected, lambda: [total], name="below")
    return f.select(f.fcmp("oeq", x, -math.inf), math.nan, result)


def _digamma_positive(f: Function, x: Value) -> Value:
    """digamma(x) for x > -1."""
    zero, one = f.splat(0.0, x.type), f.splat(1.0, x.type)
    # digamma(x) = digamma(x - k) + 1 / (x - 1) + ... + 1 / (x - k), the sum as one fraction.
    over, under, steps = zero, one, zero
    for step in range(1, STEPS + 1):
        longer = f.fcmp("oge", x, step + 1.0)
        factor = f.fsub(x, float(step))
        over = f.select(longer, f.multiply_add(over, factor, under), over)
        under = f.select(longer, f.fmul(under, factor), under)
        steps = f.select(longer, float(step), steps)
    below_one, below_zero = f.fcmp("olt", x, 1.0), f.fcmp("olt", x, 0.0)
    next_one = f.fadd(x, 1.0)
    twice = f.fneg(f.fadd(x, next_one))
    over = f.select(below_zero, twice, f.select(below_one, -1.0, over))
    under = f.select(below_zero, f.fmul(x, next_one), f.select(below_one, x, under))
    steps = f.select(below_zero, -2.0, f.select(below_one, -1.0, steps))
    y = f.fsub(x, steps)
    from_root = f.fsub(f.fsub(y, ROOT[0]), ROOT[1])
    low = f.fmul(from_root, polynomial(f, f.fsub(y, 1.5), DIGAMMA[53]))
    low = f.fadd(f.fdiv(over, under), low)
    inverse = f.fdiv(1.0, x)
    square = f.fmul(inverse, inverse)
    rest = f.fmul(square, polynomial(f, square, DIGAMMA_REST[53]))
    high = f.fsub(log_body(f, FLOAT64, x), f.multiply_add(inverse, 0.5, rest))
    return f.select(f.fcmp("oge", x, LARGE), high, low)


def _polygamma(f: Function, x: Value, order: int) -> Value:
    below = f.fcmp("olt", x, 0.0)
    total = _polygamma_positive(f, f.select(below, f.fsub(1.0, x), x), order)

    def reflected() -> list[Value]:
        # (-1)**n polygamma(n, 1 - x) - polygamma(n, x) = pi d**n/dx**n cot(pi x)
        sine, cosine = _sine_and_cosine(f, f.fabs(x))
        cot = f.fneg(f.fdiv(cosine, sine))
        mirror = f.fneg(total) if order % 2 else total
        turn = _times(f, polynomial(f, cot, _cotangent(order)), math.pi ** (order + 1))
        result = f.fsub(mirror, turn)
        at_pole = math.inf if order % 2 else math.nan
        result = f.select(f.fcmp("oeq", sine, 0.0), at_pole, result)
        return [f.select(below, result, total)]

    (result,) = f.if_else(any_lane(f, below), reflected, lambda: [total], name="below")
    return f.select(f.fcmp("oeq", x, -math.inf), math.nan, result)


def _polygamma_positive(f: Function, x: Value, order: int) -> Value:
    """(-1)**(n+1) n! (x**-(n+1) + (x+1)**-(n+1) + ...): some terms, then Euler and Maclaurin."""
    shift = order + 10
    total = f.splat(0.0, x.type)
    for step in reversed(range(shift)):
        term = _whole_power(f, f.fadd(x, float(step)) if step else x, order + 1)
        total = f.fadd(total, f.fdiv(1.0, term))
    inverse = f.fdiv(1.0, f.fadd(x, float(shift)))
    square = f.fmul(inverse, inverse)
    curve = polynomial(f, square, _euler_maclaurin(order))
    curve = f.multiply_add(square, curve, f.multiply_add(inverse, 0.5, 1 / order))
    tail = f.fmul(_whole_power(f, inverse, order), curve)
    sign = 1.0 if order % 2 else -1.0
    return _times(f, f.fadd(total, tail), sign * math.factorial(order))


def _times(f: Function, value: Value, number: float) -> Value:
    return value if number == 1.0 else f.fmul(value, number)


def _euler_maclaurin(order: int) -> tuple[float, ...]:
    """Of X**2 (X**n zeta(n + 1, X) - 1 / n - 1 / (2 X)), by 1 / X²."""
    found: list[float] = []
    for index, bernoulli in enumerate(BERNOULLI, start=1):
        rising = math.factorial(2 * index + order - 1)
        size = math.factorial(2 * index) * math.factorial(order)
        found.append(float(bernoulli * Fraction(rising, size)))
    return tuple(found)


def _cotangent(order: int) -> tuple[float, ...]:
    """The derivative of cot as a polynomial in cot: each is -(1 + c²) times that before's."""
    found = [0, 1]
    for _ in range(order):
        slopes = [power * factor for power, factor in enumerate(found)][1:]
        found = [-a - b for a, b in zip([*slopes, 0, 0], [0, 0, *slopes], strict=True)]
    return tuple(float(number) for number in found)


def _whole_power(f: Function, x: Value, power: int) -> Value:
    result: Value | None = None
    while power:
        if power & 1:
            result = x if result is None else f.fmul(result, x)
        power >>= 1
        x = f.fmul(x, x) if power else x
    assert result is not None, "a power from 1 on"
    return result


def _sine_and_cosine(f: Function, size: Value) -> tuple[Value, Value]:
    """sin(pi r) and cos(pi r), where r is how far the number is from the nearest whole one."""
    # To the nearest whole number; from 2**52 on the number itself.
    rounded = f.fsub(f.fadd(size, FLOAT64.shifter), FLOAT64.shifter)
    rounded = f.select(f.fcmp("oge", size, 2.0**51), size, rounded)
    rest = f.fsub(size, rounded)
    distance = f.fabs(rest)
    swapped = f.fcmp("ogt", distance, 0.25)
    turn = f.select(swapped, f.fsub(0.5, distance), distance)
    head, tail = two_product(f, turn, f.splat(PI[0], size.type))
    angle = (head, f.multiply_add(turn, PI[1], tail))
    sine, cosine = sin_near_zero(f, 53, angle), cos_near_zero(f, 53, angle)
    first = f.select(swapped, cosine, sine)
    return f.copysign(first, rest), f.select(swapped, sine, cosine)
