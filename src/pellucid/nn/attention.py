"""How does a sequence look at itself, or at another one? By attention, and by several heads."""

from __future__ import annotations

import math
from typing import Any

from pellucid.core.dtype import as_dtype, float32
from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn.initializers import Initializer, find_initializer
from pellucid.nn.layers import Dense, Dropout
from pellucid.nn.module import Module
from pellucid.tensor import arithmetic as pe
from pellucid.tensor.products import matmul
from pellucid.tensor.reducing import max as maximum_over
from pellucid.tensor.reducing import places
from pellucid.tensor.reducing import sum as sum_over
from pellucid.tensor.shaping import permute_dims, reshape
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


def attention(
    query: Operand,
    key: Operand,
    value: Operand,
    *,
    mask: Operand | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query @ key^T * scale) @ value (Vaswani et al., NeurIPS 2017).

    `query` (..., rows, size), `key` (..., columns, size), `value` (..., columns, features); gives
    (..., rows, features). `scale` is 1 / sqrt(size) by default. `mask` is true where a row may look
    at a column, and broadcasts against (..., rows, columns); `causal` lets row i look at columns up
    to i. A row that may look nowhere gives zeros.

    >>> one = as_tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> print(attention(one, one, one, causal=True).numpy().round(2))
    [[1.   0.  ]
     [0.33 0.67]]
    """
    rows, columns, values = as_tensor(query), as_tensor(key), as_tensor(value)
    _require_fitting(rows, columns, values)
    factor = 1.0 / math.sqrt(rows.shape[-1]) if scale is None else scale
    turned = permute_dims(columns, (*range(columns.ndim - 2), columns.ndim - 1, columns.ndim - 2))
    scores = pe.multiply(matmul(rows, turned), factor)
    allowed = _allowed(scores.shape, mask, causal)
    return matmul(_softmax_where(allowed, scores), values)


class MultiHeadAttention(Module):
    """Attention by several heads side by side, with a Dense layer before and behind each.

    Input (batch, length, features); a head has features // heads of them. `forward(query)` is
    self-attention; `forward(query, key, value)` looks at another sequence, the value being the key
    if not given. Masks are true where a position may be looked at: `padding` (batch, columns),
    `mask` anything that broadcasts against (batch, heads, rows, columns); `causal` hides what comes
    later. `dropout` acts on the output.

    >>> from pellucid import zeros
    >>> MultiHeadAttention(2)(zeros((3, 5, 8)), causal=True).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        heads: int,
        *,
        features: int | None = None,
        use_bias: bool = True,
        dropout: float = 0.0,
        kernel_initializer: str | Initializer = "glorot_uniform",
        dtype: Any = float32,
    ) -> None:
        if heads < 1:
            raise StateError(f"MultiHeadAttention: expected at least 1 head, got {heads}")
        self.heads = heads
        self.features = features
        self.use_bias = use_bias
        self.kernel_initializer = find_initializer(kernel_initializer)
        self.dtype = as_dtype(dtype)
        self.dropout = Dropout(dropout)
        self.layers: dict[str, Dense] = {}

    def build(self, features: int) -> None:
        """Make the four layers for inputs with this many features; raises StateError."""
        width = features if self.features is None else self.features
        if width % self.heads:
            raise StateError(
                f"MultiHeadAttention: {self.heads} heads do not divide {width} features"
                f"{at_line(user_source())}"
            )
        units = {"query": width, "key": width, "value": width, "output": features}
        self.layers = {
            name: Dense(
                count,
                use_bias=self.use_bias,
                kernel_initializer=self.kernel_initializer,
                dtype=self.dtype,
            )
            for name, count in units.items()
        }

    def forward(
        self,
        query: Operand,
        key: Operand | None = None,
        value: Operand | None = None,
        *,
        padding: Operand | None = None,
        mask: Operand | None = None,
        causal: bool = False,
    ) -> Tensor:
        """query of shape (batch, rows, features) to the same shape."""
        rows = as_tensor(query)
        if rows.ndim != 3:
            raise OpShapeError(
                "MultiHeadAttention: expected (batch, length, features), got "
                f"{shape_text(rows.shape)}{at_line(user_source())}"
            )
        if not self.layers:
            self.build(rows.shape[-1])
        columns = rows if key is None else as_tensor(key)
        values = columns if value is None else as_tensor(value)
        heads = [
            self._split(self.layers[name](one))
            for name, one in (("query", rows), ("key", columns), ("value", values))
        ]
        shown = _both(padding, mask)
        found = attention(heads[0], heads[1], heads[2], mask=shown, causal=causal)
        return self.dropout(self.layers["output"](self._joined(found)))

    def _split(self, x: Tensor) -> Tensor:
        """(batch, length, width) to (batch, heads, length, size)."""
        batch, length, width = x.shape
        cut = reshape(x, (batch, length, self.heads, width // self.heads))
        return permute_dims(cut, (0, 2, 1, 3))

    def _joined(self, x: Tensor) -> Tensor:
        """(batch, heads, length, size) to (batch, length, width)."""
        batch, heads, length, size = x.shape
        return reshape(permute_dims(x, (0, 2, 1, 3)), (batch, length, heads * size))


def _both(padding: Operand | None, mask: Operand | None) -> Tensor | None:
    """One mask of both; the padding (batch, columns) holds for all heads and rows."""
    if padding is None:
        return None if mask is None else as_tensor(mask)
    columns = as_tensor(padding)
    if columns.ndim != 2:
        raise OpShapeError(
            f"MultiHeadAttention: expected padding of shape (batch, columns), got "
            f"{shape_text(columns.shape)}{at_line(user_source())}"
        )
    wide = reshape(columns, (columns.shape[0], 1, 1, columns.shape[1]))
    return wide if mask is None else pe.logical_and(wide, mask)


def _allowed(shape: tuple[int, ...], mask: Operand | None, causal: bool) -> Tensor | None:
    """Where a row may look, or None where it may look everywhere."""
    if not causal:
        return None if mask is None else as_tensor(mask)
    plane = shape[-2:]
    earlier = pe.less_equal(places(plane, 1), places(plane, 0))
    return earlier if mask is None else pe.logical_and(earlier, mask)


def _softmax_where(allowed: Tensor | None, scores: Tensor) -> Tensor:
    """softmax over the last axis, of the allowed elements alone; 0 for all others."""
    if allowed is not None:
        scores = pe.where(allowed, scores, _LOW.get(scores.dtype.name, -1e37))
    top = pe.stop_gradient(maximum_over(scores, axis=-1, keepdims=True))
    raised = pe.exp(pe.subtract(scores, top))
    if allowed is None:
        return pe.divide(raised, sum_over(raised, axis=-1, keepdims=True))
    shown = pe.where(allowed, raised, 0.0)
    total = sum_over(shown, axis=-1, keepdims=True)
    return pe.divide(shown, pe.where(pe.equal(total, 0.0), 1.0, total))


# So low that exp gives 0, and finite, so that a row without any element is no NaN.
_LOW = {"float16": -3e4}


def _require_fitting(rows: Tensor, columns: Tensor, values: Tensor) -> None:
    shapes = ", ".join(shape_text(one.shape) for one in (rows, columns, values))
    if min(rows.ndim, columns.ndim, values.ndim) < 2:
        raise OpShapeError(
            f"attention: expected at least 2 axes each, got {shapes}{at_line(user_source())}"
        )
    if rows.shape[-1] != columns.shape[-1] or columns.shape[-2] != values.shape[-2]:
        raise OpShapeError(
            "attention: expected query (rows, size), key (columns, size), value (columns, "
            f"features), got {shapes}{at_line(user_source())}"
        )
