"""Which screens of the tour are about this model, and not about what became of it on the way down?

Its definition, how it learned, that it was saved and came back, and what it reads.
"""

from __future__ import annotations

import inspect
from typing import Final

from pellucid import nn
from pellucid.cli.lesson import BATCH, Exam, Outcome
from pellucid.cli.model import MODELS, teaching
from pellucid.cli.pictures import Picture, side_by_side
from pellucid.cli.saving import READER, Copy
from pellucid.data import Digits
from pellucid.explain.screen import Screen

MOST_BARS: Final = 8
BAR: Final = 36
"""How many epochs are drawn as bars at most, and the length of the longest bar."""

DIGITS: Final = 10

SHORT: Final = 16
"""How many characters of a fingerprint are shown."""


def definition_screen(name: str) -> Screen:
    """The code that the rest of the tour is about: what it runs, not a copy."""
    sources = [inspect.getsource(one).rstrip() for one in (MODELS[name], teaching)]
    return Screen(
        "definition",
        "what you write",
        "A model and a step that teaches it are plain Python, to be read and changed by people; "
        "everything below is made from these very lines.",
        "\n\n".join(sources),
        language="python",
    )


def training_screen(outcome: Outcome | None = None) -> Screen:
    """The loss falling, epoch by epoch; without an outcome, what will be shown."""
    return Screen(
        "training",
        "the compiled step, again and again",
        f"All of it was for this: each step is one call into the code above, {BATCH} images "
        "forward, the gradients, and Adam's update of every weight.",
        "\n".join(_bars(outcome.losses)) if outcome else "",
        summary(outcome) if outcome else "",
        "bars",
    )


def saving_screen(name: str, model: nn.Module, outcome: Outcome, copy: Copy) -> Screen:
    """What was saved, and that a new process computes the same with it."""
    weights = [(at, str(cell.type)) for at, cell in model.named_parameters().items()]
    longest = max(len(at) for at, _ in weights)
    here, there = outcome.exam.reading, copy.reading
    compared = [("weights", here.weights, there.weights), ("scores", here.scores, there.scores)]
    scores = outcome.exam.right.size * DIGITS
    return Screen(
        "saving",
        "out of this process, into another",
        "A model is of use only if it outlives its process, so its weights went into a file, and a "
        "new process that was given nothing else read the test images with them.",
        "\n".join(
            [
                *(f"{at:{longest}}  {type}" for at, type in weights),
                f"{copy.bytes:,} bytes in {copy.place}",
                "",
                f"$ {' '.join(('python', *READER, name, copy.place))}",
                "",
                f"{'sha256 of':{SHORT}}  {'here':{SHORT}}  there",
                *(f"{what:{SHORT}}  {a[:SHORT]}  {b[:SHORT]}  the same" for what, a, b in compared),
            ]
        ),
        f"The new process ran on one thread and found the same bits in all {scores:,} scores.",
        "graph",
    )


def pictures_screen(digits: Digits, exam: Exam, width: int, shades: str) -> Screen:
    """Some test images with what the model took them for; below, some that it misread."""
    numbers = range(len(exam.right))
    rows = [
        side_by_side([_picture(digits, exam, n) for n in chosen], width, shades)
        for chosen in (
            [n for n in numbers if exam.right[n]],
            [n for n in numbers if not exam.right[n]],
        )
        if chosen
    ]
    return Screen(
        "pictures",
        "what it reads in images it never saw",
        "A percentage says little until one looks: this is real handwriting, 8 by 8 pixels, above "
        "the first images that it read right, below the first that it did not.",
        "\n\n".join("\n".join(row) for row in rows),
        drawing=True,
    )


def summary(outcome: Outcome) -> str:
    """How it ended, in a few lines."""
    return (
        f"{outcome.exam.score}\n"
        f"{outcome.steps:,} steps in {outcome.seconds:.2f} s, {outcome.each * 1e3:.2f} ms each\n"
        "the weights' fingerprint, the same for the same seed: sha256 "
        f"{outcome.exam.reading.weights[:SHORT]}"
    )


def _picture(digits: Digits, exam: Exam, number: int) -> Picture:
    label, guess = digits.test_labels[number], exam.reading.guesses[number]
    caption = f"reads {guess}" if label == guess else f"reads {guess}, is {label}"
    return Picture(digits.test_images[number], caption)


def _bars(losses: tuple[float, ...]) -> list[str]:
    """A bar for each epoch, or for some of many, the first and the last included."""
    count = min(len(losses), MOST_BARS)
    last = len(losses) - 1
    shown = [round(i * last / max(count - 1, 1)) for i in range(count)]
    longest = max(losses)
    return [
        f"epoch {n + 1:>3}   loss {losses[n]:<9.4g} {_bar(losses[n] / longest)}".rstrip()
        for n in shown
    ]


def _bar(share: float) -> str:
    eighths = round(share * BAR * 8) if share == share else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
