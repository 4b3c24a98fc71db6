"""What happened on the way down? Stages, kept in order while somebody is listening.

    with recording() as record:
        compile(...)                       # passes and engines call `add_stage`
    for stage in record.stages: print(stage.name, stage.seconds, stage.text)

Nothing is printed or kept when nobody listens: a stage's text is made only on demand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stage:
    """One step on the way from Python to machine code: its name, text, maker and seconds."""

    name: str
    text: str
    made_by: str
    seconds: float


@dataclass(slots=True, eq=False)
class Record:
    """The stages seen so far."""

    stages: list[Stage] = field(default_factory=list[Stage])

    def named(self, name: str) -> tuple[Stage, ...]:
        """All stages of one name, in order."""
        return tuple(stage for stage in self.stages if stage.name == name)


class _Listening(threading.local):
    def __init__(self) -> None:
        self.records: list[Record] = []


_listening = _Listening()


@contextmanager
def recording() -> Generator[Record]:
    """Keep the stages of everything that is compiled inside."""
    record = Record()
    _listening.records.append(record)
    try:
        yield record
    finally:
        _listening.records.remove(record)


def is_recording() -> bool:
    """Whether anybody listens on this thread."""
    return bool(_listening.records)


def add_stage(name: str, text: Callable[[], str] | str, made_by: str, seconds: float) -> None:
    """Hand a stage to all who listen; `text` may be a function, called only if somebody does."""
    if _listening.records:
        stage = Stage(name, text if isinstance(text, str) else text(), made_by, seconds)
        for record in _listening.records:
            record.stages.append(stage)
