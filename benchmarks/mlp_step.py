"""How fast is a whole training step of a perceptron?

784-512-512-10 (relu, cross-entropy), batch 128, Adam at 1e-3: forward pass, gradients and update.
In float32, and in bfloat16 with float32 weights beside torch's autocast and our own float32.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import BFLOAT16, Call, Case, Work
from benchmarks.peers import jax_adam, jax_cross_entropy, jax_step, torch_cast, torch_step
from pellucid import nn, optim

Sizes = tuple[int, ...]
"""The batch, then how wide each layer is, from the input on."""

FULL: Sizes = (128, 784, 512, 512, 10)
TINY: Sizes = (4, 6, 5, 3)
RATE = 1e-3

Weights = list[tuple[np.ndarray, np.ndarray]]


def cases(tiny: bool) -> tuple[Case, ...]:
    """The one size, in float32 and in bfloat16."""
    s = TINY if tiny else FULL
    return (
        Case(
            "mlp step",
            f"MLP {'-'.join(map(str, s[1:]))} training step, batch {s[0]}, Adam",
            lambda given: in_pellucid(s, given),
            {
                "torch eager": lambda: in_torch(s),
                "torch fused Adam": lambda: in_torch(s, fused=True),
                "torch.compile": lambda: in_torch(s, compiled=True),
                "jax.jit": lambda: in_jax(s),
            },
            checks=5,
            model=True,
        ),
        Case(
            "mlp step bf16",
            f"MLP {'-'.join(map(str, s[1:]))} training step in bfloat16, batch {s[0]}, Adam",
            lambda given: in_pellucid(s, given, "bf16"),
            {
                "pellucid float32": lambda: in_pellucid(s, True),
                "torch autocast": lambda: in_torch(s, autocast=True),
                "torch autocast fused": lambda: in_torch(s, fused=True, autocast=True),
                "torch.compile autocast": lambda: in_torch(s, compiled=True, autocast=True),
            },
            checks=5,
            tolerance=BFLOAT16,
            dtype=pe.bfloat16,
            model=True,
        ),
    )


@cache
def problem(s: Sizes) -> tuple[Weights, np.ndarray, np.ndarray]:
    """First weights, images and labels, drawn from one seed."""
    rng = np.random.default_rng(0)
    weights = [
        (
            (rng.standard_normal((before, after)) * (2 / before) ** 0.5).astype(np.float32),
            np.zeros(after, np.float32),
        )
        for before, after in pairwise(s[1:])
    ]
    images = rng.random(s[:2], dtype=np.float32)
    return weights, images, rng.integers(0, s[-1], s[0])


def in_pellucid(s: Sizes, given: bool, precision: str = "float32") -> Work:
    weights, images, labels = problem(s)
    hidden = [nn.Dense(size, activation="relu") for size in s[2:-1]]
    layers = [*hidden, nn.Dense(s[-1])]
    model = nn.Sequential(layers)
    adam = optim.Adam(model, learning_rate=RATE)

    @pe.jit(precision=precision)
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    if given:
        model(pe.zeros((1, s[1])))
        for layer, (kernel, bias) in zip(layers, weights, strict=True):
            layer.kernel.assign(kernel)
            layer.bias.assign(bias)
    return Work(step, (pe.asarray(images), pe.asarray(labels)))


def in_torch(s: Sizes, fused: bool = False, compiled: bool = False, autocast: bool = False) -> Call:
    import torch
    from torch import nn

    weights, images, labels = problem(s)
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
    loss_of = torch_cast(lambda: nn.functional.cross_entropy(model(x), y), autocast)
    return torch_step(loss_of, adam, compiled)


def in_jax(s: Sizes) -> Call:
    import jax

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        for kernel, bias in parameters[:-1]:
            x = jax.nn.relu(x @ kernel + bias)
        return jax_cross_entropy(x @ parameters[-1][0] + parameters[-1][1], y)

    return jax_step(loss_of, jax_adam(RATE), 2, *problem(s))
