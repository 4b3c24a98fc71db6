"""Can the benchmarks be found and run, and do peers do the very same work that is timed?"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pellucid as pe
from benchmarks.__main__ import cases
from benchmarks.bits import differing
from benchmarks.case import Case, Work, arrays_of, check_equal, largest_difference, make_all
from benchmarks.peers import library_of
from tests.pages import ROOT

COMPARED = {
    case.name: case
    for name in cases(of="cases")
    for case in importlib.import_module(f"benchmarks.{name}").cases(True)
}
"""Every case that is measured beside peers, as small as can be."""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_case_is_listed_with_its_question():
    listed = run().stdout
    assert {"mlp_step", "overheads"} <= cases().keys()
    assert all(
        name in listed and question and question in listed for name, question in cases().items()
    )


def test_a_case_that_is_not_there_is_an_error_that_lists_them():
    done = run("mlp_stop")
    assert done.returncode == 1
    assert "'mlp_stop'" in done.stderr
    assert all(name in done.stderr for name in cases())


SLOW = {"resnet18 step"}


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[pytest.mark.slow] * (x in SLOW)) for x in COMPARED]
)
def test_the_work_is_that_of_the_reference_engine(name: str):
    case = COMPARED[name]
    found = arrays_of(case.pellucid(True)())
    with pe.device("reference"):
        work = case.pellucid(True)
        expected = arrays_of(eagerly(work))
    assert largest_difference(expected, found) <= case.tolerance


def eagerly(work: Work) -> Any:
    """One call as it is written, or the whole where that is more than one."""
    return work() if work.whole else work.function.function(*work.arguments)


def test_peers_that_differ_end_the_benchmark():
    doubled = Case("double", "", lambda given: Work(lambda: [2.0]))
    with pytest.raises(SystemExit, match=r"double: .* other differs"):
        check_equal(doubled, {"pellucid": lambda: [2.0], "other": lambda: [2.1]})


def test_a_peer_that_is_missing_is_named_with_the_way_to_have_it():
    def missing() -> Any:
        raise ModuleNotFoundError("No module named 'mlx'")

    made, skipped = make_all({"pellucid": lambda: list, "mlx": missing})
    assert list(made) == ["pellucid"]
    assert "pip install 'mlx[cpu]'" in skipped["mlx"]


@pytest.mark.slow
def test_a_report_has_times_traffic_and_limits(tmp_path: Path):
    kept = tmp_path / "found.json"
    words = ("--tiny", "--threads", "1", "--seconds", "0.01", "--starts", "0", "--no-memory")
    done = run("elementwise", *words, "--peer", "numpy", "--json", str(kept))
    assert done.returncode == 0, done.stderr
    one = json.loads(kept.read_text())["threads"]["1"]
    found = one["cases"]["elementwise tanh"]
    assert {"pellucid", "numpy"} == found["times"].keys()
    assert found["traffic"]["moved_bytes"] >= found["traffic"]["fewest_bytes"] > 0
    assert min(one["limits"].values()) > 0


@pytest.mark.slow
def test_bits_are_those_of_one_thread_busy_or_quiet_cold_or_cached():
    done = run("bits", "--tiny", "--case", "mlp_step", "rows")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(", 0 differ") == 6


def test_bits_that_differ_are_found():
    assert differing({"a": "1", "b": "2"}, {"a": "1", "b": "3"}) == ["b"]


@pytest.mark.peer
@pytest.mark.parametrize("name", COMPARED)
def test_peers_do_the_same_work(name: str):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    case = COMPARED[name]
    # What torch.compile makes of it is checked whenever it is timed.
    peers = {n: make for n, make in case.peers.items() if not n.startswith("torch.compile")}
    made, _ = make_all({"pellucid": lambda: case.pellucid(True), **peers})
    # Others may be missing here; these are installed, and a case has one of them at least.
    installed = {who for who in peers if library_of(who) in ("torch", "jax")}
    assert installed or "pellucid, weights given" in peers
    assert installed <= made.keys()
    assert check_equal(case, made) <= case.tolerance
