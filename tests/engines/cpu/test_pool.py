"""The thread pool: every task runs exactly once, whoever calls, forks or competes for the cores."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from pellucid.core.error import ConfigError
from pellucid.engines.cpu import native, pool
from pellucid.engines.cpu.pool import Pool, Step, Steps
from pellucid.engines.llvm import cache, jit
from pellucid.engines.llvm.target import SSE2
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import I64, PTR, VOID, Value, constant

KERNEL = [("pointers", PTR), ("sizes", PTR), ("lo", I64), ("hi", I64), ("context", PTR)]


def kernel_text() -> str:
    """count(out): out[task] += size 0, for each task; scratchy: the same through scratch memory."""
    module = Module(SSE2)
    f = module.function("count", VOID, KERNEL)
    pointers, sizes, lo, hi, _ = f.parameters
    add_to_tasks(f, f.load(PTR, pointers), lo, hi, f.load(I64, sizes))
    f.ret()
    f = module.function("scratchy", VOID, KERNEL)
    pointers, sizes, lo, hi, context = f.parameters
    words = f.load(I64, f.gep(sizes, 1, I64))
    memory = f.call_pointer(f.load(PTR, context), PTR, (context, f.mul(words, 8)))
    with f.loop(0, words) as loop:
        f.store(f.load(I64, sizes), f.gep(memory, loop.index, I64))
    # Give another thread the time to write into memory that were shared by mistake.
    with f.loop(0, 50, unroll=1):
        f.call("sched_yield", constant(I64, 0).type.with_scalar("i32"), ())
    last = f.load(I64, f.gep(memory, f.sub(words, 1), I64))
    add_to_tasks(f, f.load(PTR, pointers), lo, hi, last)
    f.ret()
    return module.text()


def add_to_tasks(f: Function, out: Value, lo: Value, hi: Value, amount: Value) -> None:
    with f.loop(lo, hi) as loop:
        at = f.gep(out, loop.index, I64)
        f.store(f.add(f.load(I64, at), amount), at)


@pytest.fixture(scope="module")
def kernels() -> jit.Code:
    return cache.load(kernel_text(), SSE2, ("count", "scratchy"))


class Counting:
    """Steps that add one to each of `tasks` numbers, `repeats` times."""

    def __init__(self, kernel: int, tasks: int, repeats: int = 1, words: int = 1) -> None:
        self.out = np.zeros(tasks, np.int64)
        self.bases = np.array([0, self.out.ctypes.data], np.int64)
        step = Step(kernel, ((1, 0),), (1, words), tasks, scratch_bytes=8 * words)
        self.steps = Steps([step] * repeats)

    def run(self, on: Pool, threads: int | None = None) -> None:
        on.run(self.steps, self.bases.ctypes.data, threads)


@pytest.fixture(params=[1, 2, 3, 5])
def some_pool(request: pytest.FixtureRequest) -> Pool:
    return Pool(request.param)


def test_each_task_runs_once(some_pool: Pool, kernels: jit.Code) -> None:
    for tasks in (0, 1, 2, 3, 7, 64, 1001):
        work = Counting(kernels["count"], tasks)
        work.run(some_pool)
        assert (work.out == 1).all()


def test_many_small_jobs_lose_nothing(some_pool: Pool, kernels: jit.Code) -> None:
    work = Counting(kernels["count"], 5, repeats=10_000)
    work.run(some_pool)
    assert (work.out == 10_000).all()


def test_two_callers_share_a_pool(kernels: jit.Code) -> None:
    shared = Pool(3)
    works = [Counting(kernels["count"], tasks, repeats=25_000) for tasks in (4, 6, 9, 2)]
    callers = [threading.Thread(target=work.run, args=(shared,)) for work in works]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((work.out == 25_000).all() for work in works)


def test_sleeping_workers_are_woken(kernels: jit.Code) -> None:
    on = Pool(3)
    for _ in range(20):
        time.sleep(0.002)
        work = Counting(kernels["count"], 8)
        work.run(on)
        assert (work.out == 1).all()


def test_scratch_belongs_to_one_thread(some_pool: Pool, kernels: jit.Code) -> None:
    for words in (1, 1000, 100_000):
        work = Counting(kernels["scratchy"], 16, words=words)
        work.run(some_pool)
        assert (work.out == 1).all()


def test_scratch_that_cannot_be_had_is_a_memory_error(kernels: jit.Code) -> None:
    step = Step(kernels["count"], (), (), 0)
    huge = Step(kernels["count"], (), (), 0, scratch_bytes=1 << 60)
    with pytest.raises(MemoryError, match="step 2 of 2"):
        Pool(1).run(Steps([step, huge]), 0)


def test_a_call_may_use_fewer_threads(kernels: jit.Code) -> None:
    on = Pool(4)
    for threads in (1, 2, 3):
        work = Counting(kernels["count"], 100, repeats=200)
        work.run(on, threads)
        assert (work.out == 200).all()


def test_arguments_are_base_plus_offset(kernels: jit.Code) -> None:
    out = np.zeros(4, np.int64)
    bases = np.array([out.ctypes.data], np.int64)
    steps = Steps([Step(kernels["count"], ((0, 8 * at),), (at + 1,), 1) for at in range(4)])
    Pool(2).run(steps, bases.ctypes.data)
    assert out.tolist() == [1, 2, 3, 4]


def test_timing_gives_each_step_its_nanoseconds(kernels: jit.Code) -> None:
    work = Counting(kernels["count"], 1_000_000, repeats=3)
    times = Pool(2).run_timed(work.steps, work.bases.ctypes.data)
    assert len(times) == 3
    assert all(0 < spent < 10**10 for spent in times)
    assert Pool(1).run_timed(Steps([]), 0) == ()


def test_a_busy_machine_changes_nothing(kernels: jit.Code) -> None:
    burn = "print(flush=True)\nwhile True: pass"
    burners = [subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE)]
    burners.append(subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE))
    try:
        for burner in burners:
            assert burner.stdout is not None
            burner.stdout.readline()
        work = Counting(kernels["count"], 11, repeats=3000)
        begin = time.perf_counter()
        work.run(Pool(5))
        assert (work.out == 3000).all()
        assert time.perf_counter() - begin < 30
    finally:
        for burner in burners:
            burner.kill()
            burner.communicate()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(kernels: jit.Code) -> None:
    before = pool.pool()
    Counting(kernels["count"], 100, repeats=100).run(before)
    child = os.fork()
    if child == 0:
        fresh = pool.pool()
        work = Counting(kernels["count"], 100, repeats=100)
        work.run(fresh, 3)
        os._exit(0 if fresh is not before and (work.out == 100).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    work = Counting(kernels["count"], 100)
    work.run(pool.pool())
    assert (work.out == 1).all()


def test_set_threads_takes_effect_at_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_state", pool._State())
    pool.set_threads(3)
    assert pool.pool().threads == 3
    pool.set_threads(2)
    assert pool.pool().threads == 2


@pytest.mark.parametrize("threads", [0, -1, 1025, 2.5, float("nan"), True, None, "2"])
def test_what_is_no_count_of_threads_is_a_config_error(threads: Any) -> None:
    before = pool.pool().threads
    with pytest.raises(ConfigError, match=f"expected a number 1 to 1024, got {threads!r}"):
        pool.set_threads(threads)
    assert pool.pool().threads == before


def test_numpys_numbers_count_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_state", pool._State())
    pool.set_threads(np.int64(2))  # pyright: ignore[reportArgumentType]
    assert pool.pool().threads == 2


def test_the_default_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_THREADS", "7")
    assert pool.default_threads() == 7
    for wrong in ("many", "2.5", "0", "-3", "1025"):
        monkeypatch.setenv("PELLUCID_THREADS", wrong)
        with pytest.raises(ConfigError, match=f"PELLUCID_THREADS: expected .*{wrong}"):
            pool.default_threads()


def test_pools_that_are_dropped_end_their_threads(kernels: jit.Code) -> None:
    before = threads_of_this_process()
    for _ in range(20):
        Counting(kernels["count"], 10).run(Pool(4))
    gc.collect()
    assert threads_of_this_process() <= before


def threads_of_this_process() -> int:
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0


def test_the_runtime_text_is_the_same_every_time() -> None:
    assert native.runtime_text() == native.runtime_text()
