"""How does a sequence look at itself, or at another one? By attention, and by several heads."""

from __future__ import annotations

import math
from typing import Any

from pellucid.core.dtype import as_dtype, float32, float64
from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn.initializers import Initializer, find_initializer
from pellucid.nn.kv_cache import KVCache
from pellucid.nn.layers import Dense, Dropout
from pellucid.nn.module import Module
from pellucid.ops.attention import attention as attention_op
from pellucid.ops.attention_forms import USUAL
from pellucid.tensor import arithmetic as pe
from pellucid.tensor import random
from pellucid.tensor.arithmetic import astype, broadcast_shapes, same_dtype
from pellucid.tensor.dispatch import apply
from pellucid.tensor.precision import reading
from pellucid.tensor.shaping import broadcast_to, permute_dims, reshape
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
    lengths: Operand | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(query @ key^T * scale) @ value (Vaswani et al., NeurIPS 2017).

    `query` (..., heads, rows, size), `key` (..., heads, columns, size), `value` (..., heads,
    columns, features); gives (..., heads, rows, features). With two or three axes there is one
    head. Key and value may have fewer heads, so many times fewer: then as many query heads in turn
    look at one of theirs (grouped-query attention; Ainslie et al., EMNLP 2023). `scale` is
    1 / sqrt(size) by default.

    `mask` is true where a row may look at a column, and broadcasts against (..., heads, rows,
    columns). `causal` lets row i look at columns up to i. `lengths`, whole numbers that broadcast
    against the axes before the heads, say how many columns count, as in a cache of keys and values
    that is filled step by step; the rows then are the last ones of so many, for `causal`. A row
    that may look nowhere gives zeros. `dropout` is the probability with which a weight is set to 0
    (others are scaled up), by a draw of the default random generator.

    The scores of a few rows at a time are all that is held: their number is no matter of memory.
    Narrow floats are computed in float32 and rounded at the end. Raises OpShapeError.

    >>> one = as_tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> print(attention(one, one, one, causal=True).numpy().round(2))
    [[1.   0.  ]
     [0.33 0.67]]
    """
    rows, columns, values = _of_one_dtype(query, key, value)
    _require_fitting(rows, columns, values)
    given = rows.dtype
    if given not in (float32, float64):
        rows, columns, values = (astype(one, float32) for one in (rows, columns, values))
    headed = max(one.ndim for one in (rows, columns, values)) > 3
    operands = [_with_heads(one, headed) for one in (rows, columns, values)]
    if mask is not None:
        operands.append(_with_heads(as_tensor(mask), headed))
    shapes = [one.shape[:-3] for one in operands]
    if lengths is not None:
        shapes.append(as_tensor(lengths).shape)
    leading = broadcast_shapes("attention", *shapes)
    laid_out = [_laid_out(one, leading) for one in operands[:3]]
    laid_out += [_mask_laid_out(one, leading) for one in operands[3:]]
    if lengths is not None:
        ends = broadcast_to(lengths, leading)
        laid_out.append(reshape(ends, (ends.size,)))
    if dropout:
        laid_out += random.default_generator.next_draw()
    attrs = {
        "causal": causal,
        "dropout": float(dropout),
        "heads_first": USUAL,
        "lengths": lengths is not None,
        "mask": mask is not None,
        **dict(reading(given)),
        "scale": 1.0 / math.sqrt(max(rows.shape[-1], 1)) if scale is None else float(scale),
    }
    found = permute_dims(apply(attention_op, tuple(laid_out), tuple(attrs.items())), (0, 2, 1, 3))
    heads = found.shape[1:2] if headed else ()
    return astype(reshape(found, (*leading, *heads, *found.shape[2:])), given)


class MultiHeadAttention(Module):
    """Attention by several heads side by side, with a Dense layer before and behind each.

    Input (batch, length, features); a head has features // heads of them. `forward(query)` is
    self-attention; `forward(query, key, value)` looks at another sequence, the value being the key
    if not given. Masks are true where a position may be looked at: `padding` (batch, columns),
    `mask` anything that broadcasts against (batch, heads, rows, columns); `causal` hides what comes
    later. `dropout` acts on the output. With a `cache` (of `cache(batch, length)`) the input is the
    next places of a sequence, which look at all before them and at themselves.

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
        cache: KVCache | None = None,
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
        queries, keys, values = (
            self._split(self.layers[name](one))
            for name, one in (("query", rows), ("key", columns), ("value", values))
        )
        shown = _both(padding, mask)
        if cache is None:
            found = attention(
                *map(_heads_first, (queries, keys, values)), mask=shown, causal=causal
            )
        else:
            self._require_self_attention(key, value)
            found = self._look_back(queries, keys, values, shown, cache)
        return self.dropout(self.layers["output"](self._joined(found)))

    def cache(self, batch: int, length: int) -> KVCache:
        """Room for keys and values of `length` places; the layer must have been called before."""
        if not self.layers:
            raise StateError(
                "MultiHeadAttention: expected a layer that was called, whose sizes are known"
                f"{at_line(user_source())}"
            )
        width = self.layers["key"].units
        size = width // self.heads
        return KVCache(batch, length, heads=self.heads, size=size, dtype=self.dtype)

    def _require_self_attention(self, key: Operand | None, value: Operand | None) -> None:
        if key is not None or value is not None:
            raise StateError(
                "MultiHeadAttention: expected no key and value beside a cache, which has them"
                f"{at_line(user_source())}"
            )

    def _look_back(
        self, queries: Tensor, keys: Tensor, values: Tensor, shown: Tensor | None, cache: KVCache
    ) -> Tensor:
        """Attention of the next places to all that are kept, themselves included."""
        cache.append(_heads_first(keys), _heads_first(values))
        kept = (_heads_first(queries), cache.keys.value, cache.values.value)
        filled = cache.filled.value
        found = attention(*kept, mask=shown, causal=True, lengths=filled)
        if not filled.is_traced:
            return found
        return pe.where(pe.less_equal(filled, cache.length), found, math.nan)

    def _split(self, x: Tensor) -> Tensor:
        """(batch, length, width) to (batch, length, heads, size)."""
        batch, length, width = x.shape
        return reshape(x, (batch, length, self.heads, width // self.heads))

    def _joined(self, x: Tensor) -> Tensor:
        """(batch, heads, length, size) to (batch, length, width)."""
        batch, heads, length, size = x.shape
        return reshape(permute_dims(x, (0, 2, 1, 3)), (batch, length, heads * size))


def _heads_first(x: Tensor) -> Tensor:
    """(batch, length, heads, size) to (batch, heads, length, size)."""
    return permute_dims(x, (0, 2, 1, 3))


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


def _of_one_dtype(query: Operand, key: Operand, value: Operand) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = same_dtype(query, key)
    columns, values = same_dtype(columns, value)
    return same_dtype(rows, values)[0], columns, values


def _with_heads(x: Tensor, headed: bool) -> Tensor:
    """x with three axes at least, the third last of which are heads."""
    padded = (*(1 for _ in range(2 - x.ndim)), *x.shape)
    shape = padded if headed else (*padded[:-2], 1, *padded[-2:])
    return reshape(x, (*(1 for _ in range(3 - len(shape))), *shape))


def _laid_out(x: Tensor, leading: tuple[int, ...]) -> Tensor:
    """(..., heads, length, size) as (batch, length, heads, size)."""
    axes = tuple(range(x.ndim))
    turned = permute_dims(x, (*axes[:-3], axes[-2], axes[-3], axes[-1]))
    return _merged(turned, leading)


def _mask_laid_out(mask: Tensor, leading: tuple[int, ...]) -> Tensor:
    """A mask as (batch, heads, rows, columns), each of which may be 1."""
    same = all(size == 1 for size in mask.shape[:-3])
    return reshape(mask, (1, *mask.shape[-3:])) if same else _merged(mask, leading)


def _merged(x: Tensor, leading: tuple[int, ...]) -> Tensor:
    """The axes before the last three broadcast, and as one."""
    last = x.shape[-3:]
    return reshape(broadcast_to(x, (*leading, *last)), (math.prod(leading), *last))


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
