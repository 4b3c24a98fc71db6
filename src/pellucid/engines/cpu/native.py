"""The thread pool and the step runner, as LLVM IR: what runs between two kernels, without Python.

A kernel is `void kernel(ptr pointers, ptr sizes, i64 task_lo, i64 task_hi, ptr context)` and may
run any range of its tasks on any thread. A job is one kernel over all its tasks, cut into chunks
that the caller and the workers claim from one atomic ticket, `generation << 32 | next chunk`:

    publish   set the ticket to (new generation, closed); write the job's fields; open the ticket
    claim     read the ticket; read the fields; compare-and-swap the ticket to the next chunk

A claim whose swap succeeds saw the ticket unchanged around its reads, so the fields belong to that
job, however long the thread slept in between. Chunks done are counted; the caller works too and
then waits for the count, so a sleeping worker delays nobody. If another caller has the pool, a job
runs on its own thread alone. Waiting is a short bounded spin, then a condition variable.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

from pellucid.engines.llvm.target import SSE2
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import I1, I8, I32, I64, NULL, PTR, VOID, Value, constant

# What a kernel sees of its thread: byte offsets into the context.
SCRATCH_FUNCTION = 0  # ptr (ptr context, i64 bytes): 64-byte aligned memory, this thread's own
SCRATCH_MEMORY = 8
SCRATCH_BYTES = 16
POOL = 24
BUDGET = 32  # how many threads a job of this context may use
WORKER = 40  # 0: a caller; 1, 2, ...: a worker of the pool
CONTEXT_BYTES = 64

# A step: a kernel and what it is launched with, seven i64.
STEP_WORDS = 7
MAX_ARGUMENTS = 512

# A frame, in words: what is known of it, the base table, the address of each argument of each step,
# and those arguments that vary from run to run (where the address goes, base and offset), and how
# many these are.
FRAME_STATE, FRAME_BASES, FRAME_POINTERS, FRAME_VARYING, FRAME_COUNT = range(5)
FRAME_WORDS = 5
ANEW, ANEW_ONCE, SETTLED = range(3)
"""A frame's state: all addresses are found at each run; at the next; only those that vary."""

# The pool; what different threads write lies on different cache lines.
_TICKET, _DONE, _JOB, _BUSY, _SLEEPERS, _STOP, _WAITING = 0, 64, 128, 256, 320, 328, 384
_WORK_MUTEX, _WORK_CONDITION, _DONE_MUTEX, _DONE_CONDITION = 448, 576, 704, 832
_WORKERS, _THREADS, _CONTEXTS = 960, 968, 1024
# The job, from _JOB on.
_FIELDS = ("kernel", "pointers", "sizes", "tasks", "chunk", "chunks", "budget", "scratch")

_CLOSED = 0xFFFFFFFF
_CHUNKS_PER_THREAD = 4
# One turn is a load and a pause, 15 to 45 ns by processor: about 20 to 50 microseconds in all.
_SPINS = 1000


def runtime_text() -> str:
    """The module with the functions of RUNTIME_NAMES."""
    module = Module(SSE2)
    _define_reserve(module)
    _define_scratch(module)
    _define_take(module)
    _define_worker(module)
    _define_start(module)
    _define_stop(module)
    _define_launch(module)
    _define_run(module, timed=False)
    _define_run(module, timed=True)
    _define_run_frame(module)
    _define_free(module)
    return module.text()


RUNTIME_NAMES = (
    "pool_start",
    "pool_stop",
    "run_steps",
    "run_steps_timed",
    "run_frame",
    "scratch",
    "context_free",
)


@dataclass(frozen=True)
class _Job:
    """The fields of the job at hand, as read."""

    kernel: Value
    pointers: Value
    sizes: Value
    tasks: Value
    chunk: Value
    chunks: Value
    budget: Value
    scratch: Value


def _define_reserve(module: Module) -> None:
    """reserve(context, bytes) -> whether the thread's scratch memory has so many."""
    f = module.function("reserve", I1, [("context", PTR), ("bytes", I64)], internal=True)
    context, size = f.parameters
    with f.when(f.icmp("ule", size, f.load(I64, _at(f, context, SCRATCH_BYTES))), "enough"):
        f.ret(1)
    slot = f.alloca(PTR)
    f.store(NULL, slot)
    rounded = f.and_(f.add(size, 4095), -4096)
    failed = f.call("posix_memalign", I32, (slot, constant(I64, 64), rounded))
    with f.when(f.icmp("ne", failed, 0), "failed"):
        f.ret(0)
    f.call("free", VOID, (f.load(PTR, _at(f, context, SCRATCH_MEMORY)),))
    f.store(f.load(PTR, slot), _at(f, context, SCRATCH_MEMORY))
    f.store(rounded, _at(f, context, SCRATCH_BYTES))
    f.ret(1)


def _define_scratch(module: Module) -> None:
    """scratch(context, bytes) -> memory until the kernel returns or asks again."""
    f = module.function("scratch", PTR, [("context", PTR), ("bytes", I64)])
    context, size = f.parameters
    enough = f.call("reserve", I1, (context, size))
    # Steps reserve ahead and report failure there: a kernel that asks for more than its step says
    # breaks an invariant.
    with f.when(f.not_(enough), "too_little"):
        f.call("abort", VOID, ())
    f.ret(f.load(PTR, _at(f, context, SCRATCH_MEMORY)))


def _define_take(module: Module) -> None:
    """take(pool, context) -> whether a chunk of the job was there, which it then ran."""
    f = module.function("take", I1, [("pool", PTR), ("context", PTR)], internal=True)
    pool, context = f.parameters
    with f.forever("read"):
        ticket = f.atomic_load(I64, _at(f, pool, _TICKET))
        job = _read_job(f, pool)
        mine = _is_open(f, ticket, job, context)
        with f.when(f.not_(mine), "nothing"):
            f.ret(0)
        with f.when(f.not_(f.call("reserve", I1, (context, job.scratch))), "no_memory"):
            f.ret(0)
        _, won = f.compare_exchange(_at(f, pool, _TICKET), ticket, f.add(ticket, 1))
        with f.when(won, "claimed"):
            _run_chunk(f, pool, job, f.and_(ticket, _CLOSED), context)
            f.ret(1)
    f.unreachable()


def _read_job(f: Function, pool: Value) -> _Job:
    # Acquire here and release in _publish: a thread that reads a new job's field also sees that the
    # ticket was closed before, so its swap fails.
    types = (PTR, PTR, PTR, I64, I64, I64, I64, I64)
    return _Job(
        *(
            f.atomic_load(type, _at(f, pool, _JOB + 8 * number), "acquire")
            for number, type in enumerate(types)
        )
    )


def _is_open(f: Function, ticket: Value, job: _Job, context: Value) -> Value:
    """Whether the job has an unclaimed chunk and its budget includes this thread."""
    has_chunk = f.icmp("ult", f.and_(ticket, _CLOSED), job.chunks)
    me = f.load(I64, _at(f, context, WORKER))
    return f.and_(has_chunk, f.icmp("slt", me, job.budget))


def _run_chunk(f: Function, pool: Value, job: _Job, number: Value, context: Value) -> None:
    lo = f.mul(number, job.chunk)
    hi = f.min_max("smin", f.add(lo, job.chunk), job.tasks)
    f.call_pointer(job.kernel, VOID, (job.pointers, job.sizes, lo, hi, context))
    done = f.add(f.atomic_add(_at(f, pool, _DONE), constant(I64, 1)), 1)
    # From the last count on, the caller may publish another job: only what was read before counts.
    with f.when(f.icmp("eq", done, job.chunks), "last"):
        waiting = f.atomic_load(I64, _at(f, pool, _WAITING))
        with f.when(f.icmp("ne", waiting, 0), "wake_caller"):
            _signal(f, pool, _DONE_MUTEX, _DONE_CONDITION)


def _define_worker(module: Module) -> None:
    """worker(context): the life of a worker thread."""
    f = module.function("worker", PTR, [("context", PTR)], internal=True)
    (context,) = f.parameters
    _leave_signals_to_python(f)
    pool = f.load(PTR, _at(f, context, POOL))
    spins = f.alloca(I64, align=8, name="spins")
    f.store(constant(I64, 0), spins)
    with f.forever("live") as leave:
        took = f.call("take", I1, (pool, context))
        count = f.select(took, constant(I64, 0), f.add(f.load(I64, spins), 1))
        f.store(count, spins)
        with f.when(f.icmp("ne", f.atomic_load(I64, _at(f, pool, _STOP)), 0), "stop"):
            f.jump(leave)
        with f.when(f.not_(took), "idle"):
            f.call("llvm.x86.sse2.pause", VOID, ())
        with f.when(f.icmp("sgt", count, _SPINS), "tired"):
            f.store(constant(I64, 0), spins)
            _sleep(f, pool, context)
    f.ret(NULL)


def _sleep(f: Function, pool: Value, context: Value) -> None:
    """Wait until work is published; the sleeper is counted before it looks for the last time."""
    f.call("pthread_mutex_lock", I32, (_at(f, pool, _WORK_MUTEX),))
    f.atomic_add(_at(f, pool, _SLEEPERS), constant(I64, 1))
    ticket = f.atomic_load(I64, _at(f, pool, _TICKET))
    work = _is_open(f, ticket, _read_job(f, pool), context)
    stop = f.icmp("ne", f.atomic_load(I64, _at(f, pool, _STOP)), 0)
    with f.when(f.not_(f.or_(work, stop)), "wait"):
        both = (_at(f, pool, _WORK_CONDITION), _at(f, pool, _WORK_MUTEX))
        f.call("pthread_cond_wait", I32, both)
    f.atomic_add(_at(f, pool, _SLEEPERS), constant(I64, -1))
    f.call("pthread_mutex_unlock", I32, (_at(f, pool, _WORK_MUTEX),))


def _leave_signals_to_python(f: Function) -> None:
    """Block signals here, but those that a fault of this very thread raises."""
    signals = f.alloca(I8, 128, name="signals")
    f.call("sigfillset", I32, (signals,))
    for fault in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        f.call("sigdelset", I32, (signals, constant(I32, int(fault))))
    how = constant(I32, int(signal.SIG_BLOCK))
    f.call("pthread_sigmask", I32, (how, signals, NULL))


def _define_start(module: Module) -> None:
    """pool_start(threads) -> a pool of so many threads, the caller's included; null: no memory."""
    f = module.function("pool_start", PTR, [("threads", I64)])
    (threads,) = f.parameters
    slot = f.alloca(PTR)
    size = f.add(f.mul(threads, CONTEXT_BYTES + 8), _CONTEXTS)
    failed = f.call("posix_memalign", I32, (slot, constant(I64, 64), size))
    with f.when(f.icmp("ne", failed, 0), "failed"):
        f.ret(NULL)
    pool = f.load(PTR, slot)
    f.call("memset", PTR, (pool, constant(I32, 0), size))
    f.store(constant(I64, _CLOSED), _at(f, pool, _TICKET))
    f.store(threads, _at(f, pool, _THREADS))
    for mutex, condition in ((_WORK_MUTEX, _WORK_CONDITION), (_DONE_MUTEX, _DONE_CONDITION)):
        f.call("pthread_mutex_init", I32, (_at(f, pool, mutex), NULL))
        f.call("pthread_cond_init", I32, (_at(f, pool, condition), NULL))
    with f.loop(1, threads, name="worker") as loop:
        context = _worker_context(f, pool, loop.index)
        f.store(Value(PTR, "@scratch"), _at(f, context, SCRATCH_FUNCTION))
        f.store(pool, _at(f, context, POOL))
        f.store(loop.index, _at(f, context, WORKER))
        handle = _worker_handle(f, pool, loop.index)
        create = (handle, NULL, Value(PTR, "@worker"), context)
        # A system out of threads leaves a smaller pool, which is as correct.
        with f.when(f.icmp("ne", f.call("pthread_create", I32, create), 0), "no_thread"):
            f.ret(pool)
        f.store(loop.index, _at(f, pool, _WORKERS))
    f.ret(pool)


def _define_stop(module: Module) -> None:
    """pool_stop(pool): end its workers and free it; no context may use it any more."""
    f = module.function("pool_stop", VOID, [("pool", PTR)])
    (pool,) = f.parameters
    f.call("pthread_mutex_lock", I32, (_at(f, pool, _WORK_MUTEX),))
    f.atomic_store(constant(I64, 1), _at(f, pool, _STOP))
    f.call("pthread_cond_broadcast", I32, (_at(f, pool, _WORK_CONDITION),))
    f.call("pthread_mutex_unlock", I32, (_at(f, pool, _WORK_MUTEX),))
    workers = f.load(I64, _at(f, pool, _WORKERS))
    with f.loop(1, f.add(workers, 1), name="worker") as loop:
        thread = f.load(I64, _worker_handle(f, pool, loop.index))
        f.call("pthread_join", I32, (thread, NULL))
        context = _worker_context(f, pool, loop.index)
        f.call("free", VOID, (f.load(PTR, _at(f, context, SCRATCH_MEMORY)),))
    for mutex, condition in ((_WORK_MUTEX, _WORK_CONDITION), (_DONE_MUTEX, _DONE_CONDITION)):
        f.call("pthread_mutex_destroy", I32, (_at(f, pool, mutex),))
        f.call("pthread_cond_destroy", I32, (_at(f, pool, condition),))
    f.call("free", VOID, (pool,))
    f.ret()


_LAUNCH = (
    ("context", PTR),
    ("kernel", PTR),
    ("pointers", PTR),
    ("sizes", PTR),
    ("tasks", I64),
    ("least", I64),
    ("scratch_bytes", I64),
)


def _define_launch(module: Module) -> None:
    """launch(...): run a kernel over all its tasks, on as many threads as that is worth."""
    f = module.function("launch", VOID, _LAUNCH, internal=True)
    context, kernel, pointers, sizes, tasks, least, scratch = f.parameters
    alone, shared = f.block("alone"), f.block("shared")
    worth = f.sdiv(tasks, f.min_max("smax", least, 1))
    threads = f.min_max("smin", worth, f.load(I64, _at(f, context, BUDGET)))
    pool = f.load(PTR, _at(f, context, POOL))
    try_pool = f.block("try_pool")
    f.jump_if(f.icmp("sgt", threads, 1), try_pool, alone)

    f.start(try_pool)
    free, busy = constant(I64, 0), constant(I64, 1)
    _, got = f.compare_exchange(_at(f, pool, _BUSY), free, busy)
    f.jump_if(got, shared, alone)

    f.start(alone)
    f.call_pointer(kernel, VOID, (pointers, sizes, constant(I64, 0), tasks, context))
    f.ret()

    f.start(shared)
    most = f.min_max("smin", tasks, f.mul(threads, _CHUNKS_PER_THREAD))
    chunk = _ceiling(f, tasks, most)
    chunks = _ceiling(f, tasks, chunk)
    job = _Job(kernel, pointers, sizes, tasks, chunk, chunks, threads, scratch)
    _publish(f, pool, job)
    _wake_workers(f, pool, f.min_max("smin", threads, chunks))
    with f.forever("work") as finished:
        took = f.call("take", I1, (pool, context))
        with f.when(f.not_(took), "none_left"):
            f.jump(finished)
    _await(f, pool, chunks)
    f.atomic_store(free, _at(f, pool, _BUSY))
    f.ret()


def _publish(f: Function, pool: Value, job: _Job) -> None:
    before = f.atomic_load(I64, _at(f, pool, _TICKET))
    generation = f.add(f.and_(before, -1 << 32), 1 << 32)
    f.atomic_store(f.or_(generation, _CLOSED), _at(f, pool, _TICKET))
    f.atomic_store(constant(I64, 0), _at(f, pool, _DONE))
    for number, name in enumerate(_FIELDS):
        f.atomic_store(getattr(job, name), _at(f, pool, _JOB + 8 * number), "release")
    f.atomic_store(generation, _at(f, pool, _TICKET))


def _wake_workers(f: Function, pool: Value, threads: Value) -> None:
    """Wake sleepers if there are any: one for each thread beyond the caller's."""
    sleepers = f.atomic_load(I64, _at(f, pool, _SLEEPERS))
    with f.when(f.icmp("sgt", sleepers, 0), "wake"):
        f.call("pthread_mutex_lock", I32, (_at(f, pool, _WORK_MUTEX),))
        condition = _at(f, pool, _WORK_CONDITION)
        everyone = f.icmp("slt", threads, f.load(I64, _at(f, pool, _THREADS)))
        # With a budget below the pool's size one signal may meet a worker outside the budget.
        with f.when(everyone, "wake_all"):
            f.call("pthread_cond_broadcast", I32, (condition,))
        some = f.select(everyone, constant(I64, 0), f.sub(threads, 1))
        with f.loop(0, some, name="woken"):
            f.call("pthread_cond_signal", I32, (condition,))
        f.call("pthread_mutex_unlock", I32, (_at(f, pool, _WORK_MUTEX),))


def _await(f: Function, pool: Value, chunks: Value) -> None:
    """Wait until all chunks are done: spin a little, then sleep."""
    done = _at(f, pool, _DONE)
    finished = f.block("finished")
    with f.loop(0, _SPINS, name="spin", unroll=1):
        again = f.block("spin.on")
        f.jump_if(f.icmp("eq", f.atomic_load(I64, done), chunks), finished, again)
        f.start(again)
        f.call("llvm.x86.sse2.pause", VOID, ())
    f.call("pthread_mutex_lock", I32, (_at(f, pool, _DONE_MUTEX),))
    f.atomic_store(constant(I64, 1), _at(f, pool, _WAITING))
    with f.forever("sleep") as woken:
        all_done = f.icmp("eq", f.atomic_load(I64, done), chunks)
        with f.when(all_done, "all_done"):
            f.jump(woken)
        both = (_at(f, pool, _DONE_CONDITION), _at(f, pool, _DONE_MUTEX))
        f.call("pthread_cond_wait", I32, both)
    f.atomic_store(constant(I64, 0), _at(f, pool, _WAITING))
    f.call("pthread_mutex_unlock", I32, (_at(f, pool, _DONE_MUTEX),))
    f.jump(finished)
    f.start(finished)


def _define_run(module: Module, timed: bool) -> None:
    """run_steps(steps, count, bases, context) -> 0, or the number (from 1) of the step that found
    no memory; run_steps_timed also writes each step's nanoseconds.
    """
    parameters = [("steps", PTR), ("count", I64), ("bases", PTR), ("context", PTR)]
    name = "run_steps_timed" if timed else "run_steps"
    f = module.function(name, I64, [*parameters, *([("nanoseconds", PTR)] if timed else [])])
    steps, count, bases, context = f.parameters[:4]
    pointers = f.alloca(PTR, MAX_ARGUMENTS, name="pointers")
    clock = f.alloca(I64, 2, name="clock")
    with f.loop(0, count, name="step", unroll=1) as loop:
        begin = _now(f, clock) if timed else None
        step = f.gep(steps, f.mul(loop.index, 8 * STEP_WORDS), I8)
        _gather(f, pointers, bases, *_arguments(f, step))
        _launch_step(f, step, loop.index, pointers, context)
        if begin is not None:
            spent = f.sub(_now(f, clock), begin)
            f.store(spent, f.gep(f.parameters[4], loop.index, I64))
    f.ret(0)


def _define_run_frame(module: Module) -> None:
    """run_frame(steps, count, frame, context) -> as run_steps, on what is known of the frame."""
    parameters = [("steps", PTR), ("count", I64), ("frame", PTR), ("context", PTR)]
    f = module.function("run_frame", I64, parameters)
    steps, count, frame, context = f.parameters
    state = f.load(I64, _at(f, frame, 8 * FRAME_STATE))
    bases, pointers = (f.load(PTR, _at(f, frame, 8 * n)) for n in (FRAME_BASES, FRAME_POINTERS))
    known, anew, run = f.block("known"), f.block("anew"), f.block("run")
    f.jump_if(f.icmp("eq", state, SETTLED), known, anew)

    f.start(known)
    varying = f.load(PTR, _at(f, frame, 8 * FRAME_VARYING))
    with f.loop(0, f.load(I64, _at(f, frame, 8 * FRAME_COUNT)), name="argument", unroll=1) as loop:
        words = f.gep(varying, f.mul(loop.index, 24), I8)
        target = f.gep(pointers, f.load(I64, words), PTR)
        f.store(_argument(f, bases, _at(f, words, 8)), target)
    f.jump(run)

    f.start(anew)
    with f.loop(0, count, accs=(pointers,), name="step", unroll=1) as loop:
        step = f.gep(steps, f.mul(loop.index, 8 * STEP_WORDS), I8)
        args, arguments = _arguments(f, step)
        _gather(f, loop.accs[0], bases, args, arguments)
        loop.next(f.gep(loop.accs[0], arguments, PTR))
    lasts = f.icmp("eq", state, ANEW_ONCE)
    settled = f.select(lasts, constant(I64, SETTLED), constant(I64, ANEW))
    f.store(settled, _at(f, frame, 8 * FRAME_STATE))
    f.jump(run)

    f.start(run)
    with f.loop(0, count, accs=(pointers,), name="step", unroll=1) as loop:
        step = f.gep(steps, f.mul(loop.index, 8 * STEP_WORDS), I8)
        _launch_step(f, step, loop.index, loop.accs[0], context)
        loop.next(f.gep(loop.accs[0], _arguments(f, step)[1], PTR))
    f.ret(0)


def _arguments(f: Function, step: Value) -> tuple[Value, Value]:
    """Where a step's arguments are described, and how many they are."""
    return f.load(PTR, _at(f, step, 16)), f.load(I64, _at(f, step, 8))


def _launch_step(f: Function, step: Value, number: Value, pointers: Value, context: Value) -> None:
    """Launch a step on its arguments' addresses; return its number from 1 where no memory is."""
    kernel, sizes = (f.load(PTR, _at(f, step, 8 * word)) for word in (0, 3))
    tasks, least, scratch = (f.load(I64, _at(f, step, 8 * word)) for word in (4, 5, 6))
    with f.when(f.not_(f.call("reserve", I1, (context, scratch))), "no_memory"):
        f.ret(f.add(number, 1))
    f.call("launch", VOID, (context, kernel, pointers, sizes, tasks, least, scratch))


def _gather(f: Function, pointers: Value, bases: Value, args: Value, count: Value) -> None:
    """pointers[i] = bases[index of i] + offset of i."""
    with f.loop(0, count, name="argument", unroll=1) as loop:
        pair = f.gep(args, f.mul(loop.index, 16), I8)
        f.store(_argument(f, bases, pair), f.gep(pointers, loop.index, PTR))


def _argument(f: Function, bases: Value, pair: Value) -> Value:
    """The address that an index into the base table and an offset stand for."""
    base = f.load(PTR, f.gep(bases, f.load(I64, pair), PTR))
    return f.gep(base, f.load(I64, _at(f, pair, 8)), I8)


def _define_free(module: Module) -> None:
    """context_free(context): free what the context owns."""
    f = module.function("context_free", VOID, [("context", PTR)])
    (context,) = f.parameters
    f.call("free", VOID, (f.load(PTR, _at(f, context, SCRATCH_MEMORY)),))
    f.ret()


def _now(f: Function, clock: Value) -> Value:
    """Nanoseconds of a clock that never goes back; `clock` is a struct timespec."""
    f.call("clock_gettime", I32, (constant(I32, time.CLOCK_MONOTONIC), clock))
    seconds = f.load(I64, clock)
    return f.add(f.mul(seconds, 1_000_000_000), f.load(I64, _at(f, clock, 8)))


def _signal(f: Function, pool: Value, mutex: int, condition: int) -> None:
    f.call("pthread_mutex_lock", I32, (_at(f, pool, mutex),))
    f.call("pthread_cond_signal", I32, (_at(f, pool, condition),))
    f.call("pthread_mutex_unlock", I32, (_at(f, pool, mutex),))


def _worker_context(f: Function, pool: Value, worker: Value) -> Value:
    return f.gep(pool, f.add(f.mul(worker, CONTEXT_BYTES), _CONTEXTS), I8)


def _worker_handle(f: Function, pool: Value, worker: Value) -> Value:
    # The pthread_t (a word on Linux and macOS) of each worker, after all contexts.
    threads = f.load(I64, _at(f, pool, _THREADS))
    contexts = f.add(f.mul(threads, CONTEXT_BYTES), _CONTEXTS)
    return f.gep(pool, f.add(contexts, f.mul(worker, 8)), I8)


def _ceiling(f: Function, lhs: Value, rhs: Value) -> Value:
    return f.sdiv(f.sub(f.add(lhs, rhs), 1), rhs)


def _at(f: Function, pointer: Value, offset: int) -> Value:
    return f.gep(pointer, offset, I8) if offset else pointer
