"""What does attention keep of the places before? Their keys and values, in fixed room."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.core.dtype import as_dtype, float32, int64
from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn.module import Module
from pellucid.tensor.boxes import dynamic_update_slice
from pellucid.tensor.creation import zeros
from pellucid.tensor.state import Buffer
from pellucid.tensor.tensor import Tensor


class KVCache(Module):
    """Keys and values of the places so far, for writing one place (or a few) after the other.

    Room for `length` places of `batch` sequences: `keys` and `values` are Buffers of shape (batch,
    heads, length, size), of which the first `filled` places count. A compiled step writes only what
    is new. One for a layer comes from its `MultiHeadAttention.cache(batch, length)`.

    >>> cache = KVCache(1, 8, heads=2, size=4)
    >>> cache.append(zeros((1, 2, 3, 4)), zeros((1, 2, 3, 4)))
    >>> int(cache.filled), cache.keys.shape
    (3, (1, 2, 8, 4))
    """

    def __init__(
        self, batch: int, length: int, *, heads: int, size: int, dtype: Any = float32
    ) -> None:
        shape = (batch, heads, length, size)
        if min(shape) < 1:
            raise StateError(f"KVCache: expected sizes from 1, got {shape_text(shape)}")
        self.length = length
        self.keys = Buffer(zeros(shape, dtype=as_dtype(dtype)))
        self.values = Buffer(zeros(shape, dtype=as_dtype(dtype)))
        self.filled = Buffer(np.int64(0))

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Put keys and values of the next places, (batch, heads, places, size), behind the others.

        Raises OpShapeError where they do not fit, or, where numbers are at hand, where the room is
        used up; in a traced function `attention` then gives NaN.
        """
        batch, heads, length, size = self.keys.shape
        count = keys.shape[2] if keys.ndim == 4 else 1
        if not keys.shape == values.shape == (batch, heads, count, size) or count > length:
            raise OpShapeError(
                f"KVCache: expected places of {shape_text(self.keys.shape)}, got keys "
                f"{shape_text(keys.shape)} and values {shape_text(values.shape)}"
                f"{at_line(user_source())}"
            )
        filled = self.filled.value
        if not filled.is_traced and int(filled) + count > length:
            raise OpShapeError(
                f"KVCache: there is room for {length} places, {int(filled)} are filled, "
                f"{count} more do not fit{at_line(user_source())}\n"
                "  make a longer one, or `reset()` it"
            )
        for cell, new in ((self.keys, keys), (self.values, values)):
            cell.assign(dynamic_update_slice(cell.value, new, (0, 0, filled, 0)))
        self.filled.assign(filled + count)

    def reset(self) -> None:
        """Begin anew. What is kept is not looked at before it is replaced."""
        self.filled.assign(zeros((), dtype=int64))
