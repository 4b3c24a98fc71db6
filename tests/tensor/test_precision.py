"""Does a scope of precision round the factors of products, and nothing else, everywhere alike?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.core.error import OpTypeError
from tests.tensor.training import assert_same_bits, numbers_of, training_step

Numbers = np.ndarray[Any, Any]


def drawn(*shape: int, seed: int = 0) -> pe.Tensor:
    return pe.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def rounded_product(x: Any, w: Any) -> pe.Tensor:
    """What a product in the scope is to be: exact factors of bfloat16, sums of float32."""
    narrow = (pe.asarray(one).astype("bfloat16") for one in (x, w))
    return pe.matmul(*narrow, dtype="float32")


X, W = drawn(6, 17), drawn(17, 5, seed=1)
PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {
    "matmul": lambda x, w: x @ w,
    "tensordot": lambda x, w: pe.tensordot(x, w, axes=1),
    "vecdot": lambda x, w: pe.vecdot(x[:, None, :], w.T),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_round_their_factors_and_keep_float32(name: str) -> None:
    with pe.precision("bf16"):
        found = PRODUCTS[name](X, W)
        compiled = pe.jit(PRODUCTS[name])(X, W)
    assert found.dtype is pe.float32
    assert_same_bits(found, rounded_product(X, W))
    assert_same_bits(compiled, found)


def test_the_innermost_scope_counts_and_is_left_behind_after_errors() -> None:
    with pe.precision("bf16"):
        with pe.precision("float32"):
            assert_same_bits(X @ W, pe.matmul(X, W))
            with pytest.raises(ValueError, match="inside"), pe.precision("bfloat16"):
                raise ValueError("inside")
            inner = X @ W
        outer = X @ W
    assert_same_bits(outer, rounded_product(X, W))
    assert_same_bits(inner, X @ W)


def test_it_decorates_a_function() -> None:
    decorated = pe.precision(pe.bfloat16)(lambda: X @ W)
    assert_same_bits(decorated(), rounded_product(X, W))


@pytest.mark.parametrize("name", ["bf17", "float16", "float64", None, 16])
def test_an_unknown_name_is_an_error_where_it_is_given(name: Any) -> None:
    with (
        pytest.raises(OpTypeError, match="precision: expected 'bf16' or 'float32', got") as told,
        pe.precision(name),
    ):
        pass
    assert "at test_precision.py:" in str(told.value)
    if name is not None:
        with pytest.raises(OpTypeError, match="precision: expected"):
            pe.jit(lambda x: x, precision=name)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32"])
def test_operands_of_other_dtypes_stay_as_they_are(dtype: str) -> None:
    x, w = X.astype(dtype), W.astype(dtype)
    with pe.precision("bf16"):
        found = x @ w
    assert_same_bits(found, x @ w)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dtype_that_is_asked_for_is_kept_to(dtype: str) -> None:
    with pe.precision("bf16"):
        found = pe.matmul(X, W, dtype=dtype)
    assert_same_bits(found, pe.matmul(X, W, dtype=dtype))
    assert found.dtype == pe.asarray(0, dtype=dtype).dtype


# Derivatives.


def test_gradients_are_products_of_the_same_precision_in_float32() -> None:
    w = pe.Parameter(W)
    with pe.precision("bf16"):
        y = X @ w
    g = drawn(6, 5, seed=2)
    y.backward(g)  # outside the scope
    assert w.grad is not None
    assert w.grad.dtype is pe.float32
    assert_same_bits(w.grad, rounded_product(X.T, g))


def loss_of(w: Any) -> pe.Tensor:
    return pe.sum(pe.tanh(X @ w) ** 2)


def test_every_way_to_a_gradient_gives_the_same_bits() -> None:
    with pe.precision("bf16"):
        wanted = pe.grad(loss_of)(W)
        compiled = pe.jit(pe.grad(loss_of))(W)
        w = pe.Parameter(W)
        loss = loss_of(w)
    loss.backward()
    pulled = pe.vjp(pe.precision("bf16")(loss_of), W)[1](pe.ones(()))
    for found in (compiled, w.grad, pulled[0]):
        assert_same_bits(found, wanted)


def test_a_jvp_is_made_of_rounded_products() -> None:
    tangent = drawn(17, 5, seed=3)
    with pe.precision("bf16"):
        value, moved = pe.jvp(lambda w: X @ w, (W,), (tangent,))
    assert_same_bits(value, rounded_product(X, W))
    assert_same_bits(moved, rounded_product(X, tangent))


def test_second_derivatives_have_the_precision_too() -> None:
    def curvature(w: Any) -> Any:
        return pe.grad(lambda v: pe.sum(pe.grad(loss_of)(v) ** 2))(w)

    wide = curvature(W)
    with pe.precision("bf16"):
        found = curvature(W)
        compiled = pe.jit(curvature)(W)
    assert_same_bits(compiled, found)
    apart = np.abs(np.asarray(found - wide)).max() / np.abs(np.asarray(wide)).max()
    assert 0.0 < apart < 16 * 2.0**-8


def test_vmap_equals_a_loop() -> None:
    many = drawn(3, 6, 17, seed=4)
    with pe.precision("bf16"):
        found = pe.vmap(lambda x: x @ W)(many)
        wanted = pe.stack([one @ W for one in many])
    assert_same_bits(found, wanted)


# Compiled functions.


def test_a_compiled_function_is_traced_for_each_precision() -> None:
    product = pe.jit(lambda x, w: x @ w)
    wide = product(X, W)
    for _ in range(2):
        with pe.precision("bf16"):
            assert_same_bits(product(X, W), rounded_product(X, W))
        assert_same_bits(product(X, W), wide)
    assert product.why == ["the engine, the gradient mode or the precision differs"]


def test_a_precision_of_its_own_needs_no_scope_and_is_no_matter_of_the_caller() -> None:
    product = pe.jit(lambda x, w: x @ w, precision="bf16")
    exact = pe.jit(lambda x, w: x @ w, precision="float32")
    around = pe.jit(lambda x, w: (product(x, w), x @ w))
    assert_same_bits(product(X, W), rounded_product(X, W))
    inside, outside = around(X, W)
    assert_same_bits(inside, rounded_product(X, W))
    assert_same_bits(outside, X @ W)
    with pe.precision("bf16"):
        assert_same_bits(exact(X, W), pe.matmul(X, W, dtype="float32"))


def test_backward_comes_through_a_compiled_call_in_its_precision() -> None:
    w, g = pe.Parameter(W), drawn(6, 5, seed=2)
    pe.jit(lambda x: x @ w, precision="bf16")(X).backward(g)
    assert_same_bits(w.grad, rounded_product(X.T, g))


def test_explain_shows_where_the_precision_became_casts() -> None:
    with pe.recording() as record:
        pe.jit(lambda x, w: pe.exp(x @ w), precision="bf16").compile(X, W)
    (change,) = [one for one in pe.explain.changes(record) if one.name == "precision"]
    assert change.come == (("cast", 2),)
    assert not change.gone


def test_a_program_without_it_has_no_such_stage() -> None:
    with pe.recording() as record:
        pe.jit(lambda x, w: x @ w, precision="float32").compile(X, W)
    assert "precision" not in [stage.name for stage in record.stages]


# Layers, and whole steps.


def test_a_convolution_is_that_of_rounded_operands() -> None:
    x, kernel = drawn(2, 6, 6, 3), drawn(3, 3, 3, 4, seed=1)
    wide = [one.astype("bfloat16").astype("float32") for one in (x, kernel)]
    with pe.precision("bf16"):
        found = nn.functional.conv(x, kernel, padding="same")
        back = pe.grad(lambda k: pe.sum(nn.functional.conv_transpose(x, k, strides=2)))(kernel)
    assert back.dtype is found.dtype is pe.float32
    # Sums of the same exact products, in the order of another class of instruction sets.
    exact = np.asarray(nn.functional.conv(*wide, padding="same"))
    assert np.abs(np.asarray(found) - exact).max() < 27 * 2.0**-23 * np.abs(exact).max()


def test_attention_is_near_that_of_rounded_operands_and_not_its_own_float32() -> None:
    q, k, v = (drawn(2, 3, 20, 8, seed=seed) for seed in range(3))
    with pe.precision("bf16"):
        found = np.asarray(nn.attention(q, k, v, causal=True))
    wide = np.asarray(nn.attention(q, k, v, causal=True))
    # Weights of one row add up to 1, and each is rounded by half a unit of bfloat16 at most; the
    # factors of the scores, sums of 8 products, are too.
    largest = [float(np.abs(np.asarray(one)).max()) for one in (q, k, v)]
    scores = 2 * 8**0.5 * largest[0] * largest[1]
    assert 0.0 < np.abs(found - wide).max() < (2 * scores + 3) * largest[2] * 2.0**-9


def test_dense_hands_on_its_result_and_its_cotangent_rounded() -> None:
    layer = nn.Dense(5)
    layer(X)
    assert layer.kernel is not None
    assert layer.bias is not None
    layer.bias.assign(drawn(5, seed=5))
    with pe.precision("bf16"):
        y = layer(X)
    wanted = (rounded_product(X, layer.kernel) + layer.bias).astype("bfloat16")
    assert y.dtype is pe.float32
    assert_same_bits(y, wanted.astype("float32"))
    g = drawn(6, 5, seed=2)
    y.backward(g)
    assert_same_bits(layer.bias.grad, pe.sum(g.astype("bfloat16").astype("float32"), axis=0))


def test_the_statistics_of_a_batch_norm_are_those_of_float32() -> None:
    norm = nn.BatchNorm()
    with pe.precision("bf16"):
        norm(X)
    assert norm.mean is not None
    wanted = nn.BatchNorm()
    wanted(X)
    assert wanted.mean is not None
    assert_same_bits(np.asarray(norm.mean), np.asarray(wanted.mean))


class Tied(nn.Module):
    """Words to words through everything that is to behave: one table at both ends, too."""

    def __init__(self) -> None:
        self.table = nn.Embedding(7, 8)
        self.memory = nn.LSTM(8, return_sequences=True)
        self.attention = nn.MultiHeadAttention(2)
        self.norm = nn.LayerNorm()
        self.dropout = nn.Dropout(0.2)

    def forward(self, ids: Any) -> Any:
        x = self.table(ids)
        x = x + self.memory(x)
        x = x + self.dropout(self.attention(self.norm(x), causal=True))
        return x @ self.table.table.T


def taught(compile: bool, precision: str = "bf16") -> tuple[dict[str, Numbers], list[Numbers]]:
    """What a model holds after a few steps, and their losses."""
    pe.random.seed(3)
    model = Tied()
    opt = optim.AdamW(model, learning_rate=1e-2)
    step = training_step(model, opt)
    ids = pe.asarray(np.random.default_rng(0).integers(0, 7, (3, 6)))
    run = pe.jit(step, precision=precision) if compile else pe.precision(precision)(step)
    losses = [np.asarray(run(ids[:, :-1], ids[:, 1:])) for _ in range(3)]
    return numbers_of(model) | numbers_of(opt), losses


def test_a_training_step_gives_the_same_bits_eager_and_compiled() -> None:
    eager, losses = taught(compile=False)
    compiled, same = taught(compile=True)
    assert_same_bits(compiled, eager)
    assert_same_bits(np.stack(same), np.stack(losses))
    assert all(held.dtype in (np.float32, np.float64, np.int64) for held in eager.values())
    _, wide = taught(compile=True, precision="float32")
    apart = np.abs(np.stack(losses) - np.stack(wide)).max()
    assert 0.0 < apart < 2.0**-6


def test_the_number_of_threads_does_not_matter() -> None:
    x, kernel = drawn(300, 260), drawn(260, 520, seed=1)
    q = drawn(2, 2, 150, 64, seed=2)

    @pe.jit(precision="bf16")
    def found(x: Any, kernel: Any, q: Any) -> Any:
        g = pe.grad(lambda k: pe.sum(pe.tanh(x @ k) ** 2))(kernel)
        return g, nn.attention(q, q, q, causal=True)

    before, each = pe.get_threads(), list[list[Numbers]]()
    try:
        for threads in (1, 3):
            pe.set_threads(threads)
            each.append([np.asarray(one) for one in found(x, kernel, q)])
    finally:
        pe.set_threads(before)
    for one, other in zip(*each, strict=True):
        assert_same_bits(one, other)


def test_large_values_stand_in_memory_as_bfloat16() -> None:
    model = nn.Sequential([nn.Dense(256, activation="gelu_tanh"), nn.Dense(64)])
    opt = optim.SGD(model, learning_rate=0.1)
    step = training_step(model, opt)
    x, y = drawn(512, 32), pe.asarray(np.zeros(512, np.int64))
    step(x, y)
    wide, narrow = (pe.jit(step, precision=p).memory(x, y) for p in ("float32", "bf16"))
    assert narrow.arena < 0.6 * wide.arena


def test_weights_that_stay_the_same_are_rounded_once() -> None:
    layer = nn.Dense(5)
    layer(X)
    assert layer.kernel is not None
    answer = pe.jit(layer, precision="bf16")
    rounded = 2 * layer.kernel.size
    assert rounded <= answer.memory(X).constants < rounded + 64
    first = answer(X)
    layer.kernel.assign(layer.kernel * 2.0)
    with pe.precision("bf16"):
        wanted = layer(X)
    assert_same_bits(answer(X), wanted)
    assert (np.asarray(first) != np.asarray(wanted)).any()
