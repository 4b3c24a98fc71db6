"""Which reductions and elementwise ops go over the same rows again and again? They become one.

The rows of a space (a shape, and its last axes) are what its reductions make one number of each.
Values over the whole space, and those with an element a row, can be made in one kernel: row by row,
one pass after the other, while the row lies in the nearest cache. A softmax is such a kernel, and a
norm with its derivative, and a cross-entropy with its gradient.

    %1 = max(%0) [axes=(1,)]   %2 = sub(%0, rows(%1))   %3 = exp(%2)   %4 = sum(%3) [axes=(1,)] ...
      ->  %1 = fusion(%0) [body=graph(%0) { max, sub, exp, sum, ... }, kind='rows']
"""

from __future__ import annotations

from math import prod
from typing import Literal

from pellucid.core.shape import Shape, is_static, long_axes, long_sizes, product, static_shape
from pellucid.ir.graph import Node, Value
from pellucid.passes.groups import NOWHERE, Edge, Group, Plan, Space, kind_of

FEWEST_ROWS = 8
"""With fewer rows of many elements, threads share a reduction better by its chunks."""

FEW_ELEMENTS = 1 << 15
"""A space with fewer elements than this is work for one thread anyway."""

LONGEST_ROW = 1 << 16
"""The elements of a row at most: it is to lie in a thread's second-level cache."""


def form_rows(plan: Plan) -> None:
    """Join reductions with what uses their results along the same rows, and with what feeds only
    them.
    """
    for node in plan.graph.nodes:
        if kind_of(node) in ("elementwise", "reduce") and node in plan.group_of:
            makers = {plan.maker(edge.value) for edge in plan.edges[node]}
            for maker in sorted(filter(None, makers), key=plan.first):
                _follow(plan, plan.group_of[node], maker)
    for node in reversed(plan.graph.nodes):
        group = plan.group_of.get(node)
        if group is None or kind_of(node) != "elementwise" or group.kind != "loop":
            continue
        if len(readers := plan.readers[group]) == 1 and not _is_epilogue_alone(plan, node):
            (reader,) = readers
            if reader.kind == "rows" and feeds_rows(plan, group, reader):
                plan.join(group, reader)


def feeds_rows(plan: Plan, group: Group, reader: Group) -> bool:
    """Whether the loop `group` can be computed inside the kernel of rows that reads it."""
    assert reader.space is not None, "a kernel of rows has reductions"
    if any(kind_of(node) != "elementwise" for node in group.nodes):
        return False
    if product(group.shape) == 1:
        return not plan.is_seen_outside(group, reader)
    return _is_aligned(plan, group, reader, reader.space)


def is_row(value: Value, group: Group) -> bool:
    """Whether a value has one element for each row of a kernel that goes along rows."""
    return (
        group.kind in ("rows", "columns")
        and group.space is not None
        and (_form_of(value.shape, group.space) == "row")
    )


def _follow(plan: Plan, group: Group, maker: Group) -> None:
    """Let `group` stand in the kernel of the reductions whose results it uses, if it goes along."""
    space = maker.space
    if group is maker or space is None or not _has_rows(space):
        return
    if group.space not in (None, space) or group.kind not in ("loop", "reduce", "rows"):
        return
    if not _is_aligned(plan, maker, group, space):
        return
    if plan.join(group, maker) and any(_form(n, space) == "whole" for n in maker.nodes):
        maker.kind, maker.shape = "rows", space[0]


def _has_rows(space: Space) -> bool:
    """Whether there are enough rows, and their elements lie beside each other."""
    shape, axes = space
    if not is_static(shape):
        return False
    sizes = static_shape(shape, "a kernel of rows")
    long, elements = long_axes(sizes), prod(sizes)
    length = prod(sizes[axis] for axis in axes)
    if not elements or not long or long[-1] not in axes or length > LONGEST_ROW:
        return False
    rows = elements // length
    return rows >= FEWEST_ROWS or (rows > 1 and elements <= FEW_ELEMENTS)


Form = Literal["whole", "row"]


def _form(node: Node, space: Space) -> Form | None:
    """Whether a node gives an element for each of the space, or for each row."""
    if kind_of(node) == "reduce":
        return "row" if (node.operands[0].shape, node.attr("axes")) == space else None
    return _form_of(node.operands[0].shape, space)


def _form_of(shape: Shape, space: Space) -> Form | None:
    whole, axes = space
    if shape == whole:
        return "whole"
    rows = tuple(whole[axis] for axis in long_axes(whole) if axis not in axes)
    return "row" if long_sizes(shape) == rows else None


def _is_aligned(plan: Plan, group: Group, reader: Group, space: Space) -> bool:
    """Whether both go along the rows of a space, and the reader uses each element at its place."""
    nodes = (*group.nodes, *reader.nodes)
    if any(kind_of(n) not in ("elementwise", "reduce") or not _form(n, space) for n in nodes):
        return False
    edges = (edge for edge in plan.outgoing(group) if plan.group_of[edge.user] is reader)
    return all(keeps_place(edge, space) for edge in edges)


def keeps_place(edge: Edge, space: Space) -> bool:
    """Whether an element is used at its own place, or where its row lies."""
    if edge.axes is None:
        return False
    whole, gone = space
    own = long_axes(edge.value.shape)
    used = [axis for axis in edge.axes if axis != NOWHERE]
    if used != own:
        return False
    at = [place for place, axis in enumerate(edge.axes) if axis != NOWHERE]
    over_rows = kind_of(edge.user) != "reduce" and _form(edge.user, space) == "row"
    if over_rows:
        return _form_of(edge.value.shape, space) == "row"
    kept = [axis for axis in long_axes(whole) if axis not in gone]
    return at == (long_axes(whole) if edge.value.shape == whole else kept)


def _is_epilogue_alone(plan: Plan, node: Node) -> bool:
    """Whether a node alone uses the result of a contraction, after which it could stand.

    So does what makes such a result narrower: then less is stored.
    """
    for edge in plan.edges[node]:
        if edge.moved or edge.value in plan.outputs or len(plan.uses[edge.value]) != 1:
            continue
        maker, source = plan.maker(edge.value), edge.value.node
        if maker is not None and maker.kind == "contract":
            return True
        if source is not None and _narrows(node) and _is_epilogue_alone(plan, source):
            return True
    return False


def _narrows(node: Node) -> bool:
    return node.op.name == "cast" and node.attr("dtype").bits < node.operands[0].dtype.bits
