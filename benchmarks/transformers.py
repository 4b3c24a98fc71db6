"""What do the transformers of the benchmarks consist of, in each library?

Pre-norm blocks: x += attention(norm(x)); x += down(gelu(up(norm(x)))), 4 times as wide, gelu in its
tanh form. The peers take query, key and value in one product, and their own attention. A language
model has a table of words and positions before them, and a norm and an output layer behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import pellucid as pe
from pellucid import nn

EPSILON = 1e-5
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a transformer; one without words is blocks alone."""

    layers: int
    width: int
    heads: int
    context: int
    batch: int
    words: int

    def __str__(self) -> str:
        words = f", {self.words} words" if self.words else ""
        return (
            f"{self.layers} layers, width {self.width}, {self.heads} heads, length {self.context}"
            f", batch {self.batch}{words}"
        )

    @property
    def head(self) -> int:
        """The width of a head."""
        return self.width // self.heads


def shapes(s: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each parameter by its path in pellucid's model, with its shape."""
    before = "blocks." if s.words else ""
    for number in range(s.layers):
        at = f"{before}blocks.{number}"
        for name in ("query", "key", "value", "output"):
            yield f"{at}.attention.layers.{name}.kernel", (s.width, s.width)
            yield f"{at}.attention.layers.{name}.bias", (s.width,)
        for name, shape in (("up", (s.width, 4 * s.width)), ("down", (4 * s.width, s.width))):
            yield f"{at}.{name}.kernel", shape
            yield f"{at}.{name}.bias", shape[1:]
        for name in ("first", "second"):
            yield f"{at}.{name}.scale", (s.width,)
            yield f"{at}.{name}.bias", (s.width,)
    if s.words:
        yield "positions", (s.context, s.width)
        yield "tokens.table", (s.words, s.width)
        yield from (("norm.scale", (s.width,)), ("norm.bias", (s.width,)))
        yield from (("output.kernel", (s.width, s.words)), ("output.bias", (s.words,)))


def draw(s: Sizes, spread: float = 0.02) -> Weights:
    """First weights from one seed."""
    rng = np.random.default_rng(0)
    weights: Weights = {}
    for path, shape in shapes(s):
        drawn = rng.standard_normal(shape) * (spread if len(shape) == 2 else 0.0)
        weights[path] = (drawn + path.endswith("scale")).astype(np.float32)
    return weights


def joined(weights: Weights, s: Sizes) -> Weights:
    """The weights with those of query, key and value side by side, as `qkv`; blocks by number."""
    found = {path.rpartition("blocks.")[2]: array for path, array in weights.items()}
    for number in range(s.layers):
        at = f"{number}.attention.layers"
        for part in ("kernel", "bias"):
            three = [found.pop(f"{at}.{name}.{part}") for name in ("query", "key", "value")]
            found[f"{at}.qkv.{part}"] = np.concatenate(three, axis=-1)
    return found


# pellucid.


class Block(nn.Module):
    """One block."""

    def __init__(self, s: Sizes) -> None:
        self.first, self.second = nn.LayerNorm(epsilon=EPSILON), nn.LayerNorm(epsilon=EPSILON)
        self.attention = nn.MultiHeadAttention(s.heads)
        self.up = nn.Dense(4 * s.width, activation="gelu_tanh")
        self.down = nn.Dense(s.width)

    def forward(self, x: Any, causal: bool = False) -> Any:
        """x of shape (batch, length, width) to the same."""
        x = x + self.attention(self.first(x), causal=causal)
        return x + self.down(self.up(self.second(x)))


class Blocks(nn.Module):
    """So many blocks."""

    def __init__(self, s: Sizes) -> None:
        self.blocks = [Block(s) for _ in range(s.layers)]

    def forward(self, x: Any, causal: bool = False) -> Any:
        """x of shape (batch, length, width) to the same."""
        for block in self.blocks:
            x = block(x, causal)
        return x


class LanguageModel(nn.Module):
    """Words to the logits of the words that follow."""

    def __init__(self, s: Sizes) -> None:
        self.tokens = nn.Embedding(s.words, s.width)
        self.positions = pe.Parameter(np.zeros((s.context, s.width), np.float32))
        self.blocks = Blocks(s)
        self.norm = nn.LayerNorm(epsilon=EPSILON)
        self.output = nn.Dense(s.words)

    def forward(self, ids: Any) -> Any:
        """ids of shape (batch, length) to (batch, length, words)."""
        x = self.blocks(self.tokens(ids) + self.positions, causal=True)
        return self.output(self.norm(x))


def give(model: nn.Module, weights: Mapping[str, np.ndarray], sample: Any) -> None:
    """Have a model make its parameters for such an input, and give them these values."""
    with pe.no_grad():
        model(sample)
    for path, parameter in model.named_parameters().items():
        parameter.assign(weights[path])


# torch.


def torch_dense(held: Mapping[str, Any], x: Any, path: str) -> Any:
    from torch.nn import functional

    return functional.linear(x, held[f"{path}.kernel"], held[f"{path}.bias"])


def torch_norm(held: Mapping[str, Any], x: Any, path: str) -> Any:
    from torch.nn import functional

    scale, bias = held[f"{path}.scale"], held[f"{path}.bias"]
    return functional.layer_norm(x, x.shape[-1:], scale, bias, EPSILON)


def torch_feed(held: Mapping[str, Any], x: Any, at: str) -> Any:
    from torch.nn import functional

    raised = torch_dense(held, torch_norm(held, x, f"{at}.second"), f"{at}.up")
    return x + torch_dense(held, functional.gelu(raised, approximate="tanh"), f"{at}.down")


def torch_blocks(held: Mapping[str, Any], x: Any, s: Sizes, causal: bool) -> Any:
    from torch.nn import functional

    batch, length, width = x.shape
    for number in range(s.layers):
        at = f"{number}.attention.layers"
        three = torch_dense(held, torch_norm(held, x, f"{number}.first"), f"{at}.qkv")
        q, k, v = three.view(batch, length, 3, s.heads, s.head).permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        together = seen.transpose(1, 2).reshape(batch, length, width)
        x = torch_feed(held, x + torch_dense(held, together, f"{at}.output"), f"{number}")
    return x


def dense(held: Mapping[str, Any], x: Any, path: str) -> Any:
    """A layer of jax, mlx or tinygrad."""
    return x @ held[f"{path}.kernel"] + held[f"{path}.bias"]


# jax.


def jax_norm(held: Mapping[str, Any], x: Any, path: str) -> Any:
    import jax.numpy as jnp

    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + EPSILON)
    return centred / deviation * held[f"{path}.scale"] + held[f"{path}.bias"]


def jax_feed(held: Mapping[str, Any], x: Any, at: str) -> Any:
    import jax

    raised = dense(held, jax_norm(held, x, f"{at}.second"), f"{at}.up")
    return x + dense(held, jax.nn.gelu(raised, approximate=True), f"{at}.down")


def jax_blocks(held: Mapping[str, Any], x: Any, s: Sizes, causal: bool) -> Any:
    import jax

    for number in range(s.layers):
        at = f"{number}.attention.layers"
        three = dense(held, jax_norm(held, x, f"{number}.first"), f"{at}.qkv")
        three = three.reshape(*x.shape[:2], 3, s.heads, s.head)
        q, k, v = (three[:, :, part] for part in range(3))
        seen = jax.nn.dot_product_attention(q, k, v, is_causal=causal).reshape(x.shape)
        x = jax_feed(held, x + dense(held, seen, f"{at}.output"), f"{number}")
    return x


# mlx.


def mlx_norm(held: Mapping[str, Any], x: Any, path: str) -> Any:
    import mlx.core as mx

    return mx.fast.layer_norm(x, held[f"{path}.scale"], held[f"{path}.bias"], EPSILON)


def mlx_blocks(held: Mapping[str, Any], x: Any, s: Sizes, causal: bool) -> Any:
    import mlx.core as mx
    from mlx import nn

    batch, length, width = x.shape
    for number in range(s.layers):
        at = f"{number}.attention.layers"
        three = dense(held, mlx_norm(held, x, f"{number}.first"), f"{at}.qkv")
        three = three.reshape(batch, length, 3, s.heads, s.head).transpose(2, 0, 3, 1, 4)
        seen = mx.fast.scaled_dot_product_attention(
            *three, scale=s.head**-0.5, mask="causal" if causal else None
        )
        together = seen.transpose(0, 2, 1, 3).reshape(batch, length, width)
        x = x + dense(held, together, f"{at}.output")
        raised = dense(held, mlx_norm(held, x, f"{number}.second"), f"{number}.up")
        x = x + dense(held, nn.gelu_approx(raised), f"{number}.down")
    return x


# tinygrad.


def tinygrad_norm(held: Mapping[str, Any], x: Any, path: str) -> Any:
    return x.layernorm(eps=EPSILON) * held[f"{path}.scale"] + held[f"{path}.bias"]


def tinygrad_blocks(held: Mapping[str, Any], x: Any, s: Sizes) -> Any:
    batch, length, width = x.shape
    for number in range(s.layers):
        at = f"{number}.attention.layers"
        three = dense(held, tinygrad_norm(held, x, f"{number}.first"), f"{at}.qkv")
        q, k, v = three.reshape(batch, length, 3, s.heads, s.head).permute(2, 0, 3, 1, 4)
        seen = q.scaled_dot_product_attention(k, v)
        together = seen.transpose(1, 2).reshape(batch, length, width)
        x = x + dense(held, together, f"{at}.output")
        raised = dense(held, tinygrad_norm(held, x, f"{number}.second"), f"{number}.up")
        x = x + dense(held, raised.gelu(), f"{number}.down")
    return x
