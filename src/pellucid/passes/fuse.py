"""Which nodes run as one kernel? Producers join consumers: what lies between stays in registers.

After `fuse` every node is either alone or a `fusion`, whose body is one kernel of a kind:

    loop      elementwise ops, random bits, reads at computed places and movement; all outputs have
              one shape
    reduce    sums, products and extremes over the same axes of operands of one shape, with the
              elementwise ops that only they use, and elementwise ops on their results
    contract  one dot_general, transposed views of its operands, and elementwise ops on its result

Every kernel computes its body node by node, so no bit changes. A value that is used outside too
becomes another output; nothing is computed twice but what costs nothing: constants, iotas, and
movement (a broadcast or a transpose is an index), which are copied into every kernel that reads
them. No kernel waits, through others, for itself; none has more than `budget` buffers.

The order is greedy and fixed: reductions of the same space are paired; elementwise ops go to the
contraction or reduction whose result they use; then, from the outputs back, loops go to those who
read them; last, loops over the same space that read the same values. Kernels come in an order in
which one that updates an input in place comes after the others that read it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pellucid.core.shape import Shape, product
from pellucid.ir.build import Builder, building
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ir.rewrite import copy_node
from pellucid.ops.control import fusion
from pellucid.ops.define import lookup
from pellucid.passes.stage import staged

BUFFERS = 24
"""The most operands and results of one kernel: many more, and their addresses crowd registers."""

SOURCES = ("constant", "iota")


@staged
def fuse(graph: Graph, budget: int = BUFFERS) -> Graph:
    """Join producers into consumers while a kernel keeps within `budget` buffers.

    %2 = mul(%0, %1)  %3 = add(%2, %1)
      ->  %2 = fusion(%0, %1) [body=graph(%0, %1) { mul, add }, kind='loop']
    """
    plan = _Plan(graph, budget)
    plan.pair_reductions()
    plan.add_epilogues()
    plan.absorb_producers()
    plan.join_siblings()
    return _rebuild(plan)


@dataclass(eq=False, slots=True)
class _Group:
    """Nodes that are to be one kernel, in order.

    `shape` is that of its outputs. In a reduction, `inner` are the nodes over the reduced space,
    the sums and maxima themselves among them.
    """

    kind: str
    shape: Shape
    nodes: list[Node]
    inner: set[Node] = field(default_factory=set[Node])


@dataclass(frozen=True, slots=True)
class _Edge:
    """A use of a value by a node of a kernel; `moved` if its elements change places on the way."""

    value: Value
    user: Node
    moved: bool


class _Plan:
    """The groups as they grow, and the questions that decide what may be joined."""

    def __init__(self, graph: Graph, budget: int) -> None:
        self.graph, self.budget = graph, budget
        self.position = {node: at for at, node in enumerate(graph.nodes)}
        self.values = dict(zip(graph.nodes, graph.results, strict=True))
        self.outputs = set(graph.outputs)
        self.needed = _needed(graph)
        self.group_of: dict[Node, _Group] = {}
        self.edges: dict[Node, list[_Edge]] = {}
        self.uses: dict[Value, list[_Edge]] = {value: [] for value in graph.numbering}
        for node in graph.nodes:
            if _is_copyable(node) and node not in self.needed:
                continue
            self.group_of[node] = _alone(node)
            self.edges[node] = self._edges(node)
            for edge in self.edges[node]:
                self.uses[edge.value].append(edge)
        groups = list(self.group_of.values())
        self.makers = {
            group: {m for m in map(self.maker, (e.value for e in self.reads(group))) if m}
            for group in groups
        }
        self.readers: dict[_Group, set[_Group]] = {group: set() for group in groups}
        for group, makers in self.makers.items():
            for maker in makers:
                self.readers[maker].add(group)

    def is_copied(self, source: Node, user: Node) -> bool:
        """Whether a kernel with `user` in it makes `source` itself."""
        if not _is_copyable(source):
            return False
        return source not in self.needed or (source.op.name in SOURCES and _reads_elements(user))

    def _edges(self, user: Node) -> list[_Edge]:
        """What a node uses, seen through the nodes that are copied along."""
        found: list[_Edge] = []
        for value in user.operands:
            source, moved = value, _kind(user) in ("movement", "gather")
            while source.node is not None and self.is_copied(source.node, user):
                if not source.node.operands:
                    break
                source, moved = source.node.operands[0], True
            else:
                found.append(_Edge(source, user, moved))
        return found

    # The four steps.

    def pair_reductions(self) -> None:
        """Reductions over the same axes of the same values become one."""
        known: dict[object, Node] = {}
        for node in self.graph.nodes:
            if _kind(node) == "reduce":
                space = node.operands[0].shape, node.attr("axes")
                keys = [(space, value) for value in self._reduced_values(node)]
                self._join_first(node, keys, known)

    def add_epilogues(self) -> None:
        """Elementwise ops follow the contraction or reduction whose result they use."""
        inside = self._used_by_reductions_only()
        for node in self.graph.nodes:
            if _kind(node) == "elementwise" and node not in inside:
                makers = {self.maker(edge.value) for edge in self.edges[node]}
                for maker in sorted(filter(None, makers), key=self._rank):
                    if self._is_epilogue(node, maker) and self._join(self.group_of[node], maker):
                        break

    def absorb_producers(self) -> None:
        """From the outputs back, a loop goes to the kernels that read it."""
        for node in reversed(self.graph.nodes):
            if node not in self.group_of:
                continue
            for reader in sorted(self.readers[self.group_of[node]], key=self.first):
                group = self.group_of[node]
                if group.kind == "loop" and self._may_absorb(group, reader):
                    self._join(group, reader)

    def join_siblings(self) -> None:
        """Loops over one space that read one value become one; so do those over one element."""
        known: dict[object, Node] = {}
        for node in self.graph.nodes:
            group = self.group_of.get(node)
            if group is not None and group.kind == "loop" and node is group.nodes[0]:
                read = [e.value for e in self.reads(group) if e.value.shape == group.shape]
                shared = [None] if product(group.shape) == 1 else read
                self._join_first(node, [(group.shape, value) for value in shared], known)

    def _join_first(self, node: Node, keys: Sequence[object], known: dict[object, Node]) -> None:
        """Join the node's group to the first that was known by one of its keys."""
        for key in keys:
            if key in known and self._join(self.group_of[node], self.group_of[known[key]]):
                break
        for key in keys:
            known.setdefault(key, node)

    # Whether groups may be joined.

    def _is_epilogue(self, node: Node, maker: _Group) -> bool:
        """Whether `node` could stand after the op that `maker` is about."""
        if maker.kind not in ("contract", "reduce") or maker.shape != node.operands[0].shape:
            return False
        if maker.kind == "contract" and not self._reads_plainly(node):
            return False
        own = [edge for edge in self.edges[node] if self.maker(edge.value) is maker]
        return not any(edge.moved for edge in own)

    def _may_absorb(self, group: _Group, reader: _Group) -> bool:
        """Whether the loop `group` could be computed inside `reader`."""
        if reader is group or reader.kind == "other":
            return False
        edges = [edge for edge in self._outgoing(group) if self.group_of[edge.user] is reader]
        if reader.kind == "contract":
            plain = all(_kind(n) == "elementwise" and self._reads_plainly(n) for n in group.nodes)
            if not plain or any(_kind(edge.user) == "contract" for edge in edges):
                return False
        moved = any(edge.moved for edge in edges)
        inner = [edge.user in reader.inner for edge in edges]
        if self._is_seen_outside(group, reader):
            return group.shape == reader.shape and not moved and not any(inner)
        if product(group.shape) == 1:
            return True
        space = _space(reader) if any(inner) else reader.shape
        if moved:
            # Moved elements are computed again for each place they move to: let there be one.
            return len(edges) == 1 and product(group.shape) == product(space)
        return group.shape == space and all(inner) == any(inner)

    def _reads_plainly(self, node: Node) -> bool:
        """Whether what is copied along with `node` are constants and broadcasts alone."""
        waiting = list(node.operands)
        while waiting:
            source = waiting.pop().node
            if source is not None and self.is_copied(source, node):
                if source.op.name not in ("broadcast", "constant"):
                    return False
                waiting.extend(source.operands)
        return True

    def _join(self, group: _Group, into: _Group) -> bool:
        """Make two groups one, unless a third lies between them or the buffers are too many."""
        if group is into or self._has_detour(group, into) or self._has_detour(into, group):
            return False
        nodes = sorted((*group.nodes, *into.nodes), key=self.position.__getitem__)
        joined = _Group(into.kind, into.shape, nodes)
        if self._buffers(joined) > self.budget:
            return False
        if any(edge.user in into.inner for edge in self._outgoing(group)):
            into.inner |= set(group.nodes)
        into.inner |= group.inner
        into.nodes = nodes
        for node in group.nodes:
            self.group_of[node] = into
        _merge_neighbours(self.makers, self.readers, group, into)
        _merge_neighbours(self.readers, self.makers, group, into)
        return True

    def _has_detour(self, start: _Group, end: _Group) -> bool:
        """Whether a path leads from `start` to `end` through another group."""
        last = self.position[end.nodes[-1]]
        waiting = [reader for reader in self.readers[start] if reader is not end]
        seen = set(waiting)
        while waiting:
            for reader in self.readers[waiting.pop()]:
                if reader is end:
                    return True
                if reader not in seen and self.first(reader) < last:
                    seen.add(reader)
                    waiting.append(reader)
        return False

    def _buffers(self, group: _Group) -> int:
        read = {edge.value for edge in self.reads(group)}
        return len(read) + len(self.results(group))

    def _used_by_reductions_only(self) -> set[Node]:
        # Such values need not exist at all: the reductions make them as they go.
        found: set[Node] = set()
        for node in reversed(self.graph.nodes):
            if _kind(node) != "elementwise" or self.outputs.intersection(self.values[node]):
                continue
            edges = [edge for value in self.values[node] for edge in self.uses[value]]
            if all(
                not edge.moved and (_kind(edge.user) == "reduce" or edge.user in found)
                for edge in edges
            ):
                found.add(node)
        return found

    def _reduced_values(self, node: Node) -> list[Value]:
        # The operand itself, and what an elementwise op makes it from.
        values = [edge.value for edge in self.edges[node]]
        makers = [value.node for value in values if value.node is not None]
        makers = [maker for maker in makers if _kind(maker) == "elementwise"]
        return values + [edge.value for maker in makers for edge in self.edges[maker]]

    # Looking around.

    def first(self, group: _Group) -> int:
        """The position of the group's first node."""
        return self.position[group.nodes[0]]

    def maker(self, value: Value) -> _Group | None:
        """The group that makes a value; None for an input."""
        return None if value.node is None else self.group_of[value.node]

    def reads(self, group: _Group) -> list[_Edge]:
        """The uses by a group of values made elsewhere."""
        edges = [edge for node in group.nodes for edge in self.edges[node]]
        return [edge for edge in edges if self.maker(edge.value) is not group]

    def results(self, group: _Group) -> list[Value]:
        """The values of a group that are used elsewhere."""
        members = set(group.nodes)
        return [
            value
            for node in group.nodes
            for value in self.values[node]
            if value in self.outputs or any(e.user not in members for e in self.uses[value])
        ]

    def _outgoing(self, group: _Group) -> list[_Edge]:
        values = [value for node in group.nodes for value in self.values[node]]
        edges = [edge for value in values for edge in self.uses[value]]
        return [edge for edge in edges if self.group_of[edge.user] is not group]

    def _is_seen_outside(self, group: _Group, reader: _Group) -> bool:
        values = {value for node in group.nodes for value in self.values[node]}
        others = (edge for edge in self._outgoing(group) if self.group_of[edge.user] is not reader)
        return bool(values & self.outputs) or any(True for _ in others)

    def _rank(self, group: _Group) -> tuple[bool, int]:
        # Contractions first, whose results are the largest; the latest first, for only after it
        # are all operands there.
        return group.kind != "contract", -self.position[group.nodes[-1]]


def _merge_neighbours(
    there: dict[_Group, set[_Group]], back: dict[_Group, set[_Group]], group: _Group, into: _Group
) -> None:
    """Hand the neighbours of `group` on one side over to `into`."""
    for neighbour in there.pop(group):
        back[neighbour].discard(group)
        if neighbour is not into:
            back[neighbour].add(into)
            there[into].add(neighbour)


def _rebuild(plan: _Plan) -> Graph:
    with building() as builder:
        env = {value: builder.input(value.type) for value in plan.graph.inputs}
        for group in _in_order(plan):
            _emit(plan, group, builder, env)
        return builder.graph([env[value] for value in plan.graph.outputs])


def _emit(plan: _Plan, group: _Group, builder: Builder, env: dict[Value, Value]) -> None:
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


def _body(plan: _Plan, group: _Group, results: list[Value]) -> tuple[Graph, list[Value]]:
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


def _in_order(plan: _Plan) -> Iterable[_Group]:
    """The groups that anybody needs, each after those whose values it reads.

    Among those that are ready the one whose main op comes first in the graph goes first; one that
    updates an input waits for the other readers of it, unless they wait for each other.
    """
    groups = list(dict.fromkeys(plan.group_of[n] for n in plan.graph.nodes if n in plan.group_of))
    before = {group: dict.fromkeys(plan.makers[group]) for group in groups}
    _let_readers_go_first(plan, groups, before)
    after: dict[_Group, list[_Group]] = {group: [] for group in groups}
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


def _main_position(plan: _Plan, group: _Group) -> int:
    main = [node for node in group.nodes if _kind(node) == group.kind]
    return plan.position[(main or group.nodes)[-1]]


def _let_readers_go_first(
    plan: _Plan, groups: list[_Group], before: dict[_Group, dict[_Group, None]]
) -> None:
    """A kernel that could write its result where an input lies comes after those that read it."""
    readers: dict[Value, list[_Group]] = {value: [] for value in plan.graph.inputs}
    for group in groups:
        for value in dict.fromkeys(edge.value for edge in plan.reads(group)):
            if value in readers:
                readers[value].append(group)
    for group in groups:
        for value in _updated_inputs(plan, group):
            for reader in readers[value]:
                if reader is not group and not _waits(before, reader, group):
                    before[group][reader] = None


def _updated_inputs(plan: _Plan, group: _Group) -> list[Value]:
    types = [value.type for value in plan.results(group) if value in plan.outputs]
    reads = [e for e in plan.reads(group) if not e.moved and _kind(e.user) == "elementwise"]
    values = dict.fromkeys(edge.value for edge in reads)
    return [value for value in values if value.node is None and value.type in types]


def _waits(before: dict[_Group, dict[_Group, None]], group: _Group, other: _Group) -> bool:
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


def _needed(graph: Graph) -> set[Node]:
    """The constants, iotas and movements that must stand in memory."""
    needed = {value.node for value in graph.outputs if value.node and _is_copyable(value.node)}
    views: set[Node] = set()
    for user in reversed(graph.nodes):
        for source in (value.node for value in user.operands):
            if source is None or not _is_copyable(source):
                continue
            if source.op.name == "transpose" and (user in views or _kind(user) == "contract"):
                # A contraction reads through transposes, and through nothing else.
                views.add(source)
            elif user in views or not _reads_elements(user):
                needed.add(source)
    return needed


def _alone(node: Node) -> _Group:
    (*_, last) = node.types
    shape = last.shape if isinstance(last, TensorType) else ()
    kind = _kind(node)
    if kind in ("elementwise", "movement", "random", "gather"):
        return _Group("loop", shape, [node])
    if kind in ("reduce", "contract"):
        return _Group(kind, shape, [node], {node} if kind == "reduce" else set())
    return _Group("other", shape, [node])


def _kind(node: Node) -> str:
    return lookup(node.op.name).kind


def _is_copyable(node: Node) -> bool:
    return node.op.name in SOURCES or _kind(node) == "movement"


def _reads_elements(user: Node) -> bool:
    """Whether the node asks for single elements, wherever they come from."""
    return _kind(user) in ("elementwise", "movement", "reduce", "random", "gather")


def _space(group: _Group) -> Shape:
    """The shape over which a reduction runs."""
    return next(node.operands[0].shape for node in group.nodes if _kind(node) == "reduce")
