"""Do the bits depend on the graph, its inputs and the ISA class alone? Random graphs, each way.

Launched op by op = compiled = compiled after all passes = parsed from its text and compiled = on
one, two and three threads = with older vectors of the same class = compiled afresh = cached.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.core.dtype import bfloat16, bool_, float16, float32, float64, int32, int64, uint8
from pellucid.engines import find_engine
from pellucid.engines.llvm.target import host_isa
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops import lookup
from pellucid.passes.pipeline import clean, optimize
from tests.engines.executing import run_compiled, run_launched
from tests.graphs import random_graph, same_bits

MIXED = (float32, float64, int32, bool_, bfloat16, float16, uint8, int64)
ROOT = Path(__file__).parent.parent.parent
# Large enough that several threads take part; few, because each compiles anew.
LARGE = (3, 4, 8)


@pytest.mark.parametrize("seed", range(24))
def test_launched_compiled_fused_and_parsed_agree(seed: int) -> None:
    cpu = find_engine("cpu")
    graph, arrays = random_graph(seed, MIXED if seed % 2 else (float32,), 30)
    fused = optimize(graph)
    wanted = run_launched(cpu, graph, arrays)
    for other in (clean(graph), fused, parse_graph(print_graph(fused), lookup)):
        assert all(map(same_bits, run_compiled(cpu, other, arrays), wanted))


def test_bits_are_those_of_one_thread_on_two_and_three() -> None:
    wanted = digest_in_child(PELLUCID_THREADS="1")
    assert wanted == digest_in_child(PELLUCID_THREADS="2")
    assert wanted == digest_in_child(PELLUCID_THREADS="3")


def test_bits_of_older_vectors_are_those_of_newer_ones() -> None:
    if host_isa().name == "sse2":
        pytest.skip("this machine has only the oldest class")
    assert digest_in_child() == digest_in_child(PELLUCID_ISA="avx2")


def test_bits_come_back_from_the_cache(tmp_path: Path) -> None:
    cold = digest_in_child(PELLUCID_CACHE_DIR=str(tmp_path / "kernels"))
    assert cold == digest_in_child(PELLUCID_CACHE_DIR=str(tmp_path / "kernels"))
    assert cold == digest_in_child(PELLUCID_CACHE="0")


def test_oldest_class_agrees_with_itself() -> None:
    wanted = digest_in_child(PELLUCID_ISA="sse2", PELLUCID_THREADS="1")
    assert wanted == digest_in_child(PELLUCID_ISA="sse2", PELLUCID_THREADS="2")


def digest() -> str:
    """One SHA-256 over every output of the large graphs, launched and fused."""
    cpu, sums = find_engine("cpu"), hashlib.sha256()
    for seed in LARGE:
        graph, arrays = random_graph(seed, (float32, float64, bfloat16), 25, elements=200_000)
        launched = run_launched(cpu, graph, arrays)
        fused = run_compiled(cpu, optimize(graph), arrays)
        assert all(map(same_bits, launched, fused)), seed
        for array in fused:
            # Which NaN a NaN is stays open.
            sums.update(b"nan" if (array != array).any() else array.tobytes())
    return sums.hexdigest()


def digest_in_child(**settings: str) -> str:
    """The digest computed by a fresh process with these settings."""
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": paths, **settings}
    command = [sys.executable, "-c", "from tests.engines.test_bits import digest; print(digest())"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
