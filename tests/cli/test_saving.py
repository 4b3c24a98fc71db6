"""Is the tour's model saved where it was asked for, nowhere else, and is what goes wrong told?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.cli import saving
from pellucid.cli.model import mlp
from pellucid.cli.reader import Reading, read
from pellucid.cli.saving import require_writable, save_and_reload
from pellucid.core.error import CheckpointError
from tests.cli.test_command import run

QUICK = ("tour", "--model", "mlp", "--epochs", "1", "--quiet")


@pytest.fixture
def model() -> nn.Module:
    made = mlp()
    nn.summary(made, (1, 8, 8, 1))
    return made


def reading(model: nn.Module) -> Reading:
    with pe.device("cpu"):
        return read(model, pe.data.digits().test_images)


def test_a_reading_comes_back_from_its_text(model: nn.Module):
    found = reading(model)
    again = Reading.from_json(found.to_json())
    assert (again.weights, again.scores) == (found.weights, found.scores)
    assert np.array_equal(again.guesses, found.guesses)


def test_a_saved_model_stays_where_it_was_asked_for(tmp_path: Path):
    file = tmp_path / "mine.safetensors"
    done = run(*QUICK, "--save", str(file))
    assert done.stderr == ""
    assert done.stdout.endswith(f"saved in {file}, {file.stat().st_size:,} bytes\n")
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_is_left_behind_unless_asked(
    tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pe.device("cpu"):
        save_and_reload("mlp", model, reading(model), None)
    assert list(tmp_path.iterdir()) == []


def test_a_module_in_the_users_folder_does_not_get_in_the_way(
    tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "numpy.py").write_text("raise SystemExit('not the real one')")
    monkeypatch.chdir(tmp_path)
    with pe.device("cpu"):
        assert save_and_reload("mlp", model, reading(model), None).reading.scores


def test_other_bits_in_the_new_process_are_an_error(model: nn.Module):
    wrong = Reading(np.arange(3), reading(model).weights, "0" * 64)
    with pe.device("cpu"), pytest.raises(CheckpointError, match="scores in a new process"):
        save_and_reload("mlp", model, wrong, None)


def test_a_new_process_that_fails_is_an_error_with_its_words(model: nn.Module):
    with pe.device("cpu"), pytest.raises(CheckpointError, match="of another model"):
        save_and_reload("cnn", model, reading(model), None)


@pytest.mark.parametrize("where", ["missing/weights", "."])
def test_a_place_where_no_file_can_be_is_refused_before_any_work(tmp_path: Path, where: str):
    done = run(*QUICK, "--save", str(tmp_path / where))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"pellucid: {tmp_path / where}: cannot write it: ")


def test_a_folder_that_may_not_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CheckpointError, match=f"no permission to write in {tmp_path}"):
        require_writable(tmp_path / "weights")


def test_no_folder_for_temporary_files_is_an_error_that_says_what_to_do(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    def refuse(**how: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(saving.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(CheckpointError, match=r"Permission denied\n  set TMPDIR"):
        save_and_reload("mlp", model, reading(model), None)
