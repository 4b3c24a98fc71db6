"""Does attention look where it may, and nowhere else?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.nn.differences import assert_gradient_is_the_difference

RNG = np.random.default_rng(8)
Q, K, V = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 5, 4)), RNG.normal(size=(2, 5, 6))


def by_rows(q: Any, k: Any, v: Any, allowed: Any) -> Any:
    """Attention one row at a time, over the allowed columns alone."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for b, i in np.ndindex(q.shape[:2]):
        columns = np.flatnonzero(allowed[b, i])
        if len(columns):
            scores = np.exp(k[b, columns] @ q[b, i] / np.sqrt(q.shape[-1]))
            out[b, i] = scores / scores.sum() @ v[b, columns]
    return out


def test_attention_is_its_formula():
    found = nn.attention(Q, K, V)
    np.testing.assert_allclose(np.asarray(found), by_rows(Q, K, V, np.ones((2, 3, 5))), rtol=1e-12)


def test_a_mask_hides_columns_and_a_row_without_any_is_zero():
    mask = RNG.integers(0, 2, (2, 3, 5)).astype(bool)
    mask[1, 2] = False
    found = np.asarray(nn.attention(Q, K, V, mask=mask))
    np.testing.assert_allclose(found, by_rows(Q, K, V, mask), rtol=1e-12, atol=1e-14)
    assert_gradient_is_the_difference(lambda q: nn.attention(q, K, V, mask=mask), Q)


def test_causal_attention_does_not_see_what_comes_later():
    x = RNG.normal(size=(1, 6, 4))
    changed = x.copy()
    changed[:, 4:] += 5.0
    before = np.asarray(nn.attention(x, x, x, causal=True))
    after = np.asarray(nn.attention(changed, changed, changed, causal=True))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    np.testing.assert_allclose(before, by_rows(x, x, x, np.tril(np.ones((1, 6, 6)))), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_masks_work_in_narrow_dtypes(dtype: str):
    x = pe.asarray(RNG.normal(size=(1, 4, 8))).astype(dtype)
    found = nn.attention(x, x, x, causal=True)
    assert found.dtype.name == dtype
    assert bool(pe.all(pe.isfinite(found)))


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(pe.OpShapeError, match="attention: expected query"):
        nn.attention(Q, V, V)
    with pytest.raises(pe.OpShapeError, match="at least 2 axes"):
        nn.attention(Q[0, 0], K, V)


def heads_by_hand(layer: nn.MultiHeadAttention, x: Any, allowed: Any) -> Any:
    """The layer once more in NumPy, head by head."""
    weights = {path: np.asarray(cell, np.float64) for path, cell in layer.variables().items()}

    def dense(name: str, value: Any) -> Any:
        return value @ weights[f"layers.{name}.kernel"] + weights[f"layers.{name}.bias"]

    parts = [np.split(dense(name, x), layer.heads, -1) for name in ("query", "key", "value")]
    found = [by_rows(q, k, v, allowed) for q, k, v in zip(*parts, strict=True)]
    return dense("output", np.concatenate(found, -1))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_heads_attend_apart_with_padding_and_causality(compiled: bool):
    pe.random.seed(0)
    layer = nn.MultiHeadAttention(2, features=6, dtype="float64")
    x = RNG.normal(size=(2, 4, 5))
    padding = np.array([[True, True, True, False], [True, True, True, True]])
    layer(x)
    run = pe.jit(lambda x: layer(x, padding=padding, causal=True)) if compiled else None
    found = layer(x, padding=padding, causal=True) if run is None else run(x)
    allowed = np.tril(np.ones((4, 4), bool))[None] & padding[:, None, :]
    np.testing.assert_allclose(np.asarray(found), heads_by_hand(layer, x, allowed), rtol=1e-10)


def test_heads_look_at_another_sequence():
    layer = nn.MultiHeadAttention(2)
    assert layer(pe.zeros((3, 4, 8)), pe.zeros((3, 7, 8))).shape == (3, 4, 8)


def test_heads_that_do_not_divide_the_features_are_refused():
    with pytest.raises(pe.StateError, match="3 heads do not divide 8 features"):
        nn.MultiHeadAttention(3)(pe.zeros((1, 2, 8)))
