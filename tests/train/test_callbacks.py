"""Do callbacks see what happens, when it happens, and can they end it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, train

X = np.random.default_rng(0).normal(size=(10, 2))


def fitted(callbacks: list[train.Callback], epochs: int = 8, **options: Any) -> train.History:
    return pe.fit(nn.Dense(2), (X, X), loss="mse", epochs=epochs, batch_size=5, seed=0,
                  callbacks=callbacks, verbose=False, **options)  # fmt: skip


class Recorder(train.Callback):
    """Writes down each call."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_begin(self, run: train.Run) -> None:
        self.calls.append("begin")

    def on_epoch_begin(self, run: train.Run) -> None:
        self.calls.append(f"epoch {run.epoch}")

    def on_batch_end(self, run: train.Run, logs: dict[str, float]) -> None:
        assert set(logs) == {"loss"}
        self.calls.append(f"batch {run.batch}")

    def on_epoch_end(self, run: train.Run, logs: dict[str, float]) -> None:
        assert run.history.epochs[-1] is logs
        self.calls.append(f"ended {run.epoch}")

    def on_train_end(self, run: train.Run) -> None:
        self.calls.append("end")


def test_callbacks_are_called_in_order():
    recorder = Recorder()
    fitted([recorder], epochs=2)
    one = ["epoch 0", "batch 1", "batch 0", "ended 1"]
    two = ["epoch 1", "batch 1", "batch 0", "ended 2"]
    assert recorder.calls == ["begin", *one, *two, "end"]


class Scripted(train.Callback):
    """Puts numbers of its own into the logs."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values

    def on_epoch_end(self, run: train.Run, logs: dict[str, float]) -> None:
        logs[self.name] = self.values[run.epoch - 1]


@pytest.mark.parametrize(
    ("name", "values", "options", "epochs"),
    [
        ("val_loss", [3, 2, 2, 2, 1, 0, 0, 0], {"patience": 2}, 4),
        ("val_loss", [3, 2, 1, 0, -1, -2, -3, -4], {"patience": 1}, 8),
        ("val_accuracy", [1, 2, 3, 3, 2, 9, 9, 9], {"patience": 2}, 5),
        ("val_loss", [3, 2.9, 2.8, 0, 0, 0, 0, 0], {"patience": 2, "min_delta": 0.5}, 3),
        ("score", [1, 2, 1, 1, 1, 1, 1, 1], {"patience": 1, "mode": "max"}, 3),
        ("val_loss", [2, float("nan"), float("nan"), 0, 0, 0, 0, 0], {"patience": 2}, 3),
    ],
)
def test_early_stopping_waits_as_long_as_told(
    name: str, values: list[float], options: Any, epochs: int
):
    stopping = train.EarlyStopping(name, **options)
    assert len(fitted([Scripted(name, values), stopping])) == epochs


def test_a_measure_that_is_not_there_is_named():
    with pytest.raises(pe.StateError, match=r"no measure is called 'val_loss'; there are loss\n"):
        fitted([train.EarlyStopping()])


def test_only_the_best_epoch_is_kept_if_asked(tmp_path: Path):
    from pellucid.nn.state import read_tensors

    script = Scripted("val_loss", [3, 1, 2, 5])
    path = tmp_path / "best"
    fitted([script, train.Checkpoint(path, monitor="val_loss")], epochs=4)
    _, header = read_tensors(path)
    assert header["epoch"] == 2


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(pe.StateError, match="patience"):
        train.EarlyStopping(patience=0)
    with pytest.raises(pe.StateError, match="mode"):
        train.EarlyStopping(mode="best")
    with pytest.raises(pe.StateError, match="every"):
        train.Checkpoint("x", every=0)


def test_an_exception_in_a_callback_leaves_the_model_usable():
    class Failing(train.Callback):
        def on_batch_end(self, run: train.Run, logs: dict[str, float]) -> None:
            raise KeyboardInterrupt

    model = nn.Sequential([nn.Dropout(0.5), nn.Dense(2)]).eval()
    with pytest.raises(KeyboardInterrupt):
        pe.fit(model, (X, X), loss="mse", callbacks=[Failing()], verbose=False)
    assert not model.training
    assert np.isfinite(model(X).numpy()).all()
