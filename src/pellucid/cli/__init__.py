"""The command `pellucid`, and how it ends: well, with one line about what went wrong, or Ctrl-C."""

from __future__ import annotations

import os
import sys
import warnings

from pellucid.core.error import PellucidError as _PellucidError

__all__ = ["main"]

_INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 and the signal's number."""


def main() -> None:
    """Run the command line; the entry point of the `pellucid` command."""
    warnings.formatwarning = _one_line
    try:
        # Inside, so that Ctrl-C while this loads ends as one later does.
        from pellucid.cli.command import app

        app()
    except _PellucidError as error:
        _end(1, f"pellucid: {error}")
    except OSError as error:
        # The disk that the output goes to is full, say.
        _end(1, f"pellucid: {error}")
    except KeyboardInterrupt:
        _end(_INTERRUPTED, "pellucid: interrupted")
    except SystemExit as end:
        # Typer turns Ctrl-C into this exit code, and says nothing.
        if end.code == _INTERRUPTED:
            _end(_INTERRUPTED, "pellucid: interrupted")
        raise


def _one_line(message: Warning | str, *where: object, **more: object) -> str:
    """A warning for somebody who runs a command: the lines of Python behind it say nothing."""
    return f"pellucid: {message}\n"


def _end(code: int, line: str) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # Nobody reads, or nothing fits: what is in the buffer must not be written again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(line, file=sys.stderr)
    raise SystemExit(code) from None
