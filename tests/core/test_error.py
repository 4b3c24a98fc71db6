"""Is the tree of errors in the docstring the tree of classes?"""

from __future__ import annotations

import re

from pellucid.core import error
from pellucid.core.error import PellucidError


def test_the_drawn_tree_is_the_tree() -> None:
    parents: list[tuple[int, str]] = []
    drawn: dict[str, str] = {}
    for line in (error.__doc__ or "").splitlines():
        match = re.match(r"([ │├└─]*)([A-Z]\w+Error)\b", line)
        if match is None:
            continue
        depth, name = len(match[1]), match[2]
        while parents and parents[-1][0] >= depth:
            parents.pop()
        drawn[name] = parents[-1][1] if parents else "Exception"
        parents.append((depth, name))
    classes = [
        kind
        for kind in vars(error).values()
        if isinstance(kind, type) and issubclass(kind, PellucidError)
    ]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in classes}


def test_every_error_says_when_it_is_raised() -> None:
    assert all(kind.__doc__ for kind in vars(error).values() if isinstance(kind, type))
