"""How do nested containers become a flat list of leaves, and back?

Dicts, lists, tuples (named ones too) and dataclasses are branches, None is a branch without
leaves, and everything else is a leaf unless its class was registered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pellucid.core.dtype import DType
from pellucid.core.error import TreeError

Flatten = Callable[[Any], tuple[Sequence[Any], Hashable]]
Unflatten = Callable[[Hashable, Sequence[Any]], Any]

_REGISTERED: dict[type, tuple[Flatten, Unflatten]] = {}


@dataclass(frozen=True, slots=True)
class TreeDef:
    """The structure of a tree without its leaves. `kind` None is a leaf."""

    kind: type[Any] | None
    aux: Hashable
    children: tuple[TreeDef, ...]

    @property
    def leaves(self) -> int:
        """How many leaves a tree of this structure has."""
        return 1 if self.kind is None else sum(child.leaves for child in self.children)


LEAF = TreeDef(None, None, ())


def register(kind: type, flatten: Flatten, unflatten: Unflatten) -> None:
    """Make instances of `kind` (and of its subclasses) branches.

    `flatten(x)` gives the children and something hashable from which, with the children,
    `unflatten(aux, children)` makes it again.
    """
    _REGISTERED[kind] = (flatten, unflatten)


def flatten(tree: Any) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree, left to right, and its structure.

    >>> flatten({"b": 2, "a": [1, None]})[0]
    [1, 2]
    """
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def unflatten(treedef: TreeDef, leaves: Sequence[Any]) -> Any:
    """The tree of this structure with these leaves; raises TreeError on a wrong number."""
    if treedef.leaves != len(leaves):
        raise TreeError(f"expected {treedef.leaves} leaves, got {len(leaves)}")
    return _unflatten(treedef, iter(leaves))


def map_tree(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply `function` leaf by leaf to trees of one structure.

    >>> map_tree(lambda a, b: a + b, {"x": 1}, {"x": 2})
    {'x': 3}
    """
    leaves, treedef = flatten(tree)
    columns = [leaves]
    for other in rest:
        others, otherdef = flatten(other)
        if otherdef != treedef:
            raise TreeError("map_tree: the trees differ in structure")
        columns.append(others)
    return unflatten(treedef, [function(*row) for row in zip(*columns, strict=True)])


def _branch(tree: Any) -> tuple[Sequence[Any], Hashable] | None:
    kind = cast("type[Any]", type(tree))
    if tree is None:
        return (), None
    if kind is tuple or kind is list:
        return tree, None
    if isinstance(tree, tuple):  # a named tuple
        return list(cast("tuple[Any, ...]", tree)), None
    if kind is dict:
        keys = _sorted_keys(tree)
        return [tree[key] for key in keys], keys
    rule = _rule(kind)
    if rule is not None:
        return rule[0](tree)
    # A class is a leaf, also the class of a dataclass; so is a dtype, of which there is one object.
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type | DType):
        names = tuple(field.name for field in dataclasses.fields(tree) if field.init)
        return [getattr(tree, name) for name in names], names
    return None


def _sorted_keys(tree: dict[Any, Any]) -> tuple[Any, ...]:
    # Order of insertion must not matter; keys that cannot be ordered keep that of their names.
    return tuple(sorted(tree, key=lambda key: (type(key).__name__, key)))


def _rule(kind: type) -> tuple[Flatten, Unflatten] | None:
    for parent in kind.__mro__:
        if parent in _REGISTERED:
            return _REGISTERED[parent]
    return None


def _flatten(tree: Any, leaves: list[Any]) -> TreeDef:
    branch = _branch(tree)
    if branch is None:
        leaves.append(tree)
        return LEAF
    children, aux = branch
    kind = cast("type[Any]", type(tree))
    return TreeDef(kind, aux, tuple(_flatten(child, leaves) for child in children))


def _unflatten(treedef: TreeDef, leaves: Any) -> Any:
    kind: Any = treedef.kind
    if kind is None:
        return next(leaves)
    children: list[Any] = [_unflatten(child, leaves) for child in treedef.children]
    if kind is type(None):
        return None
    if kind is list:
        return children
    if kind is tuple:
        return tuple(children)
    aux: Any = treedef.aux
    if kind is dict:
        return dict(zip(aux, children, strict=True))
    rule = _rule(kind)
    if rule is not None:
        return rule[1](aux, children)
    if aux is None:  # a named tuple
        return kind(*children)
    return kind(**dict(zip(aux, children, strict=True)))
