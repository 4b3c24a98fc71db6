"""Which objects does compiled code depend on? `Stateful` ones: every change of them is counted.

Setting an attribute, or changing a list or dict that is one, moves the clock's `structure`; an
exception while a function is traced takes the change back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pellucid.tensor.cell import clock
from pellucid.tensor.context import context, journal

_ABSENT = object()


class Stateful:
    """An object whose attributes compiled code depends on: a Module, an optimizer, a generator."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
            return
        before = self.__dict__.get(name, _ABSENT)
        if before is value:
            return
        journal(lambda: self._put_back(name, before))
        if context.outermost is not None:
            context.outermost.attributes.append((self, name))
        object.__setattr__(self, name, tracked(value))
        clock.structure += 1

    def __delattr__(self, name: str) -> None:
        before = self.__dict__.get(name, _ABSENT)
        object.__delattr__(self, name)
        journal(lambda: self._put_back(name, before))
        clock.structure += 1

    def _put_back(self, name: str, before: object) -> None:
        if before is _ABSENT:
            self.__dict__.pop(name, None)
        else:
            self.__dict__[name] = before
        clock.structure += 1


class TrackedList(list[Any]):
    """A list inside a Stateful: changing it counts as changing the structure."""


class TrackedDict(dict[Any, Any]):
    """A dict inside a Stateful: changing it counts as changing the structure."""


def tracked(value: object) -> object:
    """A plain list or dict (and those inside) as one that counts changes; others as they are."""
    if type(value) is list:
        return TrackedList(tracked(item) for item in cast("list[Any]", value))
    if type(value) is dict:
        pairs = cast("dict[Any, Any]", value).items()
        return TrackedDict((key, tracked(item)) for key, item in pairs)
    return value


def _counted(original: Callable[..., Any], plain: type[Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = plain(self)
        # What comes in may be a plain list or dict, whose own changes count from now on.
        inner = {name: tracked(value) for name, value in kwargs.items()}
        result = original(self, *map(tracked, args), **inner)
        journal(lambda: _put_back(self, before))
        clock.structure += 1
        return result

    method.__name__, method.__doc__ = original.__name__, original.__doc__
    return method


def _put_back(container: Any, before: Any) -> None:
    # The class's own methods: this change is not one to be journalled.
    if isinstance(container, list):
        list[Any].__setitem__(container, slice(None), before)  # pyright: ignore[reportUnknownArgumentType]
    else:
        dict[Any, Any].clear(container)
        dict[Any, Any].update(container, before)
    clock.structure += 1


_LIST_CHANGES = (
    "append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort",
    "__setitem__", "__delitem__", "__iadd__", "__imul__",
)  # fmt: skip
_DICT_CHANGES = (
    "clear", "pop", "popitem", "setdefault", "update", "__setitem__", "__delitem__", "__ior__",
)  # fmt: skip
for _name in _LIST_CHANGES:
    setattr(TrackedList, _name, _counted(getattr(list, _name), list))
for _name in _DICT_CHANGES:
    setattr(TrackedDict, _name, _counted(getattr(dict, _name), dict))
