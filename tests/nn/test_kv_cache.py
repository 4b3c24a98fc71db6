"""Does a cache of keys and values give, place by place, what the whole sequence gives at once?"""

from __future__ import annotations

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn

RNG = np.random.default_rng(2)


def layer_and_input() -> tuple[nn.MultiHeadAttention, pe.Tensor, pe.Tensor]:
    pe.random.seed(1)
    layer = nn.MultiHeadAttention(2)
    x = pe.asarray(RNG.normal(size=(2, 7, 8)).astype(np.float32))
    return layer, x, layer(x, causal=True)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("parts", [(1,) * 7, (4, 1, 2), (7,)])
def test_place_by_place_is_the_whole(parts: tuple[int, ...], compiled: bool):
    layer, x, whole = layer_and_input()
    cache = layer.cache(2, 9)

    def step(x: pe.Tensor) -> pe.Tensor:
        return layer(x, cache=cache)

    run = pe.jit(step) if compiled else step
    for _ in range(2):
        cache.reset()
        found, at = [], 0
        for count in parts:
            found.append(np.asarray(run(x[:, at : at + count])))
            at += count
        together = np.concatenate(found, 1)
        np.testing.assert_allclose(together, np.asarray(whole), rtol=1e-5, atol=1e-6)
        assert int(cache.filled) == 7


def test_a_full_cache_says_so():
    layer, x, _ = layer_and_input()
    cache = layer.cache(2, 3)
    layer(x[:, :2], cache=cache)
    with pytest.raises(pe.OpShapeError, match="room for 3 places, 2 are filled, 2 more do not fit"):
        layer(x[:, :2], cache=cache)
    step = pe.jit(lambda x: layer(x, cache=cache))
    assert np.isfinite(np.asarray(step(x[:, :1]))).all()
    assert np.isnan(np.asarray(step(x[:, :1]))).all()


def test_bad_caches_are_named():
    layer, x, _ = layer_and_input()
    with pytest.raises(pe.StateError, match="sizes from 1"):
        nn.KVCache(1, 0, heads=1, size=1)
    with pytest.raises(pe.OpShapeError, match="expected places of"):
        layer(x, cache=layer.cache(1, 9))
    with pytest.raises(pe.StateError, match="no key and value beside a cache"):
        layer(x, x, cache=layer.cache(2, 9))
    with pytest.raises(pe.StateError, match="whose sizes are known"):
        nn.MultiHeadAttention(2).cache(1, 3)
