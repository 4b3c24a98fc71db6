"""Does a forked process run what its parent ran, to the same bits, on threads of its own?"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable

import numpy as np
import pytest

import pellucid as pe
from tests.graphs import same_bits

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def eager(x: np.ndarray) -> np.ndarray:
    """Large enough that threads share it: a product and sums of rows."""
    given = pe.asarray(x)
    return np.asarray(pe.sum(pe.tanh(given @ given.T), axis=0))


def compiled(x: np.ndarray) -> np.ndarray:
    @pe.jit
    def run(given: pe.Tensor) -> pe.Tensor:
        return pe.sum(pe.tanh(given @ given.T), axis=0)

    return np.asarray(run(x))


def drawn(rows: int = 300) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, 200)).astype(np.float32)


def in_fork(work: Callable[[], bool]) -> None:
    """Do something in a forked child, which must end well within a minute."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    late = threading.Timer(60, os.kill, (child, 9))
    late.start()
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        late.cancel()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("run", [eager, compiled])
def test_a_forked_child_computes_the_same_bits(run: Callable[..., np.ndarray], threads: int):
    before = pe.get_threads()
    pe.set_threads(threads)
    try:
        wanted = run(drawn())
        in_fork(lambda: same_bits(run(drawn()), wanted) and pe.get_threads() == threads)
        assert same_bits(run(drawn()), wanted)
    finally:
        pe.set_threads(before)


def test_a_child_forked_while_others_compute_goes_on():
    wanted, stop = compiled(drawn()), threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            compiled(drawn(250))

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(10):
            in_fork(lambda: same_bits(compiled(drawn()), wanted))
    finally:
        stop.set()
        busy.join()


def test_workers_of_multiprocessing_compute_the_same_bits():
    wanted = [eager(drawn(rows)) for rows in (100, 300)]
    with multiprocessing.get_context("fork").Pool(2) as workers:
        found = workers.map_async(eager, [drawn(100), drawn(300)]).get(60)
    assert all(map(same_bits, found, wanted))
