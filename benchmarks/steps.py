"""How is a whole training step measured beside its peers? What the step benchmarks share.

A case says what the step is, once for each library; this file does the rest. Each count of threads
has a fresh process, bound to as many cores, in which all take their first steps from the same
weights, must give the same losses, and are then timed in turns: by the CPU time of the process on
one thread, by the clock on the wall on several. Then pellucid's first step, each in a fresh
process, and what its steps move through memory beside the least that is possible.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Timing, child, in_turns, write
from benchmarks.peak import peak_rate

CHECKED_STEPS = 5
STARTS = 5
"""How often a fresh process is started to time imports and first steps."""

IMPORTS = """
import time; begin = time.perf_counter()
import numpy; middle = time.perf_counter()
import pellucid; end = time.perf_counter()
import json; print(json.dumps({"numpy": middle - begin, "pellucid": end - middle}))
"""

Step = Callable[[], float]


@dataclass(frozen=True)
class Training:
    """pellucid's compiled step, and what it is called with."""

    step: Any
    arguments: tuple[Any, ...]

    def __call__(self) -> float:
        """Take a step; its loss."""
        return float(self.step(*self.arguments))


@dataclass(frozen=True)
class Case:
    """A training step: `title` says which, `words` are the command's own arguments.

    `pellucid(given)` makes it with the start weights that the `peers` have (or, if not given, with
    weights of its own, made at the first step). Losses agree to `tolerance`, relatively.
    """

    name: str
    title: str
    pellucid: Callable[[bool], Training]
    peers: Mapping[str, Callable[[], Step]]
    words: tuple[str, ...] = ()
    tolerance: float = 1e-4


def parser(description: str | None, repeat: int) -> argparse.ArgumentParser:
    """The arguments of all cases; `repeat` steps are taken in a row unless told otherwise."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    made.add_argument("--rounds", type=int, default=15)
    made.add_argument("--repeat", type=int, default=repeat, help="steps in a row in each round")
    made.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    made.add_argument("--starts", type=int, default=STARTS, help="fresh processes; 0 for none")
    made.add_argument("--json", type=Path)
    made.add_argument("--child", choices=("steps", "start"), help=argparse.SUPPRESS)
    return made


def run(case: Case, arguments: argparse.Namespace) -> None:
    """Do what the command line asks for: the whole report, or a child's part of it."""
    if arguments.child == "steps":
        print(json.dumps(steps(case, arguments.threads[0], arguments.rounds, arguments.repeat)))
    elif arguments.child == "start":
        print(json.dumps(start(case)))
    else:
        report(case, arguments)


def report(case: Case, arguments: argparse.Namespace) -> None:
    cores = len(os.sched_getaffinity(0))
    itself = ("-m", f"benchmarks.{case.name}", *case.words)
    found: dict[str, Any] = {"title": case.title, "steps": {}}
    print(f"{case.title}: the whole step")
    for threads in arguments.threads:
        if threads > cores:
            print(f"\n{threads} threads: skipped, this machine has {cores} cores")
            continue
        words = ("--child", "steps", "--threads", str(threads))
        counts = ("--rounds", str(arguments.rounds), "--repeat", str(arguments.repeat))
        found["steps"][threads] = child(*itself, *words, *counts, **limits(threads))
        print_steps(threads, found["steps"][threads])
    if found["steps"]:
        print_traffic(found["steps"])
    if arguments.starts:
        found["start"] = starts(itself, arguments.starts)
        print_start(found["start"])
    write(case.name, found, arguments.json)


def limits(threads: int) -> dict[str, str]:
    """The settings by which every library takes this many threads."""
    count = str(threads)
    settings = {"PELLUCID_THREADS": count, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    if threads == 1:
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return settings


# The steps, in a process of their own.


def steps(case: Case, threads: int, rounds: int, repeat: int) -> dict[str, Any]:
    """Check that all give the same losses, then time them in turns."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    mine = case.pellucid(True)
    made, losses, skipped = first_steps({"pellucid": lambda: mine, **case.peers})
    difference = largest_difference(losses, case.tolerance)
    clock = time.process_time if threads == 1 else time.perf_counter
    times = in_turns(made, rounds, repeat, clock)
    return {
        "times": {name: asdict(timing) for name, timing in times.items()},
        "skipped": skipped,
        "losses": losses,
        "difference": difference,
        "traffic": traffic_of(mine),
        "peak_rate": peak_rate() * threads,
    }


def first_steps(
    makers: Mapping[str, Callable[[], Step]],
) -> tuple[dict[str, Step], dict[str, list[float]], dict[str, str]]:
    """Every step that can be made here with its first losses, and why the others cannot."""
    made: dict[str, Step] = {}
    losses: dict[str, list[float]] = {}
    skipped: dict[str, str] = {}
    for name, make in makers.items():
        try:
            step = make()
        except (ImportError, RuntimeError) as error:
            skipped[name] = f"{error}".strip().partition("\n")[0][:100]
            continue
        made[name], losses[name] = step, [step() for _ in range(CHECKED_STEPS)]
    return made, losses, skipped


def largest_difference(losses: dict[str, list[float]], tolerance: float) -> float:
    """How far the losses are apart, relatively; ends the benchmark where it is too far."""
    mine = np.array(losses["pellucid"])
    found = {
        name: float(np.max(np.abs(np.array(other) - mine) / np.abs(mine)))
        for name, other in losses.items()
    }
    wrong = {name: losses[name] for name, far in found.items() if not far <= tolerance}
    if wrong:
        raise SystemExit(f"not the same step: pellucid's losses are {list(mine)}, others {wrong}")
    return max(found.values())


def print_steps(threads: int, found: dict[str, Any]) -> None:
    clock = "CPU time" if threads == 1 else "wall time"
    print(f"\n{threads} thread{'s' * (threads > 1)}, {clock}; median [quartiles] of a step")
    mine = found["times"]["pellucid"]["median"]
    for name, timing in found["times"].items():
        low, median, high = (timing[key] * 1e3 for key in ("low", "median", "high"))
        ratio = timing["median"] / mine
        print(f"  {name:22} {median:8.3f} ms  [{low:.3f} {high:.3f}]   {ratio:5.2f} x pellucid")
    for name, why in found["skipped"].items():
        print(f"  {name:22} skipped: {why}")
    print(f"  the first {CHECKED_STEPS} losses agree to {found['difference']:.1e}")


# The steps of the peers.


def torch_step(loss_of: Callable[[], Any], optimizer: Any, compiled: bool = False) -> Step:
    """A step of torch: eager, or forward pass, backward pass and update by `torch.compile`.

    Raises RuntimeError where torch.compile does not work here.
    """
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    forward, update = loss_of, optimizer.step
    if compiled:
        double = torch.compile(lambda x: x * 2 + 1)
        double(torch.ones(16))
        forward, update = torch.compile(loss_of), torch.compile(optimizer.step)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        update()
        return loss.item()

    return step


def jax_step(
    loss_of: Callable[..., Any],
    update: Callable[..., tuple[Any, ...]],
    slots: int,
    weights: Any,
    *inputs: np.ndarray,
) -> Step:
    """A step of jax, compiled whole; what it replaces is given to it.

    `loss_of(parameters, *inputs)`; `update(parameter, gradient, *slots, t)` gives the parameter
    and its slots, of which there are so many, after step number t.
    """
    import jax
    import jax.numpy as jnp

    def advance(state: Any, *x: Any) -> Any:
        t = state[0] + 1
        loss, gradients = jax.value_and_grad(loss_of)(state[1], *x)
        leaves = [jax.tree.leaves(tree) for tree in (state[1], gradients, *state[2:])]
        updated = [update(*parts, t) for parts in zip(*leaves, strict=True)]
        shape = jax.tree.structure(state[1])
        trees = [jax.tree.unflatten(shape, list(part)) for part in zip(*updated, strict=True)]
        return loss, (t, *trees)

    compiled = jax.jit(advance, donate_argnums=0)
    # Copies: a donated buffer may not be two things at once.
    parameters = jax.tree.map(jnp.array, weights)
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(slots)]
    state = [(jnp.zeros((), jnp.float32), parameters, *zeros)]
    held = [jnp.array(one) for one in inputs]

    def step() -> float:
        loss, state[0] = compiled(state[0], *held)
        jax.block_until_ready(state[0])
        return float(loss)

    return step


def jax_cross_entropy(logits: Any, labels: Any) -> Any:
    """The mean of -log softmax at the labels."""
    import jax
    import jax.numpy as jnp

    likely = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(likely, labels[..., None], axis=-1))


def jax_adam(rate: float, weight_decay: float = 0.0) -> Callable[..., tuple[Any, ...]]:
    """Adam's update with two slots, as torch and pellucid define it; AdamW's with weight decay."""
    import jax.numpy as jnp

    def update(p: Any, gradient: Any, mean: Any, square: Any, t: Any) -> tuple[Any, ...]:
        mean = 0.9 * mean + (1 - 0.9) * gradient
        square = 0.999 * square + (1 - 0.999) * gradient * gradient
        root = jnp.sqrt(square) / jnp.sqrt(1 - 0.999**t)
        decayed = p * (1 - rate * weight_decay) if weight_decay else p
        return decayed - rate / (1 - 0.9**t) * mean / (root + 1e-8), mean, square

    return update


# What a step moves and computes.


def traffic_of(training: Training) -> dict[str, int]:
    """What pellucid's compiled step launches, moves and computes."""
    return asdict(training.step.traffic(*training.arguments))


def print_traffic(found: dict[int, dict[str, Any]]) -> None:
    threads, one = next(iter(found.items()))
    traffic = one["traffic"]
    moved, fewest = (traffic[name] / 1e6 for name in ("moved_bytes", "fewest_bytes"))
    print("\nwhat pellucid's step does")
    print(f"  launches  {traffic['launches']}, of {traffic['kernels']} different kernels")
    print(f"  moves     {moved:.1f} MB, {moved / fewest:.2f} x the fewest, {fewest:.1f} MB")
    rate = traffic["flops"] / one["times"]["pellucid"]["median"]
    share = f"{rate / one['peak_rate']:.0%} of {one['peak_rate'] / 1e9:.0f} GFLOP/s"
    print(
        f"  computes  {traffic['flops'] / 1e9:.3f} GFLOP: {share}, the peak of {threads} thread(s)"
    )


# The first step, and the import: each in a fresh process.


def starts(itself: Sequence[str], count: int) -> dict[str, Timing]:
    """Medians over fresh processes: with an empty cache, then with what it left there."""
    cold: list[dict[str, float]] = []
    cached: list[dict[str, float]] = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            for found in (cold, cached):
                place = f"{folder}/kernels"
                found.append(child(*itself, "--child", "start", PELLUCID_CACHE_DIR=place))
    imports = [child("-c", IMPORTS) for _ in range(2 * count)]
    return {
        "cold_first_step": median(cold, "first_step"),
        "cached_first_step": median(cached, "first_step"),
        "import_numpy": median(imports, "numpy"),
        "import_pellucid_after_numpy": median(imports, "pellucid"),
    }


def median(found: list[dict[str, float]], name: str) -> Timing:
    return Timing.of([one[name] for one in found])


def start(case: Case) -> dict[str, float]:
    """The seconds of this process's first step; model and data are there, nothing is compiled."""
    training = case.pellucid(False)
    begin = time.perf_counter()
    training()
    return {"first_step": time.perf_counter() - begin}


def print_start(found: dict[str, Timing]) -> None:
    print("\nin a fresh process; median [quartiles]")
    for name, timing in found.items():
        low, middle, high = (seconds * 1e3 for seconds in (timing.low, timing.median, timing.high))
        print(f"  {name.replace('_', ' '):28} {middle:8.1f} ms  [{low:.1f} {high:.1f}]")
