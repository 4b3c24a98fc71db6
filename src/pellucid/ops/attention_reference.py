"""What does an attention compute, in NumPy? One row of one head after the other."""

# Arrays are indexed here, of whose types NumPy says little.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.ops.attention_forms import HeadsFirst, Options, drawn_columns, rows_at_once
from pellucid.ops.define import Array
from pellucid.ops.precision import as_read
from pellucid.ops.random import random_bits


def reference(
    query: Array, key: Array, value: Array, *rest: Array, heads_first: HeadsFirst, **attrs: Any
) -> Array:
    """What `attention` computes."""
    pairs = zip((query, key, value), heads_first[:3], strict=True)
    query, key, value = (x.swapaxes(1, 2) if first else x for x, first in pairs)
    options = Options(**attrs)
    query, key, value = (as_read(x, options.precision) for x in (query, key, value))
    one = _weigh(query, key, rest, options)
    found = np.zeros((*query.shape[:3], value.shape[3]), query.dtype)
    for batch, row, head in np.ndindex(*query.shape[:3]):
        shared = head // (query.shape[2] // key.shape[2])
        last = np.s_[: one.reach[batch, row]]
        kept = as_read((one.raised * one.kept)[batch, head, row, last], options.precision)
        mine = kept @ value[batch, last, shared]
        found[batch, row, head] = mine / (one.total[batch, head, row] or 1.0)
    return found.swapaxes(1, 2) if heads_first[3] else found


def gradient_reference(
    query: Array,
    key: Array,
    value: Array,
    g: Array,
    *rest: Array,
    heads_first: HeadsFirst,
    **attrs: Any,
) -> Array:
    """What `attention_gradient` computes."""
    pairs = zip((query, key, value, g), heads_first, strict=True)
    query, key, value, g = (x.swapaxes(1, 2) if first else x for x, first in pairs)
    options = Options(**attrs)
    query, key, value, g = (as_read(x, options.precision) for x in (query, key, value, g))
    one = _weigh(query, key, rest, options)
    shares = [np.zeros(x.shape, query.dtype) for x in (query, key, value)]
    for batch, row, head in np.ndindex(*query.shape[:3]):
        shared = head // (query.shape[2] // key.shape[2])
        last = np.s_[: one.reach[batch, row]]
        w = one.raised[batch, head, row, last] / (one.total[batch, head, row] or 1.0)
        kept = one.kept[batch, head, row, last]
        dw = kept * (value[batch, last, shared] @ g[batch, row, head])
        ds = as_read(w * (dw - np.sum(w * dw)) * options.scale, options.precision)
        dropped = as_read(w * kept, options.precision)
        shares[0][batch, row, head] = ds @ key[batch, last, shared]
        shares[1][batch, last, shared] += np.outer(ds, query[batch, row, head])
        shares[2][batch, last, shared] += np.outer(dropped, g[batch, row, head])
    lying = zip(shares, heads_first[:3], strict=True)
    return np.concatenate([(x.swapaxes(1, 2) if first else x).reshape(-1) for x, first in lying])


@dataclass(frozen=True, slots=True)
class _Weighed:
    """exp(score - largest) by (batch, head, row, column), the sums of rows, what dropout makes of
    each (a factor), and by (batch, row) the columns in reach.
    """

    raised: Array
    total: Array
    kept: Array
    reach: Array


def _weigh(query: Array, key: Array, rest: tuple[Array, ...], options: Options) -> _Weighed:
    batch, rows, heads, _ = query.shape
    columns = key.shape[1]
    wide = np.repeat(key, heads // max(key.shape[2], 1), axis=2)
    scores: Array = np.einsum("brhd,bchd->bhrc", query, wide) * options.scale
    ends: Array = np.full(batch, columns)
    first: Array = np.zeros(batch, np.int64)
    if options.lengths:
        ends = np.minimum(rest[options.mask], columns)
        first = ends - rows
    row, column = np.arange(rows)[:, None], np.arange(columns)[None, :]
    shown: Array = (column < ends[:, None, None])[:, None]
    if options.causal:
        shown = shown & (column <= row + first[:, None, None])[:, None]
    if options.mask:
        shown = shown & rest[0]
    scores = np.where(shown, scores, -np.inf)
    top: Array = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    raised: Array = np.exp(scores - np.where(top == -np.inf, 0.0, top))
    kept: Array = np.ones(1)
    if options.dropout:
        shape = (batch, heads, rows, drawn_columns(columns))
        bits = random_bits.reference(rest[-2], rest[-1], shape=shape)[..., :columns] >> 8
        stays = 1.0 - options.dropout
        kept = (bits * 2.0**-24 < np.float32(stays)) / stays
    reach = _reach(rows, columns, ends, first, options.causal)
    return _Weighed(raised, raised.sum(axis=-1), np.broadcast_to(kept, raised.shape), reach)


def _reach(rows: int, columns: int, ends: Array, first: Array, causal: bool) -> Array:
    """By (batch, row): the columns that take part for the row's block."""
    block = rows_at_once(rows, columns)
    reach: Array = np.broadcast_to(ends[:, None], (len(ends), rows))
    if causal:
        last = (np.arange(rows) // block + 1) * block
        reach = np.minimum(reach, last[None, :] + first[:, None])
    return np.clip(reach, 0, columns)
