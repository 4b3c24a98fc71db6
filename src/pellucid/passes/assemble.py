"""How do groups become a graph again? Each as one node, in an order that lets inputs be updated.

A kernel that reads one part of a value, which lies there without gaps, is given that part: a view,
which costs nothing (`views.py`). So the kernels of all steps of a loop over the parts are equal.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from pellucid.core.shape import is_static
from pellucid.ir.build import Builder, building
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import copy_node
from pellucid.ops.control import fusion
from pellucid.passes.columns import only_sums
from pellucid.passes.groups import Group, Plan, kind_of
from pellucid.passes.views import skipped_bytes


def assemble(plan: Plan) -> Graph:
    """The graph in which every group is one node."""
    with building() as builder:
        env = {value: builder.input(value.type) for value in plan.graph.inputs}
        for group in _in_order(plan):
            _emit(plan, group, builder, env)
        return builder.graph([env[value] for value in plan.graph.outputs])


def _emit(plan: Plan, group: Group, builder: Builder, env: dict[Value, Value]) -> None:
    """Append a group to the new graph, as it is where it is a single node."""
    results = plan.results(group)
    body, operands = _body(plan, group, results)
    new = [_stood(plan, value, builder, env) for value in operands]
    builder.source = group.nodes[-1].source
    if len(body.nodes) > 1:
        kind = "reduce" if group.kind == "columns" and only_sums(body) else group.kind
        made = builder.add(fusion, new, {"body": body, "kind": kind})
        env.update(zip(results, made, strict=True))
        return
    (node,) = _wanted(plan, group, results)
    made = copy_node(builder, node, [env[value] for value in node.operands])
    env.update(zip(plan.values[node], made, strict=True))


def _body(plan: Plan, group: Group, results: list[Value]) -> tuple[Graph, list[Value]]:
    """The graph of a kernel, and the values that its inputs stand for, in the order of use."""
    inputs: list[Value] = []
    env: dict[Value, Value] = {}
    builder = Builder()
    wanted = _wanted(plan, group, results)
    parts = _parts_read(plan, group, wanted)

    def inside(value: Value, user: Node) -> Value:
        if value not in env:
            node = value.node
            if value not in parts and node is not None and plan.is_copied(node, user):
                builder.source = node.source
                operands = [inside(operand, user) for operand in node.operands]
                (env[value],) = copy_node(builder, node, operands)
            else:
                inputs.append(value)
                env[value] = builder.input(value.type)
        return env[value]

    for node in wanted:
        operands = [inside(operand, node) for operand in node.operands]
        builder.source = node.source
        env.update(zip(plan.values[node], copy_node(builder, node, operands), strict=True))
    return builder.graph([env[value] for value in results]), inputs


def _stood(plan: Plan, value: Value, builder: Builder, env: dict[Value, Value]) -> Value:
    """A value of the new graph; a part that a kernel reads is cut out the first time."""
    if value not in env:
        assert value.node is not None, "an input stands already"
        operands = [_stood(plan, operand, builder, env) for operand in value.node.operands]
        builder.source = value.node.source
        (env[value],) = copy_node(builder, value.node, operands)
    return env[value]


def _parts_read(plan: Plan, group: Group, nodes: list[Node]) -> set[Value]:
    """The views through which these nodes read values made elsewhere, no value in two ways."""
    ways: dict[Value, set[Value]] = {}

    def look(value: Value, user: Node) -> None:
        node = value.node
        if node is None or not plan.is_copied(node, user):
            ways.setdefault(value, set()).add(value)
        elif (whole := _viewed(plan, value, user)) is not None:
            ways.setdefault(whole, set()).add(value)
        else:
            for operand in node.operands:
                look(operand, user)

    for node in nodes:
        for operand in node.operands:
            look(operand, node)
    return {
        part
        for whole, parts in ways.items()
        for part in parts
        if part is not whole and len(parts) == 1 and plan.maker(whole) is not group
    }


def _viewed(plan: Plan, value: Value, user: Node) -> Value | None:
    """The value of which `value` is a part that lies there without gaps; None if it is none."""
    cut = False
    while (node := value.node) is not None and plan.is_copied(node, user):
        if len(node.operands) != 1 or not is_static(node.operands[0].shape):
            return None
        if skipped_bytes(node) is None:
            return None
        cut = cut or node.op.name == "slice"
        (value,) = node.operands
    return value if cut else None


def _wanted(plan: Plan, group: Group, results: list[Value]) -> list[Node]:
    """The nodes of a group that its results need: others make again what some were for."""
    wanted = {value.node for value in results}
    for node in reversed(group.nodes):
        if node in wanted:
            wanted.update(edge.value.node for edge in plan.edges[node])
    return [node for node in group.nodes if node in wanted]


def _in_order(plan: Plan) -> Iterable[Group]:
    """The groups that anybody needs, each after those whose values it reads.

    Among those that are ready the one whose main op comes first in the graph goes first; one that
    updates an input waits for the other readers of it, unless they wait for each other.
    """
    groups = list(dict.fromkeys(plan.group_of[n] for n in plan.graph.nodes if n in plan.group_of))
    before = {group: dict.fromkeys(plan.makers[group]) for group in groups}
    _let_readers_go_first(plan, groups, before)
    after: dict[Group, list[Group]] = {group: [] for group in groups}
    for group, earlier in before.items():
        for other in earlier:
            after[other].append(group)
    missing = {group: len(earlier) for group, earlier in before.items()}
    ready = [(_main_position(plan, group), group) for group in groups if not missing[group]]
    ready.sort(key=lambda pair: pair[0])
    order = dict(ready)
    heap = list(order)
    while heap:
        group = order[heapq.heappop(heap)]
        if plan.results(group):
            yield group
        for follower in after[group]:
            missing[follower] -= 1
            if not missing[follower]:
                position = _main_position(plan, follower)
                order[position] = follower
                heapq.heappush(heap, position)


def _main_position(plan: Plan, group: Group) -> int:
    if group.kind == "columns":
        # What only the sums are for may come much later.
        main = [node for node in group.nodes if kind_of(node) == "reduce"]
    else:
        main = [node for node in group.nodes if kind_of(node) == group.kind]
    return plan.position[(main or group.nodes)[-1]]


def _let_readers_go_first(
    plan: Plan, groups: list[Group], before: dict[Group, dict[Group, None]]
) -> None:
    """A kernel that could write its result where an input lies comes after those that read it."""
    readers: dict[Value, list[Group]] = {value: [] for value in plan.graph.inputs}
    for group in groups:
        for value in dict.fromkeys(edge.value for edge in plan.reads(group)):
            if value in readers:
                readers[value].append(group)
    for group in groups:
        for value in _updated_inputs(plan, group):
            for reader in readers[value]:
                if reader is not group and not _waits(before, reader, group):
                    before[group][reader] = None


def _updated_inputs(plan: Plan, group: Group) -> list[Value]:
    types = [value.type for value in plan.results(group) if value in plan.outputs]
    reads = [e for e in plan.reads(group) if not e.moved and kind_of(e.user) == "elementwise"]
    values = dict.fromkeys(edge.value for edge in reads)
    return [value for value in values if value.node is None and value.type in types]


def _waits(before: dict[Group, dict[Group, None]], group: Group, other: Group) -> bool:
    """Whether `group` comes after `other`, step by step."""
    waiting, seen = [group], {group}
    while waiting:
        for earlier in before[waiting.pop()]:
            if earlier is other:
                return True
            if earlier not in seen:
                seen.add(earlier)
                waiting.append(earlier)
    return False
