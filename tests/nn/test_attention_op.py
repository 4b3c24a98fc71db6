"""Is attention one op, whose bits and memory are what its card says, however it is run?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.core.dtype import float32
from pellucid.engines.cpu.pipeline import compile_graph
from pellucid.engines.llvm import cache
from pellucid.engines.llvm.target import AVX2, host_isa
from pellucid.ir.build import building
from pellucid.ir.graph import TensorType
from pellucid.ops.attention import attention
from pellucid.ops.attention_forms import USUAL, rows_at_once
from tests.graphs import same_bits
from tests.running import call

RNG = np.random.default_rng(3)


def numbers(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def by_scores(q: Any, k: Any, v: Any, shown: Any) -> Any:
    """Attention of (batch, heads, rows, size) by the whole matrix of scores, in float64."""
    groups = q.shape[1] // k.shape[1]
    k, v = (np.repeat(np.asarray(x, np.float64), groups, 1) for x in (k, v))
    scores = q.astype(np.float64) @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    raised = np.where(shown, np.exp(scores - scores.max(-1, keepdims=True)), 0.0)
    return raised / np.maximum(raised.sum(-1, keepdims=True), 1e-300) @ v


def earlier(rows: int, columns: int, first: int = 0) -> Any:
    return np.arange(columns)[None, :] <= np.arange(rows)[:, None] + first


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (100, 100), (130, 70), (190, 600)])
def test_blocks_of_rows_together_are_the_whole(rows: int, columns: int):
    q, k, v = numbers(2, 2, rows, 8), numbers(2, 2, columns, 8), numbers(2, 2, columns, 5)
    for causal in (False, True):
        shown = earlier(rows, columns) if causal else np.ones((rows, columns), bool)
        found = np.asarray(pe.jit(nn.attention)(q, k, v, causal=causal))
        np.testing.assert_allclose(found, by_scores(q, k, v, shown), rtol=2e-5, atol=2e-6)


def test_several_query_heads_look_at_one_head_of_keys():
    q, k, v = numbers(2, 6, 9, 4), numbers(2, 2, 9, 4), numbers(2, 2, 9, 4)
    wanted = by_scores(q, k, v, earlier(9, 9))
    np.testing.assert_allclose(
        np.asarray(nn.attention(q, k, v, causal=True)), wanted, rtol=1e-5, atol=1e-6
    )
    with pytest.raises(pe.OpShapeError, match="shared dividing heads"):
        nn.attention(q, numbers(2, 4, 9, 4), numbers(2, 4, 9, 4))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("shared", [1, 2])
def test_one_row_gives_each_head_the_bits_it_has_alone(shared: int, batch: int, masked: bool):
    q, k, v = (numbers(batch, n, c, 8) for n, c in ((6, 1), (shared, 37), (shared, 37)))
    mask = RNG.random((batch, 6, 1, 37)) < 0.8 if masked else None

    def attend(k: Any, v: Any, run: Any) -> Any:
        pe.random.seed(4)
        ends = np.asarray([21, 37][:batch])
        return run(q, k, v, mask=mask, lengths=ends, causal=True, dropout=0.2 * masked)

    wide = [np.repeat(x, 6 // shared, axis=1) for x in (k, v)]
    wanted = np.asarray(attend(*wide, nn.attention))
    for run in (nn.attention, pe.jit(nn.attention)):
        assert same_bits(np.asarray(attend(k, v, run)), wanted)


def test_lengths_hide_what_a_cache_does_not_hold_yet():
    q, k, v = numbers(3, 2, 2, 4), numbers(3, 2, 8, 4), numbers(3, 2, 8, 4)
    lengths = np.asarray([2, 5, 8])
    k[0, :, 2:], v[0, :, 2:] = np.nan, np.nan
    found = np.asarray(nn.attention(q, k, v, lengths=lengths, causal=True))
    for one, length in enumerate(lengths):
        part = (q[one : one + 1], k[one : one + 1, :, :length], v[one : one + 1, :, :length])
        wanted = by_scores(*part, earlier(2, length, length - 2))
        np.testing.assert_allclose(found[one], wanted[0], rtol=1e-5, atol=1e-6)


def test_many_rows_look_at_what_a_cache_holds():
    q, k, v = numbers(2, 4, 200, 8), numbers(2, 2, 300, 8), numbers(2, 2, 300, 8)
    lengths = np.asarray([210, 300])
    k[0, :, 210:], v[0, :, 210:] = np.nan, np.nan
    for run in (nn.attention, pe.jit(nn.attention)):
        found = np.asarray(run(q, k, v, lengths=lengths, causal=True))
        for one, length in enumerate(lengths):
            part = (q[one : one + 1], k[one : one + 1, :, :length], v[one : one + 1, :, :length])
            wanted = by_scores(*part, earlier(200, length, length - 200))
            np.testing.assert_allclose(found[one], wanted[0], rtol=2e-5, atol=2e-6)


def test_a_step_with_a_cache_is_the_row_of_the_whole():
    q, k, v = numbers(1, 2, 12, 4), numbers(1, 2, 12, 4), numbers(1, 2, 12, 4)
    whole = np.asarray(nn.attention(q, k, v, causal=True))
    for at in (0, 5, 11):
        step = nn.attention(q[:, :, at : at + 1], k, v, lengths=np.asarray(at + 1), causal=True)
        np.testing.assert_allclose(np.asarray(step)[:, :, 0], whole[:, :, at], rtol=1e-6)


def attend(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, mask: Any) -> Any:
    share = pe.grad(
        lambda a, b, c: pe.sum(pe.tanh(nn.attention(a, b, c, mask=mask, causal=True))),
        argnums=(0, 1, 2),
    )(q, k, v)
    return nn.attention(q, k, v, mask=mask, causal=True), *share


def test_bits_are_the_same_eager_compiled_and_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
):
    tensors = [pe.asarray(numbers(2, heads, 270, 8)) for heads in (4, 2, 2)]
    mask = pe.asarray(RNG.random((1, 4, 1, 270)) < 0.8)
    eager = attend(*tensors, mask)
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("PELLUCID_THREADS", threads)
        for one, other in zip(pe.jit(attend)(*tensors, mask), eager, strict=True):
            assert same_bits(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("rows", [9, 700])
def test_gradient_is_that_of_the_scores_written_out(rows: int):
    q, k, v = (pe.asarray(numbers(1, 2, rows, 4)).astype("float64") for _ in range(3))

    def written_out(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
        scores = q @ pe.permute_dims(k, (0, 1, 3, 2)) * 0.5
        shown = pe.where(pe.asarray(earlier(rows, rows)), scores, -1e30)
        return pe.sum(pe.sin(nn.softmax(shown) @ v))

    def as_op(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
        return pe.sum(pe.sin(nn.attention(q, k, v, causal=True)))

    pairs = zip(
        pe.grad(as_op, argnums=(0, 1, 2))(q, k, v),
        pe.grad(written_out, argnums=(0, 1, 2))(q, k, v),
        strict=True,
    )
    for found, wanted in pairs:
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-9, atol=1e-12)


def test_memory_does_not_hold_the_scores():
    rows = 2048
    x = pe.zeros((1, 2, rows, 16))
    need = pe.jit(lambda x: nn.attention(x, x, x, causal=True)).memory(x)
    scores = 2 * rows * rows * 4
    assert need.peak < scores / 8
    assert rows_at_once(rows, rows) * rows * 4 < 1 << 20


def test_a_new_shape_compiles_nothing_when_eager():
    def attend(rows: int, columns: int, size: int) -> None:
        q, k = pe.asarray(numbers(2, rows, size)), pe.asarray(numbers(2, columns, size))
        pe.grad(lambda q: pe.sum(nn.attention(q, k, k, causal=True)))(q)

    attend(5, 6, 4)
    before = cache.counters().misses
    attend(200, 33, 12)
    assert cache.counters().misses == before


def test_narrow_vectors_give_the_same_bits():
    shapes = ((1, 70, 4, 8), (1, 90, 2, 8), (1, 90, 2, 8))
    arrays = [numbers(*shape) for shape in shapes]
    attrs = {
        "causal": True,
        "mask": False,
        "lengths": False,
        "scale": 0.5,
        "heads_first": USUAL,
        "dropout": 0.0,
    }
    with building() as builder:
        inputs = [builder.input(TensorType(float32, shape)) for shape in shapes]
        graph = builder.graph([attention(*inputs, **attrs)])
    wide = call(compile_graph(graph, {}, host_isa()), arrays)[0]
    if host_isa().bit_class != AVX2.bit_class:
        pytest.skip("this machine is of another class than AVX2")
    assert same_bits(call(compile_graph(graph, {}, AVX2), arrays)[0], wide)


def test_vmap_is_a_batch():
    q, k, v = numbers(3, 2, 2, 5, 4), numbers(2, 2, 5, 4), numbers(3, 2, 2, 5, 4)
    mapped = pe.vmap(lambda q, v: nn.attention(q, k, v, causal=True))(q, v)
    for one in range(3):
        wanted = nn.attention(q[one], k, v[one], causal=True)
        assert same_bits(np.asarray(mapped)[one], np.asarray(wanted))


def test_dropout_keeps_weights_with_their_probability_and_their_sum_on_average():
    pe.random.seed(4)
    q, k = numbers(1, 4, 90, 8), numbers(1, 4, 70, 8)
    # Of values that are unit vectors, the results are the weights themselves.
    v = np.broadcast_to(np.eye(70, dtype=np.float32), (1, 4, 70, 70))
    whole = np.asarray(nn.attention(q, k, v))
    dropped = np.asarray(nn.attention(q, k, v, dropout=0.25))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-5)
    assert abs(kept.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / kept.size)
    assert not np.array_equal(np.asarray(nn.attention(q, k, v, dropout=0.25)), dropped)


def test_dropout_is_the_same_eager_and_compiled():
    q = pe.asarray(numbers(2, 4, 33, 8))

    def step(q: pe.Tensor) -> pe.Tensor:
        return pe.grad(lambda q: pe.sum(pe.tanh(nn.attention(q, q, q, dropout=0.5))))(q)

    pe.random.seed(4)
    eager = [np.asarray(step(q)) for _ in range(2)]
    pe.random.seed(4)
    jitted = pe.jit(step)
    assert all(same_bits(np.asarray(jitted(q)), one) for one in eager)


def test_bad_dropout_is_named():
    with pytest.raises(pe.OpTypeError, match=r"dropout from 0 to below 1, got 1\.0"):
        nn.attention(numbers(3, 4), numbers(3, 4), numbers(3, 4), dropout=1.0)
