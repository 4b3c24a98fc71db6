"""How fast is a whole training step of a transformer, beside torch and jax, and how long the first?

    python -m benchmarks transformer_step [--layers 2] [--rounds 9] [--threads 1 2] [--json PATH]

A language model of pre-norm blocks: x += attention(norm(x)), causal, 4 heads; x += down(gelu(up(
norm(x)))), 4 times as wide; width 256, context 256, batch 4, float32. Tokens from a table of 8192
rows, plus positions, go in; a norm and an output layer give logits; cross-entropy, AdamW at 3e-4.
The peers take query, key and value in one product, and torch its scaled_dot_product_attention. How
it is measured stands in `steps.py`; the five first losses agree to 1 in 10,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from benchmarks.steps import (
    Case,
    Step,
    Training,
    jax_adam,
    jax_cross_entropy,
    jax_step,
    parser,
    run,
    torch_step,
)

WIDTH, HEADS, CONTEXT, BATCH, WORDS = 256, 4, 256, 4, 8192
RATE, DECAY, EPSILON = 3e-4, 0.01, 1e-5

Weights = dict[str, np.ndarray]


def main() -> None:
    made = parser(__doc__, repeat=1)
    made.add_argument("--layers", type=int, default=2)
    arguments = made.parse_args()
    layers: int = arguments.layers
    title = f"transformer, {layers} layers, width {WIDTH}, context {CONTEXT}, batch {BATCH}"
    case = Case(
        name="transformer_step",
        title=f"{title}, {WORDS} words, AdamW, float32",
        pellucid=lambda given: in_pellucid(layers, given),
        peers={
            "torch eager": lambda: in_torch(layers),
            "torch.compile": lambda: in_torch(layers, compiled=True),
            "jax.jit": lambda: in_jax(layers),
        },
        words=("--layers", str(layers)),
    )
    run(case, arguments)


def shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each parameter by its path in pellucid's model, with its shape."""
    yield "positions", (CONTEXT, WIDTH)
    yield "tokens.table", (WORDS, WIDTH)
    for number in range(layers):
        at = f"blocks.{number}"
        for name in ("query", "key", "value", "output"):
            yield f"{at}.attention.layers.{name}.kernel", (WIDTH, WIDTH)
            yield f"{at}.attention.layers.{name}.bias", (WIDTH,)
        for name, shape in (("up", (WIDTH, 4 * WIDTH)), ("down", (4 * WIDTH, WIDTH))):
            yield f"{at}.{name}.kernel", shape
            yield f"{at}.{name}.bias", shape[1:]
        for name in ("first", "second"):
            yield f"{at}.{name}.scale", (WIDTH,)
            yield f"{at}.{name}.bias", (WIDTH,)
    yield from (("norm.scale", (WIDTH,)), ("norm.bias", (WIDTH,)))
    yield from (("output.kernel", (WIDTH, WORDS)), ("output.bias", (WORDS,)))


@cache
def problem(layers: int) -> tuple[Weights, np.ndarray, np.ndarray]:
    """First weights, tokens and the tokens that follow, drawn from one seed."""
    rng = np.random.default_rng(0)
    weights: Weights = {}
    for path, shape in shapes(layers):
        drawn = rng.standard_normal(shape) * (0.02 if len(shape) == 2 else 0.0)
        weights[path] = (drawn + path.endswith("scale")).astype(np.float32)
    tokens = rng.integers(0, WORDS, (BATCH, CONTEXT + 1))
    return weights, tokens[:, :-1].copy(), tokens[:, 1:].copy()


def in_pellucid(layers: int, given: bool) -> Training:
    import pellucid as pe
    from pellucid import nn, optim

    class Block(nn.Module):
        def __init__(self) -> None:
            self.first, self.second = nn.LayerNorm(epsilon=EPSILON), nn.LayerNorm(epsilon=EPSILON)
            self.attention = nn.MultiHeadAttention(HEADS)
            self.up = nn.Dense(4 * WIDTH, activation="gelu")
            self.down = nn.Dense(WIDTH)

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.first(x), causal=True)
            return x + self.down(self.up(self.second(x)))

    class Model(nn.Module):
        def __init__(self) -> None:
            self.tokens = nn.Embedding(WORDS, WIDTH)
            self.positions = pe.Parameter(np.zeros((CONTEXT, WIDTH), np.float32))
            self.blocks = [Block() for _ in range(layers)]
            self.norm = nn.LayerNorm(epsilon=EPSILON)
            self.output = nn.Dense(WORDS)

        def forward(self, ids: Any) -> Any:
            x = self.tokens(ids) + self.positions
            for block in self.blocks:
                x = block(x)
            return self.output(self.norm(x))

    weights, tokens, following = problem(layers)
    model = Model()
    adam = optim.AdamW(model, learning_rate=RATE, weight_decay=DECAY)

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    if given:
        model(pe.zeros((1, CONTEXT), dtype=pe.int64))
        for path, parameter in model.named_parameters().items():
            parameter.assign(weights[path])
    return Training(step, (pe.asarray(tokens), pe.asarray(following)))


def joined(weights: Weights, layers: int) -> Weights:
    """The weights with those of query, key and value side by side, as `qkv`."""
    found = dict(weights)
    for number in range(layers):
        at = f"blocks.{number}.attention.layers"
        for part in ("kernel", "bias"):
            three = [found.pop(f"{at}.{name}.{part}") for name in ("query", "key", "value")]
            found[f"{at}.qkv.{part}"] = np.concatenate(three, axis=-1)
    return found


def in_torch(layers: int, compiled: bool = False) -> Step:
    import torch
    from torch.nn import functional

    weights, tokens, following = problem(layers)
    held = {
        # Linear layers have (units, features).
        path: torch.from_numpy(array.T.copy() if path.endswith("kernel") else array.copy())
        for path, array in joined(weights, layers).items()
    }
    for one in held.values():
        one.requires_grad_()
    ids, labels = torch.from_numpy(tokens), torch.from_numpy(following)

    def dense(x: Any, path: str) -> Any:
        return functional.linear(x, held[f"{path}.kernel"], held[f"{path}.bias"])

    def norm(x: Any, path: str) -> Any:
        return functional.layer_norm(
            x, (WIDTH,), held[f"{path}.scale"], held[f"{path}.bias"], EPSILON
        )

    def attend(x: Any, path: str) -> Any:
        three = dense(x, f"{path}.qkv").view(BATCH, CONTEXT, 3, HEADS, WIDTH // HEADS)
        q, k, v = three.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return dense(found.transpose(1, 2).reshape(BATCH, CONTEXT, WIDTH), f"{path}.output")

    def loss_of() -> Any:
        x = functional.embedding(ids, held["tokens.table"]) + held["positions"]
        for number in range(layers):
            at = f"blocks.{number}"
            x = x + attend(norm(x, f"{at}.first"), f"{at}.attention.layers")
            raised = functional.gelu(dense(norm(x, f"{at}.second"), f"{at}.up"), approximate="tanh")
            x = x + dense(raised, f"{at}.down")
        logits = dense(norm(x, "norm"), "output")
        return functional.cross_entropy(logits.view(-1, WORDS), labels.view(-1))

    adam = torch.optim.AdamW(list(held.values()), lr=RATE, weight_decay=DECAY, fused=True)
    return torch_step(loss_of, adam, compiled)


def in_jax(layers: int) -> Step:
    import jax
    import jax.numpy as jnp

    weights, tokens, following = problem(layers)

    def loss_of(held: Any, ids: Any, labels: Any) -> Any:
        def dense(x: Any, path: str) -> Any:
            return x @ held[f"{path}.kernel"] + held[f"{path}.bias"]

        def norm(x: Any, path: str) -> Any:
            centred = x - jnp.mean(x, axis=-1, keepdims=True)
            deviation = jnp.sqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + EPSILON)
            return centred / deviation * held[f"{path}.scale"] + held[f"{path}.bias"]

        def attend(x: Any, path: str) -> Any:
            three = dense(x, f"{path}.qkv").reshape(BATCH, CONTEXT, 3, HEADS, WIDTH // HEADS)
            q, k, v = (three[:, :, number] for number in range(3))
            found = jax.nn.dot_product_attention(q, k, v, is_causal=True)
            return dense(found.reshape(BATCH, CONTEXT, WIDTH), f"{path}.output")

        x = held["tokens.table"][ids] + held["positions"]
        for number in range(layers):
            at = f"blocks.{number}"
            x = x + attend(norm(x, f"{at}.first"), f"{at}.attention.layers")
            raised = jax.nn.gelu(dense(norm(x, f"{at}.second"), f"{at}.up"), approximate=True)
            x = x + dense(raised, f"{at}.down")
        return jax_cross_entropy(dense(norm(x, "norm"), "output"), labels)

    return jax_step(loss_of, jax_adam(RATE, DECAY), 2, joined(weights, layers), tokens, following)


if __name__ == "__main__":
    main()
