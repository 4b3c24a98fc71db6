"""How fast is a whole training step of a small CNN, beside torch and jax, and how long the first?

    python -m benchmarks cnn_step [--rounds 15] [--threads 1 2] [--json PATH]

conv 3x3x32, conv 3x3x64 (both relu, no padding), max pool 2x2, dense 128 (relu), dense 10,
cross-entropy, SGD at 0.01 with momentum 0.9; 28x28 images, 64 at a time, float32. pellucid and jax
have channels last; torch eager both ways. How it is measured stands in `steps.py`; the five first
losses agree to 1 in 10,000.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np

from benchmarks.steps import (
    Case,
    Step,
    Training,
    jax_cross_entropy,
    jax_step,
    parser,
    run,
    torch_step,
)

BATCH = 64
RATE, MOMENTUM = 0.01, 0.9
SHAPES = ((3, 3, 1, 32), (3, 3, 32, 64), (12 * 12 * 64, 128), (128, 10))
"""Kernels: (height, width, channels, features) of the convolutions, (features, units) of Dense."""

Weights = list[tuple[np.ndarray, np.ndarray]]


def main() -> None:
    case = Case(
        name="cnn_step",
        title=f"CNN conv 32, conv 64, pool, dense 128-10, batch {BATCH}, SGD momentum, float32",
        pellucid=in_pellucid,
        peers={
            "torch eager": in_torch,
            "torch channels_last": lambda: in_torch(channels_last=True),
            # With channels first, torch 2.13 compiles gradients of the convolutions that are wrong.
            "torch.compile": lambda: in_torch(channels_last=True, compiled=True),
            "jax.jit": in_jax,
        },
    )
    run(case, parser(__doc__, repeat=3).parse_args())


@cache
def problem() -> tuple[Weights, np.ndarray, np.ndarray]:
    """First weights, images and labels, drawn from one seed."""
    rng = np.random.default_rng(0)
    weights = [
        (
            (rng.standard_normal(shape) * (2 / prod(shape[:-1])) ** 0.5).astype(np.float32),
            np.zeros(shape[-1], np.float32),
        )
        for shape in SHAPES
    ]
    images = rng.random((BATCH, 28, 28, 1), dtype=np.float32)
    return weights, images, rng.integers(0, 10, BATCH)


def in_pellucid(given: bool) -> Training:
    import pellucid as pe
    from pellucid import nn, optim

    weights, images, labels = problem()
    convolutions = [nn.Conv2D(32, 3, activation="relu"), nn.Conv2D(64, 3, activation="relu")]
    dense = [nn.Dense(128, activation="relu"), nn.Dense(10)]
    model = nn.Sequential([*convolutions, nn.MaxPool2D(2), nn.Flatten(), *dense])
    sgd = optim.SGD(model, learning_rate=RATE, momentum=MOMENTUM)

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
        return loss

    if given:
        model(pe.zeros((1, 28, 28, 1)))
        for layer, (kernel, bias) in zip((*convolutions, *dense), weights, strict=True):
            layer.kernel.assign(kernel)
            layer.bias.assign(bias)
    return Training(step, (pe.asarray(images), pe.asarray(labels)))


def in_torch(channels_last: bool = False, compiled: bool = False) -> Step:
    import torch
    from torch import nn

    weights, images, labels = problem()
    layers = [nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(12 * 12 * 64, 128)]
    layers += [nn.Linear(128, 10)]
    with torch.no_grad():
        for layer, kernel, (_, bias) in zip(layers, torch_kernels(weights), weights, strict=True):
            layer.weight.copy_(torch.from_numpy(kernel.copy()))
            layer.bias.copy_(torch.from_numpy(bias))
    first, second, wide, last = layers
    convolutions = [first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*convolutions, nn.Flatten(), wide, nn.ReLU(), last)
    order = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=order)
    x = torch.from_numpy(np.moveaxis(images, -1, 1).copy()).to(memory_format=order)
    y = torch.from_numpy(labels)
    sgd = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    return torch_step(lambda: nn.functional.cross_entropy(model(x), y), sgd, compiled)


def torch_kernels(weights: Weights) -> list[np.ndarray]:
    """The same kernels for channels first: features, channels, height, width; units, features."""
    first, second, wide, last = (kernel for kernel, _ in weights)
    pooled = wide.reshape(12, 12, 64, 128).transpose(3, 2, 0, 1)
    convolutions = [kernel.transpose(3, 2, 0, 1) for kernel in (first, second)]
    return [*convolutions, pooled.reshape(128, -1), last.T]


def in_jax() -> Step:
    import jax
    from jax import lax

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        for kernel, bias in parameters[:2]:
            order = ("NHWC", "HWIO", "NHWC")
            x = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=order)
            x = jax.nn.relu(x + bias)
        x = lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = jax.nn.relu(x.reshape(len(x), -1) @ parameters[2][0] + parameters[2][1])
        return jax_cross_entropy(x @ parameters[3][0] + parameters[3][1], y)

    def momentum(p: Any, gradient: Any, velocity: Any, t: Any) -> tuple[Any, ...]:
        velocity = MOMENTUM * velocity + gradient
        return p - RATE * velocity, velocity

    return jax_step(loss_of, momentum, 1, *problem())


if __name__ == "__main__":
    main()
