"""Where does each value lie while a graph runs? In an input, an output, or in one arena.

A value that is an output is written there at once; every other one lives from the node that makes
it to the last that reads it, and shares the arena with those that live at other times. Where a
kernel reads a dying value only at the place it writes, the result takes over its memory. What is
joined to a whole is made inside it, unless that makes the arena much larger.

A donated input may share its memory with an output. That output is written directly if every other
read of the input comes before, or is at the same place in the same kernel; else it is made in the
arena and copied when everything is done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pellucid.core.shape import long_sizes
from pellucid.core.source import Source
from pellucid.ir.graph import Graph, Node, Type, Value
from pellucid.ir.record import add_stage
from pellucid.ops.define import lookup
from pellucid.passes.columns import Halves, halves
from pellucid.passes.packing import Block, fullest_node, pack
from pellucid.passes.views import View, find_parts, find_views, value_bytes

WORTH_SHARING: Final = 1 << 14
"""Bytes from which on a copy costs more than it may cost the arena to avoid it."""

LARGER: Final = 1 / 16
"""How much larger the arena may be, that no part of a whole need be copied."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies: so many bytes into input or output number `index`, or the arena."""

    kind: Literal["input", "output", "arena"]
    index: int = 0
    offset: int = 0

    def __str__(self) -> str:
        if self.kind == "arena":
            return f"arena+{self.offset}"
        return f"{self.kind} {self.index}" + (f"+{self.offset}" if self.offset else "")


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes to be moved: a value of this graph, from one place to another."""

    value: Value
    source: Place
    target: Place


@dataclass(frozen=True, slots=True)
class Held:
    """Something in the arena: its name and bytes, and the nodes from which to which it is in use.

    `type` is that of a value, None for working memory; `source` the user's line it comes from.
    """

    name: str
    bytes: int
    first: int
    last: int
    type: Type | None
    source: Source | None

    def __str__(self) -> str:
        what = self.name if self.type is None else f"{self.name}: {self.type}"
        where = "" if self.source is None else f", {self.source}"
        return f"{what} {self.bytes:,} bytes, nodes {self.first} to {self.last}{where}"


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The places of all values, what is copied before and after the nodes, and the arena's size.

    `temporaries[n]` are the places of node n's own working memory; `peak_node` is the node at which
    the most is alive, `held` what is alive there, largest first. `peak_bytes` is how much that is:
    the arena is larger by the gaps between what is alive. `views` lie in what they are views of:
    their nodes have nothing to do.
    """

    places: Mapping[Value, Place]
    views: Mapping[Value, View]
    temporaries: tuple[tuple[Place, ...], ...]
    before: tuple[Copy, ...]
    after: tuple[Copy, ...]
    arena_bytes: int
    peak_bytes: int
    peak_node: int
    held: tuple[Held, ...]
    direct: tuple[int, ...]

    def text(self, graph: Graph) -> str:
        """The plan as it is shown: the arena, what is alive at the peak, and each value's place."""
        number = graph.numbering
        lines = [f"arena {self.arena_bytes} bytes, peak {self.peak_bytes} at node {self.peak_node}"]
        lines += [f"  alive at the peak: {one}" for one in self.held]
        lines += [f"  %{n}: {value.type} at {self.places[value]}" for value, n in number.items()]
        for title, copies in (("before", self.before), ("after", self.after)):
            lines += [f"  copy {title}: {c.source} -> {c.target}, {c.value.type}" for c in copies]
        return "\n".join(lines)


def plan_memory(
    graph: Graph,
    donate: Mapping[int, int] | None = None,
    temporaries: Sequence[Sequence[int]] | None = None,
) -> MemoryPlan:
    """Give every value of a graph of known sizes a place.

    `donate[i] = j` says that output j may be given the memory of input i; `temporaries[n]` are the
    bytes of working memory that node n asks for.
    """
    start = time.perf_counter()
    extra = temporaries or [() for _ in graph.nodes]
    views = find_views(graph)
    plan = _Planner(graph, dict(donate or {}), extra, views, {}).run()
    if parts := find_parts(graph, views):
        joined = _Planner(graph, dict(donate or {}), extra, views, parts).run()
        if joined.arena_bytes <= plan.arena_bytes * (1 + LARGER):
            plan = joined
    add_stage("memory", lambda: plan.text(graph), "passes/memory", time.perf_counter() - start)
    return plan


@dataclass(frozen=True, slots=True)
class _Tenant:
    """What is in a block from a node on: a value, or working memory."""

    name: str
    first: int
    value: Value | None
    source: Source | None


@dataclass(slots=True)
class _Planner:
    graph: Graph
    donate: dict[int, int]
    extra: Sequence[Sequence[int]]
    views: Mapping[Value, View]
    parts: Mapping[Value, View]
    tenants: dict[Block, list[_Tenant]] = field(default_factory=dict[Block, list[_Tenant]])
    of_value: dict[Value, Block] = field(default_factory=dict[Value, Block])
    donors: dict[int, Value] = field(default_factory=dict[int, Value])
    outputs: set[Value] = field(default_factory=set[Value])
    wholes: set[Value] = field(default_factory=set[Value])
    halves: dict[Node, Halves] = field(default_factory=dict[Node, Halves])

    def run(self) -> MemoryPlan:
        graph = self.graph
        self.outputs = set(graph.outputs)
        self.wholes = {part.root for part in self.parts.values()}
        last = self._last_uses()
        self.donors = {j: graph.inputs[i] for i, j in self.donate.items()}
        assert len(self.donors) == len(self.donate), "an output takes the memory of one input"
        direct = self._direct_outputs(last)
        places: dict[Value, Place] = {v: Place("input", i) for i, v in enumerate(graph.inputs)}
        places |= {graph.outputs[j]: Place("output", j) for j in direct}
        for at, results in enumerate(graph.results):
            for value in results:
                if value not in places and value not in self.views:
                    self._settle(value, at, last)
        scratch = [
            [self._work(number, size) for size in sizes] for number, sizes in enumerate(self.extra)
        ]
        before, after, staged = self._copies(direct)
        blocks = list(self.tenants)
        arena = pack(blocks)
        places |= {v: Place("arena", offset=b.offset) for v, b in self.of_value.items()}
        for value, view in (*self.parts.items(), *self.views.items()):
            place = places[view.root]
            places[value] = replace(place, offset=place.offset + view.offset)
        peak_node, peak_bytes = fullest_node(blocks)
        return MemoryPlan(
            places=places,
            views=self.views,
            temporaries=tuple(tuple(Place("arena", offset=b.offset) for b in s) for s in scratch),
            before=tuple(Copy(v, places[v], Place("arena", offset=b.offset)) for v, b in before),
            after=tuple(
                Copy(v, _at(staged.get(v), places[v]), Place("output", j)) for v, j in after
            ),
            arena_bytes=arena,
            peak_bytes=peak_bytes,
            peak_node=peak_node,
            held=self._held(peak_node),
            direct=direct,
        )

    def _last_uses(self) -> dict[Value, int]:
        """The last node that reads each value; outputs that are copied live to the end."""
        last: dict[Value, int] = {}
        for at, (node, results) in enumerate(
            zip(self.graph.nodes, self.graph.results, strict=True)
        ):
            last.update((value, at) for value in results)
            last.update((value, at) for value in node.operands)
            last.update((self._root(value), at) for value in node.operands)
        return last

    def _root(self, value: Value) -> Value:
        """What a value lies in, or else the value itself."""
        if value in self.views:
            value = self.views[value].root
        return self.parts[value].root if value in self.parts else value

    def _in_place(self, node: Node, operand: Value, result: Value) -> bool:
        """Whether a result may lie where an operand lies, which no other operand shares."""
        shared = [one for one in node.operands if self._root(one) is self._root(operand)]
        if not all(one is operand for one in shared):
            return False
        return reads_in_place(node, operand, result, self.halves)

    def _direct_outputs(self, last: dict[Value, int]) -> tuple[int, ...]:
        """The outputs that are written by the node that makes them."""
        # Of an output that is named twice, the first.
        made_at = {v: at for at, values in enumerate(self.graph.results) for v in values}
        direct: list[int] = []
        for j, value in enumerate(self.graph.outputs):
            at = made_at.pop(value, None)
            if at is None:
                continue
            donor = self.donors.get(j)
            if donor is None or self._may_overwrite(donor, value, at, last):
                direct.append(j)
        return tuple(direct)

    def _may_overwrite(self, donor: Value, value: Value, at: int, last: dict[Value, int]) -> bool:
        if donor in self.outputs:
            return False
        if last.get(donor, -1) < at:
            return True
        node = self.graph.nodes[at]
        return last[donor] == at and donor in node.operands and self._in_place(node, donor, value)

    def _settle(self, value: Value, at: int, last: dict[Value, int]) -> None:
        """Let a value of node `at` have memory; that of a whole is there from its first part on."""
        whole = self.parts[value].root if value in self.parts else value
        if whole not in self.wholes:
            self._give_block(value, at, last)
        elif whole not in self.of_value:
            tenant = _Tenant(self._name(whole), at, whole, _source_of(whole))
            self.of_value[whole] = self._block(tenant, value_bytes(whole), last[whole])

    def _give_block(self, value: Value, at: int, last: dict[Value, int]) -> None:
        end = len(self.graph.nodes) if value in self.outputs else last[value]
        node = self.graph.nodes[at]
        tenant = _Tenant(self._name(value), at, value, _source_of(value))
        # A result that nothing reads ends here too, but its sibling may not lie on it.
        siblings = [self.of_value.get(result) for result in self.graph.results[at]]
        for operand in dict.fromkeys(node.operands):
            block = self.of_value.get(operand)
            if block is None or block.last != at or block in siblings:
                continue
            if self._in_place(node, operand, value):
                block.last = end
                self.of_value[value] = block
                self.tenants[block].append(tenant)
                return
        self.of_value[value] = self._block(tenant, value_bytes(value), end)

    def _name(self, value: Value) -> str:
        return f"%{self.graph.numbering[value]}"

    def _work(self, number: int, size: int) -> Block:
        """Working memory of a node, in use while that runs."""
        source = self.graph.nodes[number].source
        return self._block(_Tenant(f"work of node {number}", number, None, source), size, number)

    def _block(self, tenant: _Tenant, size: int, last: int) -> Block:
        block = Block(size, tenant.first, last)
        self.tenants[block] = [tenant]
        return block

    def _copies(
        self, direct: tuple[int, ...]
    ) -> tuple[list[tuple[Value, Block]], list[tuple[Value, int]], dict[Value, Block]]:
        """Outputs that no node writes: an input that may be overwritten is saved first."""
        written, donors = set(direct), set(self.donors.values())
        after = [(v, j) for j, v in enumerate(self.graph.outputs) if j not in written]
        staged: dict[Value, Block] = {}
        for value, _ in after:
            if value.node is None and value in donors and value not in staged:
                tenant = _Tenant(f"{self._name(value)} saved", 0, value, None)
                size, end = value_bytes(value), len(self.graph.nodes)
                staged[value] = self._block(tenant, size, end)
        return list(staged.items()), after, staged

    def _held(self, node: int) -> tuple[Held, ...]:
        """What is in the arena at a node, largest first."""
        found: list[Held] = []
        for block, tenants in self.tenants.items():
            if not (block.bytes and block.first <= node <= block.last):
                continue
            one = next(one for one in reversed(tenants) if one.first <= node)
            later = (other.first for other in tenants if other.first > node)
            type = None if one.value is None else one.value.type
            last = next(later, block.last)
            found.append(Held(one.name, block.bytes, one.first, last, type, one.source))
        return tuple(sorted(found, key=lambda one: (-one.bytes, one.name)))


def _source_of(value: Value) -> Source | None:
    """The user's line that a value comes from; of a kernel's result, that of the op that makes it.

    Nothing for an input.
    """
    node = value.node
    if node is None or node.op.name != "fusion":
        return None if node is None else node.source
    body: Graph = node.attr("body")
    return _source_of(body.outputs[value.index]) or node.source


def reads_in_place(
    node: Node, operand: Value, result: Value, known: dict[Node, Halves] | None = None
) -> bool:
    """Whether a kernel reads an operand only at the place at which it writes a result.

    Then both may have one memory. Elementwise ops read in place, and so does what they feed as long
    as nothing moves, reduces or contracts it. A kernel of rows has read and reduced all of a row
    before it writes there. `known` are kernels of columns that were looked at.
    """
    if operand.shape != result.shape or operand.dtype.bytes != result.dtype.bytes:
        return False
    if node.op.name in ("scatter", "dynamic_update_slice"):
        # These write over their first operand, which need not be copied if it lies there. A small
        # copy is cheaper than a block that is in use for longer.
        large = value_bytes(operand) >= WORTH_SHARING or operand.node is None
        return large and node.operands[0] is operand and operand not in node.operands[1:]
    if node.op.name != "fusion":
        return lookup(node.op.name).kind == "elementwise"
    body: Graph = node.attr("body")
    moving = {v for v, o in zip(body.inputs, node.operands, strict=True) if o is operand}
    known = {} if known is None else known
    nodes = _beside(node, moving, body.outputs[result.index], known)
    if nodes is None or any(value in body.inputs for value in body.outputs):
        return False
    along_rows = node.attr("kind") in ("rows", "columns")
    for inner, results in zip(body.nodes, body.results, strict=True):
        if inner in nodes and any(value in moving for value in inner.operands):
            kind = lookup(inner.op.name).kind
            if kind == "reduce" and along_rows:
                continue
            if kind != "elementwise" and not spells_axes(inner):
                return False
            moving.update(results)
    return True


def spells_axes(node: Node) -> bool:
    """Whether a node only gives a value axes of size 1, or takes them from it."""
    if node.op.name != "reshape":
        return False
    return long_sizes(node.operands[0].shape) == long_sizes(node.attr("shape"))


def _beside(
    node: Node, moving: set[Value], result: Value, known: dict[Node, Halves]
) -> set[Node] | None:
    """The nodes that run with the one that makes a result; None if later ones read what moves."""
    body: Graph = node.attr("body")
    if node.attr("kind") != "columns":
        return set(body.nodes)
    if node not in known:
        known[node] = halves(body)
    found = known[node]
    if result in found.results:
        return found.after
    read = {value for later in found.after for value in later.operands}
    return None if read & moving else found.rows


def _at(block: Block | None, place: Place) -> Place:
    return place if block is None else Place("arena", offset=block.offset)
