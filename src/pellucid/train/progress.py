"""What does a person see while a model is taught? A live bar on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from pellucid.train.callbacks import Callback
from pellucid.train.run import Logs, Run


class Silence(Callback):
    """Shows nothing; also the base of what shows something. Close it by leaving its context."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal back, whatever happened."""


class Lines(Silence):
    """A plain line for each epoch, and one for each note."""

    def __init__(self) -> None:
        self.began = 0.0

    def on_train_begin(self, run: Run) -> None:
        """Show the notes."""
        for note in run.history.notes:
            self.write(note)

    def on_epoch_begin(self, run: Run) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, run: Run, logs: Logs) -> None:
        """Show what the epoch came to."""
        seconds = time.perf_counter() - self.began
        self.write(f"epoch {run.epoch}/{run.epochs}  {measures_text(logs)}  {seconds:.1f} s")

    def write(self, line: str) -> None:
        """One line to the standard output."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


class Bar(Lines):
    """A live bar for the epoch at hand, by rich, above it the lines of those that are done."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.bar: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[measures]}"),
            transient=True,
        )
        self.task: Any = None
        self.shown = 0.0

    def on_train_begin(self, run: Run) -> None:
        """Open the bar."""
        self.bar.start()
        super().on_train_begin(run)
        self.task = self.bar.add_task("", total=-(-run.rows // run.batch_size), measures="")

    def on_epoch_begin(self, run: Run) -> None:
        """Start the bar anew."""
        super().on_epoch_begin(run)
        label = f"epoch {run.epoch + 1}/{run.epochs}"
        self.bar.update(self.task, completed=run.batch, description=label)

    def on_batch_end(self, run: Run, logs: Logs) -> None:
        """Move the bar, ten times a second at most."""
        now = time.perf_counter()
        if now - self.shown >= 0.1:
            self.shown = now
            self.bar.update(self.task, completed=run.batch, measures=measures_text(logs))

    def write(self, line: str) -> None:
        """One line above the bar."""
        self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.stop()


def progress(verbose: bool) -> Silence:
    """What suits the standard output: a bar on a terminal, lines elsewhere, or nothing."""
    if not verbose:
        return Silence()
    return Bar() if sys.stdout.isatty() else Lines()


def measures_text(logs: Logs) -> str:
    """`loss 0.1234  accuracy 0.9871`."""
    return "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
