"""What can watch a training run? Callbacks: early stopping, checkpoints, and your own.

Both callbacks here keep no state of their own: what they need is in the run's history, so that a
run that goes on from a checkpoint goes on with them, too.
"""

from __future__ import annotations

import math
import os

from pellucid.core.error import StateError
from pellucid.train.checkpoint import save_run
from pellucid.train.run import Logs, Run


class Callback:
    """The base of what watches a run; each method does nothing until a subclass defines it."""

    def on_train_begin(self, run: Run) -> None:
        """Before the first step."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, run: Run, logs: Logs) -> None:
        """After each step; `logs` has the measures of this batch."""

    def on_epoch_end(self, run: Run, logs: Logs) -> None:
        """After each epoch and its validation; `logs` is already in the history."""

    def on_train_end(self, run: Run) -> None:
        """After the last epoch; not after an exception."""


class EarlyStopping(Callback):
    """Ends the run when the measure `monitor` has not improved for `patience` epochs.

    `mode` is "min" or "max"; by default larger is better for accuracies, smaller for the rest. An
    improvement is one by more than `min_delta`.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str | None = None,
    ) -> None:
        if patience < 1:
            raise StateError(f"EarlyStopping: expected a patience of at least 1, got {patience}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.sign = _sign("EarlyStopping", monitor, mode)

    def on_epoch_end(self, run: Run, logs: Logs) -> None:
        """Stop if the best epoch was too long ago."""
        best = best_epoch(run, self.monitor, self.sign, self.min_delta)
        if run.epoch - 1 - best >= self.patience:
            run.stop = True


class Checkpoint(Callback):
    """Saves the whole training state to a file, from which `fit(..., resume=path)` goes on.

    After every epoch, or if `monitor` is given only when that measure is the best so far; with
    `every` also after so many batches. The file is always whole: the old one or the new one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        monitor: str | None = None,
        mode: str | None = None,
        every: int | None = None,
    ) -> None:
        if every is not None and every < 1:
            raise StateError(f"Checkpoint: expected every to be at least 1, got {every}")
        self.path = path
        self.monitor = monitor
        self.sign = 1.0 if monitor is None else _sign("Checkpoint", monitor, mode)
        self.every = every

    def on_batch_end(self, run: Run, logs: Logs) -> None:
        """Save in the middle of an epoch, if asked."""
        if self.every and run.batch and run.batch % self.every == 0:
            save_run(run, self.path)

    def on_epoch_end(self, run: Run, logs: Logs) -> None:
        """Save what the epoch came to."""
        if self.monitor is not None and best_epoch(run, self.monitor, self.sign) != run.epoch - 1:
            return
        save_run(run, self.path)


def best_epoch(run: Run, monitor: str, sign: float, min_delta: float = 0.0) -> int:
    """The last epoch that was better by more than `min_delta` than all before; NaN never is."""
    best, place = math.inf, 0
    for epoch, logs in enumerate(run.history):
        if monitor not in logs:
            raise StateError(
                f"no measure is called {monitor!r}; there are {', '.join(logs)}\n"
                "  val_ measures need validation=(inputs, targets)"
            )
        if sign * logs[monitor] < best - min_delta:
            best, place = sign * logs[monitor], epoch
    return place


def _sign(name: str, monitor: str, mode: str | None) -> float:
    if mode not in (None, "min", "max"):
        raise StateError(f"{name}: expected mode 'min' or 'max', got {mode!r}")
    return -1.0 if mode == "max" or (mode is None and "accuracy" in monitor) else 1.0
