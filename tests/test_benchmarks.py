"""Can the benchmarks be found and run, and do peers take the very same steps that are timed?"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

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


STEPS = {"mlp_step": (), "cnn_step": (), "transformer_step": ("--layers", "1")}
"""The step benchmarks, each as small as its arguments allow."""


def steps_of(case: str) -> dict[str, Any]:
    """What the child says that takes the steps of a case, once each."""
    words = ("--child", "steps", "--threads", "1", "--rounds", "1", "--repeat", "1")
    found: dict[str, Any] = json.loads(run(case, *STEPS[case], *words).stdout.splitlines()[-1])
    return found


def test_peers_that_are_missing_are_named_and_not_timed():
    found = steps_of("mlp_step")
    assert "pellucid" in found["times"]
    assert len(found["times"]) + len(found["skipped"]) == 5
    assert found["traffic"]["moved_bytes"] >= found["traffic"]["fewest_bytes"] > 0


@pytest.mark.peer
@pytest.mark.parametrize("case", STEPS)
def test_peers_have_the_same_first_losses(case: str):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    found = steps_of(case)
    assert {"torch eager", "jax.jit"} <= found["times"].keys()
    assert found["difference"] < 1e-4
