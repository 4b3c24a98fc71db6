"""Does a run that was saved go on in another process as if it had never stopped, bit for bit?"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim, train
from tests.tensor.training import assert_same_bits, numbers_of

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from tests.train.test_checkpoint import taught
taught(*sys.argv[1:2], epochs=int(sys.argv[2]), resume=sys.argv[3] or None)
"""


def examples() -> tuple[Any, Any]:
    """Noisy inputs of three classes; 50 rows are three batches of 16 and one of 2."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50)
    return rng.normal(size=(50, 4)) + labels[:, None], labels


def network() -> nn.Sequential:
    """Something with Buffers and random draws."""
    return nn.Sequential([nn.Dense(6), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)])


def taught(
    path: str | Path,
    epochs: int,
    resume: str | Path | None = None,
    model: nn.Module | None = None,
    make: Callable[[Any], optim.Optimizer] | None = None,
    **options: Any,
) -> tuple[nn.Module, train.History]:
    """Teach a small model and save after each epoch; a seed of another process when resuming."""
    pe.random.seed(99 if resume else 5)
    model = network() if model is None else model
    make = make or (lambda m: optim.AdamW(m, optim.schedules.Cosine(0.02, steps=40)))
    saving = train.Checkpoint(path, every=options.pop("every", None))
    callbacks = [*options.pop("callbacks", []), saving]
    settings: dict[str, Any] = {
        "loss": "cross_entropy",
        "metrics": ["accuracy"],
        "batch_size": 16,
        "verbose": False,
    }
    history = pe.fit(model, examples(), optimizer=make(model), epochs=epochs, resume=resume,
                     callbacks=callbacks, **(settings | options))  # fmt: skip
    return model, history


def in_another_process(path: Path, epochs: int, resume: Path | None = None) -> None:
    """As `taught`, and nothing but the file comes back."""
    arguments = [str(path), str(epochs), str(resume or "")]
    subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, cwd=ROOT)


def test_ten_epochs_are_five_a_file_another_process_and_five(tmp_path: Path):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    taught(whole, epochs=10)
    taught(halved, epochs=5)
    in_another_process(halved, epochs=10, resume=halved)
    assert halved.read_bytes() == whole.read_bytes()


class StopAfter(train.Callback):
    """Ends a run in the middle of an epoch."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch_end(self, run: train.Run, logs: dict[str, float]) -> None:
        self.left -= 1
        run.stop = not self.left


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, train.History]:
    """What three epochs without a break come to."""
    model, history = taught(tmp_path_factory.mktemp("whole") / "run", epochs=3)
    return numbers_of(model), history


@pytest.mark.parametrize("batches", [1, 6, 7])
def test_a_run_goes_on_in_the_middle_of_an_epoch(
    tmp_path: Path, whole: tuple[Any, train.History], batches: int
):
    path = tmp_path / "run"
    taught(path, epochs=3, every=1, callbacks=[StopAfter(batches)], jit=False)
    model, history = taught(path, epochs=3, resume=path, jit=False)
    assert_same_bits(numbers_of(model), whole[0])
    assert history.epochs == whole[1].epochs


def test_compiled_goes_on_where_eager_stopped(tmp_path: Path, whole: tuple[Any, train.History]):
    taught(tmp_path / "run", epochs=2, jit=False)
    model, _ = taught(tmp_path / "run", epochs=3, resume=tmp_path / "run")
    assert_same_bits(numbers_of(model), whole[0])


def test_a_finished_run_is_given_back_as_it_is(tmp_path: Path):
    model, history = taught(tmp_path / "run", epochs=2, jit=False)
    other, same = taught(tmp_path / "other", epochs=2, resume=tmp_path / "run")
    assert same.epochs == history.epochs
    assert_same_bits(numbers_of(other), numbers_of(model))


def adam(model: Any) -> optim.Optimizer:
    """Not the one that the file was saved with."""
    return optim.Adam(model, 0.01)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another model": (
        {"model": nn.Sequential([nn.Dense(6), nn.Dense(3)])},
        "another model: it has Sequential, Dense, BatchNorm, Dropout, Dense; this one",
    ),
    "other sizes": (
        {"model": nn.Sequential([nn.Dense(7), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)])},
        r"another model; model/layers\.0\.kernel is float32\[4, 6\], expected float32\[4, 7\]",
    ),
    "another optimizer": ({"make": adam}, "saved with the optimizer AdamW, this is Adam"),
    "another batch size": ({"batch_size": 8}, "in batches of 16, now 50 in batches of 8"),
    "other metrics": ({"metrics": []}, "measures loss, accuracy; this run measures loss"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_file_of_another_run_is_refused_and_nothing_changes(tmp_path: Path, name: str):
    options, message = REFUSED[name]
    path = tmp_path / "run"
    taught(path, epochs=2, every=1, callbacks=[StopAfter(6)], jit=False)
    saved = path.read_bytes()
    with pytest.raises(pe.CheckpointError, match=message):
        taught(path, epochs=2, resume=path, **options)
    assert path.read_bytes() == saved


def test_weights_alone_are_no_training_state(tmp_path: Path):
    model, _ = taught(tmp_path / "run", epochs=1, jit=False)
    nn.save_weights(model, tmp_path / "weights")
    with pytest.raises(pe.CheckpointError, match="expected a training state, got 'weights'"):
        taught(tmp_path / "run", epochs=2, resume=tmp_path / "weights")


def test_the_weights_of_a_training_state_can_be_loaded_alone(tmp_path: Path):
    model, _ = taught(tmp_path / "run", epochs=1, jit=False)
    other = network()
    other(examples()[0])
    nn.load_weights(other, tmp_path / "run")
    assert_same_bits(numbers_of(other), numbers_of(model))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", -1),
        ("epoch", "1"),
        ("batch", True),
        ("seed", 2**64),
        ("history", [1]),
        ("history", [{"loss": "x"}]),
        ("means", {"loss": [1.0]}),
        ("optimizer", None),
        ("modules", None),
    ],
)
def test_a_header_with_other_things_in_it_is_refused(tmp_path: Path, name: str, value: Any):
    from pellucid.nn.state import read_tensors, write_tensors

    path = tmp_path / "run"
    taught(path, epochs=1, jit=False)
    arrays, header = read_tensors(path)
    write_tensors(path, arrays, {**header, name: value})
    with pytest.raises(pe.CheckpointError, match=rf"run: the header's '{name}' cannot be"):
        taught(path, epochs=2, resume=path)


def test_the_slots_of_an_unknown_parameter_are_refused(tmp_path: Path):
    from pellucid.nn.state import read_tensors, write_tensors

    path = tmp_path / "run"
    taught(path, epochs=1, jit=False)
    arrays, header = read_tensors(path)
    arrays["optimizer/mean/layers.9.kernel"] = np.zeros(3, np.float32)
    write_tensors(path, arrays, header)
    with pytest.raises(pe.CheckpointError, match=r"slot mean/layers\.9\.kernel is of an unknown"):
        taught(path, epochs=2, resume=path)


class Keep(train.Callback):
    """Keeps the run that it watches."""

    def on_train_begin(self, run: train.Run) -> None:
        self.run = run


def test_a_file_cut_off_anywhere_is_refused_and_nothing_changes(tmp_path: Path):
    path, keep = tmp_path / "run", Keep()
    model, history = taught(path, epochs=2, jit=False, callbacks=[keep])
    content, before = path.read_bytes(), numbers_of(model)
    for length in [*range(0, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(pe.CheckpointError, match="not a whole safetensors file"):
            train.restore_run(keep.run, path)
    assert_same_bits(numbers_of(model), before)
    assert (keep.run.epoch, keep.run.batch, len(history)) == (2, 0, 2)


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path):
    path, keep = tmp_path / "run", Keep()
    taught(path, epochs=1, jit=False)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses the rest of a file this long, as it does where no space is left.
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(pe.CheckpointError, match=rf"{os.strerror(errno.EFBIG)}\n.*make room"):
            taught(path, epochs=3, resume=path, jit=False, callbacks=[keep])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["run"]
    # What was learned is still there, and can be saved where there is room.
    train.save_run(keep.run, tmp_path / "elsewhere")
    model, _ = taught(path, epochs=2, resume=tmp_path / "elsewhere", jit=False)
    assert_same_bits(numbers_of(keep.run.model), numbers_of(model))


class KillAfter(train.Callback):
    """Kills the process after so many batches, before the last of them is saved."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch_end(self, run: train.Run, logs: dict[str, float]) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


KILLED = """
import sys
from tests.train.test_checkpoint import KillAfter, taught
taught(sys.argv[1], epochs=3, every=1, callbacks=[KillAfter(7)], jit=False)
"""


def test_a_run_goes_on_after_its_process_was_killed(
    tmp_path: Path, whole: tuple[Any, train.History]
):
    path = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    model, history = taught(path, epochs=3, resume=path, jit=False)
    assert_same_bits(numbers_of(model), whole[0])
    assert history.epochs == whole[1].epochs
