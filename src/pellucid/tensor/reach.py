"""What does a function depend on beyond its arguments? What its names lead to, and its structure.

A compiled function fits as long as each name through which it reached something still means the
same object, and every Stateful among them has the same structure: attributes, lists, plain values.
Names are those that the function's code says, and the code of the user's functions and methods that
it calls. The package's own code is not looked into.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import dis
import functools
import math
import operator
import types
from collections.abc import Callable, Iterable
from typing import Any, cast

from pellucid.tensor.cell import Cell, clock
from pellucid.tensor.cells import parts_of
from pellucid.tensor.stateful import Stateful
from pellucid.tensor.tensor import Tensor

PLAIN = (bool, int, float, complex, str, bytes, type(None))
LOOKED_INTO = 1000
"""Lists and dicts of more entries than this are compared by identity and length alone."""

Structure = dict[str, Any]


class Reach:
    """The names and structures that one compiled function depends on."""

    def __init__(self, function: Callable[..., Any], leaves: Iterable[Any]) -> None:
        survey = _Survey()
        survey.root("the function", function)
        for number, leaf in enumerate(leaves):
            if not isinstance(leaf, Tensor):
                survey.root(f"argument {number}", leaf)
        survey.follow_attributes()
        self._names = tuple(survey.names)
        self._cells = tuple(survey.cells)
        self._roots = survey.roots
        self._structure = structure(self._roots)
        # Plain lists and dicts change uncounted: they are looked at each time.
        self._loose = tuple(map(_Loose, loose_containers(self._roots)))
        self._seen_at = clock.structure

    def is_current(self) -> bool:
        """Whether everything still is as it was; quick while no structure changed anywhere."""
        for names, name, found in self._names:
            if names.get(name) is not found and not _is_equal(names.get(name), found):
                return False
        for cell, _, found in self._cells:
            if contents(cell) is not found and not _is_equal(contents(cell), found):
                return False
        seen_at = clock.structure
        if seen_at == self._seen_at:
            for one in self._loose:
                if not one.is_current():
                    break
            else:
                return True
        if structure(self._roots) != self._structure:
            return False
        self._seen_at = seen_at
        for one in self._loose:
            one.look()
        return True

    def reason(self) -> str:
        """What differs, as a sentence."""
        now = [(name, names.get(name), found) for names, name, found in self._names]
        now += [(name, contents(cell), found) for cell, name, found in self._cells]
        for name, new, old in now:
            if new is not old and not _is_equal(new, old):
                return f"{name} is not what it was: {_short(old)} became {_short(new)}"
        return difference(self._structure, structure(self._roots))


class _Survey:
    """Walks from a function to everything that it could name.

    `names` are (dict, key, value found there), `cells` closure cells likewise; `roots` are the
    values found, by how the user would call them.
    """

    def __init__(self) -> None:
        self.names: list[tuple[dict[str, Any], str, Any]] = []
        self.cells: list[tuple[types.CellType, str, Any]] = []
        self.roots: dict[str, Any] = {}
        self.attributes = {"forward", "__call__"}
        self.objects: list[tuple[str, Any]] = []
        self.seen: set[int] = set()

    def root(self, path: str, found: Any) -> None:
        """Take note of a value that the code can name."""
        if not isinstance(found, (types.FunctionType, type, *PLAIN)):
            self.roots.setdefault(path, found)
        self.look(found, path)

    def look(self, value: Any, path: str) -> None:
        """Take note of a value, and of what it consists of."""
        if isinstance(value, PLAIN) or id(value) in self.seen or _is_foreign(value):
            return
        self.seen.add(id(value))
        if isinstance(value, types.FunctionType):
            self._look_into_code(value)
        if isinstance(value, type):
            return
        for part in _behind(value):
            self.root(path, part)
        if isinstance(value, list | tuple | dict):
            items = value.values() if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            for item in list(cast("Iterable[Any]", items))[:LOOKED_INTO]:
                self.look(item, path)
        elif isinstance(value, Stateful):
            self.objects.append((path, value))
            for part in list(value.__dict__.values()):
                self.look(part, path)
        elif hasattr(value, "__dict__") and not _is_foreign(type(value)):
            self.objects.append((path, value))

    def follow_attributes(self) -> None:
        """Look at what objects have under the names that the code says, until nothing is new."""
        done: set[tuple[int, str]] = set()
        before = -1
        while before != len(done):
            before = len(done)
            for path, holder in list(self.objects):
                for name in sorted(self.attributes):
                    if (id(holder), name) not in done:
                        done.add((id(holder), name))
                        self._attribute(path, holder, name)

    def _attribute(self, path: str, holder: Any, name: str) -> None:
        there = holder.__dict__
        if name in there and not isinstance(holder, Stateful):
            # A Stateful's attributes are part of its structure; others have to be watched.
            self._found(there, name, f"{path}.{name}" if path else name)
        for kind in type(holder).__mro__:
            if name in kind.__dict__ and not _is_foreign(kind):
                self.look(kind.__dict__[name], name)

    def _look_into_code(self, function: types.FunctionType) -> None:
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            found = contents(cell)
            if not _is_foreign(found):
                self.cells.append((cell, name, found))
                self.root(name, found)
        for part in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self.root(f"{function.__name__}'s default", part)
        names, attributes = _names_in(function.__code__)
        self.attributes |= attributes
        for name in sorted(names):
            if name in function.__globals__:
                self._found(function.__globals__, name, name)

    def _found(self, names: dict[str, Any], name: str, path: str) -> None:
        found = names[name]
        if not _is_foreign(found):
            self.names.append((names, name, found))
            self.root(path, found)


def structure(roots: dict[str, Any]) -> Structure:
    """Everything that code compiled for `roots` takes for granted, by path.

    Cells count by identity (their contents go in and out), plain values by value, containers and
    Statefuls by what they hold.
    """
    found: Structure = {}
    seen: set[int] = set()
    stack = list(roots.items())
    while stack:
        where, value = stack.pop()
        if isinstance(value, PLAIN):
            found[where] = (type(value), repr(value) if isinstance(value, float) else value)
        elif isinstance(value, Cell):
            found[where] = (_Same(value), value._trainable)
        elif isinstance(value, Tensor) or id(value) in seen:
            found[where] = _Same(value)
        elif isinstance(value, Stateful):
            seen.add(id(value))
            found[where] = _Same(value)
            stack.extend((f"{where}.{name}", part) for name, part in value.__dict__.items())
        elif isinstance(value, list | tuple | dict):
            seen.add(id(value))  # pyright: ignore[reportUnknownArgumentType]
            found[where], items = _container(cast("Any", value))
            stack.extend((f"{where}[{name}]", item) for name, item in items)
        else:
            found[where] = _Same(value)
    return found


def loose_containers(root: Any) -> list[Any]:
    """The plain lists and dicts among what a tree consists of, small ones only."""
    seen: set[int] = set()
    found: list[Any] = []
    stack = list(root.values())
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) in (list, dict):
            found.append(value)
        parts = parts_of(value)
        stack += [part for _, part in parts] if len(parts) <= LOOKED_INTO else []
    return found


class _Loose:
    """A plain list or dict, and what was in it."""

    __slots__ = ("exact", "length", "snapshot", "value")

    def __init__(self, value: list[Any] | dict[Any, Any]) -> None:
        self.value = value
        self.look()

    def look(self) -> None:
        """Take what is there now as what must be there."""
        self.length = len(self.value)
        small = self.length <= LOOKED_INTO
        self.snapshot = self.value.copy() if small else None
        items = self.value.values() if isinstance(self.value, dict) else self.value
        # Numbers may be equal without being the same.
        self.exact = small and any(isinstance(one, bool | int | float) for one in items)

    def is_current(self) -> bool:
        """Whether it surely holds the same objects; quick."""
        if self.snapshot is None:
            return len(self.value) == self.length
        try:
            # Comparing looks at identity first, so this runs no code of the items if all is well.
            if self.value != self.snapshot:
                return False
        except (TypeError, ValueError):
            return False
        return not self.exact or _identical(self.value, self.snapshot)


def _identical(value: Any, snapshot: Any) -> bool:
    if isinstance(value, dict):
        return all(map(operator.is_, value.values(), snapshot.values()))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    return all(map(operator.is_, value, snapshot))


def contents(cell: types.CellType) -> Any:
    """What an enclosing function's variable holds; None where it was deleted or not yet set."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def difference(before: Structure, after: Structure) -> str:
    """The first path at which two structures differ, as a sentence."""
    for path in (*before, *after):
        if path not in before:
            return f"{path} is new"
        if path not in after:
            return f"{path} is gone"
        if before[path] != after[path]:
            return f"{path} changed: {_short(before[path])} became {_short(after[path])}"
    return "nothing that is looked at differs"


class _Same:
    """An object that is compared by identity, kept so that its id stays its own."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class _Container:
    """The kind, the size and the keys of a list, tuple or dict."""

    __slots__ = ("keys", "kind", "size")

    def __init__(self, kind: type[Any], size: int, keys: tuple[Any, ...] = ()) -> None:
        self.kind, self.size, self.keys = kind, size, keys

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Container) or self.kind is not other.kind:
            return False
        return self.size == other.size and self.keys == other.keys

    def __hash__(self) -> int:
        return hash((self.size, self.keys))


def _container(value: Any) -> tuple[_Container, list[tuple[str, Any]]]:
    """What a container is by itself, and its items with the names that they have in a path."""
    kind = cast("type[Any]", type(value))
    size = len(value)
    if size > LOOKED_INTO:
        return _Container(kind, size, (_Same(value),)), []
    if not isinstance(value, dict):
        return _Container(kind, size), [(str(i), item) for i, item in enumerate(value)]
    pairs = list(cast("dict[Any, Any]", value).items())
    keys = tuple(key if isinstance(key, PLAIN) else _Same(key) for key, _ in pairs)
    return _Container(kind, size, keys), [
        (repr(key) if isinstance(key, PLAIN) else f"{type(key).__name__} {number}", item)
        for number, (key, item) in enumerate(pairs)
    ]


def _short(value: Any) -> str:
    """An entry of a structure, or a value, in a few words."""
    if isinstance(value, _Container):
        return f"a {value.kind.__name__.removeprefix('Tracked').lower()} of {value.size}"
    pair = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()
    if len(pair) == 2:
        kind, what = pair
        if isinstance(kind, _Same):
            return f"{_short(kind)} {'that is trained' if what else 'that is not trained'}"
        return str(what) if kind is float else repr(what)
    plain = value.value if isinstance(value, _Same) else cast("Any", value)
    return repr(plain) if isinstance(plain, PLAIN) else f"a {type(plain).__name__}"


def _is_equal(now: Any, found: Any) -> bool:
    """Whether two plain values are the same number or text."""
    if type(now) is not type(found) or not isinstance(now, PLAIN):
        return False
    if isinstance(now, float):
        # 0.0 and -0.0 are equal, but not the same; a NaN is the same as another.
        return now.hex() == found.hex() or (math.isnan(now) and math.isnan(found))
    return bool(now == found)


def _behind(value: Any) -> tuple[Any, ...]:
    """What a callable object stands for."""
    if isinstance(value, functools.partial):
        inner = cast("Any", value)
        return inner.func, inner.args, inner.keywords
    if isinstance(value, types.MethodType):
        return value.__self__, value.__func__
    if isinstance(value, property):
        return (value.fget,)
    if isinstance(value, staticmethod | classmethod):
        return (cast("Any", value).__func__,)
    wrapped = getattr(value, "__wrapped__", None)
    return () if wrapped is None else (wrapped,)


def _names_in(code: types.CodeType) -> tuple[set[str], set[str]]:
    """The global names and the attributes that code, and the code inside it, says."""
    names: set[str] = set()
    attributes: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            attributes.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _names_in(constant)
            names |= inner[0]
            attributes |= inner[1]
    return names, attributes


def _is_foreign(value: Any) -> bool:
    """Whether a value is a module, or code of the package itself, which does not change."""
    if isinstance(value, types.ModuleType):
        return True
    if not isinstance(value, type | types.FunctionType):
        return isinstance(value, types.BuiltinFunctionType)
    return value.__module__.split(".")[0] in ("pellucid", "builtins")
