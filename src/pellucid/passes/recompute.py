"""Which values are cheaper made again than kept? Elementwise ones whose operands are there anyway.

A gradient needs much of the forward pass. What one kernel would write only so that others read it
is made again by these, if all it takes is stored already (or small, such as a row's statistics) and
the arithmetic costs less than the write and the reads. So is a sum along lists, which needs each
update once and is zero for most places. A value that was made wider than what it is made of need
not be kept so wide: its narrow origin is stored in its place.

    %1, %2 = fusion(%0) { exp, mul }   %3 = fusion(%1, %2) { sub }
      ->  %1 = fusion(%0) { exp }      %3 = fusion(%1) { mul, sub }     with %2 = mul(%1, %1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pellucid.core.shape import is_static
from pellucid.core.shape import static_shape as sizes_of
from pellucid.ir.graph import Node, TensorType, Value
from pellucid.ops.define import lookup
from pellucid.passes.groups import Edge, Group, Plan, kind_of, loops_apart, reads_plainly
from pellucid.passes.rows import is_row

STEPS_PER_BYTE: Final = 4
"""The elementary steps of one element that cost as much as a byte of it to and from memory."""

SMALL: Final = 16
"""A value with so many times fewer bytes is small: reading it costs nothing."""

_SLOW = {"div": 4, "sqrt": 4, "rsqrt": 8}
_FUNCTION = 24
"""The steps of an elementary function: an op that is not rounded once from the exact result."""


def recompute(plan: Plan) -> None:
    """Let readers make again what is cheaper made than kept."""
    for group in dict.fromkeys(plan.group_of.values()):
        for value in plan.results(group):
            if _is_only_read_in_place(plan, group, value):
                way = _way(plan, group, value)
                if way is not None and _fits(plan, value, way) and _pays(plan, value, way):
                    plan.make_again(value, way.nodes, way.leaves)


@dataclass(frozen=True, slots=True)
class _Way:
    """How to make a value: the nodes, in order, and the uses of what they begin with."""

    nodes: tuple[Node, ...]
    leaves: tuple[Edge, ...]


def _is_only_read_in_place(plan: Plan, group: Group, value: Value) -> bool:
    """Whether all that read a value elsewhere are kernels that could make it element by element."""
    node = value.node
    if value in plan.outputs or node is None or not is_static(value.shape):
        return False
    if kind_of(node) not in ("elementwise", "lists"):
        return False
    for edge in plan.uses[value]:
        inside = plan.group_of[edge.user] is group
        if kind_of(node) == "lists" and plan.group_of[edge.user].kind in ("rows", "columns"):
            return False  # Their passes over a row would each go along its list.
        if not inside and (edge.moved or kind_of(edge.user) not in ("elementwise", "reduce")):
            return False
    return True


def _way(plan: Plan, group: Group, value: Value) -> _Way | None:
    """The shortest way from stored values to a value of a group; None where there is none."""
    stored = set(plan.results(group)) - {value}
    nodes: dict[Node, None] = {}
    leaves: dict[Edge, None] = {}

    def reach(node: Node) -> bool:
        for edge in plan.edges[node]:
            if _is_stored(plan, group, stored, edge, value):
                leaves.setdefault(edge)
                continue
            maker = edge.value.node
            inside = maker is not None and plan.group_of.get(maker) is group
            if maker is None or not inside or kind_of(maker) != "elementwise" or edge.moved:
                return False
            if maker not in nodes and not reach(maker):
                return False
        nodes.setdefault(node)
        return True

    assert value.node is not None, "an elementwise value has a node"
    return _Way(tuple(nodes), tuple(leaves)) if reach(value.node) else None


def _is_stored(plan: Plan, group: Group, stored: set[Value], edge: Edge, value: Value) -> bool:
    """Whether what an edge reads will be in memory, or may be put there at little cost."""
    small = SMALL * _bytes(edge.value) <= _bytes(value)
    if kind_of(edge.user) == "lists":
        # It is moved, but each update is needed once.
        return edge.value.node is None or plan.maker(edge.value) is not group
    outside = edge.value.node is None or plan.group_of.get(edge.value.node) is not group
    if edge.moved and not small:
        return False
    narrow = edge.value.shape == value.shape and edge.value.dtype.bytes < value.dtype.bytes
    return outside or edge.value in stored or narrow or (small and is_row(edge.value, group))


def _fits(plan: Plan, value: Value, way: _Way) -> bool:
    """Whether all readers stay kernels of their kind, with buffers in the budget."""
    leaves = {edge.value for edge in way.leaves}
    for reader in {plan.group_of[edge.user] for edge in plan.uses[value]} - {plan.maker(value)}:
        if reader.kind == "contract" and not all(reads_plainly(plan, n) for n in way.nodes):
            return False
        users = {edge.user for edge in plan.uses[value]}
        for part in loops_apart(reader.kind, reader.nodes, reader.inner):
            more = leaves - {edge.value for node in part for edge in plan.edges[node]}
            if users.intersection(part) and plan.buffers(part) - 1 + len(more) > plan.budget:
                return False
    return True


def _pays(plan: Plan, value: Value, way: _Way) -> bool:
    """Whether the bytes that are saved are worth the steps, for one element."""
    group = plan.maker(value)
    large = {edge.value for edge in way.leaves if SMALL * _bytes(edge.value) > _bytes(value)}
    readers = {plan.group_of[edge.user] for edge in plan.uses[value]} - {group}
    there = plan.results(group) if group else []
    stored_for_it = (x for x in large if plan.maker(x) is group and x not in there)
    saved = _bytes(value) - sum(map(_bytes, stored_for_it))
    for reader in readers:
        read = {edge.value for edge in plan.reads(reader)}
        saved += _bytes(value) - sum(_bytes(leaf) for leaf in large - read)
    elements = _bytes(value) // value.dtype.bytes
    steps = sum(_steps(node) for node in way.nodes) * len(readers)
    return steps * elements <= saved * STEPS_PER_BYTE


def _steps(node: Node) -> int:
    (type,) = node.types
    assert isinstance(type, TensorType), "an elementwise op gives a tensor"
    rounded_once = lookup(node.op.name).ulps(type.dtype, dict(node.attrs)) <= 0.5
    return _SLOW.get(node.op.name, 1) if rounded_once else _FUNCTION


def _bytes(value: Value) -> int:
    count = value.dtype.bytes
    for size in sizes_of(value.shape, "recomputing"):
        count *= size
    return count
