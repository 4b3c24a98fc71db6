"""How fast are matrix products, beside torch.matmul and beside what the machine can do at most?

    scripts/bench products [--rounds 15] [--threads 1 2] [--narrow]

Shapes are those of a 784-512-512-10 perceptron at batch 128, forward and backward, and squares.
Layouts name lhs and rhs: N is row-major, T the transpose of a row-major matrix. Both are called in
turns in one run; a time is the best of the rounds, which a busy machine disturbs least, of one
thread its CPU time, and `spread` is the median over the best. `peak` is a loop of multiply-adds
that touches no memory. `--narrow` times int8 -> int32 beside torch._int_mm, and bfloat16, instead:
as a user calls them, on one thread, int8's peak being that of its own instruction.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import pellucid as pe
from benchmarks.peak import peak_rate
from pellucid.core.dtype import float32, int8
from pellucid.engines.cpu.pool import Pool, Step, Steps
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.folded import fold_of, multiply_add_folded
from pellucid.engines.llvm.product import define_product
from pellucid.engines.llvm.target import host_isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.tiling import (
    Param,
    ProductSpec,
    Size,
    Strides,
    choose_tiling,
    cut,
    static_cut,
)
from pellucid.engines.llvm.types import I32, I64, PTR, VOID, constant

SHAPES = (
    ("NN", 128, 784, 512),
    ("NN", 128, 512, 512),
    ("NT", 128, 512, 512),
    ("TN", 784, 128, 512),
    ("TN", 512, 128, 512),
    ("NN", 128, 512, 10),
    ("NT", 128, 10, 512),
    ("TN", 512, 128, 10),
    ("NN", 1, 784, 512),
    ("NT", 1, 784, 512),
    ("NN", 512, 784, 1),
    ("NN", 64, 9216, 128),
    ("NT", 64, 128, 9216),
    ("TN", 9216, 64, 128),
    ("NN", 512, 768, 3072),
    *(("NN", size, size, size) for size in (64, 128, 256, 512, 1024, 2048)),
)
NARROW = ((32, 784, 512), *((size, size, size) for size in (256, 512, 1024, 2048)))
"""m, k and n of the products of narrow numbers."""

WORK = 5e8
"""Multiplications of one timed run: small products are repeated."""

PAUSE = 0.02
"""Seconds before each timed run."""


@dataclass(frozen=True)
class Problem:
    """A product's operands and result."""

    layout: str
    lhs: np.ndarray[Any, Any]
    rhs: np.ndarray[Any, Any]
    out: np.ndarray[Any, Any]

    @property
    def work(self) -> int:
        """The number of multiplications."""
        return self.lhs.shape[0] * self.lhs.shape[1] * self.rhs.shape[1]

    def __str__(self) -> str:
        m, k, n = *self.lhs.shape, self.rhs.shape[1]
        return f"{self.layout} {m:4} x{k:5} x{n:5}"


def main() -> None:
    """Time every shape and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--narrow", action="store_true")
    arguments = parser.parse_args()
    if arguments.narrow:
        report_narrow(arguments.rounds)
        return
    isa = host_isa()
    peak = peak_rate() * 1e-9
    print(f"{isa.name}: {peak:.0f} GFLOP/s a core at most; torch {torch.__version__}")
    print("layout m x k x n      threads  static  generic    torch   torch/static  of peak  spread")
    pool = Pool(max(arguments.threads))
    for shape in SHAPES:
        problem = make_problem(*shape)
        for threads in arguments.threads:
            report(problem, pool, threads, arguments.rounds, peak)


def make_problem(layout: str, m: int, k: int, n: int) -> Problem:
    """Random operands that lie as `layout` says."""
    rng = np.random.default_rng(0)

    def matrix(rows: int, columns: int, transposed: bool) -> np.ndarray[Any, Any]:
        shape = (columns, rows) if transposed else (rows, columns)
        array = rng.standard_normal(shape, np.float32)
        return array.T if transposed else array

    lhs, rhs = matrix(m, k, layout[0] == "T"), matrix(k, n, layout[1] == "T")
    return Problem(layout, lhs, rhs, np.zeros((m, n), np.float32))


def report(problem: Problem, pool: Pool, threads: int, rounds: int, peak: float) -> None:
    """Time one product on so many threads, ours and torch in turns, and print a line."""
    torch.set_num_threads(threads)
    lhs, rhs = (torch.from_numpy(array) for array in (problem.lhs, problem.rhs))
    out = torch.zeros(problem.out.shape)
    contestants = (
        static_product(problem, pool, threads),
        generic_product(problem, pool, threads),
        lambda: torch.matmul(lhs, rhs, out=out),
    )
    times: tuple[list[float], ...] = ([], [], [])
    repeats = max(1, int(WORK / problem.work))
    for _ in range(rounds):
        for run, found in zip(contestants, times, strict=True):
            found.append(seconds(run, repeats, threads))
    np.testing.assert_allclose(problem.out, out.numpy(), atol=2e-3)
    static, generic, peer = (min(found) for found in times)
    share = 2e-9 * problem.work / static / peak / threads
    spread = statistics.median(times[0]) / static
    print(
        f"{problem}    {threads}   {1e6 * static:8.1f} {1e6 * generic:8.1f} {1e6 * peer:8.1f}"
        f"   {peer / static:10.2f}   {share:8.0%}   {spread:5.2f}",
        flush=True,
    )


def seconds(run: Callable[[], object], repeats: int, threads: int = 1) -> float:
    """The mean time of `repeats` calls: on one thread of its CPU, else by the clock."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    # Threads of the one before may spin a while for more work, and would take a core from this one.
    time.sleep(PAUSE)
    for _ in range(repeats // 3 + 1):
        run()
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats


def static_product(problem: Problem, pool: Pool, threads: int) -> Callable[[], None]:
    """A call of the kernel made for this very product."""
    sizes = problem.lhs.shape[0], problem.rhs.shape[1], problem.lhs.shape[1]
    spec = ProductSpec(float32, (), *sizes, *map(_strides, (problem.lhs, problem.rhs, problem.out)))
    operands = (problem.lhs, problem.rhs)
    if spec.n == 1 and spec.m != 1:
        spec, operands = spec.flipped(), (problem.rhs, problem.lhs)
    tiling = choose_tiling(spec, host_isa())
    code = compile_product(spec, tiling)
    made = static_cut(spec, tiling)
    launch = (made.tasks, made.tasks_per_thread, made.scratch_bytes)
    return launcher(pool, threads, code, (*operands, problem.out), (), launch)


def generic_product(problem: Problem, pool: Pool, threads: int) -> Callable[[], None]:
    """A call of the kernel that serves all sizes."""
    numbers: list[int] = []

    def parameter(size: int) -> Param:
        numbers.append(size)
        return Param(len(numbers) - 1)

    def stride(size: Size) -> Size:
        assert isinstance(size, int), "the strides of an array are numbers"
        return 1 if size == 1 else parameter(size)

    known = [_strides(array) for array in (problem.lhs, problem.rhs, problem.out)]
    m, n, k = problem.lhs.shape[0], problem.rhs.shape[1], problem.lhs.shape[1]
    strides = [Strides((), stride(s.first), stride(s.second)) for s in known]
    # One row is a kernel of its own: its tile is one row high.
    rows = 1 if m == 1 else parameter(m)
    spec = ProductSpec(float32, (), rows, parameter(n), parameter(k), *strides)
    if spec.out.second != 1:
        spec = ProductSpec(float32, (), rows, 1, spec.k, *strides)
    tiling = choose_tiling(spec, host_isa(), parameter(0), parameter(0))
    made = cut(float32, tiling, 1, m, n, k)
    numbers[-2:] = made.block, made.group
    code = compile_product(spec, tiling)
    arrays = (problem.lhs, problem.rhs, problem.out)
    launch = (made.tasks, made.tasks_per_thread, made.scratch_bytes)
    return launcher(pool, threads, code, arrays, tuple(numbers), launch)


def compile_product(spec: ProductSpec, tiling: Any) -> jit.Code:
    """Machine code for a product that stores its result."""
    module = Module(host_isa())
    define_product(module, "product", spec, tiling)
    return jit.load(jit.compile_text(module.text(), host_isa()), ["product"])


def launcher(
    pool: Pool,
    threads: int,
    code: jit.Code,
    arrays: tuple[np.ndarray[Any, Any], ...],
    sizes: tuple[int, ...],
    launch: tuple[int, int, int],
) -> Callable[[], None]:
    """A call that runs the kernel on these arrays."""
    arguments = tuple((at, 0) for at in range(len(arrays)))
    steps = Steps([Step(code["product"], arguments, sizes, *launch)])
    bases = (ctypes.c_int64 * len(arrays))(*(array.ctypes.data for array in arrays))
    address = ctypes.addressof(bases)
    keep = (code, arrays, bases)

    def run() -> None:
        assert keep, "the code and the memory stay as long as the call"
        pool.run(steps, address, threads)

    return run


def report_narrow(rounds: int) -> None:
    """Time products of int8 and bfloat16, ours and torch's in turns, and print a line of each."""
    torch.set_num_threads(1)
    os.environ["PELLUCID_THREADS"] = "1"
    peaks = {"int8": byte_rate() * 1e-9, "bfloat16": peak_rate() * 1e-9}
    print("dtype       m x   k x   n       us    torch   torch/us   GOP/s  of peak  spread")
    for m, k, n in NARROW:
        for dtype, peak in peaks.items():
            ours, peer = narrow_contestants(dtype, m, k, n)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(rounds):
                for run, found in zip((ours, peer), times, strict=True):
                    found.append(seconds(run, max(1, int(WORK / (m * k * n)))))
            mine, theirs = map(min, times)
            rate, spread = 2e-9 * m * k * n / mine, statistics.median(times[0]) / mine
            print(
                f"{dtype:8} {m:4} x{k:5} x{n:5} {1e6 * mine:8.1f} {1e6 * theirs:8.1f}"
                f"   {theirs / mine:8.2f} {rate:7.0f} {rate / peak:8.0%}   {spread:5.2f}",
                flush=True,
            )


def narrow_contestants(
    dtype: str, m: int, k: int, n: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Our product and torch's, of the same operands."""
    rng = np.random.default_rng(0)
    lhs, rhs = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((m, k), (k, n)))
    x, w = pe.asarray(lhs), pe.asarray(rhs)
    left, right = torch.from_numpy(lhs), torch.from_numpy(rhs)
    if dtype == "int8":
        product = pe.jit(lambda x, w: pe.matmul(x, w, dtype="int32"))
        np.testing.assert_array_equal(np.asarray(product(x, w)), torch._int_mm(left, right).numpy())
        return lambda: product(x, w), lambda: torch._int_mm(left, right)
    x, w, left, right = x.astype(dtype), w.astype(dtype), left.bfloat16(), right.bfloat16()
    product = pe.jit(lambda x, w: x @ w)
    return lambda: product(x, w), lambda: left @ right


def byte_rate() -> float:
    """Operations a second of the instruction that sums int8, a product being two of them."""
    isa = host_isa()
    fold, sums = fold_of(int8, isa), isa.registers - 4
    vector = I32.with_lanes(isa.lanes(32))
    module = Module(isa)
    f = module.function("peak", VOID, [("turns", I64), ("memory", PTR)])
    turns, memory = f.parameters
    x, y = f.load(vector, memory), f.load(vector, f.gep(memory, vector.lanes, I32))
    with f.loop(0, turns, accs=[constant(vector, 0)] * sums, unroll=1) as loop:
        loop.next(*(multiply_add_folded(f, fold, x, y, acc) for acc in loop.accs))
    for number, total in enumerate(loop.results):
        f.store(total, f.gep(memory, number * vector.lanes, I32))
    f.ret()
    code = jit.load(jit.compile_text(module.text(), isa), ["peak"])
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(code["peak"])
    data, repeats = np.zeros(sums * vector.lanes, np.int32), 100_000
    best = min(seconds(lambda: run(repeats, data.ctypes.data), 1) for _ in range(30))
    return 2.0 * repeats * sums * vector.lanes * fold / best


def _strides(array: np.ndarray[Any, Any]) -> Strides:
    first, second = (stride // array.itemsize for stride in array.strides)
    return Strides((), first, second)


if __name__ == "__main__":
    main()
