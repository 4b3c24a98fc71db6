"""What does Ctrl-C do in the middle of a compiled step? It waits until the whole step is taken.

A step writes cells in place, in one native call. Python would deliver the interrupt right after
that call, before the rest of the state has followed; so a note is left, and the interrupt raised
once the state is consistent. In a finalizer (memory that goes back to its pool) Python would
swallow it; there it is asked for again, until it meets code that can raise it. Only Python's own
handler is replaced.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Final

from pellucid.tensor.cell import gate

AGAIN: Final = 1e-3
"""Seconds after which an interrupt that met a finalizer is asked for again."""


def prepare() -> None:
    """Let interrupts wait for steps, if they are handled as Python does by default."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)


def raise_late() -> None:
    """Raise the interrupt that came while the main thread took a step."""
    gate.interrupted = False
    raise KeyboardInterrupt


def _handle(number: int, frame: FrameType | None) -> None:
    # Handlers run in the main thread: it is in a step if it is the writer.
    if gate.writer == threading.get_ident():
        gate.interrupted = True
    elif _in_finalizer(frame):
        # Not at once: this very handler would be interrupted, without end.
        threading.Thread(target=_ask_again, args=(number,), daemon=True).start()
    else:
        signal.default_int_handler(number, frame)


def _ask_again(number: int) -> None:
    time.sleep(AGAIN)
    os.kill(os.getpid(), number)


def _in_finalizer(frame: FrameType | None) -> bool:
    """Whether an exception raised here would end in a finalizer, and nowhere else."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
