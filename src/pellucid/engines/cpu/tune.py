"""Which schedules are faster than the cost model's? Each kernel of a program is tried with others.

The program runs on memory of its own: its inputs are made up, and no state of the user's is read or
written. Kernels that take a share of its time are then run alone, where they lie in that memory,
with one schedule after the other; what beats the default by more than the noise is remembered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import numpy as np

from pellucid.engines.base import Storage, Tuned, TunedKernel, array_at, layout
from pellucid.engines.cpu.book import (
    Book,
    Schedule,
    bound,
    kernel_key,
    read_book,
    suits,
    write_book,
)
from pellucid.engines.cpu.pool import Step, Steps, pool
from pellucid.engines.cpu.rules import KernelCall
from pellucid.engines.cpu.runtime import CpuExecutable, CpuFrame
from pellucid.engines.cpu.storage import allocate
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.contract import plan_contraction, schedule_contraction
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.tiling import Tiling
from pellucid.engines.llvm.variants import task_variants, tile_variants
from pellucid.engines.loops.ir import Kernel
from pellucid.engines.loops.roles import has_contraction
from pellucid.engines.loops.stream import unstreamed
from pellucid.engines.loops.variants import schedule_variants
from pellucid.ir.graph import TensorType

LEAST_SHARE: Final = 0.01
"""The share of a program's time from which a kernel is worth tuning."""

LEAST_GAIN: Final = 1.03
"""How many times as fast a schedule must be at least."""

ROUNDS: Final = 15
"""How often the default and the best are run in turn in the end; four in five have to be faster."""

_TRIALS = 5
_RUN_SECONDS = 3e-4


def tune_program(executable: CpuExecutable, isa: Isa, seconds: float) -> Tuned:
    """Tune the kernels of a program that was compiled by default schedules; it goes on as it is."""
    begin = time.perf_counter()
    bench = _Bench(executable)
    cases = _cases(executable, bench.shares())
    book = read_book(isa)
    tuned: list[TunedKernel] = []
    for number, case in enumerate(cases):
        left = begin + seconds - time.perf_counter()
        if left <= 0:
            break
        weight = case.seconds / sum(one.seconds for one in cases[number:])
        until = time.perf_counter() + left * max(weight, 0.1)
        tuned.append(_Search(bench, case, isa, until).run(book))
    threads, spent = pool().threads, time.perf_counter() - begin
    return Tuned(tuple(tuned), len(cases) - len(tuned), threads, spent)


@dataclass(frozen=True)
class _Case:
    """A kernel to tune: one of its launches, how many there are, the seconds of all of them."""

    kernel: Kernel
    step: Step
    launches: int
    seconds: float


def _cases(executable: CpuExecutable, shares: list[float]) -> list[_Case]:
    """The kernels that are worth it: contractions first, then loops, the longest ones first."""
    found: dict[Kernel, list[int]] = {}
    for number, one in enumerate(executable.launched):
        if isinstance(one.kernel, Kernel):
            found.setdefault(unstreamed(one.kernel), []).append(number)
    steps = executable.program.steps
    cases = [
        _Case(kernel, steps[numbers[0]], len(numbers), sum(shares[n] for n in numbers))
        for kernel, numbers in found.items()
    ]
    least = LEAST_SHARE * sum(shares)
    worth = [case for case in cases if case.seconds >= least]
    return sorted(worth, key=lambda case: (not has_contraction(case.kernel), -case.seconds))


class _Bench:
    """A program with memory of its own, in which its kernels can be run one by one."""

    def __init__(self, executable: CpuExecutable) -> None:
        self.executable = executable
        self.frame: CpuFrame = executable.lease()
        types = (*executable.inputs, *executable.outputs)
        self._held = [_made_up(type, number) for number, type in enumerate(types)]
        for number, storage in enumerate(self._held):
            self.frame.table[number] = storage.address
        # From now on the arena holds what kernels are given.
        executable.run_timed(self.frame)

    def shares(self) -> list[float]:
        """The seconds of each step."""
        runs = [self.executable.run_timed(self.frame) for _ in range(3)]
        return [1e-9 * min(times) for times in zip(*runs, strict=True)]

    def timer(self, step: Step, repeats: int) -> Callable[[], float]:
        """A function that runs a step alone, so many times in one go, and says how long one took.

        On one thread that is CPU time, which others on its core disturb least.
        """
        steps, running = Steps([step] * repeats), pool()
        clock = time.thread_time if running.threads == 1 else time.perf_counter

        def run() -> float:
            start = clock()
            running.run(steps, self.frame.address)
            return (clock() - start) / repeats

        return run


def _made_up(type: TensorType, number: int) -> Storage:
    """Memory with numbers for an input: small floats, and zeros for what may be an index."""
    place = layout(type)
    storage = allocate(place.nbytes)
    array = array_at(storage.address, place)
    draws = np.random.default_rng(number)
    floats = type.dtype.is_floating
    array[...] = draws.uniform(0.25, 1.0, place.shape).astype(array.dtype) if floats else 0
    return storage


@dataclass(frozen=True)
class _Trial:
    """A schedule with the step that runs it; `code` keeps the machine code alive."""

    schedule: Schedule
    step: Step
    code: jit.Code


class _Search:
    """The search for one kernel's schedule, until a given time of `time.perf_counter`."""

    def __init__(self, bench: _Bench, case: _Case, isa: Isa, until: float) -> None:
        self.bench, self.case, self.isa, self.until = bench, case, isa, until
        self.default = self._trial(case.kernel.schedule)
        once = bench.timer(self.default.step, 1)
        least = min(once() for _ in range(3))
        self.repeats = max(1, min(1000, int(_RUN_SECONDS / max(least, 1e-7))))
        self.best, self.least = self.default, self._seconds(self.default, math.inf)
        self.tried = 0

    def run(self, book: Book) -> TunedKernel:
        """Try what there is time for, and remember what is faster."""
        kernel = self.case.kernel
        known = book.schedules.get(kernel_key(kernel))
        self._try([known] if known else [])
        if has_contraction(kernel):
            spec, tiling = plan_contraction(kernel, self.isa)
            self._try(self._tilings(tile_variants(spec, self.isa, tiling)))
            _, tiling = plan_contraction(self._kernel(self.best), self.isa)
            self._try(self._tilings(task_variants(spec, tiling)))
        else:
            self._try(schedule_variants(kernel))
        before, after = self._duel()
        kept = self.best if after < before else self.default
        changed = kept is not self.default
        write_book(self.isa, {kernel_key(kernel): kept.schedule if changed else None})
        words = _words(kernel.schedule), _words(kept.schedule)
        return TunedKernel(kernel.name, self.case.launches, self.tried, before, after, *words)

    def _try(self, schedules: Iterable[Schedule]) -> None:
        for schedule in schedules:
            if time.perf_counter() > self.until:
                return
            if not suits(self.case.kernel, schedule, self.isa):
                continue
            trial = self._trial(schedule)
            self.tried += 1
            seconds = self._seconds(trial, self.least)
            if seconds < self.least:
                self.best, self.least = trial, seconds

    def _seconds(self, trial: _Trial, least: float) -> float:
        """The least seconds of a few runs; of the first ones where they are far behind."""
        run = self.bench.timer(trial.step, self.repeats)
        first = min(run(), run())
        if first > 1.3 * least:
            return first
        return min(first, *(run() for _ in range(_TRIALS - 2)))

    def _duel(self) -> tuple[float, float]:
        """The seconds of the default and of what is kept, run in turn; equal if none is better."""
        old, new = (self.bench.timer(t.step, self.repeats) for t in (self.default, self.best))
        if self.best is self.default:
            return self.least, self.least
        pairs = [(old(), new()) for _ in range(ROUNDS)]
        before, after = (median(times) for times in zip(*pairs, strict=True))
        won = sum(one > LEAST_GAIN * other for one, other in pairs)
        return (before, after) if won >= 0.8 * ROUNDS else (before, before)

    def _tilings(self, tilings: Iterable[Tiling]) -> Iterator[Schedule]:
        for tiling in tilings:
            yield schedule_contraction(self.case.kernel, self.isa, tiling).schedule

    def _kernel(self, trial: _Trial) -> Kernel:
        return replace(self.case.kernel, schedule=trial.schedule)

    def _trial(self, schedule: Schedule) -> _Trial:
        step = self.case.step
        limits = step.tasks, step.tasks_per_thread, step.scratch_bytes
        call = bound(KernelCall(self.case.kernel, (), *limits), schedule, self.isa)
        # Not through the cache: nearly all of this is never run again.
        text, name = call.text(self.isa), call.kernel.name
        content = jit.uninterrupted(lambda: jit.compile_text(text, self.isa))
        code = jit.load(content, (name,))
        limits = call.tasks, call.tasks_per_thread, call.scratch_bytes
        return _Trial(schedule, Step(code[name], step.arguments, step.sizes, *limits), code)


def _words(schedule: Schedule) -> str:
    return ", ".join(f"{one.kind} {one.axis} {one.factor}" for one in schedule)
