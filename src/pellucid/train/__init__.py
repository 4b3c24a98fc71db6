"""How is a model taught? `fit`, what it reports, what can watch it, checkpoints to go on from."""

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
