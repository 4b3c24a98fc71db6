"""What do the passes of a step leave in memory for each other? No more than they must.

Each bound is the sum of what has to be written and read; one more value of that size breaks it.
"""

from __future__ import annotations

import numpy as np

import pellucid as pe
from pellucid import nn

rng = np.random.default_rng(0)


def normal(*shape: int) -> pe.Tensor:
    return pe.asarray(rng.standard_normal(shape, dtype=np.float32))


def test_cross_entropy_of_logits_writes_its_gradient_and_no_probabilities() -> None:
    logits, labels = normal(64, 512), pe.asarray(rng.integers(0, 512, 64))
    step = pe.jit(pe.value_and_grad(lambda x: nn.losses.cross_entropy(x, labels)))
    size = 4 * 64 * 512
    # The logits read, the gradient written; a loss a row and the labels are small.
    assert step.traffic(logits).moved_bytes < 2.1 * size
    assert step.memory(logits).arena < 0.1 * size


def test_gradient_of_the_logits_is_written_once_and_read_by_the_products_alone() -> None:
    x, w, bias = normal(1024, 8), normal(8, 512), normal(512)
    labels = pe.asarray(rng.integers(0, 512, 1024))

    def loss(w: pe.Tensor, bias: pe.Tensor) -> pe.Tensor:
        return nn.losses.cross_entropy(x @ w + bias, labels)

    step = pe.jit(pe.grad(loss, argnums=(0, 1)))
    size = 4 * 1024 * 512
    # Logits written and read, their gradient written and read, by which the bias's is summed.
    assert step.traffic(w, bias).moved_bytes < 4.3 * size


def test_gelu_keeps_its_operand_and_its_result_and_makes_the_rest_again() -> None:
    x, w, v, t = normal(512, 16), normal(16, 512), normal(512, 16), normal(512, 16)

    def loss(w: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
        return pe.sum(nn.gelu(x @ w) @ v * t)

    step = pe.jit(pe.grad(loss, argnums=(0, 1)))
    size = 4 * 512 * 512
    # Operand and result written, the result read by two products (one of them for v's gradient),
    # the operand read for the way back, whose gradient is written and read.
    assert step.traffic(w, v).moved_bytes < 7.5 * size


def test_layer_norm_and_its_gradients_move_what_they_are_given_and_give() -> None:
    x, g, scale, bias = normal(1024, 256), normal(1024, 256), normal(256), normal(256)

    def norm(x: pe.Tensor, scale: pe.Tensor, bias: pe.Tensor) -> pe.Tensor:
        centred = x - pe.mean(x, axis=-1, keepdims=True)
        spread = pe.mean(centred * centred, axis=-1, keepdims=True)
        return centred * pe.rsqrt(spread + 1e-5) * scale + bias

    def both(x: pe.Tensor, g: pe.Tensor) -> tuple[pe.Tensor, ...]:
        y, back = pe.vjp(norm, x, scale, bias)
        return y, *back(g)

    assert pe.jit(both).traffic(x, g).moved_bytes < 4.1 * 4 * 1024 * 256
