"""In which surroundings does this thread work? An open trace, an engine, a tape or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from pellucid.core.config import setting
from pellucid.core.dtype import DType
from pellucid.engines import engine_names, find_engine
from pellucid.engines.base import Engine
from pellucid.tensor.trace import Trace


class Mode:
    """How ops run: one object for each engine, tape mode and precision, others under a trace.

    `plans` are the engine's ops made ready, `constants` its Tensors of one number. While a trace is
    open there are none: an op that is found in `plans` runs at once.
    """

    __slots__ = ("constants", "gradients", "plans")

    def __init__(self, gradients: bool, plans: dict[Any, Any], constants: dict[Any, Any]) -> None:
        self.gradients = gradients
        self.plans = plans
        self.constants = constants


class Context(threading.local):
    """One thread's surroundings.

    `trace` is the innermost open trace, or None while ops run at once; `outermost` keeps the
    journal of all open ones, also while something outside the graph is done. Contractions of
    float32 read their operands in `precision`, if there is one. `mode` is what ops look at.
    """

    def __init__(self) -> None:
        self.trace: Trace | None = None
        self.outermost: Trace | None = None
        self.gradients = True
        self.precision: DType | None = None
        self.engine: Engine | None = None
        self.mode = _mode(None, True, None)

    def settle(self) -> None:
        """Find the mode again after something changed."""
        name = self.engine.name if self.trace is None and self.engine is not None else None
        self.mode = _mode(name, self.gradients, self.precision)


_modes: dict[tuple[str | None, bool, DType | None], Mode] = {}
_tables: dict[str | None, tuple[dict[Any, Any], dict[Any, Any]]] = {}


def _mode(engine: str | None, gradients: bool, precision: DType | None) -> Mode:
    key = (engine, gradients, precision)
    # setdefault: threads that meet here must get one object.
    tables = _tables.setdefault(engine, ({}, {}))
    return _modes.get(key) or _modes.setdefault(key, Mode(gradients, *tables))


context = Context()


def current_engine() -> Engine:
    """The engine that runs ops on this thread; `PELLUCID_DEVICE` chooses the first one."""
    if context.engine is None:
        use_engine(setting("DEVICE", engine_names()[0]))
    assert context.engine is not None, "use_engine sets it"
    return context.engine


def use_engine(name: str) -> None:
    """Run what follows on this thread on the engine called `name`; raises DeviceError."""
    context.engine = find_engine(name)
    context.settle()


@contextmanager
def device(name: str) -> Generator[Engine]:
    """Run the ops inside on the engine called `name`.

    >>> import pellucid as pe
    >>> with pe.device("reference"):
    ...     print(pe.asarray([1.0, 2.0]) + 1.0)
    [2. 3.]
    """
    before = current_engine().name
    use_engine(name)
    try:
        yield current_engine()
    finally:
        use_engine(before)


def devices() -> tuple[str, ...]:
    """The names of the engines; the first is the default.

    >>> devices()
    ('cpu', 'reference')
    """
    return engine_names()


@contextmanager
def no_grad() -> Generator[None]:
    """Record no tape inside: `backward` does not see what is computed here.

    >>> import pellucid as pe
    >>> w = pe.Parameter(2.0)
    >>> with pe.no_grad():
    ...     y = w * 3.0
    >>> y.requires_grad
    False
    """
    with keeping_tape(False):
        yield


@contextmanager
def keeping_tape(keep: bool) -> Generator[None]:
    """Record a tape inside, or none."""
    before, context.gradients = context.gradients, keep
    context.settle()
    try:
        yield
    finally:
        context.gradients = before
        context.settle()


@contextmanager
def tracing(trace: Trace) -> Generator[Trace]:
    """Let ops on this thread become nodes of `trace`; an exception restores what changed."""
    before, context.trace = context.trace, trace
    context.settle()
    outermost = context.outermost is None
    if outermost:
        context.outermost = trace
    try:
        yield trace
        if outermost:
            trace.require_no_escape()
    except BaseException:
        if outermost:
            trace.restore()
        raise
    finally:
        context.trace = before
        context.settle()
        trace.is_open = False
        if outermost:
            context.outermost = None


@contextmanager
def outside_traces() -> Generator[None]:
    """Run ops at once inside, though a trace is open: a new cell's first value is made so."""
    if context.trace is None:
        yield
        return
    trace, context.trace = context.trace, None
    context.settle()
    try:
        yield
    finally:
        context.trace = trace
        context.settle()


def program_trace() -> Trace | None:
    """The open trace of the program around all others, or None where the program runs at once."""
    trace = context.trace
    while trace is not None and trace.parent is not None:
        trace = trace.parent
    return trace if trace is not None and trace.is_program else None


def journal(undo: Callable[[], None]) -> None:
    """Have an exception in the outermost open trace take back what is about to change."""
    if context.outermost is not None:
        context.outermost.undo.append(undo)
