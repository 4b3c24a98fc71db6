"""How fast is a training step of a small CNN? The whole step, beside torch's where it is installed.

    python benchmarks/cnn_step.py --threads 1

conv 3x3x32, conv 3x3x64 (both relu, no padding), max pool 2x2, dense 128, dense 10, cross-entropy,
SGD with momentum; 28x28 images, 64 at a time, float32. With one thread CPU time is counted, which
other processes disturb least; with more, wall time. The best of several rounds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH = 64


def main() -> None:
    """Parse the command line and time both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    os.environ["PELLUCID_THREADS"] = str(arguments.threads)
    rng = np.random.default_rng(0)
    images = rng.random((BATCH, 28, 28, 1), dtype=np.float32)
    labels = rng.integers(0, 10, BATCH)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    makers = {
        "pellucid": lambda: pellucid_step(images, labels),
        "torch": lambda: torch_step(images, labels, arguments.threads, last=False),
        "torch channels_last": lambda: torch_step(images, labels, arguments.threads, last=True),
    }
    for name, make in makers.items():
        try:
            step = make()
        except ImportError as error:
            print(f"{name:22} skipped: {error}")
            continue
        start = time.perf_counter()
        step()
        first = time.perf_counter() - start
        found = best(step, arguments.rounds, clock)
        print(f"{name:22} {found * 1e3:8.2f} ms a step, the first {first * 1e3:8.0f} ms")


def best(step: Callable[[], object], rounds: int, clock: Callable[[], float]) -> float:
    """The least seconds of a step, over rounds of three."""
    times: list[float] = []
    for _ in range(rounds):
        start = clock()
        for _ in range(3):
            step()
        times.append((clock() - start) / 3)
    return min(times)


def pellucid_step(images: np.ndarray, labels: np.ndarray) -> Callable[[], object]:
    """The step under jit."""
    import pellucid as pe
    from pellucid import nn, optim

    convolutions = [nn.Conv2D(32, 3, activation="relu"), nn.Conv2D(64, 3, activation="relu")]
    dense = [nn.Dense(128, activation="relu"), nn.Dense(10)]
    model = nn.Sequential([*convolutions, nn.MaxPool2D(2), nn.Flatten(), *dense])
    sgd = optim.SGD(model, learning_rate=0.01, momentum=0.9)

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
        return loss

    x, y = pe.asarray(images), pe.asarray(labels)
    return lambda: float(step(x, y))


def torch_step(
    images: np.ndarray, labels: np.ndarray, threads: int, last: bool
) -> Callable[[], object]:
    """The same step, eager as torch runs it."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    layers = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Flatten(), nn.Linear(64 * 144, 128), nn.ReLU(), nn.Linear(128, 10)]
    model = nn.Sequential(*layers, *dense)
    order = torch.channels_last if last else torch.contiguous_format
    model = model.to(memory_format=order)
    x = torch.from_numpy(np.moveaxis(images, -1, 1).copy()).to(memory_format=order)
    y = torch.from_numpy(labels)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        sgd.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
        return float(loss)

    return step


if __name__ == "__main__":
    main()
