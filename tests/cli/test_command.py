"""Does the command `pellucid` end as a command should: its words, its exit code, Ctrl-C?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pellucid as pe
from pellucid.cli.model import MODELS
from pellucid.cli.tour import STAGES

PELLUCID = [sys.executable, "-W", "error", "-c", "from pellucid.cli import main; main()"]


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PELLUCID, *words],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_version_is_the_packages():
    assert run("version").stdout == f"pellucid {pe.__version__}\n"


def test_devices_are_listed_with_the_default_first():
    names = [line.split()[0] for line in run("devices").stdout.splitlines()]
    assert tuple(names) == pe.devices()


def test_the_cache_can_be_looked_at_and_cleared(tmp_path: Path):
    place = {"PELLUCID_CACHE_DIR": str(tmp_path / "kernels")}
    run("tour", "--quiet", "--model", "mlp", "--epochs", "1", **place)
    filled, cleared = run("cache", **place).stdout, run("cache", "--clear", **place).stdout
    assert "\n0 entries" not in filled
    assert "\n0 entries, 0.0 MB" in cleared
    assert list((tmp_path / "kernels").iterdir()) == []


def test_without_a_command_it_explains_itself():
    done = run()
    assert all(word in done.stdout + done.stderr for word in ("tour", "version", "cache"))


def test_an_unknown_stage_is_an_error_that_lists_them():
    done = run("tour", "--stage", "asembly", COLUMNS="200")
    assert done.returncode == 2
    assert "'asembly'" in done.stderr
    assert all(stage in done.stderr for stage in STAGES)


@pytest.mark.parametrize(
    "words", [("--epochs", "0"), ("--seed", "-1"), ("--seed", str(2**64)), ("--epochs", "many")]
)
def test_a_number_out_of_range_is_refused(words: tuple[str, str]):
    done = run("tour", *words)
    assert done.returncode == 2
    assert words[0] in done.stderr


def test_an_unknown_model_is_an_error_that_lists_them():
    done = run("tour", "--model", "rnn", COLUMNS="200")
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("'rnn'", *MODELS))


def test_a_stage_that_the_engine_does_not_make_is_one_clear_line():
    done = run("tour", "--stage", "llvm", PELLUCID_DEVICE="reference")
    assert done.returncode == 1
    assert done.stderr == (
        "pellucid: llvm: the engine 'reference' makes none, try PELLUCID_DEVICE=cpu\n"
    )


def test_an_engine_that_is_not_there_is_one_clear_line():
    done = run("tour", "--quiet", PELLUCID_DEVICE="gpu")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "'gpu'" in done.stderr


def test_a_reader_that_goes_away_ends_it_quietly():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PELLUCID, "tour", "--model", "mlp", "--epochs", "1"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert b"Traceback" not in done.stderr


def test_an_output_that_cannot_be_written_is_one_clear_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PELLUCID, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "pellucid: [Errno 28] No space left on device\n"


def test_a_warning_is_one_line_without_the_code_that_gave_it(tmp_path: Path):
    (tmp_path / "file").touch()
    done = subprocess.run(
        [*PELLUCID[:1], *PELLUCID[3:], "tour", "--model", "mlp", "--epochs", "1", "--quiet"],
        env=os.environ | {"PELLUCID_CACHE_DIR": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.startswith("pellucid: machine code cache: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("after", ["definition", "training"], ids=["compiling", "training"])
def test_ctrl_c_is_one_clear_line(after: str):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A child of a shell in the background is born deaf to Ctrl-C, and would hand that on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*PELLUCID, "tour", "--model", "mlp", "--epochs", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        try:
            while f"{after} · " not in process.stdout.readline():
                pass
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors == "pellucid: interrupted\n"
