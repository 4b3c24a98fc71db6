"""How fast are fused loops and reductions, beside torch?

    scripts/bench loops [--rounds 15] [--threads 1 2]

`static` is the kernel made for these sizes, `generic` the one that serves all sizes (where the
case is a single op). All are called in turns in one run; a time is the best of the rounds, which a
busy machine disturbs least, and `spread` is the median over the best. GB/s counts each operand and
each result once.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from pellucid.core.dtype import float32
from pellucid.engines.base import layout
from pellucid.engines.cpu.eager import launcher
from pellucid.engines.cpu.pool import Step, Steps, pool, set_threads
from pellucid.engines.cpu.rules import realise_graph
from pellucid.engines.llvm import cache
from pellucid.engines.llvm.target import host_isa
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops.define import Op
from pellucid.ops.elementwise import add, exp, log, mul, sub, tanh
from pellucid.ops.movement import broadcast
from pellucid.ops.reduce import max_, sum_

LARGE, ROWS = (4_000_000,), (4096, 1024)


def scale_add(x: Value, a: Value, b: Value) -> Value:
    """x a + b."""
    return add(mul(x, broadcast(a, shape=x.shape, axes=())), broadcast(b, shape=x.shape, axes=()))


def log_sum_exp(x: Value) -> Value:
    """Of each row, in one kernel."""
    top = max_(x, axes=(1,))
    shifted = sub(x, broadcast(top, shape=x.shape, axes=(0,)))
    return add(log(sum_(exp(shifted), axes=(1,))), top)


@dataclass(frozen=True)
class Case:
    """A function of float32 operands of these shapes, and torch's way to say it."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    build: Callable[..., Value]
    peer: Callable[..., Any]
    single: tuple[Op, dict[str, Any]] | None = None


def reduction(name: str, op: Op, axes: tuple[int, ...], shape: tuple[int, ...], peer: Any) -> Case:
    """A case of one reduction."""
    return Case(name, (shape,), lambda x: op(x, axes=axes), peer, (op, {"axes": axes}))


CASES = (
    Case("x a + b", (LARGE, (), ()), scale_add, lambda x, a, b: x * a + b),
    Case("x + y", (LARGE, LARGE), add, torch.add, (add, {})),
    Case("exp", (LARGE,), exp, torch.exp, (exp, {})),
    Case("tanh", (LARGE,), tanh, torch.tanh, (tanh, {})),
    reduction("row sum", sum_, (1,), ROWS, lambda x: x.sum(1)),
    reduction("row sum, 10 columns", sum_, (1,), (400_000, 10), lambda x: x.sum(1)),
    reduction("row max", max_, (1,), ROWS, lambda x: x.amax(1)),
    reduction("column sum", sum_, (0,), ROWS, lambda x: x.sum(0)),
    reduction("column sum, batch 128", sum_, (0,), (128, 512), lambda x: x.sum(0)),
    reduction("sum of all", sum_, (0, 1), ROWS, lambda x: x.sum()),
    Case("log-sum-exp of rows", (ROWS,), log_sum_exp, lambda x: torch.logsumexp(x, 1)),
)


def main() -> None:
    """Time every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    print(f"{host_isa().name}; torch {torch.__version__}; microseconds")
    head = "case                   threads   static  generic    torch  torch/static    GB/s  spread"
    print(head)
    for case in CASES:
        for threads in arguments.threads:
            report(case, threads, arguments.rounds)


def report(case: Case, threads: int, rounds: int) -> None:
    """Time one case on so many threads and print a line."""
    torch.set_num_threads(threads)
    set_threads(threads)
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.standard_normal(shape, np.float32)) for shape in case.shapes]
    tensors = [torch.from_numpy(array) for array in arrays]
    static, found = static_call(graph_of(case), arrays)
    generic = None if case.single is None else generic_call(*case.single, arrays)
    runs = {"static": static, "torch": lambda: case.peer(*tensors)}
    if generic is not None:
        runs["generic"] = generic
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    expected = case.peer(*tensors).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3 * found.size**0.5)
    best = {name: min(taken) for name, taken in times.items()}
    shown = f"{1e6 * best['generic']:8.1f}" if generic is not None else f"{'':8}"
    moved = sum(array.nbytes for array in arrays) + found.nbytes
    print(
        f"{case.name:22} {threads:7} {1e6 * best['static']:8.1f} {shown}"
        f" {1e6 * best['torch']:8.1f} {best['torch'] / best['static']:13.2f}"
        f" {moved / best['static'] / 1e9:7.1f}"
        f" {statistics.median(times['static']) / best['static']:7.2f}",
        flush=True,
    )


def graph_of(case: Case) -> Graph:
    """The case as a graph."""
    with building() as builder:
        inputs = [builder.input(TensorType(float32, shape)) for shape in case.shapes]
        return builder.graph([case.build(*inputs)])


def static_call(
    graph: Graph, arrays: list[np.ndarray[Any, Any]]
) -> tuple[Callable[[], None], np.ndarray[Any, Any]]:
    """A call of the kernels made for these sizes, and the array they write."""
    plan, isa = realise_graph(graph, host_isa()), host_isa()
    out = np.zeros(tuple(map(int, graph.outputs[0].shape)), np.float32)  # type: ignore[arg-type]
    held = [np.zeros(max(nbytes, 1), np.uint8) for nbytes in plan.temporaries]
    first = {"operand": 0, "result": len(arrays), "temporary": len(arrays) + 1}
    steps: list[Step] = []
    codes = [cache.load(call.text(isa), isa, (call.kernel.name,)) for call in plan.calls]
    for call, code in zip(plan.calls, codes, strict=True):
        places = tuple((first[one.kind] + one.index, 0) for one in call.arguments)
        limits = (call.tasks, call.tasks_per_thread, call.scratch_bytes)
        steps.append(Step(code[call.kernel.name], places, (), *limits))
    bases = [*arrays, out, *held]
    table = (ctypes.c_int64 * len(bases))(*(base.ctypes.data for base in bases))
    laid_out, alive = Steps(steps), (codes, bases)

    def run() -> None:
        assert alive, "the code and the memory live while they are used"
        pool().run(laid_out, ctypes.addressof(table))

    run()
    return run, out


def generic_call(
    op: Op, attrs: dict[str, Any], arrays: list[np.ndarray[Any, Any]]
) -> Callable[[], None]:
    """A call of the kernel that serves all sizes."""
    operands = tuple(layout(TensorType(float32, array.shape)) for array in arrays)
    launch = launcher(op, attrs, operands)
    out = np.zeros(max(1, prod(launch.result.shape)), np.float32)
    bases = [*arrays, out]
    addresses = [base.ctypes.data for base in bases]

    def run() -> None:
        assert bases, "the arrays live while they are used"
        launch.run(*addresses)

    return run


def seconds(run: Callable[[], object]) -> float:
    """The time of one call, the mean of a few."""
    for _ in range(3):
        run()
    start = time.perf_counter()
    for _ in range(5):
        run()
    return (time.perf_counter() - start) / 5


if __name__ == "__main__":
    main()
