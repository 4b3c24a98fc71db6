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


def _steps(name: str, reference: Callable[..., Array]) -> Op:
    return elementwise(name, on=FLOATING, reference=reference, partials=(_flat,))


floor = _steps("floor", np.floor)
ceil = _steps("ceil", np.ceil)
trunc = _steps("trunc", np.trunc)
round_ = _steps("round", np.rint)
"""To the nearest whole number, ties to the even one."""

sign = elementwise("sign", on=NUMERIC, reference=np.sign, partials=(_flat,))
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
)
remainder = elementwise(
    "remainder",
    on=NUMERIC,
    reference=_quietly(np.remainder),
    partials=(One(), lambda y, a, b: neg(floor_divide(a, b))),
)
