"""How fast is a whole training step of a perceptron, beside torch and jax, and how long the first?

    python -m benchmarks mlp_step [--rounds 15] [--threads 1 2] [--json PATH]

A perceptron 784-512-512-10 (relu, cross-entropy), batch 128, Adam at 1e-3, float32: forward pass,
gradients and update. How it is measured stands in `steps.py`; the five first losses agree to 1 in
10,000.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
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

SIZES = (784, 512, 512, 10)
BATCH = 128
RATE = 1e-3

Weights = list[tuple[np.ndarray, np.ndarray]]


def main() -> None:
    case = Case(
        name="mlp_step",
        title=f"MLP {'-'.join(map(str, SIZES))}, batch {BATCH}, Adam, float32",
        pellucid=in_pellucid,
        peers={
            "torch eager": in_torch,
            "torch fused Adam": lambda: in_torch(fused=True),
            "torch.compile": lambda: in_torch(compiled=True),
            "jax.jit": in_jax,
        },
    )
    run(case, parser(__doc__, repeat=20).parse_args())


@cache
def problem() -> tuple[Weights, np.ndarray, np.ndarray]:
    """First weights, images and labels, drawn from one seed."""
    rng = np.random.default_rng(0)
    weights = [
        (
            (rng.standard_normal((before, after)) * (2 / before) ** 0.5).astype(np.float32),
            np.zeros(after, np.float32),
        )
        for before, after in pairwise(SIZES)
    ]
    images = rng.random((BATCH, SIZES[0]), dtype=np.float32)
    return weights, images, rng.integers(0, SIZES[-1], BATCH)


def in_pellucid(given: bool) -> Training:
    import pellucid as pe
    from pellucid import nn, optim

    weights, images, labels = problem()
    hidden = [nn.Dense(size, activation="relu") for size in SIZES[1:-1]]
    layers = [*hidden, nn.Dense(SIZES[-1])]
    model = nn.Sequential(layers)
    adam = optim.Adam(model, learning_rate=RATE)

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    if given:
        model(pe.zeros((1, SIZES[0])))
        for layer, (kernel, bias) in zip(layers, weights, strict=True):
            layer.kernel.assign(kernel)
            layer.bias.assign(bias)
    return Training(step, (pe.asarray(images), pe.asarray(labels)))


def in_torch(fused: bool = False, compiled: bool = False) -> Step:
    import torch
    from torch import nn

    weights, images, labels = problem()
    layers: list[nn.Module] = []
    for number, (kernel, bias) in enumerate(weights):
        dense = nn.Linear(*kernel.shape)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(kernel.T.copy()))
            dense.bias.copy_(torch.from_numpy(bias))
        layers += [dense] if number == len(weights) - 1 else [dense, nn.ReLU()]
    model = nn.Sequential(*layers)
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=fused or None)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    return torch_step(lambda: nn.functional.cross_entropy(model(x), y), adam, compiled)


def in_jax() -> Step:
    import jax

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        for kernel, bias in parameters[:-1]:
            x = jax.nn.relu(x @ kernel + bias)
        return jax_cross_entropy(x @ parameters[-1][0] + parameters[-1][1], y)

    return jax_step(loss_of, jax_adam(RATE), 2, *problem())


if __name__ == "__main__":
    main()
