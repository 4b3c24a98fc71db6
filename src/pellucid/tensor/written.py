"""How does a tape become a graph? Walked from the end, numbered, and written where it is new.

A `Tape` says by its `key` what it computes, so that one that was seen before need not be written.
Where rounding may change, a `HastenedTape` is rewritten before the derivative is taken.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from pellucid.core.error import StateError
from pellucid.core.source import at_line, user_source
from pellucid.ir.build import Builder
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import prune
from pellucid.ops.elementwise import stop_gradient
from pellucid.passes.pipeline import hasten_early
from pellucid.tensor.dispatch import evaluate
from pellucid.tensor.state import Variable, detached
from pellucid.tensor.tape import TapeNode
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.trace import Trace

DEPTH: Final = 24
"""How many ops are looked at behind an operand without a tape."""


class Walk:
    """Everything behind one value: `leaves` are the Parameters with their values, then the nodes.

    A Parameter that was assigned between two reads comes once for each value. Raises StateError
    where the tape was freed.
    """

    def __init__(self, output: Tensor) -> None:
        self.leaves: dict[object, tuple[Variable, Tensor]] = {}
        self.nodes: list[TapeNode] = []
        self._operands: dict[TapeNode, list[object]] = {}
        self._done: set[TapeNode] = set()
        self._order(output)

    def _order(self, output: Tensor) -> None:
        """Every node behind the output, operands before users; iterative, for tapes are deep."""
        known = self._operands
        stack: list[tuple[Any, Tensor]] = [(place_of(output), output)]
        while stack:
            place, tensor = stack.pop()
            if isinstance(place, int):
                continue
            if not isinstance(place, TapeNode):
                self.leaves.setdefault(place, (place[0], tensor))
            elif place not in known:
                if place.freed:
                    raise StateError(
                        "backward: the tape was freed by an earlier backward"
                        f"{at_line(user_source())}\n  pass retain_graph=True to the first one"
                    )
                places = known[place] = [place_of(one) for one in place.operands]
                # Met a second time, all its operands are there.
                stack.append((place, tensor))
                stack += zip(reversed(places), reversed(place.operands), strict=True)
            elif place not in self._done:
                self._done.add(place)
                self.nodes.append(place)


class Tape(Walk):
    """A tape by number: Parameters' values, other inputs, then what the nodes gave.

    `key` says what is computed, and `tensors` on what: those of the inputs and nodes, by number.
    """

    def __init__(self, output: Tensor) -> None:
        super().__init__(output)
        self._tensors: list[Tensor] = []
        numbers = self._numbers()
        self._lines = [
            (node.op, node.attrs, tuple([numbers[place] for place in self._operands[node]]))
            for node in self.nodes
        ]
        self._output = numbers[place_of(output)]
        inputs = tuple([tensor._layout for tensor in self._tensors])
        self.key: object = (len(self.leaves), inputs, tuple(self._lines), self._output)

    def graph(self) -> Graph:
        """The tape as a graph; its values have the same numbers."""
        builder = Builder()
        values = [builder.input(tensor._layout.type) for tensor in self._tensors]
        for node, (op, attrs, operands) in zip(self.nodes, self._lines, strict=True):
            given = tuple([values[number] for number in operands])
            values += builder.append(Node(op, given, attrs, (node.type,), node.source))
        return builder.graph([values[self._output]])

    def given(self, numbers: Sequence[int]) -> list[Tensor | TapeNode]:
        """For what the values with these numbers stand: Tensors, and what nodes gave."""
        first = len(self._tensors)
        return [
            self._tensors[number] if number < first else self.nodes[number - first]
            for number in numbers
        ]

    def tensors(self, numbers: Sequence[int]) -> list[Tensor]:
        """The Tensors for which the values with these numbers stand, without a tape."""
        found = self.given(numbers)
        return [detached(one) if isinstance(one, Tensor) else one.result for one in found]

    def _numbers(self) -> dict[object, int]:
        """The number of each place; the inputs' Tensors are noted."""
        numbers: dict[object, int] = {place: number for number, place in enumerate(self.leaves)}
        self._tensors += [tensor for _, tensor in self.leaves.values()]
        for node in self.nodes:
            for place, tensor in zip(self._operands[node], node.operands, strict=True):
                if isinstance(place, int) and place not in numbers:
                    numbers[place] = len(self._tensors)
                    self._tensors.append(tensor)
        first = len(self._tensors)
        return numbers | {node: first + at for at, node in enumerate(self.nodes)}


class HastenedTape(Walk):
    """A tape that is rewritten before its derivative is taken, in a program that may be `fast`.

    It also holds how operands without a tape (masks) are made, and what is to be evaluated anew.
    """

    def __init__(self, output: Tensor, trace: Trace) -> None:
        super().__init__(output)
        self.trace = trace
        builder = Builder()
        self.known: dict[object, tuple[Value, Tensor]] = {}
        for place, (_, tensor) in self.leaves.items():
            pair = (builder.input(tensor._layout.type), tensor)
            self.known[place] = self.known[tensor._value] = pair
        for node in self.nodes:
            builder.source = node.source
            operands = [self._operand(builder, tensor) for tensor in node.operands]
            (value,) = builder.add(node.op, operands, dict(node.attrs))
            self.known[node] = self.known[node.result._value] = (value, node.result)
        graph = builder.graph([self.known[place_of(output)][0]])
        self._graph, became, rewrites = hasten_early(graph)
        self.known = {place: (became[value], one) for place, (value, one) in self.known.items()}
        trace.rewrites += [replace(one, name=f"{one.name} in backward") for one in rewrites]
        self.key: object = (self._graph, len(self.leaves))

    def graph(self) -> Graph:
        """The tape as a graph."""
        return self._graph

    def tensors(self, numbers: Sequence[int]) -> list[Tensor]:
        """The Tensors for which the values with these numbers stand."""
        known = dict(self.known.values())
        values = list(self._graph.numbering)
        wanted = [values[number] for number in numbers]
        new = [value for value in wanted if value not in known]
        if new:
            known.update(zip(new, _evaluated(self._graph, new, known), strict=True))
        return [detached(known[value]) for value in wanted]

    def _operand(self, builder: Builder, tensor: Tensor) -> Value:
        """The value of an operand; of one without a tape an input, or what it is made of."""
        place = place_of(tensor)
        if place not in self.known:
            value = tensor._value
            if value is None or tensor._trace is not self.trace:
                made = builder.input(tensor._layout.type)
            else:
                (made,) = builder.add(stop_gradient, [self._made(builder, value, DEPTH)], {})
            self.known[place] = (made, tensor)
        return self.known[place][0]

    def _made(self, builder: Builder, value: Value, depth: int) -> Value:
        """A traced value as it is made, down to so many ops."""
        if value not in self.known:
            node = value.node
            if node is None or not depth:
                made = builder.input(value.type)
            else:
                operands = [self._made(builder, one, depth - 1) for one in node.operands]
                made = builder.add(node.op, operands, dict(node.attrs))[value.index]
            self.known[value] = (made, self.trace.tensor(value))
        return self.known[value][0]


def place_of(tensor: Tensor) -> Any:
    """What a tensor is on the tape: a node, a Variable and one value of it, or only its own id.

    A compiled call's result is followed into the call.
    """
    source: Any = tensor._tape
    if type(source) is TapeNode:
        return source
    if source is None:
        return id(tensor)
    if not isinstance(source, Variable):
        source = source.resolve()
        if source is None:
            return id(tensor)
        if isinstance(source, TapeNode):
            return source
    return source, tensor._value if tensor._storage is None else tensor._storage


def _evaluated(graph: Graph, values: list[Value], known: dict[Value, Tensor]) -> list[Tensor]:
    """The Tensors of other values, computed from those that are known."""
    steps = [
        (node, results)
        for node, results in zip(graph.nodes, graph.results, strict=True)
        if results[0] not in known
    ]
    nodes, results = tuple(node for node, _ in steps), tuple(found for _, found in steps)
    cut = prune(Graph(tuple(known), nodes, results, tuple(values)))
    used = tuple(value for value in cut.inputs if cut.uses[value])
    cut = Graph(used, cut.nodes, cut.results, cut.outputs)
    return evaluate(cut, [known[value] for value in used])
