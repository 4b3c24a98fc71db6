"""How fast are convolutions and poolings, forward and back, beside torch?

    python benchmarks/convolutions.py                 # ours
    python benchmarks/convolutions.py --torch         # torch's, where it is installed

Those of a small CNN on 28x28 images, 64 at a time: 3x3x32, 3x3x64, both without padding, 2x2 max
pooling; and layers of larger nets: 3x3, 7x7 at stride 2, 1x1, depthwise. Times are the best of
several rounds, in milliseconds of one thread; GFLOP/s count a multiply-add as two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

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


def report(name: str, seconds: float, flops: float) -> None:
    """One line."""
    print(f"{name:32} {seconds * 1e3:8.2f} ms {flops / seconds / 1e9:8.1f} GFLOP/s")


def ours() -> None:
    """Each kernel by itself, compiled."""
    from pellucid.core.dtype import float32
    from pellucid.engines.base import array_at, layout
    from pellucid.engines.cpu.pipeline import make_engine
    from pellucid.engines.cpu.pool import set_threads
    from pellucid.ir.build import building
    from pellucid.ir.graph import Graph, TensorType, Value
    from pellucid.ops.convolution import convolution, plain_attrs
    from pellucid.ops.reduce_window import window_argmax, window_max, window_scatter
    from pellucid.passes.pipeline import optimize
    from pellucid.transforms.vjp import vjp

    set_threads(1)
    engine = make_engine()

    def timed(graph: Graph) -> float:
        executable = engine.compile(optimize(graph), {})
        frame = executable.lease()
        types = (*executable.inputs, *executable.outputs)
        blocks = [engine.allocate(layout(type).nbytes) for type in types]
        rng = np.random.default_rng(0)
        for index, (block, type) in enumerate(zip(blocks, types, strict=True)):
            array = array_at(block.address, layout(type), block)
            array[...] = rng.normal(size=array.shape).astype(array.dtype)
            frame.table[index] = block.address
        return best(lambda: executable.run(frame))

    def graph_of(build: Callable[..., Value], *shapes: tuple[int, ...]) -> Graph:
        with building() as builder:
            inputs = [builder.input(TensorType(float32, shape)) for shape in shapes]
            return builder.graph([build(*inputs)])

    for layer in LAYERS:
        weights = (layer.window, layer.window, layer.channels // layer.groups, layer.features)
        shapes = (layer.batch, layer.size, layer.size, layer.channels), weights
        changed = {
            "strides": (layer.stride,) * 2,
            "padding": ((layer.padding,) * 2,) * 2,
            "feature_groups": layer.groups,
        }
        given = plain_attrs(2) | changed
        graph = graph_of(lambda x, w, given=given: convolution(x, w, **given), *shapes)
        report(f"{layer.name} forward", timed(graph), layer.flops)
        for wrt, what in ((1, "weights"), (0, "operand")):
            back = vjp(graph, (wrt,))
            with building() as builder:
                env = builder.copy(back, [builder.input(v.type) for v in back.inputs])
                back = builder.graph([env[back.outputs[-1]]])
            report(f"{layer.name} to {what}", timed(back), layer.flops)
    attrs = {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
    shape = (BATCH, 24, 24, 64)
    elements = float(np.prod(shape))
    report("pool", timed(graph_of(lambda x: window_max(x, **attrs), shape)), elements)
    report("pool places", timed(graph_of(lambda x: window_argmax(x, **attrs), shape)), elements)
    with building() as builder:
        x, g = (
            builder.input(TensorType(float32, shape)),
            builder.input(TensorType(float32, (BATCH, 12, 12, 64))),
        )
        places = window_argmax(x, **attrs)
        back = builder.graph([window_scatter(g, places, sizes=(24, 24), **attrs)])
    report("pool back", timed(back), elements)


def torchs() -> None:
    """The same through torch, channels last."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    last = torch.channels_last
    back = torch.ops.aten.convolution_backward

    def run(layer: Layer) -> None:
        size, step, pad = layer.size, [layer.stride] * 2, [layer.padding] * 2
        x = torch.randn(layer.batch, layer.channels, size, size).to(memory_format=last)
        shape = layer.features, layer.channels // layer.groups, layer.window, layer.window
        w = torch.randn(shape).to(memory_format=last)

        def forward() -> torch.Tensor:
            return functional.conv2d(x, w, stride=step, padding=pad, groups=layer.groups)

        g = torch.randn_like(forward())
        how = (None, step, pad, [1, 1], False, [0, 0], layer.groups)
        report(f"{layer.name} forward", best(forward), layer.flops)
        for what, wanted in {"weights": [False, True], "operand": [True, False]}.items():
            seconds = best(lambda wanted=wanted: back(g, x, w, *how, [*wanted, False]))
            report(f"{layer.name} to {what}", seconds, layer.flops)

    for layer in LAYERS:
        run(layer)
    x = torch.randn(BATCH, 64, 24, 24).to(memory_format=last).requires_grad_()
    y = functional.max_pool2d(x, 2)
    g = torch.randn_like(y)
    elements = float(x.numel())
    report("pool", best(lambda: functional.max_pool2d(x, 2)), elements)
    report("pool back", best(lambda: torch.autograd.grad(y, x, g, retain_graph=True)), elements)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    (torchs if arguments.torch else ours)()


if __name__ == "__main__":
    main()
