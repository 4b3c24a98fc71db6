"""How fast is a whole training step of a small CNN?

conv 3x3x32, conv 3x3x64 (both relu, no padding), max pool 2x2, dense 128 (relu), dense 10,
cross-entropy, SGD at 0.01 with momentum 0.9; 28x28 images, 64 at a time. pellucid and jax have
channels last; torch eager both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import (
    jax_cross_entropy,
    jax_step,
    mlx_cross_entropy,
    mlx_step,
    momentum_update,
    torch_step,
)
from pellucid import nn, optim


@dataclass(frozen=True)
class Sizes:
    """The images, and the features of each layer."""

    batch: int
    side: int
    first: int
    second: int
    wide: int
    classes: int = 10

    @property
    def pooled(self) -> int:
        """The side of what the dense layers see."""
        return (self.side - 4) // 2

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Kernels: (height, width, channels, features); (features, units) of the dense layers."""
        flat = self.pooled**2 * self.second
        convolutions = (3, 3, 1, self.first), (3, 3, self.first, self.second)
        return (*convolutions, (flat, self.wide), (self.wide, self.classes))


FULL, TINY = Sizes(64, 28, 32, 64, 128), Sizes(3, 8, 2, 3, 4)
RATE, MOMENTUM = 0.01, 0.9

Weights = list[tuple[np.ndarray, np.ndarray]]


def cases(tiny: bool) -> tuple[Case, ...]:
    """The one size."""
    s = TINY if tiny else FULL
    layers = f"conv {s.first}, conv {s.second}, pool, dense {s.wide}-{s.classes}"
    return (
        Case(
            "cnn step",
            f"CNN {layers} training step, batch {s.batch}, SGD momentum",
            lambda given: in_pellucid(s, given),
            {
                "torch eager": lambda: in_torch(s),
                "torch channels_last": lambda: in_torch(s, channels_last=True),
                # Channels first, torch 2.13 compiles gradients of the convolutions that are wrong.
                "torch.compile": lambda: in_torch(s, channels_last=True, compiled=True),
                "jax.jit": lambda: in_jax(s),
                "mlx": lambda: in_mlx(s),
            },
            checks=5,
            model=True,
        ),
    )


@cache
def problem(s: Sizes) -> tuple[Weights, np.ndarray, np.ndarray]:
    """First weights, images and labels, drawn from one seed."""
    rng = np.random.default_rng(0)
    weights = [
        (
            (rng.standard_normal(shape) * (2 / prod(shape[:-1])) ** 0.5).astype(np.float32),
            np.zeros(shape[-1], np.float32),
        )
        for shape in s.shapes
    ]
    images = rng.random((s.batch, s.side, s.side, 1), dtype=np.float32)
    return weights, images, rng.integers(0, s.classes, s.batch)


def in_pellucid(s: Sizes, given: bool) -> Work:
    weights, images, labels = problem(s)
    convolutions = [nn.Conv2D(size, 3, activation="relu") for size in (s.first, s.second)]
    dense = [nn.Dense(s.wide, activation="relu"), nn.Dense(s.classes)]
    model = nn.Sequential([*convolutions, nn.MaxPool2D(2), nn.Flatten(), *dense])
    sgd = optim.SGD(model, learning_rate=RATE, momentum=MOMENTUM)

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
        return loss

    if given:
        model(pe.zeros((1, s.side, s.side, 1)))
        for layer, (kernel, bias) in zip((*convolutions, *dense), weights, strict=True):
            layer.kernel.assign(kernel)
            layer.bias.assign(bias)
    return Work(step, (pe.asarray(images), pe.asarray(labels)))


def in_torch(s: Sizes, channels_last: bool = False, compiled: bool = False) -> Call:
    import torch
    from torch import nn

    weights, images, labels = problem(s)
    layers = [nn.Conv2d(1, s.first, 3), nn.Conv2d(s.first, s.second, 3)]
    layers += [nn.Linear(*shape) for shape in s.shapes[2:]]
    with torch.no_grad():
        for layer, kernel, (_, bias) in zip(
            layers, torch_kernels(weights, s), weights, strict=True
        ):
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


def torch_kernels(weights: Weights, s: Sizes) -> list[np.ndarray]:
    """The same kernels for channels first: features, channels, height, width; units, features."""
    first, second, wide, last = (kernel for kernel, _ in weights)
    pooled = wide.reshape(s.pooled, s.pooled, s.second, s.wide).transpose(3, 2, 0, 1)
    convolutions = [kernel.transpose(3, 2, 0, 1) for kernel in (first, second)]
    return [*convolutions, pooled.reshape(s.wide, -1), last.T]


def in_jax(s: Sizes) -> Call:
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

    return jax_step(loss_of, momentum_update(RATE, MOMENTUM), 1, *problem(s))


def in_mlx(s: Sizes) -> Call:
    import mlx.core as mx

    weights, images, labels = problem(s)
    named = {
        f"{kind}{number}": one.transpose(3, 0, 1, 2) if one.ndim == 4 else one
        for number, pair in enumerate(weights)
        for kind, one in zip(("kernel", "bias"), pair, strict=True)
    }

    def loss_of(held: Any, x: Any, y: Any) -> Any:
        for number in (0, 1):
            x = mx.conv2d(x, held[f"kernel{number}"]) + held[f"bias{number}"]
            x = mx.maximum(x, 0)
        x = x.reshape(s.batch, s.pooled, 2, s.pooled, 2, -1).max((2, 4)).reshape(s.batch, -1)
        x = mx.maximum(x @ held["kernel2"] + held["bias2"], 0)
        return mlx_cross_entropy(x @ held["kernel3"] + held["bias3"], y)

    return mlx_step(loss_of, momentum_update(RATE, MOMENTUM), 1, named, images, labels)
