"""Which values lie in others? Reshaped values and slices without gaps, and parts of a whole.

A view needs no kernel: it lies where its operand lies, some bytes further. A part is made where the
concatenate that reads it would copy it to. Outputs of the graph are written where they belong, and
are neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pellucid.core.shape import static_shape
from pellucid.ir.graph import Graph, Node, Value
from pellucid.passes.packing import ALIGNMENT


@dataclass(frozen=True, slots=True)
class View:
    """Memory of `root`, which is no view itself, from so many bytes on."""

    root: Value
    offset: int


def find_views(graph: Graph) -> Mapping[Value, View]:
    """The values of a graph of known sizes that are views.

    %1 = reshape(%0) [shape=(6,)]  %2 = slice(%1) [start=(2,), stop=(4,), strides=(1,)]
      ->  %1 is %0, and %2 is %0 from its third element on
    """
    found: dict[Value, View] = {}
    outputs = set(graph.outputs)
    for node, results in zip(graph.nodes, graph.results, strict=True):
        skipped = skipped_bytes(node)
        if skipped is not None and results[0] not in outputs:
            below = found.get(node.operands[0], View(node.operands[0], 0))
            found[results[0]] = View(below.root, below.offset + skipped)
    return found


def find_parts(graph: Graph, views: Mapping[Value, View]) -> Mapping[Value, View]:
    """The values of a graph of known sizes that could be made inside what they are joined to.

    %0 = mul(..)  %1 = exp(..)  %2 = concatenate(%0, %1) [axis=0]
      ->  %0 is the beginning of %2, and %1 its end
    """
    found: dict[Value, View] = {}
    outputs = set(graph.outputs)
    # Backwards: a whole may be a part of a larger one.
    for node, (whole, *_) in zip(reversed(graph.nodes), reversed(graph.results), strict=True):
        if node.op.name != "concatenate" or whole in outputs:
            continue
        axis: int = node.attr("axis")
        if any(size != 1 for size in whole.shape[:axis]):
            continue
        inside = found.get(whole, View(whole, 0))
        at = inside.offset
        for operand in node.operands:
            made = views[operand].root if operand in views else operand
            size = value_bytes(operand)
            free = made.node is not None and made not in outputs and made not in found
            if free and value_bytes(made) == size and at % ALIGNMENT == 0:
                found[made] = View(inside.root, at)
            at += size
    return found


def value_bytes(value: Value) -> int:
    """The bytes of a value whose sizes are known."""
    size = value.dtype.bytes
    for one in static_shape(value.shape, "planning memory"):
        size *= one
    return size


def skipped_bytes(node: Node) -> int | None:
    """The bytes of the operand before the first of the result, or None if it is no view."""
    if node.op.name == "reshape":
        return 0
    if node.op.name != "slice":
        return None
    sizes = static_shape(node.operands[0].shape, "planning memory")
    start: tuple[int, ...] = node.attr("start")
    stop: tuple[int, ...] = node.attr("stop")
    strides: tuple[int, ...] = node.attr("strides")
    skipped, whole, step = 0, True, node.operands[0].dtype.bytes
    # From the last axis on: whole ones, then a part of one, then single places.
    for size, low, high, by in reversed(list(zip(sizes, start, stop, strides, strict=True))):
        if by != 1 or not (whole or high - low == 1):
            return None
        whole = whole and high - low == size
        skipped += low * step
        step *= size
    return skipped
