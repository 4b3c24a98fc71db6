"""Do kernels touch the memory of their operands, results and scratch alone?

Pages about each block are forbidden, so that a process ends which does not keep to them: `guarded`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.pages import ROOT
from tests.programs import LARGE, LONG, SMALL, graph_digests, in_child


def test_random_graphs_stay_inside_their_memory() -> None:
    assert_stay_inside((*SMALL[:5], LARGE[0]))


@pytest.mark.slow
def test_every_random_graph_stays_inside_its_memory() -> None:
    assert_stay_inside((*SMALL, *LONG, *LARGE))


def assert_stay_inside(seeds: Sequence[int]) -> None:
    found = in_child("guarded", *seeds)
    del found["kernels compiled"]
    assert found == graph_digests(seeds)


BLOCK = "start, nbytes = (block := storage.allocate(5000)).address, block.nbytes"
ARENA = """
blocks = [packing.Block(100, 0, 1), packing.Block(5000, 1, 2)]
arena = guarded.allocate_for_long(guarded.pack(blocks))
start, nbytes = arena.address + blocks[0].offset, blocks[0].bytes"""


@pytest.mark.parametrize("memory", [BLOCK, ARENA], ids=["block", "arena"])
@pytest.mark.parametrize(("beyond", "ends"), [(0, 0), (1, -signal.SIGSEGV)])
def test_whoever_leaves_it_ends_the_process(memory: str, beyond: int, ends: int) -> None:
    script = f"""
import ctypes
from pellucid.engines.cpu import storage
from pellucid.passes import packing
from tests import guarded
guarded.install()
{memory}
ctypes.memset(start, 1, nbytes + {beyond})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == ends
