"""What does Ctrl-C do in the middle of a compiled step? It waits until the step has been taken whole.

A step writes cells in place, in one native call. Python would deliver the interrupt right after that
call, before the rest of the state has followed; so the interrupt is remembered, and raised once
the state is consistent. Only Python's own handler is replaced.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType


class _Shield(threading.local):
    def __init__(self) -> None:
        self.up = False
        self.interrupted = False


_shield = _Shield()


def raise_shield() -> None:
    """From here on this thread is not interrupted."""
    _shield.up = True


def drop_shield() -> None:
    """Interrupts come again; one that came meanwhile is raised now, as KeyboardInterrupt."""
    _shield.up = False
    if _shield.interrupted:
        _shield.interrupted = False
        raise KeyboardInterrupt


def prepare() -> None:
    """Let interrupts wait for the shield, if they are handled as Python does by default."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    # Handlers run in the main thread: it is that thread's shield that is looked at.
    if _shield.up:
        _shield.interrupted = True
    else:
        signal.default_int_handler(number, frame)
