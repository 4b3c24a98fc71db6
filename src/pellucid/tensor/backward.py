"""How does a loss reach the Parameters? The tape is written as a graph; its gradient is another.

    loss.backward()        # p.grad of every Parameter that the loss depends on grows

Gradients of several `backward` calls add up. The first one after any optimizer step drops what was
left over, so there is nothing to zero.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from pellucid.core.error import DerivativeError, StateError
from pellucid.core.source import at_line, user_source
from pellucid.ir.build import Builder
from pellucid.ir.graph import Graph, Value
from pellucid.ir.record import add_stage
from pellucid.ir.rewrite import prune
from pellucid.ir.text import print_graph
from pellucid.ops.elementwise import stop_gradient
from pellucid.passes.pipeline import hasten_early
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
from pellucid.tensor.trace import Trace
from pellucid.transforms.vjp import gradient_graph

_gradients: dict[tuple[Graph, int], tuple[Graph, tuple[int, ...]]] = {}
DEPTH: Final = 24
"""How many ops are looked at behind an operand without a tape."""

GRADIENTS_KEPT = 256
"""Gradient graphs that are remembered by the tape they belong to: a loop writes each once."""


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
    trace = program_trace()
    tape = _Tape(self, trace if trace is not None and trace.fast else None)
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
    """The tape behind one value, written as a graph whose first inputs are the Parameters' values.

    A Parameter that was assigned between two reads comes once for each value. Where rounding may
    change, the program's `trace` is given: it is rewritten first, and then also holds how operands
    without a tape (masks) are made, and what is to be evaluated anew.
    """

    def __init__(self, output: Tensor, trace: Trace | None = None) -> None:
        self.leaves: dict[object, tuple[Variable, Tensor]] = {}
        self.nodes: list[TapeNode] = []
        self._order(output)
        builder = Builder()
        self.trace = trace
        self.known: dict[object, tuple[Value, Tensor]] = {}
        for place, (_, tensor) in self.leaves.items():
            pair = (builder.input(tensor._layout.type), tensor)
            self.known[place] = self.known[tensor._value] = pair
        for node in self.nodes:
            builder.source = node.source
            operands = [self._operand(builder, tensor) for tensor in node.operands]
            (value,) = builder.add(node.op, operands, dict(node.attrs))
            self.known[node] = self.known[node.result._value] = (value, node.result)
        self.graph = builder.graph([self.known[_place(output)][0]])
        if trace is not None:
            self._hasten(trace)

    def _operand(self, builder: Builder, tensor: Tensor) -> Value:
        """The value of an operand; of one without a tape an input, or what it is made of."""
        place = _place(tensor)
        if place not in self.known:
            value = tensor._value
            if self.trace is None or value is None or tensor._trace is not self.trace:
                made = builder.input(tensor._layout.type)
            else:
                (made,) = builder.add(stop_gradient, [self._made(builder, value, DEPTH)], {})
            self.known[place] = (made, tensor)
        return self.known[place][0]

    def _made(self, builder: Builder, value: Value, depth: int) -> Value:
        """A traced value as it is made, down to so many ops."""
        if value not in self.known:
            assert self.trace is not None, "only a trace says how values are made"
            node = value.node
            if node is None or not depth:
                made = builder.input(value.type)
            else:
                operands = [self._made(builder, one, depth - 1) for one in node.operands]
                made = builder.add(node.op, operands, dict(node.attrs))[value.index]
            self.known[value] = (made, self.trace.tensor(value))
        return self.known[value][0]

    def _hasten(self, trace: Trace) -> None:
        """Rewrite what may be rewritten before the derivative is taken."""
        self.graph, became, rewrites = hasten_early(self.graph)
        self.known = {place: (became[value], one) for place, (value, one) in self.known.items()}
        trace.rewrites += [replace(one, name=f"{one.name} in backward") for one in rewrites]

    def _order(self, output: Tensor) -> None:
        """Every node behind the output, operands before users; iterative, for tapes are deep."""
        seen: set[object] = set()
        stack: list[tuple[Tensor, bool]] = [(output, False)]
        while stack:
            tensor, done = stack.pop()
            source, place = _source(tensor), _place(tensor)
            if source is None:
                continue
            if done:
                self.nodes.append(source)
            elif place not in seen:
                seen.add(place)
                if isinstance(source, Variable):
                    self.leaves[place] = (source, tensor)
                    continue
                if source.freed:
                    raise StateError(
                        "backward: the tape was freed by an earlier backward"
                        f"{at_line(user_source())}\n  pass retain_graph=True to the first one"
                    )
                stack.append((tensor, True))
                stack.extend((operand, False) for operand in reversed(source.operands))

    def tensors(self, numbers: Sequence[int]) -> list[Tensor]:
        """The Tensors for which the values with these numbers stand."""
        known = dict(self.known.values())
        values = list(self.graph.numbering)
        wanted = [values[number] for number in numbers]
        new = [value for value in wanted if value not in known]
        if new:
            known.update(zip(new, _evaluated(self.graph, new, known), strict=True))
        return [detached(known[value]) for value in wanted]


class Deferred(Protocol):
    """The tape of a compiled call: written only when `backward` comes this way."""

    def resolve(self) -> object:
        """The tape node or Parameter that the call's result came from."""
        ...


def _source(tensor: Tensor) -> Any:
    """What a tensor was computed from, a compiled call's result followed into the call."""
    source: Any = tensor._tape
    return source if isinstance(source, Variable | TapeNode | None) else source.resolve()


def _place(tensor: Tensor) -> object:
    """What a tensor is on the tape: a node, one value of a Variable, or just itself."""
    source = _source(tensor)
    if isinstance(source, Variable):
        return source, tensor._value if tensor._storage is None else tensor._storage
    return tensor if source is None else source


def _pull_back(tape: _Tape, cotangent: Tensor) -> list[Tensor]:
    graph = tape.graph
    known = _gradients.get((graph, len(tape.leaves)))
    if known is None:
        wrt = graph.inputs[: len(tape.leaves)]
        made, residuals = gradient_graph(graph, wrt, graph.outputs)
        known = (made, tuple(graph.numbering[value] for value in residuals))
        if len(_gradients) >= GRADIENTS_KEPT:
            _gradients.clear()
        _gradients[graph, len(tape.leaves)] = known
    gradient, numbers = known
    add_stage("tape", lambda: print_graph(graph), "tensor/backward", 0.0)
    add_stage("gradient", lambda: print_graph(gradient), "transforms/vjp", 0.0)
    return evaluate(gradient, [*tape.tensors(numbers), cotangent])


def _evaluated(graph: Graph, values: list[Value], known: dict[Value, Tensor]) -> list[Tensor]:
    """The Tensors of other values, computed from those that are known."""
    steps = [
        (node, results)
        for node, results in zip(graph.nodes, graph.results, strict=True)
        if results[0] not in known
    ]
    nodes, results = tuple(node for node, _ in steps), tuple(found for _, found in steps)
    cut = prune(Graph(tuple(known), nodes, results, tuple(values)))
    return evaluate(cut, list(known.values()))


def _accumulate(parameter: Variable, share: Tensor) -> None:
    held = parameter.grad
    parameter.grad = share if held is None else add(held, share)
