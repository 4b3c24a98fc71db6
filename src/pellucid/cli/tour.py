"""What is the way from Python to machine code and to a prediction? A walk, screen by screen."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

import pellucid as pe
from pellucid.cli import model
from pellucid.cli.lesson import BATCH, Exam, Lesson, Outcome, examine, prepare, train
from pellucid.cli.pictures import BLOCKS, PLAIN, Picture, side_by_side
from pellucid.core.error import UnsupportedOpError
from pellucid.explain.screen import (
    Screen,
    show,
    show_facts,
    show_heading,
    show_text,
    show_whole,
    width_of,
)
from pellucid.explain.story import SCREENS
from pellucid.tensor.context import current_engine

STAGES: Final = ("definition", *SCREENS, "training", "pictures")
"""The stages of the tour, in its order."""

MOST_BARS: Final = 12
BAR: Final = 36
"""How many epochs are drawn as bars at most, and the length of the longest bar."""


@dataclass(frozen=True)
class Options:
    """What was asked for: see `pellucid tour --help`."""

    epochs: int
    seed: int
    stage: str | None
    quiet: bool


def tour(console: Console, options: Options) -> None:
    """Show every stage, or the one asked for, or only how it ended."""
    if options.stage is not None:
        _show_one(console, options)
    elif options.quiet:
        lesson = prepare(options.seed, recorded=False)
        outcome = _train(console, lesson, options.epochs, live=False)
        console.print(_summary(outcome, examine(lesson)), soft_wrap=True)
    else:
        _show_all(console, options)


def _show_all(console: Console, options: Options) -> None:
    engine = current_engine().name
    console.print(f"pellucid {pe.__version__}: from a model to machine code, engine {engine!r}")
    show(console, definition_screen())
    with console.status("compiling"):
        lesson = prepare(options.seed, recorded=True)
    for name, (stage, make) in SCREENS.items():
        if lesson.record.named(stage):
            show(console, make(lesson.record))
        else:
            console.print(f"\n{name}: {_nothing_recorded()}")
    show_heading(console, training_screen())
    outcome = _train(console, lesson, options.epochs, live=True)
    exam = examine(lesson)
    show_text(console, training_screen(outcome, exam))
    show(console, pictures_screen(lesson, exam, width_of(console), _shades(console)))
    console.print(f"\nA stage as a whole: pellucid tour --stage NAME, of {', '.join(STAGES)}.")


def _show_one(console: Console, options: Options) -> None:
    screen = _screen(console, options)
    if not options.quiet:
        show_heading(console, screen)
    show_whole(console, screen)
    if not options.quiet:
        show_facts(console, screen)


def _screen(console: Console, options: Options) -> Screen:
    """The one stage that was asked for, after what has to be done before it can be seen."""
    if options.stage == "definition":
        return definition_screen()
    lesson = prepare(options.seed, recorded=options.stage in SCREENS)
    if options.stage in SCREENS:
        stage, make = SCREENS[options.stage]
        if not lesson.record.named(stage):
            raise UnsupportedOpError(f"{options.stage}: {_nothing_recorded()}")
        return make(lesson.record)
    outcome = _train(console, lesson, options.epochs, live=not options.quiet)
    exam = examine(lesson)
    if options.stage == "training":
        return training_screen(outcome, exam)
    return pictures_screen(lesson, exam, width_of(console), _shades(console))


def definition_screen() -> Screen:
    """The code that the rest of the tour is about: what it runs, not a copy."""
    return Screen(
        "definition",
        "what you write",
        "A model, an optimizer and a step, in plain Python: the very code that runs below. "
        "Everything after this screen is made from it.",
        inspect.getsource(model.build).rstrip(),
        language="python",
    )


def training_screen(outcome: Outcome | None = None, exam: Exam | None = None) -> Screen:
    """The loss falling, epoch by epoch; without an outcome, what will be shown."""
    return Screen(
        "training",
        "the compiled step, again and again",
        f"Each step is one call into the code above: {BATCH} images forward, the gradients, and "
        "Adam's update of every weight.",
        "\n".join(_bars(outcome.losses)) if outcome else "",
        _summary(outcome, exam) if outcome and exam else "",
        "bars",
    )


def pictures_screen(lesson: Lesson, exam: Exam, width: int, shades: str) -> Screen:
    """Some test images with what the model took them for; below, some that it misread."""
    numbers = range(len(exam.right))
    rows = [
        side_by_side([_picture(lesson, exam, n) for n in chosen], width, shades)
        for chosen in (
            [n for n in numbers if exam.right[n]],
            [n for n in numbers if not exam.right[n]],
        )
        if chosen
    ]
    return Screen(
        "pictures",
        "what it reads in images it never saw",
        "Real handwriting, 8 by 8 pixels. Above, the first images that it read right; below, the "
        "first ones that it did not.",
        "\n\n".join("\n".join(row) for row in rows),
        drawing=True,
    )


def _picture(lesson: Lesson, exam: Exam, number: int) -> Picture:
    label, guess = lesson.digits.test_labels[number], exam.guesses[number]
    caption = f"reads {guess}" if label == guess else f"reads {guess}, is {label}"
    return Picture(lesson.digits.test_images[number], caption)


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


def _train(console: Console, lesson: Lesson, epochs: int, live: bool) -> Outcome:
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"))
    # Where nobody watches, a bar would be many lines.
    off = not (live and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=off) as progress:
        task = progress.add_task("", total=epochs)

        def note(epoch: int, loss: float) -> None:
            progress.update(task, completed=epoch, description=f"{epoch}/{epochs} loss {loss:.4g}")

        return train(lesson, epochs, note)


def _summary(outcome: Outcome, exam: Exam) -> str:
    each = outcome.seconds / outcome.steps * 1e3
    return (
        f"{exam.score}\n"
        f"{outcome.steps:,} steps in {outcome.seconds:.2f} s, {each:.2f} ms each\n"
        f"the weights' fingerprint, the same for the same seed: sha256 {exam.digest[:16]}"
    )


def _nothing_recorded() -> str:
    return f"the engine {current_engine().name!r} makes none, try PELLUCID_DEVICE=cpu"


def _shades(console: Console) -> str:
    return BLOCKS if console.encoding.startswith("utf") else PLAIN
