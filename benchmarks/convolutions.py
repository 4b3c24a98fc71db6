"""How fast are convolutions, forward, to their weights and to their operand?

Those of a small CNN on 28x28 images, of ResNets, dilated, in groups as in ResNeXt, and depthwise
ones of MobileNets. A transposed one is the way to the operand of a strided one. pellucid and jax
have channels last, and torch is given them so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import cores, jax_forward, onnx_forward
from pellucid.nn import functional


@dataclass(frozen=True)
class Layer:
    """A convolution of square images with a square window."""

    name: str
    batch: int
    size: int
    channels: int
    features: int
    window: int = 3
    stride: int = 1
    padding: int = 1
    groups: int = 1
    dilation: int = 1


LAYERS = (
    Layer("3x3 28 1>32", 64, 28, 1, 32, padding=0),
    Layer("3x3 26 32>64", 64, 26, 32, 64, padding=0),
    Layer("7x7/2 224 3>64", 4, 224, 3, 64, window=7, stride=2, padding=3),
    Layer("3x3 56 64>64", 8, 56, 64, 64),
    Layer("3x3/2 56 64>128", 8, 56, 64, 128, stride=2),
    Layer("1x1/2 56 64>128", 8, 56, 64, 128, window=1, stride=2, padding=0),
    Layer("3x3 14 256>256", 8, 14, 256, 256),
    Layer("3x3 7 512>512", 8, 7, 512, 512),
    Layer("1x1 14 512>512", 8, 14, 512, 512, window=1, padding=0),
    Layer("3x3 dilated 28 128>128", 4, 28, 128, 128, padding=2, dilation=2),
    Layer("4x4/2 28 64>128", 8, 28, 64, 128, window=4, stride=2),
    Layer("32 groups 56 128>128", 4, 56, 128, 128, groups=32),
    Layer("32 groups 14 512>512", 4, 14, 512, 512, groups=32),
    Layer("depthwise 112 32", 8, 112, 32, 32, groups=32),
    Layer("depthwise/2 112 64", 8, 112, 64, 64, stride=2, groups=64),
    Layer("depthwise 56 128", 8, 56, 128, 128, groups=128),
    Layer("depthwise 14 512", 8, 14, 512, 512, groups=512),
)
SMALL = (
    Layer("3x3/2 5 2>4", 1, 5, 2, 4, stride=2),
    Layer("depthwise 4 3", 1, 4, 3, 3, groups=3),
    Layer("2 groups, dilated 6 4>6", 1, 6, 4, 6, padding=2, groups=2, dilation=2),
)
PARTS = ("forward", "to weights", "to operand")


def cases(tiny: bool) -> tuple[Case, ...]:
    """Each layer, three ways."""
    layers = SMALL if tiny else LAYERS
    return tuple(case_of(layer, part) for layer in layers for part in PARTS)


def case_of(layer: Layer, part: str) -> Case:
    peers = {
        "torch eager": lambda: in_torch(layer, part),
        "jax.jit": lambda: in_jax(layer, part),
    }
    if part == "forward":
        peers["onnxruntime"] = lambda: in_onnx(layer)
    return Case(
        f"{layer.name} {part}",
        f"convolution {layer.name}, batch {layer.batch}, {part}",
        lambda given: in_pellucid(layer, part),
        peers,
    )


@cache
def operands(layer: Layer) -> tuple[np.ndarray, ...]:
    """Images, kernel and what comes back, with channels last."""
    rng = np.random.default_rng(0)
    reach = layer.dilation * (layer.window - 1) + 1
    side = (layer.size + 2 * layer.padding - reach) // layer.stride + 1
    shapes = (
        (layer.batch, layer.size, layer.size, layer.channels),
        (layer.window, layer.window, layer.channels // layer.groups, layer.features),
        (layer.batch, side, side, layer.features),
    )
    return tuple(rng.standard_normal(shape, np.float32) for shape in shapes)


def three_ways(part: str, convolve: Callable[..., Any], vjp: Callable[..., Any]) -> Any:
    """The function of (images, kernel, cotangent) that computes one part."""

    def to_weights(x: Any, kernel: Any, g: Any) -> Any:
        return vjp(lambda kernel: convolve(x, kernel), kernel)[1](g)

    def to_operand(x: Any, kernel: Any, g: Any) -> Any:
        return vjp(lambda x: convolve(x, kernel), x)[1](g)

    ways = (lambda x, kernel, g: [convolve(x, kernel)], to_weights, to_operand)
    return dict(zip(PARTS, ways, strict=True))[part]


def in_pellucid(layer: Layer, part: str) -> Work:
    def convolve(x: Any, kernel: Any) -> Any:
        how = {"strides": layer.stride, "padding": layer.padding, "groups": layer.groups}
        return functional.conv(x, kernel, dilation=layer.dilation, **how)

    function = three_ways(part, convolve, pe.vjp)
    return Work(pe.jit(function), tuple(map(pe.asarray, operands(layer))))


def in_torch(layer: Layer, part: str) -> Call:
    import torch

    torch.set_num_threads(cores())
    x, kernel, g = torch_operands(layer)
    step, pad = [layer.stride] * 2, [layer.padding] * 2
    apart = [layer.dilation] * 2
    how = (None, step, pad, apart, False, [0, 0], layer.groups)
    back = torch.ops.aten.convolution_backward

    def forward() -> Any:
        found = torch.nn.functional.conv2d(x, kernel, None, step, pad, apart, layer.groups)
        return [found.permute(0, 2, 3, 1)]

    def to_weights() -> Any:
        return [back(g, x, kernel, *how, [False, True, False])[1].permute(2, 3, 1, 0)]

    def to_operand() -> Any:
        return [back(g, x, kernel, *how, [True, False, False])[0].permute(0, 2, 3, 1)]

    return dict(zip(PARTS, (forward, to_weights, to_operand), strict=True))[part]


def torch_operands(layer: Layer) -> tuple[Any, ...]:
    """The same in torch's order of axes; channels lie last in memory."""
    import torch

    x, kernel, g = (torch.from_numpy(one) for one in operands(layer))
    kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return x.permute(0, 3, 1, 2), kernel, g.permute(0, 3, 1, 2)


def in_onnx(layer: Layer) -> Call:
    """Channels first, as onnxruntime has them; only what it gives is turned."""
    import torch

    x, kernel, _ = (one.contiguous() for one in torch_operands(layer))

    def convolve(x: Any) -> Any:
        how = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        return torch.nn.functional.conv2d(x, kernel, dilation=layer.dilation, **how)

    call = onnx_forward(convolve, x)
    return lambda: [np.moveaxis(one, 1, -1) for one in call()]


def in_jax(layer: Layer, part: str) -> Call:
    import jax
    from jax import lax

    def convolve(x: Any, kernel: Any) -> Any:
        return lax.conv_general_dilated(
            x,
            kernel,
            (layer.stride,) * 2,
            [(layer.padding,) * 2] * 2,
            rhs_dilation=(layer.dilation,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=layer.groups,
        )

    return jax_forward(three_ways(part, convolve, jax.vjp), *operands(layer))
