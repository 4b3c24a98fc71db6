"""How fast is the forward pass of a transformer's encoder?

Six pre-norm blocks as in `transformers.py`, width 384, 12 heads, sequences of 128, 8 at a time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks import transformers
from benchmarks.case import Call, Case, Work
from benchmarks.peers import (
    jax_forward,
    mlx_forward,
    onnx_forward,
    tinygrad_forward,
    torch_forward,
    torch_weights,
)
from benchmarks.transformers import Sizes

FULL = Sizes(layers=6, width=384, heads=12, context=128, batch=8, words=0)
TINY = Sizes(layers=1, width=8, heads=2, context=4, batch=2, words=0)


def cases(tiny: bool) -> tuple[Case, ...]:
    """The one size."""
    s = TINY if tiny else FULL
    return (
        Case(
            "encoder",
            f"encoder forward, {s}",
            lambda given: in_pellucid(s),
            {
                "torch eager": lambda: in_torch(s),
                "torch.compile": lambda: in_torch(s, compiled=True),
                "jax.jit": lambda: in_jax(s),
                "mlx": lambda: in_mlx(s),
                "tinygrad": lambda: in_tinygrad(s),
                "onnxruntime": lambda: in_onnx(s),
            },
            model=True,
        ),
    )


@cache
def problem(s: Sizes) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Weights and inputs."""
    rng = np.random.default_rng(1)
    return transformers.draw(s), rng.standard_normal((s.batch, s.context, s.width), np.float32)


def in_pellucid(s: Sizes) -> Work:
    weights, x = problem(s)
    blocks = transformers.Blocks(s)
    transformers.give(blocks, weights, pe.zeros((1, 1, s.width)))
    return Work(pe.jit(blocks), (pe.asarray(x),))


def torch_problem(s: Sizes) -> tuple[Any, Any]:
    import torch

    weights, x = problem(s)
    held = torch_weights(transformers.joined(weights, s))
    return lambda x: transformers.torch_blocks(held, x, s, causal=False), torch.from_numpy(x)


def in_torch(s: Sizes, compiled: bool = False) -> Call:
    return torch_forward(*torch_problem(s), compiled=compiled)


def in_onnx(s: Sizes) -> Call:
    return onnx_forward(*torch_problem(s))


def in_jax(s: Sizes) -> Call:
    weights, x = problem(s)
    held = transformers.joined(weights, s)
    return jax_forward(lambda w, x: transformers.jax_blocks(w, x, s, causal=False), held, x)


def in_mlx(s: Sizes) -> Call:
    weights, x = problem(s)
    held = transformers.joined(weights, s)
    return mlx_forward(lambda w, x: transformers.mlx_blocks(w, x, s, causal=False), held, x)


def in_tinygrad(s: Sizes) -> Call:
    weights, x = problem(s)
    held = transformers.joined(weights, s)
    return tinygrad_forward(lambda w, x: transformers.tinygrad_blocks(w, x, s), held, x)
