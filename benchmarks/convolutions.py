"""How fast are convolutions and poolings? Those of a small CNN, forward and back, beside torch.

    python benchmarks/convolutions.py                 # ours
    python benchmarks/convolutions.py --torch         # torch's, where it is installed

28x28 images, 64 at a time: 3x3x32, 3x3x64, both without padding, 2x2 max pooling. Times are the
best of several rounds, in milliseconds of one thread; GFLOP/s count a multiply-add as two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

BATCH = 64
LAYERS = {"conv 1->32": (28, 1, 32), "conv 32->64": (26, 32, 64)}


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
    print(f"{name:28} {seconds * 1e3:8.2f} ms {flops / seconds / 1e9:8.1f} GFLOP/s")


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

    for name, (size, channels, features) in LAYERS.items():
        shapes = (BATCH, size, size, channels), (3, 3, channels, features)
        graph = graph_of(lambda x, w: convolution(x, w, **plain_attrs(2)), *shapes)
        flops = 2.0 * BATCH * (size - 2) ** 2 * 9 * channels * features
        report(f"{name} forward", timed(graph), flops)
        for wrt, what in ((1, "weights"), (0, "operand")):
            back = vjp(graph, (wrt,))
            with building() as builder:
                env = builder.copy(back, [builder.input(v.type) for v in back.inputs])
                back = builder.graph([env[back.outputs[-1]]])
            report(f"{name} to {what}", timed(back), flops)
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
    pads = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    back = torch.ops.aten.convolution_backward

    def layer(name: str, size: int, channels: int, features: int) -> None:
        x = torch.randn(BATCH, channels, size, size).to(memory_format=last)
        w = torch.randn(features, channels, 3, 3).to(memory_format=last)
        g = torch.randn_like(functional.conv2d(x, w))
        flops = 2.0 * BATCH * (size - 2) ** 2 * 9 * channels * features
        report(f"{name} forward", best(lambda: functional.conv2d(x, w)), flops)
        for what, wanted in {"weights": [False, True], "operand": [True, False]}.items():
            seconds = best(lambda wanted=wanted: back(g, x, w, *pads, [*wanted, False]))
            report(f"{name} to {what}", seconds, flops)

    for name, sizes in LAYERS.items():
        layer(name, *sizes)
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
