"""How does a loss reach the Parameters? The tape is written as a graph; its gradient is another.

    loss.backward()        # p.grad of every Parameter that the loss depends on grows

Gradients of several `backward` calls add up. The first one after any optimizer step drops what was
left over, so there is nothing to zero.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any, Protocol

from pellucid.core.error import DerivativeError, StateError
from pellucid.core.source import at_line, user_source
from pellucid.ir.build import Builder
from pellucid.ir.graph import Graph
from pellucid.ir.record import add_stage
from pellucid.ir.text import print_graph
from pellucid.tensor.arithmetic import add, constant
from pellucid.tensor.context import context, no_grad, program_trace
from pellucid.tensor.dispatch import evaluate, shapes_error
from pellucid.tensor.state import (
    Variable,
    as_tensor,
    detached,
    note_backward,
)
from pellucid.tensor.tape import TapeNode
from pellucid.tensor.tensor import Tensor
from pellucid.transforms.vjp import gradient_graph

_gradients: dict[object, tuple[Graph, Graph, tuple[int, ...]]] = {}
GRADIENTS_KEPT = 256
"""Tapes that are remembered as graphs, with the gradient's: a loop writes each once."""


def backward(self: Tensor, gradient: Any = None, retain_graph: bool = False) -> None:
    """Add d self / d p to `p.grad` for every Parameter p that this value was computed from.

    `gradient` is the cotangent of a value that is not a scalar. The tape is freed unless
    `retain_graph`. Raises DerivativeError where no Parameter is behind the value, and StateError
    where the tape was freed before.
    """
    if context.trace is not None and context.trace is not program_trace():
        raise DerivativeError(
            "backward: it works on the program, not inside grad, jvp or vmap"
            f"{at_line(user_source())}\n  use pe.value_and_grad there"
        )
    if self._tape is None:
        raise DerivativeError(
            f"backward: no Parameter is behind this {self._layout.type}{at_line(user_source())}"
            "\n  was it computed under pe.no_grad(), or from plain Tensors (use pe.grad for those)?"
        )
    cotangent = _cotangent(self, gradient)
    tape = _Tape(self)
    with no_grad():
        found = _pull_back(tape, cotangent)
        note_backward()
        for (parameter, _), share in zip(tape.leaves.values(), found, strict=True):
            _accumulate(parameter, share)
    if not retain_graph:
        for node in tape.nodes:
            node.free()


def _cotangent(output: Tensor, gradient: Any) -> Tensor:
    if gradient is None:
        if output.shape != ():
            raise shapes_error(
                "backward",
                f"expected a scalar, got {output._layout.type}; pass `gradient=` or sum it first",
            )
        return constant(1, output.dtype)
    tensor = detached(as_tensor(gradient, output.dtype))
    if tensor.shape != output.shape or tensor.dtype is not output.dtype:
        raise shapes_error(
            "backward",
            f"expected a gradient of type {output._layout.type}, got {tensor._layout.type}",
        )
    return tensor


class _Tape:
    """The tape behind one value, numbered: Parameters' values, other inputs, then what nodes gave.

    A Parameter that was assigned between two reads comes once for each value. `signature` says what
    is computed, and `tensors` on what: those of the inputs and nodes, by number.
    """

    def __init__(self, output: Tensor) -> None:
        self.leaves: dict[object, tuple[Variable, Tensor]] = {}
        self.nodes: list[TapeNode] = []
        self.tensors: list[Tensor] = []
        self._operands: dict[TapeNode, list[object]] = {}
        self._order(output)
        numbers = self._numbers()
        self.lines = [
            (node.op, node.attrs, tuple([numbers[place] for place in self._operands[node]]))
            for node in self.nodes
        ]
        self.output = numbers[_place(output)]
        inputs = tuple([tensor._layout for tensor in self.tensors])
        self.signature = (len(self.leaves), inputs, tuple(self.lines), self.output)
        self.tensors += [node.result for node in self.nodes]

    def graph(self) -> Graph:
        """The tape as a graph; its values have the same numbers."""
        builder = Builder()
        inputs = self.tensors[: len(self.tensors) - len(self.nodes)]
        values = [builder.input(tensor._layout.type) for tensor in inputs]
        for node, (op, attrs, operands) in zip(self.nodes, self.lines, strict=True):
            builder.source = node.source
            values += builder.add(op, [values[number] for number in operands], dict(attrs))
        return builder.graph([values[self.output]])

    def _order(self, output: Tensor) -> None:
        """Every node behind the output, operands before users; iterative, for tapes are deep."""
        seen: set[object] = set()
        stack: list[tuple[object, Tensor, bool]] = [(_place(output), output, False)]
        while stack:
            place, tensor, done = stack.pop()
            if done:
                assert isinstance(place, TapeNode), "only nodes have operands to wait for"
                self.nodes.append(place)
            elif place not in seen:
                seen.add(place)
                if isinstance(place, tuple):
                    self.leaves[place] = (place[0], tensor)
                elif isinstance(place, TapeNode):
                    if place.freed:
                        raise StateError(
                            "backward: the tape was freed by an earlier backward"
                            f"{at_line(user_source())}\n  pass retain_graph=True to the first one"
                        )
                    places = self._operands[place] = [_place(one) for one in place.operands]
                    stack.append((place, tensor, True))
                    pairs = zip(reversed(places), reversed(place.operands), strict=True)
                    stack += [(one, operand, False) for one, operand in pairs]

    def _numbers(self) -> dict[object, int]:
        """The number of each place; the inputs' Tensors are noted."""
        numbers: dict[object, int] = {place: number for number, place in enumerate(self.leaves)}
        self.tensors += [tensor for _, tensor in self.leaves.values()]
        for node in self.nodes:
            for place, tensor in zip(self._operands[node], node.operands, strict=True):
                if isinstance(place, int) and place not in numbers:
                    numbers[place] = len(self.tensors)
                    self.tensors.append(tensor)
        first = len(self.tensors)
        return numbers | {node: first + at for at, node in enumerate(self.nodes)}


class Deferred(Protocol):
    """The tape of a compiled call: written only when `backward` comes this way."""

    def resolve(self) -> object:
        """The tape node or Parameter that the call's result came from."""
        ...


def _place(tensor: Tensor) -> Any:
    """What a tensor is on the tape: a node, a Variable and one value of it, or only its own id.

    A compiled call's result is followed into the call.
    """
    source: Any = tensor._tape
    if source is None:
        return id(tensor)
    if not isinstance(source, Variable | TapeNode):
        source = source.resolve()
        if source is None:
            return id(tensor)
    if isinstance(source, TapeNode):
        return source
    return source, tensor._value if tensor._storage is None else tensor._storage


def _pull_back(tape: _Tape, cotangent: Tensor) -> list[Tensor]:
    known = _gradients.get(tape.signature)
    if known is None:
        graph = tape.graph()
        made, residuals = gradient_graph(graph, graph.inputs[: len(tape.leaves)], graph.outputs)
        known = (graph, made, tuple(graph.numbering[value] for value in residuals))
        if len(_gradients) >= GRADIENTS_KEPT:
            _gradients.clear()
        _gradients[tape.signature] = known
    graph, gradient, numbers = known
    add_stage("tape", lambda: print_graph(graph), "tensor/backward", 0.0)
    add_stage("gradient", lambda: print_graph(gradient), "transforms/vjp", 0.0)
    return evaluate(gradient, [*(detached(tape.tensors[number]) for number in numbers), cotangent])


def _accumulate(parameter: Variable, share: Tensor) -> None:
    held = parameter.grad
    parameter.grad = share if held is None else add(held, share)
