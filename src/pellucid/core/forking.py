"""What does a fork wait for? For the holders of a few locks: the child then finds things whole.

In a forked child only the forking thread lives on. A lock that another thread held would be held
for ever, and what that thread was changing would stay half changed. So a fork first takes these
locks, in the order in which everybody takes them: a trace may run a step, and either may call LLVM.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Any

# What `threading.RLock()` makes; its class has no public name.
Lock = Any


class Turn(IntEnum):
    """When a fork takes a lock."""

    TRACE = 0
    STEP = 1
    LLVM = 2


_locks: dict[Turn, Lock] = {}


def held_across_forks(lock: Lock, turn: Turn) -> Lock:
    """The re-entrant lock; from now on each fork takes it in its turn and lets it go afterwards."""
    assert turn not in _locks, "one lock for each turn"
    _locks[turn] = lock
    return lock


def _take() -> None:
    for turn in sorted(_locks):
        _locks[turn].acquire()


def _let_go() -> None:
    for turn in sorted(_locks, reverse=True):
        _locks[turn].release()


os.register_at_fork(before=_take, after_in_parent=_let_go, after_in_child=_let_go)
