"""Which function of the maths files realises which op? Two tables, of one operand and of two.

All take float32 or float64 of any lane count, and give results that a 16-bit float is rounded from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pellucid.engines.llvm import (
    maths,
    maths_arcs,
    maths_error,
    maths_gamma,
    maths_hyperbolic,
    maths_powers,
    maths_trigonometry,
)
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value

OF_ONE: Final[dict[str, Callable[[Function, Value], Value]]] = {
    "exp": maths.exp,
    "exp2": maths_powers.exp2,
    "expm1": maths.expm1,
    "log": maths.log,
    "log1p": maths.log1p,
    "log2": maths_powers.log2,
    "log10": maths_powers.log10,
    "rsqrt": maths_powers.rsqrt,
    "cbrt": maths_powers.cbrt,
    "sin": maths_trigonometry.sin,
    "cos": maths_trigonometry.cos,
    "tan": maths_trigonometry.tan,
    "asin": maths_arcs.asin,
    "acos": maths_arcs.acos,
    "atan": maths_arcs.atan,
    "sinh": maths_hyperbolic.sinh,
    "cosh": maths_hyperbolic.cosh,
    "tanh": maths_hyperbolic.tanh,
    "asinh": maths_hyperbolic.asinh,
    "acosh": maths_hyperbolic.acosh,
    "atanh": maths_hyperbolic.atanh,
    "erf": maths_error.erf,
    "erfc": maths_error.erfc,
    "lgamma": maths_gamma.lgamma,
    "digamma": maths_gamma.digamma,
}
OF_TWO: Final[dict[str, Callable[[Function, Value, Value], Value]]] = {
    "pow": maths_powers.power,
    "atan2": maths_arcs.atan2,
}
FAMILIES: Final[dict[str, Callable[[Function, Value, int], Value]]] = {
    "polygamma": maths_gamma.polygamma,
}
"""A function for each whole number: `polygamma.2` is the one of order 2."""
