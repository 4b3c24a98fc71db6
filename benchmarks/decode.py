"""How fast does a language model write, greedily, with its keys and values kept?

The model of `transformer_step` (four layers, width 256, 4 heads, 8192 words) writes 128 tokens, one
sequence, each the likeliest one after what was there. Keys and values of earlier tokens are kept
in room for all 128. pellucid and torch eager look at the filled places alone and write in place,
the others at all places through a mask. The tokens are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks import transformers
from benchmarks.case import Call, Case, Work
from benchmarks.peers import cores, onnx_session, torch_compiled, torch_weights
from benchmarks.transformers import Sizes
from pellucid import nn

FULL = Sizes(layers=4, width=256, heads=4, context=128, batch=1, words=8192)
TINY = Sizes(layers=1, width=8, heads=2, context=4, batch=1, words=16)
FIRST = 1
"""The token to begin with."""


def cases(tiny: bool) -> tuple[Case, ...]:
    """The one size."""
    s = TINY if tiny else FULL
    return (
        Case(
            "decode",
            f"greedy decoding, {s}",
            lambda given: in_pellucid(s),
            {
                "torch eager": lambda: in_torch(s),
                "torch.compile": lambda: in_torch(s, compiled=True),
                "jax.jit": lambda: in_jax(s),
                "onnxruntime": lambda: in_onnx(s),
            },
            model=True,
        ),
    )


@cache
def weights_of(s: Sizes) -> dict[str, np.ndarray]:
    """Weights large enough for the likeliest word to differ from place to place."""
    return transformers.draw(s, spread=0.1)


class Writer(nn.Module):
    """A language model that writes a token in each call, and keeps where it is."""

    def __init__(self, s: Sizes) -> None:
        self.s = s
        self.model = transformers.LanguageModel(s)
        self.kept = [nn.KVCache(1, s.context, heads=s.heads, size=s.head) for _ in range(s.layers)]
        self.token, self.at = pe.Buffer(np.int64(FIRST)), pe.Buffer(np.int64(0))

    def begin(self) -> None:
        """Go back to the first token. What is kept is not looked at before it is replaced."""
        self.token.assign(FIRST)
        self.at.assign(0)
        for kept in self.kept:
            kept.reset()

    def forward(self) -> Any:
        """The token that follows."""
        model, at = self.model, self.at
        x = (model.tokens(self.token) + pe.take(model.positions, at, axis=0)).reshape((1, 1, -1))
        for block, kept in zip(model.blocks.blocks, self.kept, strict=True):
            x = x + block.attention(block.first(x), cache=kept)
            x = x + block.down(block.up(block.second(x)))
        token = pe.argmax(model.output(model.norm(x)).reshape((-1,)))
        self.token.assign(token)
        self.at.assign(at + 1)
        return token


def in_pellucid(s: Sizes) -> Work:
    writer = Writer(s)
    transformers.give(writer.model, weights_of(s), pe.zeros((1, s.context), dtype=pe.int64))
    step = pe.jit(writer)

    def write() -> list[int]:
        writer.begin()
        return [int(step()) for _ in range(s.context)]

    return Work(step, whole=write, calls=s.context)


def torch_step(s: Sizes) -> tuple[Callable[..., Any], list[Any]]:
    """(token, place, kept keys and values) to the next token and what is then kept; the first."""
    import torch
    from torch.nn import functional

    held = torch_weights(transformers.joined(weights_of(s), s))

    def step(token: Any, at: Any, *kept: Any) -> Any:
        x = held["tokens.table"][token] + held["positions"][at]
        newest = (torch.arange(s.context) == at).reshape(1, -1, 1)
        shown = torch.arange(s.context) <= at
        after: list[Any] = []
        for number in range(s.layers):
            path = f"{number}.attention.layers"
            three = transformers.torch_dense(
                held, transformers.torch_norm(held, x, f"{number}.first"), f"{path}.qkv"
            )
            q, k, v = three.view(3, s.heads, 1, s.head).unbind(0)
            keys = torch.where(newest, k, kept[2 * number])
            values = torch.where(newest, v, kept[2 * number + 1])
            after += [keys, values]
            seen = functional.scaled_dot_product_attention(
                q, keys, values, attn_mask=shown.reshape(1, 1, -1)
            )
            x = x + transformers.torch_dense(held, seen.reshape(1, -1), f"{path}.output")
            x = transformers.torch_feed(held, x, f"{number}")
        x = transformers.torch_dense(held, transformers.torch_norm(held, x, "norm"), "output")
        return x.argmax(-1), *after

    first = [torch.zeros(s.heads, s.context, s.head) for _ in range(2 * s.layers)]
    return step, [torch.tensor([FIRST]), torch.tensor([0]), *first]


def eager_step(s: Sizes) -> Callable[..., Any]:
    """The same with the filled places alone, which are written in place."""
    import torch
    from torch.nn import functional

    held = torch_weights(transformers.joined(weights_of(s), s))
    kept = torch.zeros(s.layers, 2, s.heads, s.context, s.head)

    def step(token: Any, at: int) -> Any:
        x = held["tokens.table"][token] + held["positions"][at]
        for number in range(s.layers):
            path = f"{number}.attention.layers"
            three = transformers.torch_dense(
                held, transformers.torch_norm(held, x, f"{number}.first"), f"{path}.qkv"
            ).view(3, s.heads, 1, s.head)
            kept[number, :, :, at] = three[1:, :, 0]
            keys, values = kept[number, :, :, : at + 1]
            seen = functional.scaled_dot_product_attention(three[0], keys, values)
            x = x + transformers.torch_dense(held, seen.reshape(1, -1), f"{path}.output")
            x = transformers.torch_feed(held, x, f"{number}")
        x = transformers.torch_dense(held, transformers.torch_norm(held, x, "norm"), "output")
        return x.argmax(-1)

    return step


def in_torch(s: Sizes, compiled: bool = False) -> Call:
    import torch

    torch.set_num_threads(cores())
    step, first = torch_step(s)
    alone = eager_step(s)
    one = torch_compiled(step) if compiled else step

    def write() -> list[int]:
        token, found = first[0], list[int]()
        kept = first[2:]
        with torch.no_grad():
            for at in range(s.context):
                if compiled:
                    token, *kept = one(token, torch.tensor([at]), *kept)
                else:
                    token = alone(token, at)
                found.append(int(token))
        return found

    return write


def in_onnx(s: Sizes) -> Call:
    import onnxruntime

    step, first = torch_step(s)
    session = onnx_session(step, *first)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(one.numpy()) for one in first]
    names = [one.name for one in session.get_inputs()]
    places = [onnxruntime.OrtValue.ortvalue_from_numpy(np.array([at])) for at in range(s.context)]

    def write() -> list[int]:
        token, _, *kept = values
        found: list[int] = []
        for place in places:
            given = dict(zip(names, [token, place, *kept], strict=True))
            token, *kept = session.run_with_ort_values(None, given)
            found.append(int(token.numpy()[0]))
        return found

    return write


def in_jax(s: Sizes) -> Call:
    import jax
    import jax.numpy as jnp

    held = jax.tree.map(jnp.asarray, transformers.joined(weights_of(s), s))

    def step(held: Any, state: Any, at: Any) -> Any:
        token, kept = state
        x = held["tokens.table"][token] + held["positions"][at]
        after: list[Any] = []
        for number in range(s.layers):
            path = f"{number}.attention.layers"
            normed = transformers.jax_norm(held, x, f"{number}.first")
            q, k, v = transformers.dense(held, normed, f"{path}.qkv").reshape(3, s.heads, -1)
            keys = kept[number][0].at[:, at].set(k)
            values = kept[number][1].at[:, at].set(v)
            after.append((keys, values))
            scores = jnp.einsum("hd,hcd->hc", q, keys) / math.sqrt(s.head)
            scores = jnp.where(jnp.arange(s.context) <= at, scores, -jnp.inf)
            seen = jnp.einsum("hc,hcd->hd", jax.nn.softmax(scores), values).reshape(-1)
            x = x + transformers.dense(held, seen, f"{path}.output")
            x = transformers.jax_feed(held, x, f"{number}")
        x = transformers.dense(held, transformers.jax_norm(held, x, "norm"), "output")
        token = jnp.argmax(x).astype(jnp.int32)
        return (token, after), token

    def write(held: Any) -> Any:
        empty = jnp.zeros((s.heads, s.context, s.head), jnp.float32)
        first = (jnp.int32(FIRST), [(empty, empty)] * s.layers)
        places = jnp.arange(s.context)
        return jax.lax.scan(lambda state, at: step(held, state, at), first, places)[1]

    compiled = jax.jit(write)
    return lambda: [int(token) for token in np.asarray(compiled(held))]
