"""Does a trained model outlive its process? Saved, and read by a new one, to the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pellucid import nn
from pellucid.cli.reader import Reading
from pellucid.core.error import CheckpointError
from pellucid.tensor.context import current_engine

FILE: Final = "weights.safetensors"
READER: Final = ("-P", "-m", "pellucid.cli.reader")
"""How Python is told to run the reader; -P keeps the user's own folder out of its imports."""


@dataclass(frozen=True)
class Copy:
    """A model that was saved: where, in how many bytes, and what a new process made of it."""

    place: str
    bytes: int
    reading: Reading


def require_writable(path: Path) -> None:
    """Raise CheckpointError unless a file can be made at `path`: said before the work."""
    folder = path.absolute().parent
    if path.is_dir():
        raise CheckpointError(f"{path}: cannot write it: it is a folder, give a file's name")
    if not folder.is_dir():
        raise CheckpointError(f"{path}: cannot write it: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CheckpointError(f"{path}: cannot write it: no permission to write in {folder}")


def save_and_reload(name: str, model: nn.Module, reading: Reading, path: Path | None) -> Copy:
    """Save a model, at `path` or for a moment, and let a new process read the test images with it.

    Raises CheckpointError where that fails, or where the new process does not find the bits of this
    one's `reading`.
    """
    with _place(path) as file:
        nn.save_weights(model, file)
        # The name of a folder that is gone by now says nothing, and differs each time.
        place = FILE if path is None else str(path)
        copy = Copy(place, file.stat().st_size, _read_elsewhere(name, file))
    for what in ("weights", "scores"):
        here, there = getattr(reading, what), getattr(copy.reading, what)
        if here != there:
            raise CheckpointError(
                f"saving: the {what} in a new process are other bits, sha256 {there} and not {here}"
            )
    return copy


@contextmanager
def _place(path: Path | None) -> Generator[Path]:
    """The path, or one in a folder that goes away again."""
    if path is not None:
        yield path
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="pellucid-")
    except OSError as error:
        raise CheckpointError(
            f"saving: no folder for temporary files: {error.strerror}\n"
            "  set TMPDIR to one, or say where to save: --save FILE"
        ) from None
    with folder as name:
        yield Path(name) / FILE


def _read_elsewhere(name: str, file: Path) -> Reading:
    # One thread there, all of them here: bits do not depend on it.
    settings = {"PELLUCID_DEVICE": current_engine().name, "PELLUCID_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *READER, name, str(file)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2] or f"it ended with {done.returncode}"
        raise CheckpointError(f"saving: a new process cannot read {file.name}: {said}")
    return Reading.from_json(done.stdout)
