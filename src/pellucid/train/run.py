"""What is known while a model is taught? The run: its parts, how far it is, what it has seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pellucid.metrics.mean import Mean
from pellucid.nn.module import Module
from pellucid.optim.optimizer import Optimizer

Logs = dict[str, float]


@dataclass
class History:
    """What each epoch came to: one dict of numbers an epoch; `history["loss"]` is one over all.

    >>> history = History([{"loss": 2.0}, {"loss": 1.0}])
    >>> history["loss"], len(history)
    ([2.0, 1.0], 2)
    """

    epochs: list[Logs] = field(default_factory=list[Logs])
    notes: list[str] = field(default_factory=list[str])

    def __getitem__(self, name: str) -> list[float]:
        if not any(name in logs for logs in self.epochs):
            known = ", ".join(self.epochs[0]) if self.epochs else "nothing yet"
            raise KeyError(f"{name!r} was not measured; there is {known}")
        return [logs[name] for logs in self.epochs if name in logs]

    def __iter__(self) -> Iterator[Logs]:
        return iter(self.epochs)

    def __len__(self) -> int:
        return len(self.epochs)


@dataclass
class Run:
    """A training run, as callbacks see it; setting `stop` ends it after the batch or epoch at hand.

    `epoch` counts finished epochs and `batch` finished batches of the next one; `seed` decides the
    order of the examples; `measures` names what each step measures, and `means` holds that of the
    epoch at hand.
    """

    model: Module
    optimizer: Optimizer
    epochs: int
    rows: int
    batch_size: int
    seed: int
    measures: tuple[str, ...] = ("loss",)
    history: History = field(default_factory=History)
    epoch: int = 0
    batch: int = 0
    means: dict[str, Mean] = field(default_factory=dict[str, Mean])
    stop: bool = False
