"""Which programs does the bit contract's test run, and how does another process run them too?

python -m tests.programs graphs 0 1 2      ->  the digests of three random graphs, each way
python -m tests.programs guarded 0 1 2     ->  the same, and the end of it if memory is left
python -m tests.programs training          ->  the digest of a training run, eager and jitted
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pellucid as pe
from pellucid import nn, optim
from pellucid.core.dtype import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from pellucid.engines.llvm import cache
from pellucid.ir.graph import Graph
from pellucid.passes.pipeline import optimize
from pellucid.tensor.dispatch import evaluate
from tests import guarded
from tests.graphs import random_graph
from tests.running import Array, Arrays, compiled

ROOT = Path(__file__).parent.parent
SMALL = tuple(range(64))
"""Seeds of graphs that are quickly compiled."""
LONG = tuple(range(100, 164))
"""Seeds of graphs with many nodes."""
LARGE = tuple(range(1000, 1008))
"""Seeds of graphs whose values are large enough for several threads."""

DTYPES: tuple[tuple[DType, ...], ...] = (
    (float32,),
    (float64,),
    (bfloat16,),
    (float16, float32),
    (float32, bool_, int32),
    (int8, int32, int64, uint8),
    (int16, uint16, uint32, uint64),
    (float32, float64, bfloat16, float16, int64, bool_),
)


def program(seed: int) -> tuple[Graph, Arrays]:
    """A random graph and operands for it; the dtypes go round with the seed."""
    elements = 200_000 if seed in LARGE else 2000
    nodes = 12 if seed in SMALL else 30
    return random_graph(seed, DTYPES[seed % len(DTYPES)], nodes, elements=elements)


def eager(graph: Graph, arrays: Sequence[Array]) -> Arrays:
    """The outputs as they come node by node, on Tensors."""
    found = evaluate(graph, [pe.asarray(array) for array in arrays])
    return tuple(np.array(tensor) for tensor in found)


def digest(arrays: Iterable[Array]) -> str:
    """One SHA-256 over dtypes, shapes and bits; which NaN a NaN is stays open."""
    sums = hashlib.sha256()
    for array in arrays:
        sums.update(f"{array.dtype.name}{array.shape}".encode())
        plain = array
        if array.dtype.kind not in "biu" and (array != array).any():
            plain = np.where(array != array, np.asarray(np.nan, array.dtype), array)
        sums.update(plain.tobytes())
    return sums.hexdigest()


def graph_digests(seeds: Iterable[int]) -> dict[str, str]:
    """By seed and way: launched node by node, and compiled after all passes."""
    found: dict[str, str] = {}
    for seed in seeds:
        graph, arrays = program(seed)
        found[f"{seed} eager"] = digest(eager(graph, arrays))
        found[f"{seed} compiled"] = digest(compiled(optimize(graph), arrays))
    return found


def training_digest(jitted: bool, steps: int = 30) -> str:
    """One SHA-256 over all losses and Parameters of a run on real images."""
    pe.random.seed(7)
    images, labels, _, _ = pe.data.digits()
    model = nn.Sequential([nn.Dense(256, activation="relu"), nn.Dense(10)])
    adam = optim.Adam(model, learning_rate=1e-2)

    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    run = pe.jit(step) if jitted else step
    losses: list[Array] = []
    for number in range(steps):
        batch = slice(number % 5 * 256, number % 5 * 256 + 256)
        losses.append(np.array(run(images[batch].reshape(-1, 64), labels[batch])))
    assert losses[-1] < losses[0] / 2
    return digest([*losses, *(np.array(p.value) for p in model.parameters())])


def in_child(*arguments: object, **settings: str) -> dict[str, str]:
    """What `python -m tests.programs` says in a fresh process with these settings."""
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": paths}
    environment |= {f"PELLUCID_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-W", "error", "-m", "tests.programs", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def main(what: str, *seeds: str) -> None:
    """Print digests, and how many kernels were compiled, as JSON."""
    if what == "guarded":
        guarded.install()
    if what in ("graphs", "guarded"):
        found = graph_digests(map(int, seeds))
    else:
        found = {"eager": training_digest(jitted=False), "jit": training_digest(jitted=True)}
    json.dump({**found, "kernels compiled": str(cache.counters().compiled)}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
