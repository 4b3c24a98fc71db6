"""Whole numbers near a number: rounding, and division that leaves a remainder.

Remainders are NumPy's: lhs = floor_divide * rhs + remainder, where the remainder has the sign of
the divisor. Integers divided by 0 give 0, for both. Where a function steps its derivative is 0.
"""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pellucid.core.dtype import FLOATING, NUMERIC
from pellucid.ir.graph import Value
from pellucid.ops.define import Array, One, Op
from pellucid.ops.elementwise import elementwise, neg
from pellucid.ops.movement import full_like


def _flat(y: Value, *operands: Value) -> Value:
    return full_like(y, 0.0)


def _steps(name: str, reference: Callable[..., Array], what: str) -> Op:
    return elementwise(name, on=FLOATING, reference=reference, partials=(_flat,), what=what)


floor = _steps("floor", np.floor, what="the next whole number down")
ceil = _steps("ceil", np.ceil, what="the next whole number up")
trunc = _steps("trunc", np.trunc, what="the next whole number towards 0")
round_ = _steps("round", np.rint, what="the nearest whole number, ties to even")
"""To the nearest whole number, ties to the even one."""

sign = elementwise(
    "sign", on=NUMERIC, reference=np.sign, partials=(_flat,), what="-1, 0 or 1 by the sign"
)
"""-1, 0 or 1; NaN stays."""


def _quietly(divide: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """NumPy's division, without its warning where integers are divided by 0."""

    def reference(lhs: Array, rhs: Array) -> Array:
        with np.errstate(all="ignore"):
            return divide(lhs, rhs)

    return reference


floor_divide = elementwise(
    "floor_divide",
    on=NUMERIC,
    reference=_quietly(np.floor_divide),
    partials=(_flat, _flat),
    what="a / b rounded down",
)
remainder = elementwise(
    "remainder",
    on=NUMERIC,
    reference=_quietly(np.remainder),
    partials=(One(), lambda y, a, b: neg(floor_divide(a, b))),
    what="what floor_divide leaves",
)
