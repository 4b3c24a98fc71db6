"""How do groups become a graph again? Each as one node, in an order that lets inputs be updated."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from pellucid.ir.build import Builder, building
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import copy_node
from pellucid.ops.control import fusion
from pellucid.passes.groups import Group, Plan, kind_of


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
    builder.source = group.nodes[-1].source
    new = [env[value] for value in operands]
    if len(body.nodes) > 1:
        made = builder.add(fusion, new, {"body": body, "kind": group.kind})
        env.update(zip(results, made, strict=True))
        return
    (node,) = group.nodes
    made = copy_node(builder, node, [env[value] for value in node.operands])
    env.update(zip(plan.values[node], made, strict=True))


def _body(plan: Plan, group: Group, results: list[Value]) -> tuple[Graph, list[Value]]:
    """The graph of a kernel, and the values that its inputs stand for, in the order of use."""
    inputs: list[Value] = []
    env: dict[Value, Value] = {}
    builder = Builder()

    def inside(value: Value, user: Node) -> Value:
        if value not in env:
            node = value.node
            if node is not None and plan.is_copied(node, user):
                builder.source = node.source
                operands = [inside(operand, user) for operand in node.operands]
                (env[value],) = copy_node(builder, node, operands)
            else:
                inputs.append(value)
                env[value] = builder.input(value.type)
        return env[value]

    for node in group.nodes:
        operands = [inside(operand, node) for operand in node.operands]
        builder.source = node.source
        env.update(zip(plan.values[node], copy_node(builder, node, operands), strict=True))
    return builder.graph([env[value] for value in results]), inputs


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
