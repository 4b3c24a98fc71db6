"""What happened on the way down? Stages, kept in order while somebody is listening.

    with recording() as record:
        compile(...)                       # passes and engines call `add_stage`
    for stage in record.stages: print(stage.name, stage.seconds, stage.text)

    with recording(timed=True) as record:
        step(x, y)                         # engines that can tell call `add_run`
    for run in record.runs: print(run.steps)

Nothing is printed or kept when nobody listens, and listening is cheap: a stage's text is made when
it is first read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from pellucid.ir.graph import Graph, Node

Text = str | Callable[[], str]
"""A text, or what makes it."""


class Stage:
    """One step on the way from Python to machine code: its name, text, maker and seconds."""

    __slots__ = ("_text", "made_by", "name", "seconds")

    def __init__(self, name: str, text: Text, made_by: str, seconds: float) -> None:
        self.name = name
        self.made_by = made_by
        self.seconds = seconds
        self._text = text

    @property
    def text(self) -> str:
        """The text; made now if nobody read it before, and then kept."""
        if not isinstance(self._text, str):
            self._text = self._text()
        return self._text

    def __repr__(self) -> str:
        return f"<Stage {self.name} made by {self.made_by} in {self.seconds:.6f} s>"


@dataclass(frozen=True, slots=True)
class TimedStep:
    """How many seconds a step took: the name of its kernel, and the node whose work it is."""

    name: str
    node: Node
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a compiled graph: all its steps, in order.

    A step that moves a value to where it is wanted works for a node that is not in the graph.
    """

    graph: Graph
    steps: tuple[TimedStep, ...]


@dataclass(slots=True, eq=False)
class Record:
    """The stages seen so far, and what ran if that was asked for."""

    stages: list[Stage] = field(default_factory=list[Stage])
    runs: list[Run] = field(default_factory=list[Run])

    def named(self, name: str) -> tuple[Stage, ...]:
        """All stages of one name, in order."""
        return tuple(stage for stage in self.stages if stage.name == name)


class _Listening(threading.local):
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.timed: list[Record] = []


_listening = _Listening()


@dataclass(slots=True)
class _Clocks:
    running: int = 0


clocks = _Clocks()
"""`running` counts the timed recordings of all threads: 0 says quickly that nobody asks."""

_counting = threading.Lock()


@contextmanager
def recording(timed: bool = False) -> Generator[Record]:
    """Keep the stages of everything that this thread compiles inside.

    If `timed`, also how long each step takes of every compiled graph that it runs inside, on
    engines that can tell (the reference cannot). Graphs run as they always do, once and to the same
    bits; a clock is read between the steps. Each run is kept, so this is for some of them, not for
    a night of training.

    >>> import pellucid as pe
    >>> with pe.device("cpu"), pe.recording(timed=True) as record:
    ...     two = pe.jit(lambda x: x + 1.0)(pe.ones((3,)))
    >>> [step.name for step in record.runs[0].steps]
    ['add']
    """
    record = Record()
    _listening.records.append(record)
    try:
        with _timing(record) if timed else nullcontext():
            yield record
    finally:
        _listening.records.remove(record)


@contextmanager
def unheard() -> Generator[None]:
    """Record no stages of this thread inside: something is made again that was made before.

    >>> with recording() as record, unheard():
    ...     add_stage("trace", "graph () { return }", "tensor/trace", 0.0)
    >>> record.stages
    []
    """
    records, _listening.records = _listening.records, []
    try:
        yield
    finally:
        _listening.records = records


def is_recording() -> bool:
    """Whether anybody listens on this thread."""
    return bool(_listening.records)


def is_timing() -> bool:
    """Whether anybody on this thread wants to know how long steps take."""
    return bool(_listening.timed)


def add_stage(name: str, text: Text, made_by: str, seconds: float) -> None:
    """Hand a stage to all who listen; `text` may be a function, called when somebody reads it.

    What such a function looks at must not change afterwards.
    """
    if _listening.records:
        stage = Stage(name, text, made_by, seconds)
        for record in _listening.records:
            record.stages.append(stage)


def add_run(run: Run) -> None:
    """Hand the times of one run to all who asked for them."""
    for record in _listening.timed:
        record.runs.append(run)


@contextmanager
def _timing(record: Record) -> Generator[None]:
    with _counting:
        _listening.timed.append(record)
        clocks.running += 1
    try:
        yield
    finally:
        with _counting:
            _listening.timed.remove(record)
            clocks.running -= 1
