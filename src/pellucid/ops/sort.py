"""What puts elements in order? argsort: the places of the elements along an axis, sorted.

argsort(x, axis, descending)   result[k] = where the element lies that comes k-th

Equal elements keep their order in both directions, NaN comes last, and -0.0 equals 0.0. The sorted
elements are a gather with it, and so are derivatives: no other op is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.core.dtype import int64
from pellucid.core.error import OpAxisError
from pellucid.core.shape import product
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import Array, Cost, NoDerivative, define, moved_bytes
from pellucid.ops.movement import normal_axes


def _infer(x: TensorType, *, axis: int, descending: bool) -> TensorType:
    if (axis,) != normal_axes("argsort", (axis,), x.rank):
        raise OpAxisError(f"argsort: expected an axis counted from 0, got {axis}")
    return TensorType(int64, x.shape)


def _reference(x: Array, *, axis: int, descending: bool) -> Array:
    # ~x turns the order of whole numbers round without overflow; -x that of the others but NaN.
    key = (~x if x.dtype.kind in "biu" else -x) if descending else x
    return np.argsort(key, axis=axis, kind="stable").astype(np.int64)


def _batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, axis: int, descending: bool
) -> Value:
    return argsort(operands[0], axis=axis + 1, descending=descending)


def _cost(
    operands: tuple[TensorType, ...], results: tuple[TensorType, ...], *, axis: int, **attrs: Any
) -> Cost:
    size = operands[0].shape[axis]
    passes = max(size - 1, 0).bit_length() if isinstance(size, int) else 1
    return Cost(product(operands[0].shape) * passes, moved_bytes(operands) + moved_bytes(results))


argsort = define(
    "argsort",
    infer=_infer,
    reference=_reference,
    derivative=NoDerivative("places are whole numbers"),
    batch=_batch,
    cost=_cost,
    what="the places in sorted order, stable",
)
