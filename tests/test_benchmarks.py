"""Can the benchmarks be found and run, and do peers take the very same steps that are timed?"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import cases
from tests.pages import ROOT


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


def test_peers_that_are_missing_are_named_and_not_timed():
    words = ("mlp_step", "--child", "steps", "--threads", "1", "--rounds", "1", "--repeat", "1")
    found = json.loads(run(*words).stdout.splitlines()[-1])
    assert "pellucid" in found["times"]
    assert len(found["times"]) + len(found["skipped"]) == 5


@pytest.mark.peer
def test_peers_have_the_same_first_losses():
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    words = ("mlp_step", "--child", "steps", "--threads", "1", "--rounds", "1", "--repeat", "1")
    found = json.loads(run(*words).stdout.splitlines()[-1])
    assert {"torch eager", "jax.jit"} <= found["times"].keys()
    assert found["difference"] < 1e-4
