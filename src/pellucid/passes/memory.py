"""Where does each value lie while a graph runs? In an input, an output, or in one arena.

A value that is an output is written there at once; every other one lives from the node that makes
it to the last that reads it, and shares the arena with those that live at other times. Where a
kernel reads a dying value only at the place it writes, the result takes over its memory.

A donated input may share its memory with an output. That output is written directly if every other
read of the input comes before, or is at the same place in the same kernel; else it is made in the
arena and copied when everything is done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pellucid.core.shape import static_shape
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.record import add_stage
from pellucid.ops.define import lookup

ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies: input or output number `index`, or `offset` bytes into the arena."""

    kind: Literal["input", "output", "arena"]
    index: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return f"arena+{self.offset}" if self.kind == "arena" else f"{self.kind} {self.index}"


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes to be moved: a value of this graph, from one place to another."""

    value: Value
    source: Place
    target: Place


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The places of all values, what is copied before and after the nodes, and the arena's size.

    `temporaries[n]` are the places of node n's own working memory; `peak_node` is the node at which
    the most is alive, `held` what is alive there, largest first.
    """

    places: Mapping[Value, Place]
    temporaries: tuple[tuple[Place, ...], ...]
    before: tuple[Copy, ...]
    after: tuple[Copy, ...]
    arena_bytes: int
    peak_bytes: int
    peak_node: int
    held: tuple[tuple[str, int], ...]
    direct: tuple[int, ...]

    def text(self, graph: Graph) -> str:
        """The plan as it is shown: the arena, what is alive at the peak, and each value's place."""
        number = graph.numbering
        lines = [f"arena {self.arena_bytes} bytes, peak {self.peak_bytes} at node {self.peak_node}"]
        lines += [f"  alive at the peak: {name} {size} bytes" for name, size in self.held]
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
    plan = _Planner(graph, dict(donate or {}), extra).run()
    add_stage("memory", lambda: plan.text(graph), "passes/memory", time.perf_counter() - start)
    return plan


def value_bytes(value: Value) -> int:
    """The bytes of a value whose sizes are known."""
    size = value.dtype.bytes
    for one in static_shape(value.shape, "planning memory"):
        size *= one
    return size


@dataclass(eq=False, slots=True)
class _Block:
    """A stretch of the arena: its bytes, the nodes between which it is in use, its offset."""

    name: str
    bytes: int
    first: int
    last: int
    offset: int = -1


@dataclass(slots=True)
class _Planner:
    graph: Graph
    donate: dict[int, int]
    extra: Sequence[Sequence[int]]
    blocks: list[_Block] = field(default_factory=list[_Block])
    of_value: dict[Value, _Block] = field(default_factory=dict[Value, _Block])
    donors: dict[int, Value] = field(default_factory=dict[int, Value])

    def run(self) -> MemoryPlan:
        graph = self.graph
        last = self._last_uses()
        self.donors = {j: graph.inputs[i] for i, j in self.donate.items()}
        assert len(self.donors) == len(self.donate), "an output takes the memory of one input"
        direct = self._direct_outputs(last)
        places: dict[Value, Place] = {v: Place("input", i) for i, v in enumerate(graph.inputs)}
        places |= {graph.outputs[j]: Place("output", j) for j in direct}
        for at, results in enumerate(graph.results):
            for value in results:
                if value not in places:
                    self._give_block(value, at, last)
        scratch = [
            [self._block(f"work of node {n}", size, n, n) for size in sizes]
            for n, sizes in enumerate(self.extra)
        ]
        before, after, staged = self._copies(direct)
        arena = _place_blocks(self.blocks)
        places |= {v: Place("arena", offset=b.offset) for v, b in self.of_value.items()}
        peak, node, held = _peak(self.blocks, len(graph.nodes))
        return MemoryPlan(
            places=places,
            temporaries=tuple(tuple(Place("arena", offset=b.offset) for b in s) for s in scratch),
            before=tuple(Copy(v, places[v], Place("arena", offset=b.offset)) for v, b in before),
            after=tuple(
                Copy(v, _at(staged.get(v), places[v]), Place("output", j)) for v, j in after
            ),
            arena_bytes=arena,
            peak_bytes=peak,
            peak_node=node,
            held=held,
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
        return last

    def _direct_outputs(self, last: dict[Value, int]) -> tuple[int, ...]:
        """The outputs that are written by the node that makes them."""
        made_at = {v: at for at, values in enumerate(self.graph.results) for v in values}
        direct: list[int] = []
        for j, value in enumerate(self.graph.outputs):
            again = value in self.graph.outputs[:j]
            if value not in made_at or again:
                continue
            donor = self.donors.get(j)
            if donor is None or self._may_overwrite(donor, value, made_at[value], last):
                direct.append(j)
        return tuple(direct)

    def _may_overwrite(self, donor: Value, value: Value, at: int, last: dict[Value, int]) -> bool:
        if donor in self.graph.outputs:
            return False
        if last.get(donor, -1) < at:
            return True
        return last[donor] == at and reads_in_place(self.graph.nodes[at], donor, value)

    def _give_block(self, value: Value, at: int, last: dict[Value, int]) -> None:
        end = len(self.graph.nodes) if value in self.graph.outputs else last[value]
        node, size = self.graph.nodes[at], value_bytes(value)
        # A result that nothing reads ends here too, but its sibling may not lie on it.
        siblings = [self.of_value.get(result) for result in self.graph.results[at]]
        for operand in dict.fromkeys(node.operands):
            block = self.of_value.get(operand)
            if block is None or block.last != at or block in siblings:
                continue
            if reads_in_place(node, operand, value):
                block.last = end
                self.of_value[value] = block
                return
        self.of_value[value] = self._block(f"%{self.graph.numbering[value]}", size, at, end)

    def _block(self, name: str, size: int, first: int, last: int) -> _Block:
        block = _Block(name, -(-size // ALIGNMENT) * ALIGNMENT, first, last)
        self.blocks.append(block)
        return block

    def _copies(
        self, direct: tuple[int, ...]
    ) -> tuple[list[tuple[Value, _Block]], list[tuple[Value, int]], dict[Value, _Block]]:
        """Outputs that no node writes: an input that may be overwritten is saved first."""
        after = [(v, j) for j, v in enumerate(self.graph.outputs) if j not in direct]
        donors = set(self.donors.values())
        staged: dict[Value, _Block] = {}
        for value, _ in after:
            if value.node is None and value in donors and value not in staged:
                number = self.graph.numbering[value]
                staged[value] = self._block(
                    f"%{number} saved", value_bytes(value), 0, len(self.graph.nodes)
                )
        return list(staged.items()), after, staged


def reads_in_place(node: Node, operand: Value, result: Value) -> bool:
    """Whether a kernel reads an operand only at the place at which it writes a result.

    Then both may have one memory. Elementwise ops read in place, and so does what they feed as long
    as nothing moves, reduces or contracts it.
    """
    if operand.shape != result.shape or operand.dtype.bytes != result.dtype.bytes:
        return False
    if node.op.name != "fusion":
        return lookup(node.op.name).kind == "elementwise"
    body: Graph = node.attr("body")
    moving = {v for v, o in zip(body.inputs, node.operands, strict=True) if o is operand}
    for inner, results in zip(body.nodes, body.results, strict=True):
        if any(value in moving for value in inner.operands):
            if lookup(inner.op.name).kind != "elementwise":
                return False
            moving.update(results)
    return not any(value in body.inputs for value in body.outputs)


def _place_blocks(blocks: Sequence[_Block]) -> int:
    """Give each block the lowest offset that is free while it lives, the largest first."""
    placed: list[_Block] = []
    for block in sorted(blocks, key=lambda b: (-b.bytes, b.first)):
        busy = sorted(
            (other.offset, other.offset + other.bytes)
            for other in placed
            if other.first <= block.last and block.first <= other.last
        )
        at = 0
        for low, high in busy:
            if low - at >= block.bytes:
                break
            at = max(at, high)
        block.offset = at
        placed.append(block)
    return max((block.offset + block.bytes for block in blocks), default=0)


def _peak(blocks: Sequence[_Block], nodes: int) -> tuple[int, int, tuple[tuple[str, int], ...]]:
    best, where = 0, 0
    for at in range(nodes + 1):
        alive = sum(block.bytes for block in blocks if block.first <= at <= block.last)
        if alive > best:
            best, where = alive, at
    held = [(b.name, b.bytes) for b in blocks if b.first <= where <= b.last and b.bytes]
    return best, where, tuple(sorted(held, key=lambda pair: (-pair[1], pair[0])))


def _at(block: _Block | None, place: Place) -> Place:
    return place if block is None else Place("arena", offset=block.offset)
