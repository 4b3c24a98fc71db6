"""Where does an element that movement ops have moved lie in what they moved?"""

from __future__ import annotations

from typing import Final, Protocol, cast

from pellucid.engines.loops.draft import Where, sizes_of
from pellucid.engines.loops.ir import Affine
from pellucid.engines.loops.space import ZERO, Place, dot, plus, row_major, times
from pellucid.ir.graph import Node, Value

MOVEMENT: Final = ("broadcast", "transpose", "reshape", "slice", "reverse")
"""The ops whose elements are those of their operand, elsewhere."""


class Placing(Protocol):
    """What is needed of the writer of a draft."""

    def placed(self, where: Where, shape: tuple[int, ...]) -> Place:
        """The place as one index an axis."""
        ...


def moved(writer: Placing, node: Node, value: Value, where: Where) -> tuple[Value, Where]:
    """The operand of a movement op, and the place in it that the result's place stands for."""
    (operand,) = node.operands
    if node.op.name == "reshape":
        return operand, position(value, where)
    if node.op.name == "transpose":
        place = writer.placed(where, sizes_of(value))
        permutation: tuple[int, ...] = node.attr("permutation")
        return operand, tuple(place[permutation.index(axis)] for axis in range(len(place)))
    if node.op.name in ("slice", "reverse"):
        return operand, _stepped(node, sizes_of(operand), writer.placed(where, sizes_of(value)))
    shape, axes = sizes_of(operand), cast(tuple[int, ...], node.attr("axes"))
    if all(size == 1 for size in shape):
        return operand, (ZERO,) * len(shape)
    place = writer.placed(where, sizes_of(value))
    # A size of 1 stretches: its index stays 0.
    pairs = zip(axes, shape, strict=True)
    return operand, tuple(place[axis] if size != 1 else ZERO for axis, size in pairs)


def position(value: Value, where: Where) -> Affine:
    """A place as its row-major position in a value."""
    return where if isinstance(where, Affine) else dot(where, row_major(sizes_of(value)))


def _stepped(node: Node, shape: tuple[int, ...], place: Place) -> Place:
    """The place in the operand of a slice or a reverse."""
    if node.op.name == "reverse":
        turned: tuple[int, ...] = node.attr("axes")
        ends = zip(place, shape, strict=True)
        return tuple(
            plus(times(index, -1), Affine((), size - 1)) if axis in turned else index
            for axis, (index, size) in enumerate(ends)
        )
    parts = zip(place, node.attr("start"), node.attr("strides"), strict=True)
    return tuple(plus(times(index, step), Affine((), start)) for index, start, step in parts)
