"""How fast is a whole training step of a language model?

Four blocks as in `transformers.py`, causal, width 256, 4 heads, context 256, 8192 words, batch 4;
cross-entropy, AdamW at 3e-4. In float32, and in bfloat16 with float32 weights beside torch's
autocast and our own float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks import transformers
from benchmarks.case import BFLOAT16, Call, Case, Work
from benchmarks.peers import (
    jax_adam,
    jax_cross_entropy,
    jax_step,
    torch_cast,
    torch_step,
    torch_weights,
)
from benchmarks.transformers import Sizes
from pellucid import nn, optim

FULL = Sizes(layers=4, width=256, heads=4, context=256, batch=4, words=8192)
TINY = Sizes(layers=1, width=8, heads=2, context=4, batch=2, words=16)
RATE, DECAY = 3e-4, 0.01


def cases(tiny: bool) -> tuple[Case, ...]:
    """The one size, in float32 and in bfloat16."""
    s = TINY if tiny else FULL
    return (
        Case(
            "transformer step",
            f"transformer training step, {s}, AdamW",
            lambda given: in_pellucid(s, given),
            {
                "torch eager": lambda: in_torch(s),
                "torch.compile": lambda: in_torch(s, compiled=True),
                "jax.jit": lambda: in_jax(s),
            },
            checks=5,
            model=True,
        ),
        Case(
            "transformer step bf16",
            f"transformer training step in bfloat16, {s}, AdamW",
            lambda given: in_pellucid(s, given, "bf16"),
            {
                "pellucid float32": lambda: in_pellucid(s, True),
                "torch autocast": lambda: in_torch(s, autocast=True),
                "torch.compile autocast": lambda: in_torch(s, compiled=True, autocast=True),
            },
            checks=5,
            tolerance=BFLOAT16,
            dtype=pe.bfloat16,
            model=True,
        ),
    )


@cache
def problem(s: Sizes) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """First weights, tokens and the tokens that follow."""
    tokens = np.random.default_rng(0).integers(0, s.words, (s.batch, s.context + 1))
    return transformers.draw(s), tokens[:, :-1].copy(), tokens[:, 1:].copy()


def in_pellucid(s: Sizes, given: bool, precision: str = "float32") -> Work:
    weights, tokens, following = problem(s)
    model = transformers.LanguageModel(s)
    adam = optim.AdamW(model, learning_rate=RATE, weight_decay=DECAY)

    @pe.jit(precision=precision)
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    if given:
        transformers.give(model, weights, pe.zeros((1, s.context), dtype=pe.int64))
    return Work(step, (pe.asarray(tokens), pe.asarray(following)))


def in_torch(s: Sizes, compiled: bool = False, autocast: bool = False) -> Call:
    import torch
    from torch.nn import functional

    weights, tokens, following = problem(s)
    held = torch_weights(transformers.joined(weights, s), gradients=True)
    ids, labels = torch.from_numpy(tokens), torch.from_numpy(following)
    adam = torch.optim.AdamW(list(held.values()), lr=RATE, weight_decay=DECAY, fused=True)

    def loss_of() -> Any:
        x = functional.embedding(ids, held["tokens.table"]) + held["positions"]
        x = transformers.torch_blocks(held, x, s, causal=True)
        x = transformers.torch_dense(held, transformers.torch_norm(held, x, "norm"), "output")
        return functional.cross_entropy(x.view(-1, s.words), labels.view(-1))

    return torch_step(torch_cast(loss_of, autocast), adam, compiled)


def in_jax(s: Sizes) -> Call:
    weights, tokens, following = problem(s)

    def loss_of(held: Any, ids: Any, labels: Any) -> Any:
        x = held["tokens.table"][ids] + held["positions"]
        x = transformers.jax_norm(held, transformers.jax_blocks(held, x, s, causal=True), "norm")
        return jax_cross_entropy(transformers.dense(held, x, "output"), labels)

    held = transformers.joined(weights, s)
    return jax_step(loss_of, jax_adam(RATE, DECAY), 2, held, tokens, following)
