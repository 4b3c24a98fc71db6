"""How does the tour's model learn? Shuffled batches of real digits, step by step, from one seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import pellucid as pe
from pellucid import nn
from pellucid.cli.model import MODELS, teaching
from pellucid.cli.reader import Reading, read, with_channel
from pellucid.explain import Profile, profiles
from pellucid.ir.record import Record, recording
from pellucid.tensor.jit import Jit

BATCH: Final = 32


@dataclass(frozen=True)
class Lesson:
    """A model about to learn: its step, compiled; the data; the record of the compilation."""

    model: nn.Module
    step: Jit
    epochs: int
    digits: pe.data.Digits
    order: np.random.Generator
    record: Record


@dataclass(frozen=True)
class Exam:
    """What the model makes of the test images, and which of them it read right."""

    reading: Reading
    right: NDArray[np.bool_]

    @property
    def score(self) -> str:
        """The accuracy in words."""
        right, count = int(self.right.sum()), len(self.right)
        return f"test accuracy {right / count:.1%} ({right} of {count} images it never saw)"


@dataclass(frozen=True)
class Outcome:
    """How training went: the mean loss of each epoch, how many steps, how long it took, the exam.

    `each` are the seconds from one step to the next, the median of the last epoch; `profile` says
    what each kernel took then, if the engine can tell.
    """

    losses: tuple[float, ...]
    steps: int
    seconds: float
    each: float
    profile: Profile | None
    exam: Exam


def prepare(name: str, seed: int, epochs: int) -> Lesson:
    """Build the model of this name and compile its step; everything random comes from `seed`."""
    pe.random.seed(seed)
    digits = pe.data.digits()
    model = MODELS[name]()
    step = teaching(model, epochs * (len(digits.train_labels) // BATCH))
    example = with_channel(digits.train_images[:BATCH]), digits.train_labels[:BATCH]
    # This costs little: a stage's text is made when it is read.
    with recording() as record:
        step.compile(*example)
    return Lesson(model, step, epochs, digits, np.random.default_rng(seed), record)


def train(lesson: Lesson, on_epoch: Callable[[int, float], None]) -> Outcome:
    """Go through the training images, each time in another order; then read the test images."""
    losses: list[float] = []
    times = [time.perf_counter()]
    for epoch in range(1, lesson.epochs):
        losses.append(_go_through(lesson, times))
        on_epoch(epoch, losses[-1])
    before = len(times)
    # The last epoch runs as those before: a clock is read between the kernels, that is all.
    with recording(timed=True) as record:
        losses.append(_go_through(lesson, times))
    on_epoch(lesson.epochs, losses[-1])
    each = median(b - a for a, b in pairwise(times[before:]))
    profile = next(iter(profiles(record)), None)
    seconds, steps = times[-1] - times[0], len(times) - 1
    return Outcome(tuple(losses), steps, seconds, each, profile, _examine(lesson))


def _go_through(lesson: Lesson, times: list[float]) -> float:
    """One epoch: the mean loss. When each step ended goes to the end of `times`."""
    total = 0.0
    before = len(times)
    for x, y in _batches(lesson):
        total += float(lesson.step(x, y))
        times.append(time.perf_counter())
    return total / (len(times) - before)


def _examine(lesson: Lesson) -> Exam:
    reading = read(lesson.model, lesson.digits.test_images)
    return Exam(reading, reading.guesses == lesson.digits.test_labels)


def _batches(lesson: Lesson) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Whole batches only: the step is compiled for one shape."""
    images, labels = with_channel(lesson.digits.train_images), lesson.digits.train_labels
    order = lesson.order.permutation(len(labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield images[chosen], labels[chosen]
