"""How fast does a ResNet-18 name what is in a picture, one at a time and sixteen?

He et al. (CVPR 2016), 1000 classes, 224 x 224; batch norms by their running statistics. pellucid,
jax and mlx have channels last; torch eager both ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import Weights, jax_forward, onnx_forward, torch_forward, torch_weights
from pellucid import nn

STAGES = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
"""Features and stride of each block of two convolutions."""

EPSILON = 1e-5


@dataclass(frozen=True)
class Sizes:
    """How many pictures of which side; `thin` divides all numbers of features."""

    batch: int
    side: int
    classes: int = 1000
    thin: int = 1

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Features and stride of each block."""
        return tuple((features // self.thin, stride) for features, stride in STAGES)


FULL = (Sizes(1, 224), Sizes(16, 224))
TINY = (Sizes(1, 32, classes=4, thin=16),)


def cases(tiny: bool) -> tuple[Case, ...]:
    """One picture, and sixteen; each also where pellucid may round otherwise."""
    return tuple(case_of(s, fast) for fast in (False, True) for s in (TINY if tiny else FULL))


def case_of(s: Sizes, fast: bool) -> Case:
    how = ", fast=True" * fast
    return Case(
        f"resnet18 batch {s.batch}{how}",
        f"ResNet-18 inference, {s.batch} of {s.side} x {s.side}{how}",
        lambda given: in_pellucid(s, fast),
        {
            "torch eager": lambda: in_torch(s),
            "torch channels_last": lambda: in_torch(s, channels_last=True),
            "torch.compile": lambda: in_torch(s, channels_last=True, compiled=True),
            "jax.jit": lambda: in_jax(s),
            "onnxruntime": lambda: onnx_forward(*torch_problem(s)),
        },
        tolerance=1e-3,
        model=not fast,
    )


def shapes(s: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each parameter and running statistic by its path, with its shape."""
    channels = s.stages[0][0]
    yield "stem.kernel", (7, 7, 3, channels)
    yield from norm_shapes("stem_norm", channels)
    for number, (features, stride) in enumerate(s.stages):
        at = f"blocks.{number}"
        yield f"{at}.first.kernel", (3, 3, channels, features)
        yield from norm_shapes(f"{at}.first_norm", features)
        yield f"{at}.second.kernel", (3, 3, features, features)
        yield from norm_shapes(f"{at}.second_norm", features)
        if stride > 1:
            yield f"{at}.short.kernel", (1, 1, channels, features)
            yield from norm_shapes(f"{at}.short_norm", features)
        channels = features
    yield from (("output.kernel", (channels, s.classes)), ("output.bias", (s.classes,)))


def norm_shapes(path: str, features: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name in ("scale", "bias", "mean", "variance"):
        yield f"{path}.{name}", (features,)


@cache
def problem(s: Sizes) -> tuple[Weights, np.ndarray]:
    """Weights and pictures from one seed."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}
    for path, shape in shapes(s):
        if path.endswith("kernel"):
            drawn = rng.standard_normal(shape) * (2 / prod(shape[:-1])) ** 0.5
        else:
            middle = 1.0 if path.endswith(("scale", "variance")) else 0.0
            drawn = middle + rng.uniform(-0.2, 0.2, shape)
        weights[path] = drawn.astype(np.float32)
    return weights, rng.standard_normal((s.batch, s.side, s.side, 3), np.float32)


# pellucid.


def convolution(features: int, window: int, stride: int) -> nn.Conv2D:
    around = window // 2
    return nn.Conv2D(features, window, stride, padding=around, use_bias=False)


class Block(nn.Module):
    """Two convolutions with a way around them."""

    def __init__(self, features: int, stride: int) -> None:
        self.first, self.first_norm = convolution(features, 3, stride), nn.BatchNorm()
        self.second, self.second_norm = convolution(features, 3, 1), nn.BatchNorm()
        self.short = convolution(features, 1, stride) if stride > 1 else None
        self.short_norm = nn.BatchNorm() if stride > 1 else None

    def forward(self, x: Any) -> Any:
        """x of shape (batch, height, width, channels) to the same with `features`."""
        around = x
        if self.short is not None and self.short_norm is not None:
            around = self.short_norm(self.short(x))
        x = nn.relu(self.first_norm(self.first(x)))
        return nn.relu(self.second_norm(self.second(x)) + around)


class ResNet18(nn.Module):
    """Pictures to logits."""

    def __init__(self, s: Sizes) -> None:
        self.stem, self.stem_norm = convolution(s.stages[0][0], 7, 2), nn.BatchNorm()
        self.pool = nn.MaxPool2D(3, 2, padding=1)
        self.blocks = [Block(features, stride) for features, stride in s.stages]
        self.mean = nn.GlobalAvgPool()
        self.output = nn.Dense(s.classes)

    def forward(self, x: Any) -> Any:
        """x of shape (batch, height, width, 3) to (batch, classes)."""
        x = self.pool(nn.relu(self.stem_norm(self.stem(x))))
        for block in self.blocks:
            x = block(x)
        return self.output(self.mean(x))


def give(model: ResNet18, weights: Weights, s: Sizes) -> None:
    """Have the model make its cells, and give them these values."""
    with pe.no_grad():
        # A small picture does: the side is no part of any shape.
        model(pe.zeros((1, 32, 32, 3)))
    for path, cell in model.variables().items():
        cell.assign(weights[path])


def in_pellucid(s: Sizes, fast: bool = False) -> Work:
    weights, x = problem(s)
    model = ResNet18(s).eval()
    give(model, weights, s)
    return Work(pe.jit(model, fast=fast), (pe.asarray(x),))


# The peers.


def torch_resnet(held: Any, x: Any, s: Sizes, training: bool) -> Any:
    """The same in torch's functions."""
    from torch.nn import functional

    def conv(x: Any, path: str, stride: int) -> Any:
        kernel = held[f"{path}.kernel"]
        return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def norm(x: Any, path: str) -> Any:
        four = (held[f"{path}_norm.{name}"] for name in ("mean", "variance", "scale", "bias"))
        return functional.batch_norm(x, *four, training=training, momentum=0.1, eps=EPSILON)

    x = functional.relu(norm(conv(x, "stem", 2), "stem"))
    x = functional.max_pool2d(x, 3, 2, padding=1)
    for number, (_, stride) in enumerate(s.stages):
        at, around = f"blocks.{number}", x
        if stride > 1:
            around = norm(conv(x, f"{at}.short", stride), f"{at}.short")
        x = functional.relu(norm(conv(x, f"{at}.first", stride), f"{at}.first"))
        x = functional.relu(norm(conv(x, f"{at}.second", 1), f"{at}.second") + around)
    return functional.linear(x.mean((2, 3)), held["output.kernel"], held["output.bias"])


def torch_problem(s: Sizes, channels_last: bool = False) -> tuple[Any, Any]:
    import torch

    weights, x = problem(s)
    order = torch.channels_last if channels_last else torch.contiguous_format
    held = {
        path: one.contiguous(memory_format=order) if one.ndim == 4 else one
        for path, one in torch_weights(weights).items()
    }
    pictures = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).contiguous(memory_format=order)
    return lambda x: torch_resnet(held, x, s, training=False), pictures


def in_torch(s: Sizes, channels_last: bool = False, compiled: bool = False) -> Call:
    return torch_forward(*torch_problem(s, channels_last), compiled=compiled)


def jax_resnet(held: Any, x: Any, s: Sizes, training: bool) -> Any:
    """The same in jax; while training by the batch's statistics."""
    import jax
    from jax import lax

    def conv(x: Any, path: str, stride: int) -> Any:
        kernel = held[f"{path}.kernel"]
        around = [(kernel.shape[0] // 2,) * 2] * 2
        order = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (stride,) * 2, around, dimension_numbers=order)

    def norm(x: Any, path: str) -> Any:
        mean, variance, scale, bias = (
            held.get(f"{path}_norm.{name}") for name in ("mean", "variance", "scale", "bias")
        )
        if training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) * lax.rsqrt(variance + EPSILON) * scale + bias

    x = jax.nn.relu(norm(conv(x, "stem", 2), "stem"))
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = lax.reduce_window(x, -np.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), around)
    for number, (_, stride) in enumerate(s.stages):
        at, around = f"blocks.{number}", x
        if stride > 1:
            around = norm(conv(x, f"{at}.short", stride), f"{at}.short")
        x = jax.nn.relu(norm(conv(x, f"{at}.first", stride), f"{at}.first"))
        x = jax.nn.relu(norm(conv(x, f"{at}.second", 1), f"{at}.second") + around)
    return x.mean((1, 2)) @ held["output.kernel"] + held["output.bias"]


def in_jax(s: Sizes) -> Call:
    weights, x = problem(s)
    return jax_forward(lambda w, x: jax_resnet(w, x, s, training=False), weights, x)
