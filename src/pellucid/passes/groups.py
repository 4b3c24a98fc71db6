"""Which nodes belong together so far? Groups that grow, and what may be asked of them.

Each node begins as a group of its own; a step of `fuse` joins two where its rule says so.
Constants, iotas and movement are no groups: they cost nothing, and are copied into every kernel
that reads them. An `Edge` is a use of a value seen through them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace

from pellucid.core.shape import Shape, is_static, long_axes
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ops.define import lookup
from pellucid.passes.views import skipped_bytes

SOURCES = ("constant", "iota")

Space = tuple[Shape, tuple[int, ...]]
"""What a reduction goes over: a shape, and which of its axes go."""

NOWHERE = -1
"""In an `Edge`'s `axes`: no axis of the value."""


@dataclass(eq=False, slots=True)
class Group:
    """Nodes that are to be one kernel, in order.

    `shape` is that of its outputs. In a reduction, `inner` are the nodes over the reduced space,
    the sums and maxima themselves among them, and `space` is that space with the reduced axes.
    """

    kind: str
    shape: Shape
    nodes: list[Node]
    inner: set[Node] = field(default_factory=set[Node])
    space: Space | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """A use of a value by a node of a kernel; `moved` if its elements change places on the way.

    Where it is `flat`, only their axes were spelled otherwise.
    `axes` says for each axis of the operand that the user sees which axis of the value it is, or
    NOWHERE where the value has none or is of size 1 there; None where that cannot be said.
    """

    value: Value
    user: Node
    moved: bool
    axes: tuple[int, ...] | None
    flat: bool


class Plan:
    """The groups as they grow, and the questions that decide what may be joined."""

    def __init__(self, graph: Graph, budget: int) -> None:
        self.graph, self.budget = graph, budget
        self.position = {node: at for at, node in enumerate(graph.nodes)}
        self.values = dict(zip(graph.nodes, graph.results, strict=True))
        self.outputs = set(graph.outputs)
        self.needed = _needed(graph)
        self.group_of: dict[Node, Group] = {}
        self.edges: dict[Node, list[Edge]] = {}
        self.uses: dict[Value, list[Edge]] = {value: [] for value in graph.numbering}
        self.again: set[Node] = set()
        # Where groups of several nodes begin, and how far those before the next one reach.
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for node in graph.nodes:
            if is_copyable(node) and node not in self.needed:
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
        self.readers: dict[Group, set[Group]] = {group: set() for group in groups}
        for group, makers in self.makers.items():
            for maker in makers:
                self.readers[maker].add(group)

    def is_copied(self, source: Node, user: Node) -> bool:
        """Whether a kernel with `user` in it makes `source` itself."""
        if source in self.again:
            return self.group_of[source] is not self.group_of[user]
        if not is_copyable(source):
            return False
        return source not in self.needed or (source.op.name in SOURCES and reads_elements(user))

    def _edges(self, user: Node) -> list[Edge]:
        """What a node uses, seen through the nodes that are copied along."""
        found: list[Edge] = []
        for value in user.operands:
            source, moved = value, kind_of(user) in ("movement", "gather", "lists", "window")
            axes = None if moved else tuple(range(len(value.shape)))
            flat = not moved
            while source.node is not None and self.is_copied(source.node, user):
                if not source.node.operands:
                    break
                axes = None if axes is None else _through(source.node, axes)
                flat = flat and source.node.op.name == "reshape"
                source, moved = source.node.operands[0], True
            else:
                there = _without_ones(axes, source.shape)
                found.append(Edge(source, user, moved, there, flat))
        return found

    def join(self, group: Group, into: Group, budget: int | None = None) -> bool:
        """Make two groups one, unless a third lies between them or the buffers are too many.

        Nor where a window of the one goes over what the other makes: each would make it again.
        """
        if group is into or self._has_detour(group, into) or self._has_detour(into, group):
            return False
        nodes = sorted((*group.nodes, *into.nodes), key=self.position.__getitem__)
        inner = into.inner | group.inner
        if any(edge.user in into.inner for edge in self.outgoing(group)):
            inner |= set(group.nodes)
        most = max(self.buffers(part) for part in loops_apart(into.kind, nodes, inner))
        if most > (budget or self.budget) or self._goes_over_its_own(nodes):
            return False
        into.inner, into.nodes = inner, nodes
        for node in group.nodes:
            self.group_of[node] = into
        self._extend(self.position[nodes[0]], self.position[nodes[-1]])
        _merge_neighbours(self.makers, self.readers, group, into)
        _merge_neighbours(self.readers, self.makers, group, into)
        return True

    def make_again(self, value: Value, nodes: tuple[Node, ...], leaves: tuple[Edge, ...]) -> None:
        """Let other groups that read a value compute it by `nodes` from what `leaves` read."""
        group = self.maker(value)
        assert group is not None, "an input is not made"
        self.again.update(nodes)
        users = dict.fromkeys(use.user for use in self.uses[value])
        self.uses[value] = [use for use in self.uses[value] if self.group_of[use.user] is group]
        for user in users:
            reader = self.group_of[user]
            if reader is group:
                continue
            new = [replace(leaf, user=user) for leaf in leaves]
            others = [edge for edge in self.edges[user] if edge.value is not value]
            self.edges[user] = [*others, *new]
            for leaf in new:
                self.uses[leaf.value].append(leaf)
                if (maker := self.maker(leaf.value)) is not None and maker is not reader:
                    self.makers[reader].add(maker)
                    self.readers[maker].add(reader)

    def _has_detour(self, start: Group, end: Group) -> bool:
        """Whether a path leads from `start` to `end` through another group."""
        # Uses lead forward, and only a group that reaches over a position leads back before it.
        last = self.position[end.nodes[-1]]
        while (reach := self._reach(last)) > last:
            last = reach
        waiting = [reader for reader in self.readers[start] if reader is not end]
        seen = set(waiting)
        while waiting:
            for reader in self.readers[waiting.pop()]:
                if reader is end:
                    return True
                if reader not in seen and self.first(reader) <= last:
                    seen.add(reader)
                    waiting.append(reader)
        return False

    def _extend(self, first: int, last: int) -> None:
        """Note that there is a group from the one position to the other."""
        if self._reach(first) >= last:
            return
        start = bisect_left(self._firsts, first)
        end = bisect_right(self._lasts, last, start)
        self._firsts[start:end], self._lasts[start:end] = [first], [last]

    def _reach(self, position: int) -> int:
        """The last position of the groups that begin there or before, at least that position."""
        before = bisect_right(self._firsts, position)
        return max(position, self._lasts[before - 1]) if before else position

    def _goes_over_its_own(self, nodes: list[Node]) -> bool:
        """Whether a window goes over what one of these nodes makes."""
        over = (edge for n in nodes if kind_of(n) == "window" for edge in self.edges[n])
        return any(edge.value.node in nodes for edge in over)

    def buffers(self, nodes: list[Node]) -> int:
        """How many operands and results a kernel of these nodes has."""
        members = set(nodes)
        used = {edge.value for node in nodes for edge in self.edges[node]}
        read = [value for value in used if value.node not in members]
        return len(read) + len(self._seen(nodes))

    def _seen(self, nodes: list[Node]) -> list[Value]:
        """The values of nodes that are outputs, or used by others."""
        members = set(nodes)
        return [
            value
            for node in nodes
            for value in self.values[node]
            if value in self.outputs or any(e.user not in members for e in self.uses[value])
        ]

    # Looking around.

    def first(self, group: Group) -> int:
        """The position of the group's first node."""
        return self.position[group.nodes[0]]

    def maker(self, value: Value) -> Group | None:
        """The group that makes a value; None for an input."""
        return None if value.node is None else self.group_of[value.node]

    def reads(self, group: Group) -> list[Edge]:
        """The uses by a group of values made elsewhere."""
        edges = [edge for node in group.nodes for edge in self.edges[node]]
        return [edge for edge in edges if self.maker(edge.value) is not group]

    def results(self, group: Group) -> list[Value]:
        """The values of a group that are used elsewhere."""
        return self._seen(group.nodes)

    def outgoing(self, group: Group) -> list[Edge]:
        """The uses by other groups of what a group makes."""
        values = [value for node in group.nodes for value in self.values[node]]
        edges = [edge for value in values for edge in self.uses[value]]
        return [edge for edge in edges if self.group_of[edge.user] is not group]

    def is_seen_outside(self, group: Group, reader: Group) -> bool:
        """Whether a value of a group is an output, or read by another group than `reader`."""
        values = {value for node in group.nodes for value in self.values[node]}
        others = (edge for edge in self.outgoing(group) if self.group_of[edge.user] is not reader)
        return bool(values & self.outputs) or any(True for _ in others)


def loops_apart(kind: str, nodes: list[Node], inner: set[Node]) -> list[list[Node]]:
    """The nodes of a kernel that share loops, each of which is to keep within the budget.

    What follows a reduction has loops of its own.
    """
    if kind != "reduce":
        return [nodes]
    return [[node for node in nodes if (node in inner) is within] for within in (True, False)]


def _merge_neighbours(
    there: dict[Group, set[Group]], back: dict[Group, set[Group]], group: Group, into: Group
) -> None:
    """Hand the neighbours of `group` on one side over to `into`."""
    for neighbour in there.pop(group):
        back[neighbour].discard(group)
        if neighbour is not into:
            back[neighbour].add(into)
            there[into].add(neighbour)


def _needed(graph: Graph) -> set[Node]:
    """The constants, iotas and movements that must stand in memory."""
    needed = {value.node for value in graph.outputs if value.node and is_copyable(value.node)}
    views: set[Node] = set()
    for user in reversed(graph.nodes):
        for source in (value.node for value in user.operands):
            if source is None or not is_copyable(source):
                continue
            if source.op.name == "transpose" and (user in views or kind_of(user) == "contract"):
                # A contraction reads through transposes, and through nothing else.
                views.add(source)
            elif user in views or not reads_elements(user):
                needed.add(source)
    return needed


def reads_plainly(plan: Plan, node: Node) -> bool:
    """Whether what is copied along with `node` are constants, broadcasts and views of parts."""
    waiting = list(node.operands)
    while waiting:
        source = waiting.pop().node
        if source is not None and plan.is_copied(source, node):
            if source.op.name not in ("broadcast", "constant") and not _is_part(source):
                return False
            waiting.extend(source.operands)
    return True


def _is_part(node: Node) -> bool:
    """Whether a node shows a part of its operand that lies there without gaps, along its axes."""
    if node.op.name not in ("reshape", "slice") or not is_static(node.operands[0].shape):
        return False
    if node.op.name == "reshape":
        return _through(node, tuple(range(len(node.attr("shape"))))) is not None
    return skipped_bytes(node) is not None


def _through(node: Node, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Axes of a movement's result as axes of its operand."""
    (operand,) = node.operands
    known: dict[int, int]
    match node.op.name:
        case "transpose":
            permutation: tuple[int, ...] = node.attr("permutation")
            known = dict(enumerate(permutation))
        case "broadcast":
            placed: tuple[int, ...] = node.attr("axes")
            known = {axis: at for at, axis in enumerate(placed)}
        case "reshape":
            after, before = (long_axes(shape) for shape in (node.attr("shape"), operand.shape))
            if [node.attr("shape")[a] for a in after] != [operand.shape[a] for a in before]:
                return None
            known = dict(zip(after, before, strict=True))
        case _:
            return None
    return tuple(known.get(axis, NOWHERE) for axis in axes)


def _without_ones(axes: tuple[int, ...] | None, shape: Shape) -> tuple[int, ...] | None:
    if axes is None:
        return None
    return tuple(NOWHERE if at == NOWHERE or shape[at] == 1 else at for at in axes)


def _alone(node: Node) -> Group:
    (*_, last) = node.types
    shape = last.shape if isinstance(last, TensorType) else ()
    kind = kind_of(node)
    if kind in ("elementwise", "movement", "random", "gather", "lists", "window"):
        return Group("loop", shape, [node])
    if kind in ("reduce", "contract"):
        if kind == "contract":
            return Group(kind, shape, [node])
        return Group(kind, shape, [node], {node}, (node.operands[0].shape, node.attr("axes")))
    return Group("other", shape, [node])


def kind_of(node: Node) -> str:
    """The kind of a node's op."""
    return lookup(node.op.name).kind


def is_copyable(node: Node) -> bool:
    """Whether a node only says where elements come from."""
    return node.op.name in SOURCES or kind_of(node) == "movement"


def reads_elements(user: Node) -> bool:
    """Whether the node asks for single elements, wherever they come from."""
    return kind_of(user) in ("elementwise", "movement", "reduce", "random", "gather", "lists")
