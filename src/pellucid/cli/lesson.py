"""How does the tour's model learn? Shuffled batches of real digits, step by step, from one seed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import pellucid as pe
from pellucid import nn
from pellucid.cli.model import build
from pellucid.ir.record import Record, recording
from pellucid.tensor.jit import Jit

BATCH: Final = 32
PIXELS: Final = 64


@dataclass(frozen=True)
class Lesson:
    """A model about to learn: its step, compiled; the data; the record of the compilation."""

    model: nn.Module
    step: Jit
    digits: pe.data.Digits
    order: np.random.Generator
    record: Record


@dataclass(frozen=True)
class Outcome:
    """How training went: the mean loss of each epoch, how many steps, and how long it took."""

    losses: tuple[float, ...]
    steps: int
    seconds: float


@dataclass(frozen=True)
class Exam:
    """What the model says about the test images, and the fingerprint of its weights."""

    guesses: NDArray[Any]
    right: NDArray[np.bool_]
    digest: str

    @property
    def score(self) -> str:
        """The accuracy in words."""
        right, count = int(self.right.sum()), len(self.right)
        return f"test accuracy {right / count:.1%} ({right} of {count} images it never saw)"


def prepare(seed: int, recorded: bool) -> Lesson:
    """Build the model and compile its step; everything random comes from `seed`.

    Only if `recorded` are the texts of all stages made, which takes a moment.
    """
    pe.random.seed(seed)
    digits = pe.data.digits()
    model, step = build()
    example = _flat(digits.train_images)[:BATCH], digits.train_labels[:BATCH]
    with recording() if recorded else nullcontext(Record()) as record:
        step.compile(*example)
    return Lesson(model, step, digits, np.random.default_rng(seed), record)


def train(lesson: Lesson, epochs: int, on_epoch: Callable[[int, float], None]) -> Outcome:
    """Go through the training images `epochs` times, each time in another order."""
    losses: list[float] = []
    steps = 0
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        found = [float(lesson.step(x, y)) for x, y in _batches(lesson)]
        steps += len(found)
        losses.append(sum(found) / len(found))
        on_epoch(epoch, losses[-1])
    return Outcome(tuple(losses), steps, time.perf_counter() - start)


def examine(lesson: Lesson) -> Exam:
    """Let the model read the test images."""

    @pe.jit
    def read(images: pe.Tensor) -> pe.Tensor:
        return pe.argmax(lesson.model(images), axis=1)

    guesses = np.array(read(_flat(lesson.digits.test_images)))
    return Exam(guesses, guesses == lesson.digits.test_labels, _digest(lesson.model))


def _batches(lesson: Lesson) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Whole batches only: the step is compiled for one shape."""
    images, labels = _flat(lesson.digits.train_images), lesson.digits.train_labels
    order = lesson.order.permutation(len(labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield images[chosen], labels[chosen]


def _flat(images: NDArray[Any]) -> NDArray[Any]:
    return images.reshape(-1, PIXELS)


def _digest(model: nn.Module) -> str:
    found = hashlib.sha256()
    for path, parameter in model.named_parameters().items():
        found.update(path.encode())
        found.update(np.asarray(parameter.value).tobytes())
    return found.hexdigest()
