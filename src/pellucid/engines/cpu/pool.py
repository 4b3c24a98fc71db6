"""Who runs compiled steps, and on how many threads? One pool of native threads a process.

The pool itself and the step runner are native code (native.py); here they are compiled, started
when first needed, and called. A whole run of steps is one native call, which releases the GIL.
After a fork the child starts a pool of its own.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from pellucid.core.config import integer_setting
from pellucid.core.error import ConfigError, DeviceError
from pellucid.core.machine import usable_cores
from pellucid.engines.cpu import native
from pellucid.engines.cpu.calls import steps_calls
from pellucid.engines.llvm import cache as code_cache
from pellucid.engines.llvm.target import SSE2

_MOST_THREADS = 1024


@dataclass(frozen=True)
class Step:
    """One kernel launch: which code, on what memory, over how many tasks.

    `arguments` are pairs (index into the call's base table, byte offset); the kernel finds the sums
    in its `pointers`, and `sizes` as they are. It runs on several threads if each gets
    `tasks_per_thread` tasks at least. `scratch_bytes` is the most it asks its context for.
    """

    kernel: int
    arguments: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    tasks: int
    tasks_per_thread: int = 1
    scratch_bytes: int = 0


class Steps:
    """Steps laid out in native memory, to be run in order by `Pool.run`; they never change."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.count = len(steps)
        head = native.STEP_WORDS * self.count
        layout = array("q", bytes(8 * head))
        for step in steps:
            assert len(step.arguments) <= native.MAX_ARGUMENTS, "too many arguments for a kernel"
            layout.extend(word for pair in step.arguments for word in pair)
            layout.extend(step.sizes)
        # Only now does the memory stay where it is, so that addresses into it can be written.
        self.address = layout.buffer_info()[0]
        at = self.address + 8 * head
        for number, step in enumerate(steps):
            words = _step_words(step, at)
            layout[number * len(words) : (number + 1) * len(words)] = array("q", words)
            at += 8 * (2 * len(step.arguments) + len(step.sizes))
        self.arguments = [step.arguments for step in steps]
        # Each takes a context; then a base table, the addresses that are in it, or a frame.
        runtime = _runtime()
        self.on_table, self.on_addresses, self.on_frame = steps_calls(
            runtime.run_steps, runtime.run_frame, self.address, self.count, layout
        )


class Context:
    """What kernels know of the Python thread that called them: scratch memory and budget."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.threads = 0
        self._words = (ctypes.c_int64 * (native.CONTEXT_BYTES // 8))()
        self.address = ctypes.addressof(self._words)
        self._set(native.SCRATCH_FUNCTION, _runtime().scratch)
        self._set(native.POOL, pool.address)
        weakref.finalize(self, _free_context, self._words).atexit = False

    def allow(self, threads: int) -> None:
        """Let the next call use at most so many threads."""
        self.threads = threads
        self._set(native.BUDGET, threads)

    def _set(self, offset: int, word: int) -> None:
        self._words[offset // 8] = word


class Pool:
    """Native threads that take chunks of kernels' tasks; one a process is enough (`pool()`)."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        runtime = _runtime()
        self._native_run_timed = runtime.run_timed
        self.address = runtime.start(threads)
        if not self.address:
            raise DeviceError(f"thread pool: no memory for {threads} threads; ask for fewer")
        self._contexts = threading.local()
        # At the end of the program the threads end with it; before, once nobody holds the pool.
        weakref.finalize(self, _stop_pool, self.address, os.getpid()).atexit = False

    def run(self, steps: Steps, bases: int, threads: int | None = None) -> None:
        """Run `steps` on the memory of the base table at address `bases`.

        `threads` bounds those of this call. Raises MemoryError if scratch memory cannot be had.
        """
        wanted = threads or self.threads
        # As `_context`, without its call: nearly always the context is there, and as wanted.
        context: Context | None = getattr(self._contexts, "mine", None)
        if context is None or context.threads != wanted:
            context = self._context(wanted)
        failed = steps.on_table(context.address, bases)
        if failed:
            raise _no_scratch(failed, steps)

    def run_frame(self, steps: Steps, frame: int) -> None:
        """As `run`, on the frame of these steps at an address (see `native.FRAME_STATE`)."""
        context: Context | None = getattr(self._contexts, "mine", None)
        if context is None or context.threads != self.threads:
            context = self._context(self.threads)
        failed = steps.on_frame(context.address, frame)
        if failed:
            raise _no_scratch(failed, steps)

    def run_on(self, steps: Steps, *bases: int) -> None:
        """As `run`, on the memory at these addresses."""
        context: Context | None = getattr(self._contexts, "mine", None)
        if context is None or context.threads != self.threads:
            context = self._context(self.threads)
        if len(bases) <= native.MAX_ARGUMENTS:
            failed = steps.on_addresses(context.address, *bases)
        else:
            # More than are unpacked on the stack, as where many tensors are joined.
            table = array("q", bases)
            failed = steps.on_table(context.address, table.buffer_info()[0])
        if failed:
            raise _no_scratch(failed, steps)

    def run_timed(self, steps: Steps, bases: int, threads: int | None = None) -> tuple[int, ...]:
        """As `run`; the nanoseconds that each step took."""
        context = self._context(threads or self.threads)
        spent = (ctypes.c_int64 * max(steps.count, 1))()
        times = ctypes.addressof(spent)
        failed = self._native_run_timed(steps.address, steps.count, bases, context.address, times)
        if failed:
            raise _no_scratch(failed, steps)
        return tuple(spent)[: steps.count]

    def _context(self, threads: int) -> Context:
        try:
            context: Context = self._contexts.mine
        except AttributeError:
            context = self._contexts.mine = Context(self)
        if context.threads != threads:
            context.allow(threads)
        return context


def pool() -> Pool:
    """The process's pool, started when first asked for."""
    # Nearly always it is there: no lock for the calls that only look.
    return _state.pool or _started()


def set_threads(threads: int) -> None:
    """Use so many threads from the next call on; raises ConfigError unless a number 1 to 1024.

    Results do not depend on it, bit for bit.
    """
    # What counts as a whole number to Python does here, such as NumPy's, but not True.
    whole = hasattr(threads, "__index__") and not isinstance(threads, bool)
    if not whole or not 1 <= threads <= _MOST_THREADS:
        raise ConfigError(f"threads: expected a number 1 to {_MOST_THREADS}, got {threads!r}")
    with _lock:
        _state.threads = int(threads)
        if _state.pool is not None and _state.pool.threads != threads:
            _state.pool = None


def default_threads() -> int:
    """PELLUCID_THREADS, or as many threads as this process may run at once."""
    cores = min(usable_cores(), _MOST_THREADS)
    return integer_setting("THREADS", cores, at_least=1, at_most=_MOST_THREADS)


@dataclass(frozen=True)
class _Runtime:
    """The native functions, ready to call; integers stand for addresses."""

    start: Callable[[int], int]
    stop: Callable[[int], None]
    run_steps: int
    run_frame: int
    run_timed: Callable[[int, int, int, int, int], int]
    free: Callable[[int], None]
    scratch: int


@cache
def _runtime() -> _Runtime:
    code = code_cache.load(native.runtime_text(), SSE2, native.RUNTIME_NAMES)
    code.keep_forever()
    word = ctypes.c_int64
    starts = ctypes.CFUNCTYPE(word, word)
    stops = ctypes.CFUNCTYPE(None, word)
    runs_timed = ctypes.CFUNCTYPE(word, word, word, word, word, word)
    return _Runtime(
        starts(code["pool_start"]),
        stops(code["pool_stop"]),
        code["run_steps"],
        code["run_frame"],
        runs_timed(code["run_steps_timed"]),
        stops(code["context_free"]),
        code["scratch"],
    )


def _started() -> Pool:
    with _lock:
        if _state.pool is None:
            _state.pool = Pool(_state.threads or default_threads())
        return _state.pool


@dataclass(slots=True)
class _State:
    pool: Pool | None = None
    threads: int | None = None


_state = _State()
_lock = threading.Lock()


def _free_context(words: ctypes.Array[ctypes.c_int64]) -> None:
    _runtime().free(ctypes.addressof(words))


def _step_words(step: Step, arguments: int) -> tuple[int, ...]:
    """The native step whose argument pairs, and then sizes, lie at address `arguments`."""
    count = len(step.arguments)
    sizes = arguments + 16 * count
    limits = (step.tasks, step.tasks_per_thread, step.scratch_bytes)
    words = (step.kernel, count, arguments, sizes, *limits)
    assert len(words) == native.STEP_WORDS, "the native runner counts on its own layout"
    return words


def _stop_pool(address: int, process: int) -> None:
    # A forked child has the pool's memory but not its threads: there is nobody to wait for.
    if os.getpid() == process:
        _runtime().stop(address)


def _no_scratch(failed: int, steps: Steps) -> MemoryError:
    return MemoryError(f"step {failed} of {steps.count}: no memory for a kernel's scratch")


def _forget_after_fork() -> None:
    # Only the forking thread lives on: the parent's workers, and whoever held the lock, do not.
    global _lock
    _lock = threading.Lock()
    _state.pool = None


os.register_at_fork(after_in_child=_forget_after_fork)
