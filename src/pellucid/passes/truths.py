"""Which values are one number where something holds, and another elsewhere? And where is that?

    tril(ones) == 0            ->  False where column - row <= 0, else True
    (1 - mask) * -1e9          ->  0 where mask, else -1e9
    row >= column              ->  holds where row - column >= 0

What users write as masks is read back: as a predicate with a number for each case (`Split`), and
that, where it compares places alone, as a half-plane (`Plane`). Ops called here append nodes to the
open builder: the predicate moved to where it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pellucid.core.dtype import as_dtype, bool_
from pellucid.core.shape import Shape, long_axes, long_sizes
from pellucid.ir.build import current_builder
from pellucid.ir.graph import Node, TensorType, Value
from pellucid.ir.rewrite import copy_node
from pellucid.ops.define import lookup
from pellucid.passes.law import uniform

Number = bool | int | float
MOVING: Final = ("broadcast", "reshape", "transpose")

_COMPUTING: Final = (
    "add", "sub", "neg", "mul", "cast", "stop_gradient", "less_equal", "less", "logical_not",
)  # fmt: skip

DEPTH: Final = 24
"""How many ops deep is looked; masks are shallow, and other graphs may be very deep."""


@dataclass(frozen=True, slots=True)
class Split:
    """The number `then` where `predicate` holds, else `other`; without a predicate they are one."""

    predicate: Value | None
    then: Number
    other: Number


@dataclass(frozen=True, slots=True)
class Plane:
    """The places where the sum of `factors` (axis, factor) times the place, and `offset`, is >= 0.

    Or, for a number: that sum itself.
    """

    factors: tuple[tuple[int, int], ...]
    offset: int

    @property
    def opposite(self) -> Plane:
        """The places where it does not hold."""
        turned = self.times(-1)
        return Plane(turned.factors, turned.offset - 1)

    def times(self, by: int) -> Plane:
        """The sum times a number."""
        factors = self.factors if by else ()
        return Plane(tuple((axis, factor * by) for axis, factor in factors), self.offset * by)

    def plus(self, other: Plane) -> Plane:
        """The sum of both."""
        found = dict(self.factors)
        for axis, factor in other.factors:
            found[axis] = found.get(axis, 0) + factor
        factors = tuple(sorted((axis, factor) for axis, factor in found.items() if factor))
        return Plane(factors, self.offset + other.offset)


def number_of(value: Value) -> Number | None:
    """The number that a value is everywhere, where that is plain from how it is made; or None."""
    found = split(value)
    return None if found is None or found.predicate is not None else found.then


def split(value: Value, depth: int = DEPTH) -> Split | None:
    """What a value is where something holds, and elsewhere; None where it is more than that."""
    constant = uniform(value)
    if constant is not None:
        return Split(None, constant, constant)
    node, found = value.node, None
    if node is not None and len(node.types) == 1 and depth:
        found = _split_node(node, depth - 1)
    if found is None and value.dtype is bool_:
        return Split(value, True, False)
    return found


def _split_node(node: Node, depth: int) -> Split | None:
    name = node.op.name
    if name in MOVING:
        inner = split(node.operands[0], depth)
        if inner is None or inner.predicate is None:
            return inner
        return Split(_moved_alike(node, inner.predicate), inner.then, inner.other)
    if name == "select":
        return _split_select(node, depth)
    if lookup(name).kind != "elementwise":
        return None
    parts: list[Split] = []
    for operand in node.operands:
        part = split(operand, depth)
        if part is None:
            return None
        parts.append(part)
    predicates = {part.predicate for part in parts if part.predicate is not None}
    if len(predicates) > 1:
        return None
    (predicate,) = predicates or {None}
    then = _computed(node, [part.then for part in parts])
    other = _computed(node, [part.other for part in parts])
    return Split(predicate, then, other)


def _split_select(node: Node, depth: int) -> Split | None:
    where, *cases = (split(operand, depth) for operand in node.operands)
    if where is None or any(case is None or case.predicate is not None for case in cases):
        return None
    then, other = (case.then for case in cases if case is not None)
    return Split(where.predicate, then if where.then else other, then if where.other else other)


def _computed(node: Node, numbers: list[Number]) -> Number:
    pairs = zip(numbers, node.operands, strict=True)
    arrays = [np.asarray(number).astype(value.dtype.numpy) for number, value in pairs]
    (found,) = lookup(node.op.name).evaluate(*arrays, **dict(node.attrs))
    dtype = as_dtype(found.dtype)
    return bool(found) if dtype is bool_ else float(found) if dtype.is_floating else int(found)


def conjuncts(value: Value, holds: bool, depth: int = DEPTH) -> list[tuple[Value, bool]]:
    """The truths that all have to hold, or not, for this one to hold, or not."""
    node = value.node
    if node is None or not depth:
        return [(value, holds)]
    name = node.op.name
    if name == "logical_not":
        return conjuncts(node.operands[0], not holds, depth - 1)
    if name == "stop_gradient":
        return conjuncts(node.operands[0], holds, depth - 1)
    if name == ("logical_and" if holds else "logical_or"):
        return [one for side in node.operands for one in conjuncts(side, holds, depth - 1)]
    if name in MOVING:
        inner = conjuncts(node.operands[0], holds, depth - 1)
        if len(inner) > 1 or inner[0][1] != holds:
            return [(_moved_alike(node, one), same) for one, same in inner]
    return [(value, holds)]


def _moved_alike(node: Node, value: Value) -> Value:
    """Another value, moved as a node moves its operand."""
    (moved,) = copy_node(current_builder(), node, (value,))
    return moved


def plane(value: Value, depth: int = DEPTH) -> Plane | None:
    """Where a truth about places holds, or what a sum of places is; None if it is no such thing."""
    node, constant = value.node, uniform(value)
    if constant is not None:
        return _constant_plane(value, constant)
    if node is None or not depth:
        return None
    if node.op.name == "iota":
        # Narrower numbers may not hold the place, unsigned ones not the distance of two.
        small = value.dtype.bits < 32 or value.dtype.kind == "uint"
        return None if small else Plane(((node.attr("axis"), 1),), 0)
    if node.op.name in MOVING:
        inner = plane(node.operands[0], depth - 1)
        return None if inner is None else _moved(inner, node)
    if node.op.name not in _COMPUTING or _may_narrow(node):
        return None
    parts = [plane(operand, depth - 1) for operand in node.operands]
    first, last = parts[0], parts[-1]
    return None if first is None or last is None else _computed_plane(node.op.name, first, last)


def _constant_plane(value: Value, number: Number) -> Plane | None:
    if value.dtype is bool_:
        return Plane((), 0 if number else -1)
    return Plane((), int(number)) if number == number // 1 else None


def _may_narrow(node: Node) -> bool:
    """Whether a cast may change a place: from or to a truth, or to too few bits."""
    (type,) = node.types
    if node.op.name != "cast" or not isinstance(type, TensorType):
        return False
    return bool_ in (type.dtype, node.operands[0].dtype) or type.dtype.bits < 32


def _computed_plane(name: str, a: Plane, b: Plane) -> Plane | None:
    """What an op in _COMPUTING makes of planes; `b` is its last operand, perhaps its only one."""
    match name:
        case "add":
            return a.plus(b)
        case "sub":
            return a.plus(b.times(-1))
        case "neg":
            return a.times(-1)
        case "mul" if not b.factors:
            return a.times(b.offset)
        case "mul":
            return None if a.factors else b.times(a.offset)
        case "less_equal":
            # a <= b where b - a >= 0, and a < b where b - a - 1 >= 0: places are whole numbers.
            return b.plus(a.times(-1))
        case "less":
            return b.plus(a.times(-1)).plus(Plane((), -1))
        case "logical_not":
            return a.opposite
        case _:
            return a


def _moved(inner: Plane, node: Node) -> Plane | None:
    """What is said of an operand's axes, said of the result's."""
    (x,), name = node.operands, node.op.name
    if name == "transpose":
        permutation: tuple[int, ...] = node.attr("permutation")
        axes = {axis: permutation.index(axis) for axis, _ in inner.factors}
    elif name == "broadcast":
        axes = {axis: node.attr("axes")[axis] for axis, _ in inner.factors}
    else:
        found = axes_among_ones(x.shape, node.attr("shape"))
        if found is None:
            return None
        axes = found
    kept = [(axes[axis], factor) for axis, factor in inner.factors if x.shape[axis] != 1]
    return Plane(tuple(sorted(kept)), inner.offset)


def axes_among_ones(before: Shape, after: Shape) -> dict[int, int] | None:
    """Where each axis goes in a reshape that only adds or drops axes of size 1; or None.

    Axes of size 1 are left out.

    >>> axes_among_ones((2, 1, 3), (1, 2, 3))
    {0: 1, 2: 2}
    """
    if long_sizes(before) != long_sizes(after):
        return None
    return dict(zip(long_axes(before), long_axes(after), strict=True))
