"""In which ways do people write an attention? Functions of query, key, value and perhaps a mask.

Each means softmax(query . key^T / 4, where it may look) . value; `CAUSAL` and `MASKED` say where.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pellucid as pe
from pellucid import nn

Attention = Callable[..., pe.Tensor]
T = pe.matrix_transpose


def softmax_written_out(scores: pe.Tensor, axis: int = -1) -> pe.Tensor:
    raised = pe.exp(scores - pe.max(scores, axis=axis, keepdims=True))
    return raised / pe.sum(raised, axis=axis, keepdims=True)


def softmax_by_reciprocal(scores: pe.Tensor) -> pe.Tensor:
    raised = pe.exp(scores)
    return raised * (1.0 / pe.sum(raised, axis=-1, keepdims=True))


def divided(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    return nn.softmax(q @ T(k) / math.sqrt(16)) @ v


def scaled_before(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    return softmax_written_out((q * 0.25) @ T(k)) @ v


def scaled_both(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    return softmax_by_reciprocal((q * 0.5) @ T(k / 2.0)) @ v


def columns_first(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    return T(softmax_written_out(k @ T(q) * 0.25, axis=-2)) @ v


def values_first(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    return T(T(v) @ T(nn.softmax(q @ T(k) * 0.25)))


def by_lower_triangle(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    scores = q @ T(k) * 0.25
    hidden = pe.tril(pe.ones(scores.shape[-2:])) == 0
    return nn.softmax(pe.where(hidden, -math.inf, scores)) @ v


def by_added_triangle(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    scores = q @ T(k) * 0.25
    low = pe.full(scores.shape[-2:], -math.inf, dtype=scores.dtype)
    return nn.softmax(scores + pe.triu(low, k=1)) @ v


def by_places(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    scores = q @ T(k)
    place = pe.arange(scores.shape[-1])
    seen = place[:, None] >= place[None, :]
    return softmax_written_out(pe.where(seen, scores / 4.0, -1e9)) @ v


def scaled_after(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    scores = q @ T(k)
    place = pe.arange(scores.shape[-1])
    return nn.softmax(pe.where(place[:, None] < place, -1e9, scores) * 0.25) @ v


def by_mask(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, mask: pe.Tensor) -> pe.Tensor:
    return nn.softmax(pe.where(mask, q @ T(k) * 0.25, -math.inf)) @ v


def by_added_mask(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, mask: pe.Tensor) -> pe.Tensor:
    shown = pe.astype(mask, q.dtype)
    return nn.softmax(q @ T(k) * 0.25 + (1.0 - shown) * -1e9) @ v


def by_masked_exponentials(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, mask: pe.Tensor) -> pe.Tensor:
    scores = q @ T(k) * 0.25
    raised = pe.where(mask, pe.exp(scores - pe.max(scores, axis=-1, keepdims=True)), 0.0)
    return (raised / pe.sum(raised, axis=-1, keepdims=True)) @ v


PLAIN: tuple[Attention, ...] = (
    divided,
    scaled_before,
    scaled_both,
    columns_first,
    values_first,
)
CAUSAL: tuple[Attention, ...] = (by_lower_triangle, by_added_triangle, by_places, scaled_after)
MASKED: tuple[Attention, ...] = (by_mask, by_added_mask, by_masked_exponentials)


def with_lengths_before_heads(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    """Operands of shape (batch, length, heads, size), as layers have them."""
    turned = (pe.permute_dims(x, (0, 2, 1, 3)) for x in (q, k, v))
    return pe.permute_dims(divided(*turned), (0, 2, 1, 3))


def with_repeated_heads(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    """Key and value have fewer heads, which are repeated."""
    times = q.shape[1] // k.shape[1]
    return divided(q, pe.repeat(k, times, axis=1), pe.repeat(v, times, axis=1))


def with_grouped_heads(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
    """Key and value have fewer heads, and the query's are grouped."""
    batch, heads, rows, size = q.shape
    grouped = pe.reshape(q, (batch, k.shape[1], heads // k.shape[1], rows, size))
    key, value = (pe.expand_dims(x, axis=2) for x in (k, v))
    return pe.reshape(by_places(grouped, key, value), (batch, heads, rows, v.shape[-1]))
