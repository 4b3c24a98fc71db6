"""May one executable run many times at once? Each call has a frame; Python goes on meanwhile."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from pellucid.core.dtype import float32
from pellucid.engines.cpu import pool
from pellucid.engines.cpu.runtime import CpuExecutable
from pellucid.ir.graph import Value
from pellucid.ir.record import recording
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, exp, mul, tanh
from pellucid.ops.movement import constant_array, transpose
from pellucid.ops.reduce import sum_
from pellucid.passes.pipeline import optimize
from tests.engines.cpu.test_pipeline import compile_for_cpu, graph_of, samples
from tests.graphs import same_bits
from tests.running import Arrays, call

THREADS = (1, 2, 3, 5)


def test_calls_at_once_have_frames_and_arenas_apart() -> None:
    exe, _ = network()
    frames = [exe.lease() for _ in range(3)]
    slot = len(exe.inputs) + len(exe.outputs)
    arenas = sorted(frame.table[slot] for frame in frames)
    assert exe.plan.arena_bytes > 0
    assert all(b - a >= exe.plan.arena_bytes for a, b in pairwise(arenas))


def test_released_frame_is_leased_again() -> None:
    exe, _ = network()
    frame = exe.lease()
    exe.release(frame)
    assert exe.lease() is frame


def test_a_frame_reads_what_varies_at_each_run_and_the_rest_when_it_is_refilled() -> None:
    exe = compile_for_cpu(graph_of([(float32, (3,))] * 2, lambda x, y: [add(x, y)]))
    x, y, other, out = (np.full(3, number, np.float32) for number in (1.0, 10.0, 20.0, 0.0))
    frame = exe.lease((0,))
    for slot, one in enumerate((x, y, out)):
        frame.table[slot] = one.ctypes.data
    exe.run(frame)
    assert out[0] == 11.0
    frame.table[0] = other.ctypes.data
    exe.run(frame)
    assert out[0] == 30.0
    frame.table[1] = x.ctypes.data
    frame.refilled()
    exe.run(frame)
    assert out[0] == 21.0
    exe.release(frame)
    # Of one that is leased again nothing is known.
    frame = exe.lease()
    frame.table[0] = frame.table[1] = y.ctypes.data
    exe.run(frame)
    assert out[0] == 20.0


def test_python_threads_may_call_one_executable_at_once() -> None:
    exe, arrays = network()
    inputs = [tuple(array * scale for array in arrays) for scale in (1, 2, 3, 4)]
    wanted = [call(exe, one)[0] for one in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            (found,) = call(exe, inputs[number])
            if not same_bits(found, wanted[number]):
                wrong.append(number)

    run_threads([threading.Thread(target=work, args=(number,)) for number in range(4)])
    assert not wrong


def test_python_goes_on_while_a_run_is_under_way() -> None:
    def build(x: Value) -> list[Value]:
        for _ in range(6):
            x = tanh(dot_general(x, x, contract=((1,), (0,)), batch=((), ())))
        return [x]

    graph = optimize(graph_of([(float32, (700, 700))], build))
    exe, arrays = compile_for_cpu(graph), samples(graph)
    call(exe, arrays)
    turns: list[float] = []
    runner = threading.Thread(target=call, args=(exe, arrays))
    runner.start()
    while runner.is_alive():
        turns.append(time.perf_counter())
        time.sleep(0.0005)
    # With the interpreter's lock held this thread would have slept through the run.
    assert len(turns) > 5


@pytest.mark.parametrize("threads", THREADS)
def test_bits_do_not_depend_on_the_number_of_threads(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exe, arrays = large_network()
    monkeypatch.setattr(pool, "_state", pool._State())
    pool.set_threads(1)
    wanted = call(exe, arrays)
    pool.set_threads(threads)
    assert pool.pool().threads == threads
    for found, right in zip(call(exe, arrays), wanted, strict=True):
        assert same_bits(found, right)


def test_timed_run_gives_a_time_for_each_step_and_the_same_bits() -> None:
    exe, arrays = network()
    wanted = call(exe, arrays)[0]
    frame = exe.lease()
    held = [np.ascontiguousarray(array) for array in arrays]
    found = np.zeros_like(wanted)
    for number, array in enumerate((*held, found)):
        frame.table[number] = array.ctypes.data
    times = exe.run_timed(frame)
    assert len(times) == len(exe.launched)
    assert all(nanoseconds > 0 for nanoseconds in times)
    assert same_bits(found, wanted)


def test_a_timed_recording_hears_each_step_of_a_run_and_changes_no_bit() -> None:
    exe, arrays = network()
    wanted = call(exe, arrays)[0]
    with recording(timed=True) as record:
        found = call(exe, arrays)[0]
    call(exe, arrays)
    (run,) = record.runs
    assert run.graph is exe.graph
    assert [(step.name, step.node) for step in run.steps] == [
        (one.name, one.node) for one in exe.launched
    ]
    assert all(step.seconds > 0 for step in run.steps)
    assert same_bits(found, wanted)


def test_constants_live_as_long_as_the_executable() -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = graph_of([(float32, (2, 3))], lambda x: [mul(x, constant_array(table))])
    exe = compile_for_cpu(graph)
    del graph
    # Blocks that were let go of would be given out again here.
    others = [call(exe, (np.full((2, 3), n, np.float32),))[0] for n in range(5)]
    assert all(same_bits(other, table * np.float32(n)) for n, other in enumerate(others))


def test_empty_graph_runs() -> None:
    exe = compile_for_cpu(graph_of([], list))
    frame = exe.lease()
    exe.run(frame)
    assert exe.run_timed(frame) == ()


def network() -> tuple[CpuExecutable, Arrays]:
    """Some kernels with values in the arena between them."""

    def build(x: Value, w: Value) -> list[Value]:
        hidden = tanh(dot_general(x, w, contract=((1,), (0,)), batch=((), ())))
        return [sum_(transpose(exp(hidden), permutation=(1, 0)), axes=(1,))]

    graph = optimize(graph_of([(float32, (33, 20)), (float32, (20, 17))], build))
    return compile_for_cpu(graph), samples(graph)


def large_network() -> tuple[CpuExecutable, Arrays]:
    """Kernels of each kind, each with work for several threads."""

    def build(x: Value, w: Value, b: Value) -> list[Value]:
        hidden = tanh(dot_general(x, w, contract=((1,), (0,)), batch=((), ())))
        return [
            hidden,
            sum_(hidden, axes=(0,)),
            sum_(exp(add(x, b)), axes=(0, 1)),
            sum_(mul(x, b), axes=(1,)),
        ]

    kinds = [(float32, (301, 700)), (float32, (700, 219)), (float32, (301, 700))]
    graph = optimize(graph_of(kinds, build))
    return compile_for_cpu(graph), samples(graph)


def run_threads(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
