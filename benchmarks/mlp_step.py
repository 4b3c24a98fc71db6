"""How fast is a whole training step, beside torch and jax, and how long does the first one take?

    python -m benchmarks mlp_step [--rounds 15] [--threads 1 2] [--json PATH]

A perceptron 784-512-512-10 (relu, cross-entropy), batch 128, Adam at 1e-3, float32: forward pass,
gradients and update. All start from the same weights and must give the same five first losses (to
1 in 10,000) before anything is timed. One thread is timed by the CPU time of the process, several
by the clock on the wall; each count of threads has a process of its own, bound to as many cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Timing, child, in_turns, write

SIZES = (784, 512, 512, 10)
BATCH = 128
RATE = 1e-3
CHECKED_STEPS = 5
TOLERANCE = 1e-4
STARTS = 5
"""How often a fresh process is started to time imports and first steps."""

ITSELF = ("-m", "benchmarks.mlp_step")
IMPORTS = """
import time; begin = time.perf_counter()
import numpy; middle = time.perf_counter()
import pellucid; end = time.perf_counter()
import json; print(json.dumps({"numpy": middle - begin, "pellucid": end - middle}))
"""

Weights = list[tuple[np.ndarray, np.ndarray]]
Step = Callable[[], float]


def main() -> None:
    arguments = parsed()
    if arguments.child == "steps":
        print(json.dumps(steps(arguments.threads[0], arguments.rounds, arguments.repeat)))
    elif arguments.child == "start":
        print(json.dumps(start()))
    else:
        report(arguments)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=20, help="steps in a row in each round")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=("steps", "start"), help=argparse.SUPPRESS)
    return parser.parse_args()


def report(arguments: argparse.Namespace) -> None:
    cores = len(os.sched_getaffinity(0))
    found: dict[str, Any] = {"steps": {}}
    print(f"MLP {'-'.join(map(str, SIZES))}, batch {BATCH}, Adam, float32: the whole step")
    for threads in arguments.threads:
        if threads > cores:
            print(f"\n{threads} threads: skipped, this machine has {cores} cores")
            continue
        words = ("--child", "steps", "--threads", str(threads))
        counts = ("--rounds", str(arguments.rounds), "--repeat", str(arguments.repeat))
        found["steps"][threads] = child(*ITSELF, *words, *counts, **limits(threads))
        print_steps(threads, found["steps"][threads])
    found["start"] = starts(arguments.starts)
    print_start(found["start"])
    write("mlp_step", found, arguments.json)


def limits(threads: int) -> dict[str, str]:
    """The settings by which every library takes this many threads."""
    count = str(threads)
    settings = {"PELLUCID_THREADS": count, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    if threads == 1:
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return settings


def print_steps(threads: int, found: dict[str, Any]) -> None:
    clock = "CPU time" if threads == 1 else "wall time"
    print(f"\n{threads} thread{'s' * (threads > 1)}, {clock}; median [quartiles] of a step")
    mine = found["times"]["pellucid"]["median"]
    for name, timing in found["times"].items():
        low, median, high = (timing[key] * 1e3 for key in ("low", "median", "high"))
        ratio = timing["median"] / mine
        print(f"  {name:22} {median:7.3f} ms  [{low:.3f} {high:.3f}]   {ratio:5.2f} x pellucid")
    for name, why in found["skipped"].items():
        print(f"  {name:22} skipped: {why}")
    print(f"  the first {CHECKED_STEPS} losses agree to {found['difference']:.1e}")


# The steps, in a process of their own.


def steps(threads: int, rounds: int, repeat: int) -> dict[str, Any]:
    """Check that all give the same losses, then time them in turns."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    weights, images, labels = problem()
    made, skipped = make_all(weights, images, labels, threads)
    losses = {name: [step() for _ in range(CHECKED_STEPS)] for name, step in made.items()}
    difference = largest_difference(losses)
    clock = time.process_time if threads == 1 else time.perf_counter
    times = in_turns(made, rounds, repeat, clock)
    return {
        "times": {name: asdict(timing) for name, timing in times.items()},
        "skipped": skipped,
        "losses": losses,
        "difference": difference,
    }


def problem() -> tuple[Weights, np.ndarray, np.ndarray]:
    """First weights, images and labels, drawn from one seed."""
    rng = np.random.default_rng(0)
    weights = [
        (
            (rng.standard_normal((before, after)) * (2 / before) ** 0.5).astype(np.float32),
            np.zeros(after, np.float32),
        )
        for before, after in pairwise(SIZES)
    ]
    images = rng.random((BATCH, SIZES[0]), dtype=np.float32)
    return weights, images, rng.integers(0, SIZES[-1], BATCH)


def largest_difference(losses: dict[str, list[float]]) -> float:
    """How far the losses are apart, relatively; ends the benchmark where it is too far."""
    mine = np.array(losses["pellucid"])
    found = {
        name: float(np.max(np.abs(np.array(other) - mine) / np.abs(mine)))
        for name, other in losses.items()
    }
    wrong = {name: losses[name] for name, far in found.items() if not far <= TOLERANCE}
    if wrong:
        raise SystemExit(f"not the same step: pellucid's losses are {list(mine)}, others {wrong}")
    return max(found.values())


def make_all(
    weights: Weights, images: np.ndarray, labels: np.ndarray, threads: int
) -> tuple[dict[str, Step], dict[str, str]]:
    """Every step that can be made here, and why the others cannot."""
    made: dict[str, Step] = {"pellucid": pellucid_step(weights, images, labels)}
    skipped: dict[str, str] = {}
    makers = {
        "torch eager": lambda: torch_step(weights, images, labels, threads, "eager"),
        "torch fused Adam": lambda: torch_step(weights, images, labels, threads, "fused"),
        "torch.compile": lambda: torch_step(weights, images, labels, threads, "compiled"),
        "jax.jit": lambda: jax_step(weights, images, labels),
    }
    for name, make in makers.items():
        try:
            made[name] = make()
            # The first step compiles; what cannot compile here is found out now.
        except ImportError as error:
            skipped[name] = f"{error}"
        except RuntimeError as error:
            skipped[name] = f"{error}".strip().partition("\n")[0][:100]
    return made, skipped


def pellucid_step(weights: Weights, images: np.ndarray, labels: np.ndarray) -> Step:
    import pellucid as pe

    step = pellucid_training(weights)
    x, y = pe.asarray(images), pe.asarray(labels)
    return lambda: float(step(x, y))


def pellucid_training(weights: Weights | None) -> Any:
    """The step of a model with these weights (its own, made at the first step, if None)."""
    import pellucid as pe
    from pellucid import nn, optim

    hidden = [nn.Dense(size, activation="relu") for size in SIZES[1:-1]]
    layers = [*hidden, nn.Dense(SIZES[-1])]
    model = nn.Sequential(layers)
    adam = optim.Adam(model, learning_rate=RATE)

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    if weights is not None:
        model(pe.zeros((1, SIZES[0])))
        for layer, (kernel, bias) in zip(layers, weights, strict=True):
            layer.kernel.assign(kernel)
            layer.bias.assign(bias)
    return step


def torch_step(
    weights: Weights, images: np.ndarray, labels: np.ndarray, threads: int, how: str
) -> Step:
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    layers: list[nn.Module] = []
    for number, (kernel, bias) in enumerate(weights):
        dense = nn.Linear(*kernel.shape)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(kernel.T.copy()))
            dense.bias.copy_(torch.from_numpy(bias))
        layers += [dense] if number == len(weights) - 1 else [dense, nn.ReLU()]
    model = nn.Sequential(*layers)
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=how == "fused" or None)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def loss_of() -> torch.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    compiled = how == "compiled"
    forward = torch.compile(loss_of) if compiled else loss_of
    update = torch.compile(adam.step) if compiled else adam.step
    if compiled:
        require_compiler(torch)

    def step() -> float:
        adam.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        update()
        return loss.item()

    return step


def require_compiler(torch: Any) -> None:
    """Try torch.compile on something tiny; raises RuntimeError where it does not work."""
    double = torch.compile(lambda x: x * 2 + 1)
    double(torch.ones(16))


def jax_step(weights: Weights, images: np.ndarray, labels: np.ndarray) -> Step:
    import jax
    import jax.numpy as jnp

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        for kernel, bias in parameters[:-1]:
            x = jax.nn.relu(x @ kernel + bias)
        logits = x @ parameters[-1][0] + parameters[-1][1]
        likely = jax.nn.log_softmax(logits)
        return -jnp.mean(jnp.take_along_axis(likely, y[:, None], axis=1))

    def adam(parameter: Any, gradient: Any, mean: Any, square: Any, t: Any) -> Any:
        mean = 0.9 * mean + (1 - 0.9) * gradient
        square = 0.999 * square + (1 - 0.999) * gradient * gradient
        rate = RATE / (1 - 0.9**t)
        return parameter - rate * mean / (jnp.sqrt(square / (1 - 0.999**t)) + 1e-8), mean, square

    def advance(state: Any, x: Any, y: Any) -> Any:
        parameters, means, squares, t = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        leaves = [jax.tree.leaves(tree) for tree in (parameters, gradients, means, squares)]
        updated = [adam(*parts, t + 1) for parts in zip(*leaves, strict=True)]
        shape = jax.tree.structure(parameters)
        trees = [jax.tree.unflatten(shape, list(part)) for part in zip(*updated, strict=True)]
        return loss, (*trees, t + 1)

    compiled = jax.jit(advance, donate_argnums=0)
    # Copies: a donated buffer may not be two things at once.
    parameters = [(jnp.array(kernel), jnp.array(bias)) for kernel, bias in weights]
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
    state = [(parameters, *zeros, jnp.zeros((), jnp.float32))]
    x, y = jnp.array(images), jnp.array(labels)

    def step() -> float:
        loss, state[0] = compiled(state[0], x, y)
        jax.block_until_ready(state[0])
        return float(loss)

    return step


# The first step, and the import: each in a fresh process.


def starts(count: int) -> dict[str, Any]:
    """Medians over fresh processes: with an empty cache, then with what it left there."""
    cold: list[dict[str, float]] = []
    cached: list[dict[str, float]] = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            for found in (cold, cached):
                place = f"{folder}/kernels"
                found.append(child(*ITSELF, "--child", "start", PELLUCID_CACHE_DIR=place))
    imports = [child("-c", IMPORTS) for _ in range(2 * count)]
    return {
        "cold_first_step": median(cold, "first_step"),
        "cached_first_step": median(cached, "first_step"),
        "import_numpy": median(imports, "numpy"),
        "import_pellucid_after_numpy": median(imports, "pellucid"),
    }


def median(found: list[dict[str, float]], name: str) -> Timing:
    return Timing.of([one[name] for one in found])


def start() -> dict[str, float]:
    """The seconds of this process's first step; model and data are there, nothing is compiled."""
    import pellucid as pe

    _, images, labels = problem()
    step = pellucid_training(None)
    begin = time.perf_counter()
    float(step(pe.asarray(images), pe.asarray(labels)))
    return {"first_step": time.perf_counter() - begin}


def print_start(found: dict[str, Timing]) -> None:
    print("\nin a fresh process; median [quartiles]")
    for name, timing in found.items():
        low, middle, high = (seconds * 1e3 for seconds in (timing.low, timing.median, timing.high))
        print(f"  {name.replace('_', ' '):28} {middle:8.1f} ms  [{low:.1f} {high:.1f}]")


if __name__ == "__main__":
    main()
