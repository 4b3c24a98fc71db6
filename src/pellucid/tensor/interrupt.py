"""What does Ctrl-C do in the middle of a compiled step? It waits until the whole step is taken.

A step writes cells in place, in one native call. Python would deliver the interrupt right after
that call, before the rest of the state has followed; so a note is left, and the interrupt raised
once the state is consistent. Only Python's own handler is replaced.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

from pellucid.tensor.context import context


def prepare() -> None:
    """Let interrupts wait for steps, if they are handled as Python does by default."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)


def raise_late() -> None:
    """Raise the interrupt that came while this thread was shielded."""
    context.interrupted = False
    raise KeyboardInterrupt


def _handle(number: int, frame: FrameType | None) -> None:
    # Handlers run in the main thread, so this is that thread's context.
    if context.shielded:
        context.interrupted = True
    elif _is_deleting(frame):
        # Python drops what a `__del__` raises: the interrupt comes again when that is done.
        threading.Timer(0.001, signal.raise_signal, (number,)).start()
    else:
        signal.default_int_handler(number, frame)


def _is_deleting(frame: FrameType | None) -> bool:
    """Whether an object is being taken back in this frame or one that called it."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
