"""Which Variables are in here? Stateful objects, lists, tuples and dicts are looked through."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, cast

from pellucid.core.dtype import DType
from pellucid.tensor.state import Variable
from pellucid.tensor.stateful import Stateful


def cells_of(root: Any) -> dict[str, Variable]:
    """Every Variable in a tree, by path; one that is shared comes once, under its first path."""
    found: dict[str, Variable] = {}
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        path, value = stack.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Variable):
            seen.add(id(value))
            found[path] = value
        elif inner := parts_of(value):
            seen.add(id(value))
            stack += reversed(
                [
                    (f"{path}.{name}" if path else name, part)
                    for name, part in inner
                    if type(part) not in _PLAIN
                ]
            )
    return found


_PLAIN = frozenset((bool, int, float, str, type(None), FunctionType, DType))
"""What most other attributes are: it is not worth a path to see that no Variable is in there."""


def with_cells(root: Any, replace: Callable[[Variable], Any]) -> Any:
    """A copy of a tree in which `replace(variable)` stands for each Variable."""
    if isinstance(root, Variable):
        return replace(root)
    if isinstance(root, Stateful):
        copy = object.__new__(type(root))
        for name, value in root.__dict__.items():
            copy.__dict__[name] = with_cells(value, replace)
        return copy
    kind: Any = root.__class__
    if isinstance(root, list | tuple):
        items = [with_cells(item, replace) for item in cast("list[Any]", root)]
        # A named tuple takes its fields one by one.
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    if isinstance(root, dict):
        pairs = cast("dict[Any, Any]", root).items()
        return kind((key, with_cells(value, replace)) for key, value in pairs)
    return root


def parts_of(value: Any) -> list[tuple[str, Any]]:
    """What a Stateful, list, tuple or dict consists of, by name; nothing for other objects."""
    if isinstance(value, Stateful):
        return list(value.__dict__.items())
    if isinstance(value, list | tuple):
        return [(str(i), part) for i, part in enumerate(cast("list[Any]", value))]
    if isinstance(value, dict):
        pairs = cast("dict[Any, Any]", value)
        return list(zip(_distinct(map(key_text, pairs)), pairs.values(), strict=True))
    return []


def key_text(key: Any) -> str:
    """A dict's key in a path: a Variable by its name, for it prints numbers."""
    return f"<{key.name}>" if isinstance(key, Variable) else str(key)


def _distinct(names: Iterable[str]) -> list[str]:
    """Names of which no two are equal: that of a second layer's kernel is `<kernel>#1`."""
    seen: dict[str, int] = {}
    found: list[str] = []
    for name in names:
        count = seen[name] = seen.get(name, -1) + 1
        found.append(f"{name}#{count}" if count else name)
    return found
