"""Do trees come apart into leaves and together again?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from pellucid.core.dtype import float32
from pellucid.core.error import TreeError
from pellucid.core.tree import flatten, map_tree, register, unflatten


@dataclass
class Point:
    """A dataclass."""

    x: Any
    y: Any


@dataclass
class Cached:
    """A dataclass with a field that is not given."""

    x: Any
    twice: Any = field(init=False, default=None)


class Pair(NamedTuple):
    """A named tuple."""

    first: Any
    second: Any


class Box:
    """A class that is registered."""

    def __init__(self, content: list[Any], label: str) -> None:
        self.content, self.label = content, label

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class LabelledBox(Box):
    """Registered through its parent."""


register(Box, lambda box: (box.content, (type(box), box.label)), lambda a, c: a[0](list(c), a[1]))

TREES = [
    (3, [3]),
    (None, []),
    ([], []),
    ((1, [2, (3,)]), [1, 2, 3]),
    ({"b": 1, "a": {"z": 2}}, [2, 1]),
    ({2: "x", 1: "y", "k": "z"}, ["y", "x", "z"]),
    (Point(1, [2, None]), [1, 2]),
    (Cached(5), [5]),
    (Pair(1, Pair(2, 3)), [1, 2, 3]),
    (Box([1, 2], "b"), [1, 2]),
    (LabelledBox([Point(1, 2)], "c"), [1, 2]),
    ({"dtype": float32, "kind": Point}, [float32, Point]),
    ("text", ["text"]),
]


@pytest.mark.parametrize(("tree", "leaves"), TREES, ids=lambda value: type(value).__name__)
def test_a_tree_comes_apart_and_together(tree: Any, leaves: list[Any]) -> None:
    found, treedef = flatten(tree)
    assert found == leaves
    again = unflatten(treedef, found)
    assert again == tree
    assert type(again) is type(tree)
    assert treedef.leaves == len(leaves)


def test_a_dtype_stays_the_one_object() -> None:
    assert map_tree(lambda leaf: leaf, [float32])[0] is float32


def test_order_of_insertion_does_not_matter() -> None:
    assert flatten({"a": 1, "b": 2})[1] == flatten({"b": 2, "a": 1})[1]


def test_structures_are_hashable_and_differ_by_kind() -> None:
    trees: list[Any] = [(1, 2), [1, 2], Pair(1, 2), Point(1, 2), {"a": 1, "b": 2}, 1, None]
    assert len({flatten(tree)[1] for tree in trees}) == len(trees)


def test_map_goes_over_several_trees() -> None:
    assert map_tree(lambda a, b: a * b, {"x": 2, "y": (3,)}, {"x": 5, "y": (7,)}) == {
        "x": 10,
        "y": (21,),
    }


def test_trees_of_other_structures_are_refused() -> None:
    with pytest.raises(TreeError, match="the trees differ in structure"):
        map_tree(lambda a, b: a, [1], (1,))


def test_a_wrong_number_of_leaves_is_refused() -> None:
    with pytest.raises(TreeError, match="expected 2 leaves, got 3"):
        unflatten(flatten((1, 2))[1], [1, 2, 3])
