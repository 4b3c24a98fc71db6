"""Which sums down the columns are made beside what goes along the rows? Those that share its reads.

The gradient of a norm's scale sums, down all rows, what the kernel of the rows makes anyway; that
of a bias sums what the kernel writes. Such reductions, with the ops on their results, join it: the
rows come one after the other, each is added to the sums of its chunk (page 0002), and a second half
adds up the chunks. What was written, or read a second time, for the sums alone is not.

    %1 = fusion(%0) { ... }   %2 = fusion(%1) [kind='reduce'] { sum [axes=(0,)], mul }
      ->  %1, %2 = fusion(%0) [kind='columns'] { ..., sum, mul }
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from pellucid.core.shape import is_static, long_axes, static_shape
from pellucid.ir.graph import Graph, Node, Value
from pellucid.passes.groups import Edge, Group, Plan, kind_of
from pellucid.passes.rows import keeps_place

FEWEST_CHUNKS: Final = 4
"""With fewer chunks of many elements, threads share the rows better without the sums."""

FEW_ELEMENTS: Final = 1 << 17
"""So few elements one thread goes along as fast as several would be woken."""

FEWEST_COLUMNS: Final = 16
"""Fewer columns are no vector, and the sum of each waits for itself at each row."""

MOST_COLUMNS: Final = 1 << 15
"""The running sums of more columns do not stay in a second-level cache beside a row."""

CHUNK: Final = 256
"""The rows whose elements are one chain."""

Span = tuple[int, int]
"""How many rows a reduction goes down, and in how many columns."""


def join_columns(plan: Plan) -> None:
    """Join reductions down the columns to a kernel that goes along the same rows."""
    for group in dict.fromkeys(plan.group_of.values()):
        if group.kind == "reduce" and (span := _span_of(group)) is not None:
            for other in _companions(plan, group, span):
                if _goes_along(plan, group, other, span) and _join(plan, group, other):
                    break


def span_of(node: Node) -> Span | None:
    """The rows and columns of a reduction over the first axes that keeps the last ones, else None.

    Axes of size 1 are of no account.
    """
    if kind_of(node) != "reduce" or not is_static(node.operands[0].shape):
        return None
    sizes = static_shape(node.operands[0].shape, "a reduction down columns")
    gone: tuple[int, ...] = node.attr("axes")
    long = long_axes(sizes)
    rows = [axis for axis in long if axis in gone]
    columns = long[len(rows) :]
    if not rows or not columns or rows != long[: len(rows)] or not all(sizes):
        return None
    return prod(sizes[axis] for axis in rows), prod(sizes[axis] for axis in columns)


def only_sums(body: Graph) -> bool:
    """Whether nothing of a kernel of columns goes along the rows but what its sums are made of.

    What did may since be made again by those who read it.
    """
    reductions = {node for node in body.nodes if kind_of(node) == "reduce"}
    down = {node for node in reductions if span_of(node) is not None}
    return down == reductions and set(body.outputs) == after_sums(body)


def after_sums(body: Graph) -> set[Value]:
    """The outputs of a graph with reductions down its columns that do not go along its rows."""
    spans = {node: span for node in body.nodes if (span := span_of(node)) is not None}
    made_of = set[Value]()
    for node, results in zip(body.nodes, body.results, strict=True):
        if node in spans or made_of.intersection(node.operands):
            made_of.update(results)
    (span,) = set(spans.values())
    along = span[0], prod(span)
    return {v for v in body.outputs if v in made_of or _count(v) not in along}


def _count(value: Value) -> int:
    return prod(static_shape(value.shape, "a kernel of columns"))


@dataclass(frozen=True, slots=True)
class Halves:
    """The nodes of a kernel of columns that go along its `rows`, those `after` the sums, and the
    outputs that these make.
    """

    rows: set[Node]
    after: set[Node]
    results: set[Value]


def halves(body: Graph) -> Halves:
    """What of a kernel of columns goes along the rows, and what comes after the sums."""
    sums = {node for node in body.nodes if span_of(node) is not None}
    results = after_sums(body)
    rows = set(body.outputs) - results
    rows.update(node.operands[0] for node in sums)
    return Halves(_made_for(body, rows, set()), _made_for(body, results, sums), results)


def _made_for(body: Graph, wanted: set[Value], given: set[Node]) -> set[Node]:
    """The nodes that some values need, where others are given."""
    found: set[Node] = set()
    for node, results in zip(reversed(body.nodes), reversed(body.results), strict=True):
        if node not in given and wanted.intersection(results):
            found.add(node)
            wanted = wanted.union(node.operands)
    return found


def _span_of(group: Group) -> Span | None:
    """The span of a group's reductions, if a kernel of rows could make them."""
    span = next(span_of(node) for node in group.nodes if kind_of(node) == "reduce")
    if span is None:
        return None
    rows, columns = span
    if not FEWEST_COLUMNS <= columns <= MOST_COLUMNS:
        return None
    many = rows > (FEWEST_CHUNKS - 1) * CHUNK
    return span if many or rows * columns <= FEW_ELEMENTS else None


def _companions(plan: Plan, group: Group, span: Span) -> list[Group]:
    """The kernels that make or read what a group reads whole: the makers first."""
    whole = [edge.value for edge in plan.reads(group) if _is_whole(edge, span)]
    makers = [maker for value in whole if (maker := plan.maker(value)) is not None]
    uses = (use for value in whole for use in plan.uses[value] if _is_whole(use, span))
    readers = sorted({plan.group_of[use.user] for use in uses}, key=plan.first)
    return [one for one in dict.fromkeys((*makers, *readers)) if one is not group]


def _is_whole(edge: Edge, span: Span) -> bool:
    """Whether a use reads an element for each of the rows and columns, at its place."""
    return edge.flat and is_static(edge.value.shape) and _count(edge.value) == prod(span)


def _goes_along(plan: Plan, group: Group, other: Group, span: Span) -> bool:
    """Whether the reductions of `group` can be made in the kernel of `other`, row by row."""
    if other in plan.readers[group] or not _has_span(other, span):
        return False
    edges = [edge for edge in plan.reads(group) if plan.maker(edge.value) is other]
    inside = all(edge.user in group.inner for edge in edges)
    return inside and all(_is_at_hand(edge, other, span) for edge in edges)


def _has_span(group: Group, span: Span) -> bool:
    """Whether a kernel goes along rows of these numbers, element by element."""
    if group.kind == "loop":
        plain = all(kind_of(node) == "elementwise" for node in group.nodes)
        return plain and prod(static_shape(group.shape, "a loop")) == prod(span)
    if group.kind == "columns":
        return any(span_of(node) == span for node in group.nodes)
    if group.kind != "rows" or group.space is None:
        return False
    shape, gone = group.space
    sizes = static_shape(shape, "a kernel of rows")
    long = long_axes(sizes)
    kept = [axis for axis in long if axis not in gone]
    found = prod(sizes[axis] for axis in kept), prod(sizes[axis] for axis in gone)
    return kept == long[: len(kept)] and found == span


def _is_at_hand(edge: Edge, other: Group, span: Span) -> bool:
    """Whether a use reads what the other kernel has while it is at the same row."""
    if _is_whole(edge, span):
        return True
    return other.space is not None and keeps_place(edge, other.space)


def _join(plan: Plan, group: Group, other: Group) -> bool:
    """Make one kernel of both, if each of its halves keeps within the budget of buffers."""
    rows = {edge.value for edge in plan.reads(other)} | set(plan.results(other))
    rows |= {edge.value for edge in plan.reads(group) if edge.user in group.inner}
    sums = [node for node in group.nodes if kind_of(node) == "reduce"]
    rest = {edge.value for edge in plan.reads(group) if edge.user not in group.inner}
    rest |= set(plan.results(group))
    if max(len(rows), len(rest)) + len(sums) > plan.budget:
        return False
    if not plan.join(group, other, budget=2 * plan.budget):
        return False
    other.kind = "columns"
    return True
