"""Which operand is copied before a contraction can read it, and how?

A convolution reads its operand at one step an axis and its weights as one line of k's. So padding
is first copied in, a window read backwards is first turned, and weights whose k's lie apart are
first gathered, as are contracted axes of a dot_general that lie apart. Over an operand with gaps
the weights of each phase are gathered instead. The copies are no larger than padding makes them;
neither a window nor a gap is ever written out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from pellucid.core.shape import Axes, static_shape
from pellucid.engines.base import Layout, layout
from pellucid.engines.loops.convolved import gathered_order, input_below, phases_of
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ops.define import Op, lookup
from pellucid.ops.movement import transpose
from pellucid.ops.parts import reverse, slice
from pellucid.ops.reduce_window import window_sum
from pellucid.ops.windows import Padding, Phase


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


def first_stage(node: Node, padded: bool = False) -> Stage | None:
    """What a contraction needs copied whatever the layout of its operands.

    It is `padded` where a kernel of its own reads no padding.
    """
    if node.op.name != "convolution":
        return None
    attrs: dict[str, Any] = dict(node.attrs)
    rank = len(attrs["strides"])
    order, ones = tuple(range(rank + 2)), (1,) * rank
    phases = phases_of(node)
    padding, dilation = attrs["padding"], attrs["lhs_dilation"]
    changed = attrs | {"padding": ((0, 0),) * rank, "lhs_dilation": ones}
    if phases:
        padding, dilation = _reached(phases), ones
        changed = attrs | {"padding": _without(attrs, padding)}
    if not padded and (any(pair != (0, 0) for pair in padding) or dilation != ones):
        copying = {"window": ones, "strides": ones, "padding": padding, "lhs_dilation": dilation}
        if _lies_turned(node.operands[0]):
            # The copy is made along memory: in the other order it would be a transpose too.
            swapped = (rank + 1, *range(1, rank + 1), 0)
            return Stage(0, window_sum, copying, changed, swapped, turned=True)
        return Stage(0, window_sum, copying, changed, order)
    if not phases and attrs["flip"] and any(size != 1 for size in node.operands[1].shape[:-2]):
        lying = gathered_order(node)
        changed = attrs | {"flip": False}
        copying = {"permutation": lying}
        return Stage(1, transpose, copying, changed, lying, tuple(range(rank)))
    return None


def _reached(phases: tuple[Phase, ...]) -> Padding:
    """How far phases reach beyond the operand."""
    none = ((0, 0),) * len(phases[0].start)
    met = (phase.windows.padding for phase in phases if prod(phase.windows.window))
    each = zip(none, *met, strict=True)
    return tuple((max(low for low, _ in one), max(high for _, high in one)) for one in each)


def _without(attrs: dict[str, Any], copied: Padding) -> Padding:
    """The padding of a convolution over an operand with gaps to which some was copied."""
    each = zip(attrs["padding"], copied, attrs["lhs_dilation"], strict=True)
    return tuple((low - a * gap, high - b * gap) for (low, high), (a, b), gap in each)


@dataclass(frozen=True, slots=True)
class Gathering:
    """The weights of one phase, as a view of those of the convolution, and how they are copied.

    The view begins at `first`, goes on by `every` (backwards if flipped) and has this `shape`; the
    copy has its axes in `order`.
    """

    first: tuple[int, ...]
    every: tuple[int, ...]
    shape: tuple[int, ...]
    order: Axes

    def view(self, weights: Value) -> Value:
        """The weights themselves as the copy has them."""
        last = (at + step * (n - 1) for at, step, n in self._each())
        ends = [(min(at, end), max(at, end)) for at, end in zip(self.first, last, strict=True)]
        part = slice(
            weights,
            start=tuple(low for low, _ in ends),
            stop=tuple(high + 1 for _, high in ends),
            strides=tuple(map(abs, self.every)),
        )
        axes = tuple(axis for axis, step in enumerate(self.every) if step < 0)
        turned = reverse(part, axes=axes) if axes else part
        return transpose(turned, permutation=self.order)

    def layout(self, weights: Layout) -> tuple[Layout, int]:
        """As `view`, of weights in memory: how it lies, and how many elements further it starts."""
        start = sum(at * step for at, step in zip(self.first, weights.strides, strict=True))
        strides = tuple(a * b for a, b in zip(self.every, weights.strides, strict=True))
        shape, steps = (tuple(of[axis] for axis in self.order) for of in (self.shape, strides))
        return layout(TensorType(weights.dtype, shape), steps), start

    def _each(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.first, self.every, self.shape, strict=True)


def gathered_weights(node: Node, phase: Phase) -> Gathering:
    """What a phase of a convolution reads of its weights."""
    *window, channels, features = static_shape(node.operands[1].shape, "a convolution")
    first, every = phase.first, phase.every
    if node.attr("flip"):
        first = tuple(size - 1 - at for size, at in zip(window, first, strict=True))
        every = tuple(-step for step in every)
    shape = (*phase.windows.window, channels, features)
    return Gathering((*first, 0, 0), (*every, 1, 1), shape, gathered_order(node))


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
        order = gathered_order(node)
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


def backwards(
    shape: tuple[int, ...], strides: tuple[int, ...], axes: Axes
) -> tuple[tuple[int, ...], int]:
    """Strides that read axes backwards, and how many elements further they start."""
    start = sum((shape[axis] - 1) * strides[axis] for axis in axes)
    return tuple(-s if axis in axes else s for axis, s in enumerate(strides)), start
