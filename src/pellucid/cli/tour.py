"""What is the way from Python to machine code and to a prediction? A walk, screen by screen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

import pellucid as pe
from pellucid.cli.lesson import Lesson, Outcome, prepare, train
from pellucid.cli.machine import describe_engine
from pellucid.cli.model import MODELS
from pellucid.cli.pages import (
    definition_screen,
    pictures_screen,
    saving_screen,
    summary,
    training_screen,
)
from pellucid.cli.pictures import BLOCKS, PLAIN
from pellucid.cli.saving import Copy, require_writable, save_and_reload
from pellucid.core.error import UnsupportedOpError
from pellucid.explain.screen import (
    Screen,
    show,
    show_facts,
    show_heading,
    show_text,
    show_whole,
    width_of,
    wrapped,
)
from pellucid.explain.story import SCREENS, profile_screen
from pellucid.tensor.context import current_engine

STAGES: Final = ("definition", *SCREENS, "training", "profile", "saving", "pictures")
"""The stages of the tour, in its order."""


@dataclass(frozen=True)
class Options:
    """What was asked for: see `pellucid tour --help`."""

    model: str = next(iter(MODELS))
    epochs: int = 15
    seed: int = 0
    stage: str | None = None
    quiet: bool = False
    save: Path | None = None


def tour(console: Console, options: Options) -> None:
    """Show every stage, or the one asked for, or only how it ended."""
    if options.save is not None:
        require_writable(options.save)
    walk = Walk(console, options)
    if options.stage is not None:
        _show_one(walk, options.stage)
    elif options.quiet:
        console.print(summary(walk.outcome), soft_wrap=True)
    else:
        _show_all(walk)
    if options.save is not None:
        console.print(f"saved in {walk.copy.place}, {walk.copy.bytes:,} bytes", soft_wrap=True)


class Walk:
    """What the stages are about, each part made when a stage first asks for it."""

    def __init__(self, console: Console, options: Options) -> None:
        self.console = console
        self.options = options

    @cached_property
    def lesson(self) -> Lesson:
        """The model with its step compiled, and the record of that."""
        with self.console.status("compiling"):
            return prepare(self.options.model, self.options.seed, self.options.epochs)

    @cached_property
    def outcome(self) -> Outcome:
        """How training went; it happens now."""
        columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"))
        lesson = self.lesson
        # Where nobody watches, a bar would be many lines.
        off = self.options.quiet or not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=off) as progress:
            task = progress.add_task("", total=lesson.epochs)

            def note(epoch: int, loss: float) -> None:
                told = f"{epoch}/{lesson.epochs} loss {loss:.4g}"
                progress.update(task, completed=epoch, description=told)

            return train(lesson, note)

    @cached_property
    def copy(self) -> Copy:
        """The trained model, saved and read by another process."""
        reading = self.outcome.exam.reading
        with self.console.status("reading in a new process"):
            return save_and_reload(
                self.options.model, self.lesson.model, reading, self.options.save
            )

    def screen(self, stage: str) -> Screen:
        """One stage; raises UnsupportedOpError where the engine has none of it."""
        width = width_of(self.console)
        if stage in SCREENS:
            recorded, make = SCREENS[stage]
            if not self.lesson.record.named(recorded):
                raise _not_made(stage)
            return make(self.lesson.record)
        if stage == "definition":
            return definition_screen(self.options.model)
        if stage == "training":
            return training_screen(self.outcome)
        if stage == "profile":
            return self._profile(width)
        if stage == "saving":
            return saving_screen(self.options.model, self.lesson.model, self.outcome, self.copy)
        return pictures_screen(self.lesson.digits, self.outcome.exam, width, _shades(self.console))

    def _profile(self, width: int) -> Screen:
        profile, outcome = self.outcome.profile, self.outcome
        if profile is None:
            raise _not_made("profile")
        # A sum of medians, on a busy machine, may come out above the median of the sums.
        rest = max(outcome.each - profile.seconds, 0.0)
        return profile_screen(
            profile,
            width,
            f"From step to step it takes {outcome.each * 1e3:.2f} ms; the other "
            f"{rest * 1e3:.2f} ms go to Python and to what else runs here.",
        )


def _show_all(walk: Walk) -> None:
    console, start = walk.console, time.perf_counter()
    console.print(wrapped(_title(), width_of(console)), style="bold", soft_wrap=True)
    console.print(wrapped(" → ".join(STAGES), width_of(console)), style="dim", soft_wrap=True)
    for number, stage in enumerate(STAGES, start=1):
        place = f"{number} of {len(STAGES)}"
        if stage == "training":
            # It takes a while: what is coming is said before.
            show_heading(console, training_screen(), place)
            show_text(console, walk.screen(stage))
            continue
        try:
            screen = walk.screen(stage)
        except UnsupportedOpError as error:
            console.print(f"\n{wrapped(str(error), width_of(console))}", soft_wrap=True)
        else:
            show(console, screen, place)
    seconds = time.perf_counter() - start
    end = f"All of it took {seconds:.1f} s. A stage as a whole: pellucid tour --stage NAME."
    console.print(f"\n{wrapped(end, width_of(console))}", soft_wrap=True)


def _show_one(walk: Walk, stage: str) -> None:
    console, screen = walk.console, walk.screen(stage)
    if not walk.options.quiet:
        show_heading(console, screen)
    show_whole(console, screen)
    if not walk.options.quiet:
        show_facts(console, screen)


def _title() -> str:
    engine = current_engine().name
    machine = describe_engine(engine)
    return f"pellucid {pe.__version__}: from Python to machine code, {engine} ({machine})"


def _not_made(stage: str) -> UnsupportedOpError:
    engine = current_engine().name
    return UnsupportedOpError(f"{stage}: the engine {engine!r} makes none, try PELLUCID_DEVICE=cpu")


def _shades(console: Console) -> str:
    return BLOCKS if console.encoding.startswith("utf") else PLAIN
