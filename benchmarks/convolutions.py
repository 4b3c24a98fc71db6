"""How fast are convolutions and poolings, forward and back, beside torch?

    python -m benchmarks convolutions               # ours
    python -m benchmarks convolutions --torch       # beside torch's, where it is installed
    python -m benchmarks convolutions --net resnet18 --batch 16 --size 224 --torch
    python -m benchmarks convolutions --net mobilenet --batch 4 --size 224 --torch

Without a net they are those of a small CNN on 28x28 images, 64 at a time (3x3x32, 3x3x64, both
without padding, 2x2 max pooling) and layers of larger nets. With one they are all its convolutions,
with how often each comes, and the sums over the net. Columns are the result, the derivative in the
weights and that in the operand. Times are the best of several rounds, in milliseconds of one
thread's time, torch's that of channels last or channels first, whichever is less; GFLOP/s count a
multiply-add as two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

BATCH = 64


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
    padding: int = 0
    groups: int = 1
    times: int = 1

    @property
    def flops(self) -> float:
        """A multiply-add counts as two."""
        side = (self.size + 2 * self.padding - self.window) // self.stride + 1
        depth = self.window**2 * self.channels / self.groups
        return 2.0 * self.batch * side**2 * depth * self.features


LAYERS = (
    Layer("3x3 28x28 1->32", BATCH, 28, 1, 32),
    Layer("3x3 26x26 32->64", BATCH, 26, 32, 64),
    Layer("3x3 56x56 64->64", 8, 56, 64, 64, padding=1),
    Layer("3x3 14x14 256->256", 8, 14, 256, 256, padding=1),
    Layer("3x3/2 56x56 128->128", 8, 56, 128, 128, stride=2, padding=1),
    Layer("7x7/2 224x224 3->64", 4, 224, 3, 64, window=7, stride=2, padding=3),
    Layer("1x1 56x56 64->128", 8, 56, 64, 128, window=1),
    Layer("1x1 14x14 512->512", 8, 14, 512, 512, window=1),
    Layer("depthwise 112x112 32", 8, 112, 32, 32, padding=1, groups=32),
    Layer("depthwise 56x56 128", 8, 56, 128, 128, padding=1, groups=128),
    Layer("depthwise 14x14 512", 8, 14, 512, 512, padding=1, groups=512),
)


def best(run: Callable[[], object], rounds: int = 15) -> float:
    """The least seconds that a run takes of this thread's time, which others disturb least."""
    run()
    times: list[float] = []
    for _ in range(rounds):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return min(times)


def resnet18(batch: int, size: int) -> Iterator[Layer]:
    """The convolutions of ResNet-18."""
    yield Layer("7x7/2 stem", batch, size, 3, 64, window=7, stride=2, padding=3)
    size //= 4
    yield Layer(f"3x3 {size}² 64", batch, size, 64, 64, padding=1, times=4)
    for channels in (64, 128, 256):
        name, two = f"{size}² {channels}->{2 * channels}", 2 * channels
        yield Layer(f"3x3/2 {name}", batch, size, channels, two, stride=2, padding=1)
        yield Layer(f"1x1/2 {name}", batch, size, channels, two, window=1, stride=2)
        size = -(-size // 2)
        yield Layer(f"3x3 {size}² {two}", batch, size, two, two, padding=1, times=3)


def mobilenet(batch: int, size: int) -> Iterator[Layer]:
    """The convolutions of MobileNet (version 1)."""
    yield Layer("3x3/2 stem", batch, size, 3, 32, stride=2, padding=1)
    size, channels = size // 2, 32
    for features, stride, times in BLOCKS:
        name = f"depthwise/{stride} {size}² {channels}"
        each: dict[str, Any] = {"padding": 1, "groups": channels, "times": times}
        yield Layer(name, batch, size, channels, channels, stride=stride, **each)
        size = -(-size // stride)
        name = f"1x1 {size}² {channels}->{features}"
        yield Layer(name, batch, size, channels, features, window=1, times=times)
        channels = features


BLOCKS = (
    (64, 1, 1), (128, 2, 1), (128, 1, 1), (256, 2, 1), (256, 1, 1), (512, 2, 1), (512, 1, 5),
    (1024, 2, 1), (1024, 1, 1),
)  # fmt: skip
"""MobileNet's blocks: features, stride, how often."""

NETS = {"resnet18": resnet18, "mobilenet": mobilenet}
WHAT = ("forward", "to weights", "to operand")
Times = tuple[float, float, float]
"""Seconds of the result, of the weights' derivative and of the operand's."""


class Ours:
    """Kernels by themselves, compiled."""

    def __init__(self) -> None:
        from pellucid.engines.cpu.pipeline import make_engine
        from pellucid.engines.cpu.pool import set_threads

        set_threads(1)
        self.engine = make_engine()

    def timed(self, graph: Any) -> float:
        """The seconds that a graph takes on seeded numbers."""
        from pellucid.engines.base import array_at, layout
        from pellucid.passes.pipeline import optimize

        executable = self.engine.compile(optimize(graph), {})
        frame = executable.lease()
        types = (*executable.inputs, *executable.outputs)
        blocks = [self.engine.allocate(layout(type).nbytes) for type in types]
        rng = np.random.default_rng(0)
        for index, (block, type) in enumerate(zip(blocks, types, strict=True)):
            array = array_at(block.address, layout(type), block)
            array[...] = rng.normal(size=array.shape).astype(array.dtype)
            frame.table[index] = block.address
        return best(lambda: executable.run(frame))

    def layer(self, layer: Layer) -> Times:
        """The three times of a layer."""
        from pellucid.ir.build import building
        from pellucid.ops.convolution import convolution, plain_attrs
        from pellucid.transforms.vjp import vjp

        weights = (layer.window, layer.window, layer.channels // layer.groups, layer.features)
        shapes = (layer.batch, layer.size, layer.size, layer.channels), weights
        given = plain_attrs(2) | {
            "strides": (layer.stride,) * 2,
            "padding": ((layer.padding,) * 2,) * 2,
            "feature_groups": layer.groups,
        }
        graph = graph_of(lambda x, w: convolution(x, w, **given), *shapes)

        def back(wrt: int) -> float:
            both = vjp(graph, (wrt,))
            with building() as builder:
                env = builder.copy(both, [builder.input(v.type) for v in both.inputs])
                return self.timed(builder.graph([env[both.outputs[-1]]]))

        return self.timed(graph), back(1), back(0)

    def pool(self) -> Iterator[tuple[str, float]]:
        """A 2x2 max pool, where its maxima are, and the way back."""
        from pellucid.ops.reduce_window import window_argmax, window_max, window_scatter

        attrs: dict[str, Any] = {
            "window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))
        }  # fmt: skip
        shape, result = (BATCH, 24, 24, 64), (BATCH, 12, 12, 64)

        def back(x: Any, g: Any) -> Any:
            return window_scatter(g, window_argmax(x, **attrs), sizes=(24, 24), **attrs)

        yield "pool", self.timed(graph_of(lambda x: window_max(x, **attrs), shape))
        yield "pool places", self.timed(graph_of(lambda x: window_argmax(x, **attrs), shape))
        yield "pool back", self.timed(graph_of(back, shape, result))


def graph_of(build: Callable[..., Any], *shapes: tuple[int, ...]) -> Any:
    """The graph of what `build` makes of inputs of these shapes."""
    from pellucid.core.dtype import float32
    from pellucid.ir.build import building
    from pellucid.ir.graph import TensorType

    with building() as builder:
        inputs = [builder.input(TensorType(float32, shape)) for shape in shapes]
        return builder.graph([build(*inputs)])


class Torchs:
    """The same through torch."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.torch = torch

    def layer(self, layer: Layer) -> Times:
        """The three times of a layer, each in the layout that suits it best."""
        formats = (self.torch.channels_last, self.torch.contiguous_format)
        first, second = (self._in_format(layer, format) for format in formats)
        forward, weights, operand = map(min, first, second)
        return forward, weights, operand

    def _in_format(self, layer: Layer, format: Any) -> Times:
        torch, size = self.torch, layer.size
        step, pad = [layer.stride] * 2, [layer.padding] * 2
        x = torch.randn(layer.batch, layer.channels, size, size).to(memory_format=format)
        shape = layer.features, layer.channels // layer.groups, layer.window, layer.window
        w = torch.randn(shape).to(memory_format=format)
        conv2d, back = torch.nn.functional.conv2d, torch.ops.aten.convolution_backward

        def forward() -> Any:
            return conv2d(x, w, stride=step, padding=pad, groups=layer.groups)

        g = torch.randn_like(forward())
        how = (None, step, pad, [1, 1], False, [0, 0], layer.groups)
        weights = best(lambda: back(g, x, w, *how, [False, True, False]))
        return best(forward), weights, best(lambda: back(g, x, w, *how, [True, False, False]))

    def pool(self) -> Iterator[tuple[str, float]]:
        """A 2x2 max pool and the way back."""
        torch = self.torch
        x = torch.randn(BATCH, 64, 24, 24).to(memory_format=torch.channels_last).requires_grad_()
        max_pool2d = torch.nn.functional.max_pool2d
        y = max_pool2d(x, 2)
        g = torch.randn_like(y)
        yield "pool", best(lambda: max_pool2d(x, 2))
        yield "pool back", best(lambda: torch.autograd.grad(y, x, g, retain_graph=True))


def line(layer: Layer, mine: Times, other: Times | None) -> str:
    """One row: milliseconds, and torch's beside them, or GFLOP/s."""
    cells: list[str] = []
    for seconds, theirs in zip(mine, other or mine, strict=True):
        beside = f"{layer.flops / seconds / 1e9:7.1f} GFLOP/s"
        if other is not None:
            beside = f"torch {theirs * 1e3:8.2f} ({theirs / seconds:4.2f})"
        cells.append(f"{seconds * 1e3:8.2f} {beside}")
    return f"{layer.name:28} x{layer.times} " + " | ".join(cells)


def table(layers: Iterator[Layer], torch: bool) -> None:
    """All layers, and their sums."""
    ours, torchs = Ours(), Torchs() if torch else None
    print(f"{'':31} " + " | ".join(f"{what:30}" for what in WHAT))
    sums = np.zeros((2, 3))
    for layer in layers:
        mine = ours.layer(layer)
        other = torchs.layer(layer) if torchs is not None else None
        print(line(layer, mine, other), flush=True)
        sums += layer.times * np.asarray([mine, other or mine]) * 1e3
    for name, row in zip(("ours", "torch"), sums if torch else sums[:1], strict=False):
        print(f"{'all, ' + name:31} " + " | ".join(f"{ms:8.2f} ms" + " " * 19 for ms in row))


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--net", choices=sorted(NETS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    if arguments.net is not None:
        table(NETS[arguments.net](arguments.batch, arguments.size), arguments.torch)
        return
    table(iter(LAYERS), arguments.torch)
    for name, seconds in Ours().pool():
        print(f"{name:31} {seconds * 1e3:8.2f} ms")
    for name, seconds in Torchs().pool() if arguments.torch else ():
        print(f"torch, {name:24} {seconds * 1e3:8.2f} ms")


if __name__ == "__main__":
    main()
