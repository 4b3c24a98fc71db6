"""How does a convolution become a contraction? Over the places of its window and the channels.

Its operand has no padding left. If it has gaps, a kernel makes one phase of the results, whose
windows meet the same places: there it is a convolution without gaps, of weights that were gathered.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Protocol, cast

from pellucid.core.dtype import DType, float32, float64
from pellucid.core.shape import Axes
from pellucid.engines.loops.contracted import merged_axes
from pellucid.engines.loops.ir import (
    Affine,
    Apply,
    Axis,
    Const,
    Contract,
    Expression,
    Let,
    Load,
    Store,
    Within,
    accumulation_dtype,
)
from pellucid.engines.loops.space import ZERO, Place, dot, plus, row_major, times, variable
from pellucid.engines.loops.windows import Sizes, shape_of, zero_of
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ops.convolution import windows_of
from pellucid.ops.windows import Phase


class Seeing(Protocol):
    """What this rule needs of the writer of a draft."""

    graph: Graph
    extents: dict[str, int]
    lines: list[Any]
    phase: Phase | None

    def let(self, dtype: DType, expression: Expression) -> str:
        """A name for an expression."""
        ...

    def name(self, prefix: str) -> str:
        """A new name."""
        ...

    def placed(self, where: Any, shape: Sizes) -> Place:
        """A place as one index an axis."""
        ...

    def placed_within(self, index: Affine, shape: Sizes) -> Place:
        """An index along one axis as a place in the `shape` that the axis is made of."""
        ...

    def view(self, value: Value, where: Any) -> Load:
        """The element of an input seen through movement ops alone."""
        ...


def phases_of(node: Node) -> tuple[Phase, ...]:
    """The phases of a convolution over an operand with gaps; none if there are no gaps."""
    if node.op.name != "convolution" or all(gap == 1 for gap in node.attr("lhs_dilation")):
        return ()
    lhs, rhs = node.operands
    if not math.prod((*shape_of(lhs), *shape_of(rhs))):
        return ()
    return windows_of(rhs.tensor, dict(node.attrs)).phases(shape_of(lhs)[1:-1])


def reads_padding(node: Node) -> bool:
    """Whether a convolution is made without a copy of its operand with padding.

    Then each place of the window is read along a line of channels, or of zeros. Lines have to lie
    so, and to be long enough for what choosing them costs; a depthwise one's are those of a result.
    """
    lhs, rhs = node.operands
    *window, channels, features = shape_of(rhs)
    last = lhs.tensor.rank - 1
    held, axes = input_below(lhs, (last,))
    groups = node.attr("feature_groups")
    depthwise = groups == features == shape_of(lhs)[-1] and groups >= LONG
    padding = node.attr("padding")
    padded = [size for size, pair in zip(shape_of(lhs)[1:-1], padding, strict=True) if any(pair)]
    return (
        bool(padded)
        and min(*padded, 2) == 2
        and min(low for pair in padding for low in pair) >= 0
        and all(gap == 1 for gap in node.attr("lhs_dilation"))
        and node.attr("batch_groups") == 1
        and not node.attr("channels_outer")
        and lhs.dtype in (float32, float64)
        and 1 < math.prod(window) <= MOST_PLACES
        and (depthwise or channels >= LONG)
        and held.node is None
        and axes == (held.tensor.rank - 1,)
    )


def may_read_padding(node: Node) -> bool:
    """Whether a convolution may be made so: as above, or in lines, as groups or few features.

    Whether they are is seen once the kernel is there (see `llvm.turned_choice`).
    """
    if node.op.name != "convolution":
        return False
    if reads_padding(node):
        return True
    padding = [low for pair in node.attr("padding") for low in pair]
    held, _ = input_below(node.operands[0], ())
    return (
        any(padding)
        and (min(padding) >= 0 or bool(phases_of(node)))
        and (
            node.attr("batch_groups") * node.attr("feature_groups") > 1
            or shape_of(node.operands[1])[-1] <= FEW
        )
        and node.operands[0].dtype.is_floating
        and held.node is None
    )


LONG = 16
"""Channels of a line that is worth choosing."""

FEW = 8
"""Features at most half a vector wide."""

MOST_PLACES = 32
"""Places of a window of which a row notes whether they exist."""


def convolution(writer: Seeing, node: Node, value: Value, where: Any) -> str:
    """A contraction over window and channels; in a phase, over the places that it meets.

    Its weights are then the last input of the graph, gathered as `gathered_order` says.
    """
    lhs, rhs = node.operands
    phase = writer.phase
    places = shape_of(rhs)[:-2] if phase is None else phase.windows.window
    window = (*places, shape_of(rhs)[-2])
    if not math.prod((*window, *shape_of(lhs))):
        return writer.let(value.dtype, Const(zero_of(value.dtype)))
    place = writer.placed(where, shape_of(value))
    inside = tuple(Axis(f"k{number}", size) for number, size in enumerate(window) if size != 1)
    writer.extents |= {axis.name: cast(int, axis.extent) for axis in inside}
    at = tuple(variable(f"k{n}") if size != 1 else ZERO for n, size in enumerate(window))
    seen = _seen(writer, node, place, at)
    left = writer.view(lhs, seen)
    within = _bounds(node, seen[1:-1], phase)
    weight = (*at, place[-1])
    right = writer.view(rhs, weight) if phase is None else _gathered(writer, node, weight)
    result, wide = writer.name("s"), accumulation_dtype(value.dtype)
    axes = (inside[-1], *inside[:-1]) if _channels_first(node, window) else inside
    writer.lines.append(merged_axes(Contract(result, wide, axes, left, right, within)))
    narrow = Apply("cast", (result,))
    return result if wide is value.dtype else writer.let(value.dtype, narrow)


def gathered_order(node: Node) -> Sizes:
    """The order of the axes of weights in which the contracted ones lie as they are summed.

    They come first, or last where the channels lie so: then memory is copied along its lines.
    """
    last = node.operands[1].tensor.rank - 1
    channels, window = last - 1, tuple(range(last - 1))
    if node.attr("channels_outer"):
        return (channels, *window, last)
    _, (outer, inner) = input_below(node.operands[1], (last, channels))
    return (last, *window, channels) if outer < inner else (*window, channels, last)


def input_below(value: Value, axes: Axes) -> tuple[Value, Axes]:
    """The value of which one is a transposed view, and where the axes lie in it."""
    while value.node is not None and value.node.op.name == "transpose":
        permutation: Axes = value.node.attr("permutation")
        axes = tuple(permutation[axis] for axis in axes)
        (value,) = value.node.operands
    return value, axes


def _channels_first(node: Node, window: Sizes) -> bool:
    return bool(node.attr("channels_outer")) and window[-1] != 1


def _gathered(writer: Seeing, node: Node, weight: Place) -> Load:
    held = writer.graph.inputs[-1]
    order = gathered_order(node)
    place = dot(tuple(weight[axis] for axis in order), row_major(shape_of(held)))
    return Load(f"x{len(writer.graph.inputs) - 1}", place)


def _seen(writer: Seeing, node: Node, place: Place, at: Place) -> Place:
    """Which element of lhs a place in the window meets."""
    lhs, rhs = node.operands
    positions = _positions(writer.phase, node, place[1:-1], at)
    groups, batches = node.attr("feature_groups"), node.attr("batch_groups")
    each = shape_of(rhs)[-1] // (groups * batches)
    group, _ = writer.placed_within(place[-1], (groups * batches, each))
    batch, channel = place[0], at[-1]
    if batches > 1:
        batch = plus(times(group, shape_of(lhs)[0] // batches), batch)
    elif groups > 1:
        channel = plus(times(group, shape_of(rhs)[-2]), channel)
    return (batch, *positions, channel)


def _positions(phase: Phase | None, node: Node, place: Place, at: Place) -> list[Affine]:
    if phase is None:
        attrs = (node.attr(name) for name in ("strides", "rhs_dilation", "padding"))
        return [
            plus(plus(times(o, stride), times(w, step)), Affine((), -low))
            for o, w, stride, step, (low, _) in zip(place, at, *attrs, strict=False)
        ]
    found: list[Affine] = []
    for axis, (low, _) in enumerate(node.attr("padding")):
        stride, step, gap = (
            node.attr(name)[axis] for name in ("strides", "rhs_dilation", "lhs_dilation")
        )
        first = Affine((), phase.first[axis])
        met = plus(times(at[axis], phase.every[axis]), first)
        position = plus(times(place[axis], stride), times(met, step))
        found.append(_exactly(plus(position, Affine((), -low)), gap))
    return found


def _bounds(node: Node, positions: Place, phase: Phase | None) -> tuple[Within, ...]:
    """Within what positions have to lie, along axes with padding that windows reach."""
    sizes = shape_of(node.operands[0])[1:-1]
    padding = node.attr("padding") if phase is None else phase.windows.padding
    each = zip(positions, sizes, padding, strict=True)
    return tuple(Within(index, size) for index, size, pair in each if max(pair) > 0)


def _exactly(index: Affine, by: int) -> Affine:
    """An index divided by a number that divides all of it."""
    terms = tuple((name, cast(int, size) // by) for name, size in index.terms)
    return Affine(terms, index.offset // by)


# Where a phase begins.


def begun(lines: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, int]]:
    """Lines whose indexes begin at the first element that is touched; where that is, by buffer.

    So a kernel does not know which phase it makes: it is given pointers to where that begins.
    """
    starts: dict[str, int] = {}
    for line in lines:
        for buffer, index in _touched(line):
            starts[buffer] = min(starts.get(buffer, index.offset), index.offset)

    def moved(buffer: str, index: Affine) -> Affine:
        return Affine(index.terms, index.offset - starts[buffer])

    def changed(line: Any) -> Any:
        match line:
            case Let(_, _, Load(buffer, index)):
                return replace(line, value=Load(buffer, moved(buffer, index)))
            case Store(buffer, index):
                return replace(line, index=moved(buffer, index))
            case Contract(_, _, _, lhs, rhs):
                left, right = (Load(x.buffer, moved(x.buffer, x.index)) for x in (lhs, rhs))
                return replace(line, lhs=left, rhs=right)
            case _:
                return line

    return tuple(map(changed, lines)), starts


def _touched(line: Any) -> tuple[tuple[str, Affine], ...]:
    match line:
        case Let(_, _, Load(buffer, index)) | Store(buffer, index):
            return ((buffer, index),)
        case Contract(_, _, _, lhs, rhs):
            return ((lhs.buffer, lhs.index), (rhs.buffer, rhs.index))
        case _:
            return ()
