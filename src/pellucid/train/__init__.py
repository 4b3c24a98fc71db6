"""How is a model taught? `fit`, what it reports, what can watch it, checkpoints to go on from."""

from __future__ import annotations

from typing import NoReturn

from pellucid.core.spelling import unknown_name as _unknown_name
from pellucid.train.callbacks import Callback, Checkpoint, EarlyStopping
from pellucid.train.checkpoint import restore_run, save_run
from pellucid.train.fitting import evaluate, fit
from pellucid.train.run import History, Run

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "Run",
    "evaluate",
    "fit",
    "restore_run",
    "save_run",
]

_REWRITES = {
    "LearningRateScheduler": "optim.SGD(model, a function of the steps made to the rate)",
    "ModelCheckpoint": "train.Checkpoint(path), and pe.fit(..., resume=path)",
    "ReduceLROnPlateau": "a train.Callback of your own that sets run.optimizer.learning_rate",
    "Trainer": "pe.fit(model, (x, y), loss='cross_entropy')",
}


def __getattr__(name: str) -> NoReturn:
    raise _unknown_name("pellucid.train", name, _REWRITES)
