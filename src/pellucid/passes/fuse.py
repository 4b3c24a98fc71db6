"""Which nodes run as one kernel? Producers join consumers: what lies between stays in registers.

After `fuse` every node is either alone or a `fusion`, whose body is one kernel of a kind:

    loop      elementwise ops, random bits, reads at computed places, sums along lists, movement,
              and windows over what is stored; all outputs have one shape
    reduce    sums, products and extremes over the same axes of operands of one shape, with the
              elementwise ops that only they use, and elementwise ops on their results (which may
              have axes of size 1 more or less)
    rows      reductions over the same last axes of operands of one shape that use each other's
              results, and elementwise ops over that shape or over the rows: a softmax, a norm
    columns   what goes along rows as in one of the kinds above, together with reductions down all
              rows of what it reads or makes, and elementwise ops on their results
    contract  one dot_general, transposed views of its operands, and elementwise ops on its result
              and on sums along lists

Every kernel computes its body node by node, so no bit changes. A value that is used outside too
becomes another output (its elements may be written in another shape); nothing is computed twice but
what costs nothing: constants, iotas, and movement (a broadcast or a transpose is an index), which
are copied into every kernel that reads them, and what costs less than to store it (`recompute`). No
kernel waits, through others, for itself; none has more than `budget` buffers (those of sums are in
two halves, the sums and what follows them, each of which has no more).

The order is greedy and fixed: reductions of the same space are paired; what goes along the same
rows becomes one; elementwise ops go to the contraction or reduction whose result they use; then,
from the outputs back, loops go to those who read them; loops over the same space that read the
same values are joined; results are written in the shape in which they are read; sums down columns
join what goes along the rows; last, readers make again what is cheap. Kernels come in an order in
which one that updates an input in place comes after the others that read it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.core.shape import product
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.passes.assemble import assemble
from pellucid.passes.columns import join_columns
from pellucid.passes.groups import Group, Plan, kind_of, reads_plainly
from pellucid.passes.recompute import recompute
from pellucid.passes.rows import feeds_rows, form_rows
from pellucid.passes.stage import staged

BUFFERS = 24
"""The most operands and results of one kernel: many more, and their addresses crowd registers."""

MANY_VALUES = 6
"""Of so many values that a reduction is made from, no further ones are looked at.

A batch norm's way back needs four; from eight on, sums of one layer reach through the residual sums
to those of the next layers, and a deeper model has more kinds of kernels.
"""


@staged
def fuse(graph: Graph, budget: int = BUFFERS) -> Graph:
    """Join producers into consumers while a kernel keeps within `budget` buffers.

    %2 = mul(%0, %1)  %3 = add(%2, %1)
      ->  %2 = fusion(%0, %1) [body=graph(%0, %1) { mul, add }, kind='loop']
    """
    plan = Plan(graph, budget)
    pair_reductions(plan)
    # Before the epilogues: what stands between two passes over a row belongs to the row.
    form_rows(plan)
    add_epilogues(plan)
    absorb_producers(plan)
    join_siblings(plan)
    join_reshapes(plan)
    # When all that only the sums need is theirs.
    join_columns(plan)
    # Last: what has to be stored is known when the kernels are.
    recompute(plan)
    return assemble(plan)


def pair_reductions(plan: Plan) -> None:
    """Reductions over the same axes of the same values become one."""
    known: dict[object, Node] = {}
    for node in plan.graph.nodes:
        if kind_of(node) == "reduce":
            space = node.operands[0].shape, node.attr("axes")
            keys = [(space, value) for value in _reduced_values(plan, node)]
            _join_first(plan, node, keys, known)


def add_epilogues(plan: Plan) -> None:
    """Elementwise ops follow the contraction or reduction whose result they use."""
    inside = _used_by_reductions_only(plan)
    for node in plan.graph.nodes:
        if kind_of(node) == "elementwise" and node not in inside:
            if plan.group_of[node].kind != "loop":
                continue
            makers = {plan.maker(edge.value) for edge in plan.edges[node]}
            for maker in sorted(filter(None, makers), key=lambda maker: _rank(plan, maker)):
                if _is_epilogue(plan, node, maker) and plan.join(plan.group_of[node], maker):
                    break


def absorb_producers(plan: Plan) -> None:
    """From the outputs back, a loop goes to the kernels that read it."""
    for node in reversed(plan.graph.nodes):
        if node not in plan.group_of:
            continue
        for reader in sorted(plan.readers[plan.group_of[node]], key=plan.first):
            group = plan.group_of[node]
            if group.kind == "loop" and _may_absorb(plan, group, reader):
                plan.join(group, reader)


def join_siblings(plan: Plan) -> None:
    """Loops over one space that read one value become one; so do those over one element."""
    known: dict[object, Node] = {}
    for node in plan.graph.nodes:
        group = plan.group_of.get(node)
        if group is not None and group.kind == "loop" and node is group.nodes[0]:
            # Not that of the group, whose results may be written in another shape.
            (type,) = node.types
            assert isinstance(type, TensorType), "a loop makes tensors"
            read = [
                edge.value
                for edge in plan.reads(group)
                if edge.value.shape == type.shape or kind_of(edge.user) == "window"
            ]
            shared = [None] if product(group.shape) == 1 else read
            _join_first(plan, node, [(type.shape, value) for value in shared], known)


def join_reshapes(plan: Plan) -> None:
    """A reshape that must stand in memory is written by the kernel that makes what it shows.

    %1 = fusion(%0) { ... }  %2 = reshape(%1)  ->  %2 = fusion(%0) { ..., reshape }
    """
    for node in plan.graph.nodes:
        if node.op.name != "reshape" or node not in plan.group_of:
            continue
        (value,), group = node.operands, plan.group_of[node]
        if len(group.nodes) > 1 or value not in (edge.value for edge in plan.edges[node]):
            continue
        maker = plan.maker(value)
        if maker is not None and maker.kind != "other" and maker.shape == value.shape:
            plan.join(group, maker)


def _join_first(plan: Plan, node: Node, keys: Sequence[object], known: dict[object, Node]) -> None:
    """Join the node's group to the first that was known by one of its keys."""
    for key in keys:
        if key in known and plan.join(plan.group_of[node], plan.group_of[known[key]]):
            break
    for key in keys:
        known.setdefault(key, node)


def _is_epilogue(plan: Plan, node: Node, maker: Group) -> bool:
    """Whether `node` could stand after the op that `maker` is about."""
    own = [edge for edge in plan.edges[node] if plan.maker(edge.value) is maker]
    if maker.kind == "reduce":
        # An axis of size 1 more or less, as where a mean keeps its axes.
        sums = all(edge.flat and edge.user not in maker.inner for edge in own)
        return sums and product(node.operands[0].shape) == product(maker.shape)
    if maker.kind != "contract" or maker.shape != node.operands[0].shape:
        return False
    return reads_plainly(plan, node) and not any(edge.moved for edge in own)


def _may_absorb(plan: Plan, group: Group, reader: Group) -> bool:
    """Whether the loop `group` could be computed inside `reader`."""
    if reader is group or reader.kind == "other":
        return False
    if reader.kind == "rows":
        return feeds_rows(plan, group, reader)
    edges = [edge for edge in plan.outgoing(group) if plan.group_of[edge.user] is reader]
    if reader.kind == "reduce" and any(kind_of(node) == "window" for node in group.nodes):
        return False  # A chain over a window inside another reduction.
    if reader.kind == "contract":
        plain = all(_is_plain(plan, node) for node in group.nodes)
        if not plain or any(kind_of(edge.user) == "contract" for edge in edges):
            return False
    moved = any(edge.moved for edge in edges)
    if moved and any(kind_of(node) == "lists" for node in group.nodes):
        return False  # The elements of a vector would each have a list of their own.
    inner = [edge.user in reader.inner for edge in edges]
    if plan.is_seen_outside(group, reader):
        return group.shape == reader.shape and not moved and not any(inner)
    if product(group.shape) == 1:
        return True
    space = reader.space[0] if reader.space is not None and any(inner) else reader.shape
    if moved:
        # Moved elements are computed again for each place they move to: let there be one.
        return len(edges) == 1 and product(group.shape) == product(space)
    return group.shape == space and all(inner) == any(inner)


def _is_plain(plan: Plan, node: Node) -> bool:
    """Whether the epilogue of a contraction can make what a node gives, vector by vector."""
    return kind_of(node) in ("elementwise", "lists") and reads_plainly(plan, node)


def _used_by_reductions_only(plan: Plan) -> set[Node]:
    # Such values need not exist at all: the reductions make them as they go.
    found: set[Node] = set()
    for node in reversed(plan.graph.nodes):
        if kind_of(node) != "elementwise" or plan.outputs.intersection(plan.values[node]):
            continue
        edges = [edge for value in plan.values[node] for edge in plan.uses[value]]
        if all(
            not edge.moved and (kind_of(edge.user) == "reduce" or edge.user in found)
            for edge in edges
        ):
            found.add(node)
    return found


def _reduced_values(plan: Plan, node: Node) -> list[Value]:
    # The operand itself, and what elementwise ops make it from, the nearest first.
    shape, found = node.operands[0].shape, list[Value]()
    waiting = [node]
    for user in waiting:
        for edge in plan.edges[user]:
            if edge.moved or edge.value.shape != shape or edge.value in found:
                continue
            found.append(edge.value)
            maker = edge.value.node
            if maker is not None and kind_of(maker) == "elementwise" and len(found) < MANY_VALUES:
                waiting.append(maker)
    return found


def _rank(plan: Plan, group: Group) -> tuple[bool, int]:
    # Contractions first, whose results are the largest; the latest first, for only after it
    # are all operands there.
    return group.kind != "contract", -plan.position[group.nodes[-1]]
