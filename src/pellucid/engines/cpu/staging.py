"""Which operand is copied before a contraction can read it, and how?

A convolution reads its operand at one step an axis and its weights as one line of k's. So padding
and gaps are first copied in, a window read backwards is first turned, and weights whose k's lie
apart are first gathered, as are contracted axes of a dot_general that lie apart. The copies are no
larger than padding makes them; a window is never written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pellucid.core.shape import Axes
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ops.define import Op, lookup
from pellucid.ops.movement import transpose
from pellucid.ops.reduce_window import window_sum


@dataclass(frozen=True, slots=True)
class Stage:
    """Operand `side` is first what `op` makes of it, read backwards along `reversed` axes.

    Then the contraction has `attrs`, and finds the operand's axes in `order`; `turned` says that
    `op`, too, is given them so.
    """

    side: int
    op: Op
    copying: dict[str, Any]
    attrs: dict[str, Any]
    order: Axes
    reversed: Axes = ()
    turned: bool = False

    def copy(self, operand: Value) -> Value:
        """What `op` makes of the operand."""
        given = transpose(operand, permutation=self.order) if self.turned else operand
        return self.op(given, **self.copying)


def contraction_of(graph: Graph) -> Node | None:
    """The contraction in a kernel's graph, if it is about one."""
    found = (node for node in graph.nodes if lookup(node.op.name).kind == "contract")
    return next(found, None)


def first_stage(node: Node) -> Stage | None:
    """What a contraction needs copied whatever the layout of its operands."""
    if node.op.name != "convolution":
        return None
    attrs: dict[str, Any] = dict(node.attrs)
    rank = len(attrs["strides"])
    order, ones = tuple(range(rank + 2)), (1,) * rank
    padding, dilation = attrs["padding"], attrs["lhs_dilation"]
    if any(pair != (0, 0) for pair in padding) or dilation != ones:
        changed = attrs | {"padding": ((0, 0),) * rank, "lhs_dilation": ones}
        copying = {"window": ones, "strides": ones, "padding": padding, "lhs_dilation": dilation}
        if _lies_turned(node.operands[0]):
            # The copy is made along memory: in the other order it would be a transpose too.
            swapped = (rank + 1, *range(1, rank + 1), 0)
            return Stage(0, window_sum, copying, changed, swapped, turned=True)
        return Stage(0, window_sum, copying, changed, order)
    if attrs["flip"] and any(size != 1 for size in node.operands[1].shape[:-2]):
        identity = {"permutation": order}
        changed = attrs | {"flip": False}
        return Stage(1, transpose, identity, changed, order, tuple(range(rank)))
    return None


def _lies_turned(value: Value) -> bool:
    """Whether the examples of a convolution lie further inside in memory than its channels."""
    last = value.tensor.rank - 1
    _, (batch, channels) = input_below(value, (0, last))
    return batch > channels


def gathering(node: Node, side: int) -> Stage:
    """The copy in which the contracted axes of an operand lie together."""
    attrs: dict[str, Any] = dict(node.attrs)
    rank = node.operands[side].tensor.rank
    if node.op.name == "convolution":
        window = tuple(range(rank - 2))
        inner = (rank - 2, *window) if attrs["channels_outer"] else (*window, rank - 2)
        order = (*inner, rank - 1)
    else:
        axes: Axes = attrs["contract"][side]
        order = (*(axis for axis in range(rank) if axis not in axes), *axes)
    return Stage(side, transpose, {"permutation": order}, attrs, order)


def staged_type(stage: Stage, operand: TensorType) -> TensorType:
    """The type of the copy."""
    shape = operand.shape
    given = tuple(shape[axis] for axis in stage.order) if stage.turned else shape
    (found,) = stage.op.result_types((TensorType(operand.dtype, given),), stage.copying)
    return found


def input_below(value: Value, axes: Axes) -> tuple[Value, Axes]:
    """The value of which one is a transposed view, and where the axes lie in it."""
    while value.node is not None and value.node.op.name == "transpose":
        permutation: Axes = value.node.attr("permutation")
        axes = tuple(permutation[axis] for axis in axes)
        (value,) = value.node.operands
    return value, axes


def backwards(
    shape: tuple[int, ...], strides: tuple[int, ...], axes: Axes
) -> tuple[tuple[int, ...], int]:
    """Strides that read axes backwards, and how many elements further they start."""
    start = sum((shape[axis] - 1) * strides[axis] for axis in axes)
    return tuple(-s if axis in axes else s for axis, s in enumerate(strides)), start
