"""How do gradients change Parameters? Optimizers, and schedules of their learning rate."""

from __future__ import annotations

from typing import NoReturn

from pellucid.core.spelling import unknown_name as _unknown_name
from pellucid.optim import schedules
from pellucid.optim.adam import Adam, AdamW
from pellucid.optim.optimizer import Optimizer
from pellucid.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "schedules"]

_REWRITES = {
    "RMSprop": "optim.Adam(model), whose second mean is that of RMSprop",
    "lr_scheduler": "optim.SGD(model, optim.schedules.Cosine(0.1, steps=1000))",
}


def __getattr__(name: str) -> NoReturn:
    raise _unknown_name("pellucid.optim", name, _REWRITES)
