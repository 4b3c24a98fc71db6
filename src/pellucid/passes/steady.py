"""What would a program compute again at each call, though nothing changed? That is split off.

    graph (%x, %w, %v) { %1 = rsqrt(%v)  %2 = mul(%w, %1)  %3 = mul(%x, %2)  return %3 }
      ->  steady (%w, %v) { %1 = rsqrt(%v)  %2 = mul(%w, %1)  return %2 }
          rest (%x, %w, %v, %2) { %3 = mul(%x, %2)  return %3 }

for steady inputs %w and %v: those that seldom change from call to call, such as a model's weights
while it answers. What `steady` gives is computed when one of them changed, and kept. The results
of both together are those of the graph, bit for bit.

A value is worth keeping if it is no larger than the steady inputs that it comes from: each use of
a weight adds at most its size to what a model holds. Movement alone is not, for kernels read
through it, but where it lays out an operand of products as the engine takes it (see
`keep_operands`). Nor is a single number, which costs nothing to make again where it is needed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pellucid.core.shape import is_static
from pellucid.ir.build import Builder, building
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import keep_node, prune
from pellucid.ops.define import lookup
from pellucid.passes.keep_operands import Forms, as_it_lies, keep_operands
from pellucid.passes.views import value_bytes


@dataclass(frozen=True, slots=True)
class Split:
    """A program in two: `steady` takes the inputs numbered `reads` and gives what is kept.

    `rest` takes all the inputs of the program, then what is kept.
    """

    steady: Graph
    rest: Graph
    reads: tuple[int, ...]


def split_steady(
    graph: Graph,
    numbers: Collection[int],
    form_of: Forms = as_it_lies,
    chosen: frozenset[Value] = frozenset(),
) -> Split | None:
    """Split off what depends on the steady inputs `numbers` alone; None if nothing is worth it.

    `form_of` says how the engine likes constant operands of products to lie; what is `chosen` is
    kept whatever its size.
    """
    steady = {graph.inputs[number] for number in numbers}
    if not steady or not (chosen or _Search(graph, steady).has_small()):
        return None
    live = prune(graph)
    live, wanted = keep_operands(live, _Search(live, steady).is_small, form_of)
    live = prune(live)
    kept = list(_Search(live, steady, wanted, chosen).kept())
    if not kept:
        return None
    part = prune(Graph(live.inputs, live.nodes, live.results, tuple(kept)))
    used = {operand for node in part.nodes for operand in node.operands}
    reads = tuple(number for number, value in enumerate(graph.inputs) if value in used)
    inputs = tuple(graph.inputs[number] for number in reads)
    return Split(Graph(inputs, part.nodes, part.results, part.outputs), _rest(live, kept), reads)


def steady_values(graph: Graph, numbers: Collection[int]) -> set[Value]:
    """The values that depend on the steady inputs `numbers` alone, these among them."""
    search = _Search(graph, {graph.inputs[number] for number in numbers})
    return {value for value, behind in search.sources.items() if behind}


class _Search:
    """Which values of a graph are worth keeping? `sources` are the steady inputs behind a value.

    A value that depends on anything else has none there; one that depends on no input an empty set.
    """

    def __init__(
        self,
        graph: Graph,
        steady: set[Value],
        wanted: Collection[Value] = frozenset(),
        chosen: Collection[Value] = frozenset(),
    ) -> None:
        self.graph, self.wanted, self.chosen = graph, wanted, chosen
        self.sources: dict[Value, frozenset[Value]] = {one: frozenset((one,)) for one in steady}
        for node, results in zip(graph.nodes, graph.results, strict=True):
            sources = self._union(node.operands)
            if sources is not None:
                for result in results:
                    self.sources[result] = sources

    def kept(self) -> dict[Value, None]:
        """What the rest of the graph reads of it, in the order of first use."""
        found: dict[Value, None] = {}
        seen: set[Value] = set()
        for node, results in zip(self.graph.nodes, self.graph.results, strict=True):
            if results[0] in self.sources:
                continue
            # Where an operand is not worth keeping, what it is made of may be.
            stack = list(reversed(node.operands))
            while stack:
                value = stack.pop()
                if value in seen or value.node is None or not self.sources.get(value):
                    continue
                seen.add(value)
                if self.is_worth_keeping(value, value.node):
                    found[value] = None
                else:
                    stack += reversed(value.node.operands)
        return found

    def has_small(self) -> bool:
        """Whether any value is small: without one there is nothing to keep."""
        return any(map(self.is_small, self.sources))

    def is_worth_keeping(self, value: Value, maker: Node) -> bool:
        """Whether it is wanted or work to make, and no larger than what it is made of."""
        if value in self.chosen:
            return True
        op = maker.op.name
        moves = lookup(op).kind == "movement" or op == "stop_gradient"
        return (value in self.wanted or not moves) and self.is_small(value)

    def is_small(self, value: Value) -> bool:
        """Whether it depends on steady inputs alone, and is no larger than they are."""
        behind = self.sources.get(value)
        if not behind or not is_static(value.shape) or value.tensor.size == 1:
            return False
        return value_bytes(value) <= sum(map(value_bytes, behind))

    def _union(self, operands: tuple[Value, ...]) -> frozenset[Value] | None:
        """All sources of a node's operands; None if an operand depends on anything else."""
        found: frozenset[Value] = frozenset()
        for operand in operands:
            sources = self.sources.get(operand)
            if sources is None:
                return None
            found = found | sources if found else sources
        return found


def _rest(graph: Graph, kept: list[Value]) -> Graph:
    """The graph with what is kept as further inputs."""
    with building(Builder(graph.inputs)) as builder:
        env = {value: value for value in graph.inputs}
        env |= {value: builder.input(value.type) for value in kept}
        for node, results in zip(graph.nodes, graph.results, strict=True):
            if results[0] in env and len(results) == 1:
                continue
            builder.source = node.source
            values = keep_node(builder, node, results, tuple(env[one] for one in node.operands))
            for result, value in zip(results, values, strict=True):
                env.setdefault(result, value)
        return prune(builder.graph([env[value] for value in graph.outputs]))
