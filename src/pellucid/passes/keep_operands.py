"""How should a constant operand of a product lie, so that few rows need not have it packed again?

    %2 = dot_general(%x, %w) [contract=((1,), (0,))]       %x: bfloat16[4, 64], %w: bfloat16[64, 96]
      ->  %2 = reshape(%w) [shape=(32, 2, 96)]
          %3 = transpose(%2) [permutation=(0, 2, 1)]
          %4 = reshape(%x) [shape=(4, 32, 2)]
          %5 = dot_general(%4, %3) [contract=((1, 2), (0, 2))]

where an engine multiplies numbers of that dtype two k's at a time. A product of many rows packs its
operands in passing; one of few rows spends most of its time on it. %3 lies as the registers of the
engine take it, and `steady` keeps it. k goes on in the same order, so no bit of a product changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from pellucid.core.dtype import DType
from pellucid.core.shape import Axes, is_static, static_shape
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import stop_gradient
from pellucid.ops.movement import reshape, transpose

LEAST: Final = 4096
"""Operands of fewer elements are packed in no time."""


@dataclass(frozen=True, slots=True)
class Form:
    """How an engine likes a constant operand to lie in products of at most so many `rows`.

    k is its outermost axis, but `fold` k's that follow each other lie together in each column.
    With no rows, no copy of it is worth keeping.
    """

    fold: int = 1
    rows: int = 0


Forms = Callable[[DType], Form]
"""What an engine likes best, by the dtype of the operands."""


def as_it_lies(dtype: DType) -> Form:
    """The form where an engine likes no dtype to lie in another way."""
    return Form()


def keep_operands(
    graph: Graph, may_keep: Callable[[Value], bool], form_of: Forms
) -> tuple[Graph, frozenset[Value]]:
    """The graph with operands of products that may be kept laid out anew; which these are."""
    layouts = _Layouts(graph, may_keep, form_of)
    return rewrite_nodes(graph, layouts.rule), frozenset(layouts.made.values())


class _Layouts:
    """A rule for each node; `made` are the new operands, by what they are made of and how."""

    def __init__(self, graph: Graph, may_keep: Callable[[Value], bool], form_of: Forms) -> None:
        self.may_keep, self.form_of = may_keep, form_of
        self.made: dict[tuple[Value, int, int], Value] = {}
        turned = (node.operands[0].node for node in graph.nodes if node.op is transpose)
        self.turned = {node for node in turned if node is not None}

    def rule(self, node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...] | None:
        """The product over operand and laid out operand, if `node` is one that gains by it."""
        side = self._kept_side(node)
        if side is None:
            return None
        (axis,), fold = node.attr("contract")[side], self._fold(node, side)
        if fold == 0 or (fold == 1 and not _lies_along(node.operands[side], axis)):
            return None
        key = operands[side], axis, fold
        if key not in self.made:
            self.made[key] = _laid_out(*key)
        return (_product(node, side, operands[1 - side], self.made[key], fold),)

    def _kept_side(self, node: Node) -> int | None:
        """Which operand of a product is a matrix that may be kept, if one is and it has but one k.

        A product of two such operands may be kept itself.
        """
        if node.op is not dot_general or node.attr("batch") != ((), ()):
            return None
        sides = [side for side in (0, 1) if self.may_keep(node.operands[side])]
        if len(sides) != 1 or len(node.attr("contract")[0]) != 1:
            return None
        kept, other = node.operands[sides[0]].tensor, node.operands[1 - sides[0]]
        suits = kept.rank == 2 and 1 not in kept.shape and is_static(other.shape)
        return sides[0] if suits and prod(_sizes(node, sides[0])) >= LEAST else None

    def _fold(self, node: Node, side: int) -> int:
        """How many k's are to lie together; 0 where nothing is to be gained."""
        form, sizes = self.form_of(node.operands[side].dtype), _sizes(node, 1 - side)
        depth = _depth(node)
        # As lhs, or where a law will make it so, it is what vectors run along for one row only.
        crossed = side == 0 or node in self.turned
        most = min(form.rows, 1) if crossed else form.rows
        return form.fold if 0 < prod(sizes) // depth <= most and depth % form.fold == 0 else 0


def _lies_along(value: Value, axis: int) -> bool:
    """Whether neighbours along an axis of a matrix are neighbours in memory."""
    while value.node is not None and value.node.op in (transpose, stop_gradient):
        if value.node.op is transpose:
            axis = value.node.attr("permutation")[axis]
        (value,) = value.node.operands
    return axis == 1


def _laid_out(matrix: Value, axis: int, fold: int) -> Value:
    """A matrix with k, which is this axis of it, outermost, `fold` k's together."""
    depth, columns = static_shape((matrix.shape[axis], matrix.shape[1 - axis]), "a kept operand")
    if fold == 1:
        return matrix if axis == 0 else transpose(matrix, permutation=(1, 0))
    if axis == 0:
        cut = reshape(matrix, shape=(depth // fold, fold, columns))
        return transpose(cut, permutation=(0, 2, 1))
    cut = reshape(matrix, shape=(columns, depth // fold, fold))
    return transpose(cut, permutation=(1, 0, 2))


def _product(node: Node, side: int, other: Value, kept: Value, fold: int) -> Value:
    """The product of `node` over the operand that was laid out, on its side, and the other."""
    (axis,) = node.attr("contract")[1 - side]
    pair: tuple[Axes, Axes] = ((axis,), (0,))
    if fold > 1:
        before, after = other.shape[:axis], other.shape[axis + 1 :]
        other = reshape(other, shape=(*before, kept.shape[0], fold, *after))
        pair = ((axis, axis + 1), (0, 2))
    attrs: dict[str, Any] = dict(node.attrs)
    if side == 0:
        return dot_general(kept, other, **{**attrs, "contract": pair[::-1]})
    return dot_general(other, kept, **{**attrs, "contract": pair})


def _depth(node: Node) -> int:
    """How many k's there are, along one axis."""
    axis: int = node.attr("contract")[0][0]
    return _sizes(node, 0)[axis]


def _sizes(node: Node, side: int) -> tuple[int, ...]:
    return static_shape(node.operands[side].shape, "a product with a kept operand")
