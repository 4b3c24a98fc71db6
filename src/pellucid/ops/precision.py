"""In how many digits does a contraction read its operands? All they have, or rounded first.

An op of float32 operands that is given `precision=bfloat16` computes what the same op computes of
the operands rounded to bfloat16, with its sums and its result left in float32. Its derivative is
made of ops of the same precision: that of the rounding itself is 1, as that of a cast is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from pellucid.core.dtype import DType, bfloat16, float32
from pellucid.core.error import OpTypeError
from pellucid.ops.define import Array, Op


def require_precision(name: str, own: DType, precision: DType | None) -> None:
    """Raise OpTypeError unless operands of `own` can be read in this precision."""
    if precision is None or (own is float32 and precision is bfloat16):
        return
    raise OpTypeError(
        f"{name}: expected operands of float32 to be read in precision bfloat16, got {own} and "
        f"{precision}; cast the operands"
    )


def as_read(array: Array, precision: DType | None) -> Array:
    """A reference's operand as the op reads it, in the dtype that it has."""
    if precision is None or array.dtype.kind != "f":
        return array
    # A float64 here holds a float32: on its way to bfloat16 it is rounded once.
    narrow = array.astype(np.float32).astype(precision.numpy)
    return cast("Any", narrow).astype(array.dtype)


def unread(op: Op, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes with which an op gives the same of operands that are rounded already."""
    if op.kind != "contract":
        # An attention rounds what it makes on its way, too.
        return dict(attrs)
    rest = {name: value for name, value in attrs.items() if name != "precision"}
    return rest | {"dtype": float32}
