"""How does a loss reach the Parameters? The tape is written as a graph; its gradient is another.

    loss.backward()        # p.grad of every Parameter that the loss depends on grows

Gradients of several `backward` calls add up. The first one after any optimizer step drops what was
left over, so there is nothing to zero.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pellucid.core.error import DerivativeError
from pellucid.core.source import at_line, user_source
from pellucid.ir.graph import Graph
from pellucid.ir.record import add_stage
from pellucid.ir.text import print_graph
from pellucid.tensor.arithmetic import add, constant
from pellucid.tensor.context import context, no_grad, program_trace
from pellucid.tensor.dispatch import evaluate, shapes_error
from pellucid.tensor.rehearsal import Rehearsal
from pellucid.tensor.state import (
    Variable,
    as_tensor,
    detached,
    note_backward,
)
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.written import HastenedTape, Tape
from pellucid.transforms.vjp import gradient_graph


@dataclass(slots=True)
class _Gradient:
    """A tape as a graph, the graph of its gradient, and which values of the one the other takes.

    `ready` is the latter, made ready for how those lay at last.
    """

    tape: Graph
    gradient: Graph
    numbers: tuple[int, ...]
    ready: Rehearsal | None = None


_gradients: dict[object, _Gradient] = {}
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
    trace = program_trace()
    tape = Tape(self) if trace is None or not trace.fast else HastenedTape(self, trace)
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


def _pull_back(tape: Tape | HastenedTape, cotangent: Tensor) -> list[Tensor]:
    known = _gradients.get(tape.key)
    if known is None:
        known = _gradient_of(tape)
        if len(_gradients) >= GRADIENTS_KEPT:
            _gradients.clear()
        _gradients[tape.key] = known
    add_stage("tape", lambda: print_graph(known.tape), "tensor/backward", 0.0)
    add_stage("gradient", lambda: print_graph(known.gradient), "transforms/vjp", 0.0)
    if context.trace is not None or isinstance(tape, HastenedTape):
        return evaluate(known.gradient, [*tape.tensors(known.numbers), cotangent])
    inputs = [*tape.given(known.numbers), cotangent]
    ready = known.ready
    if ready is None or not ready.suits(inputs):
        ready = known.ready = Rehearsal(known.gradient, [one._layout for one in inputs])
    return ready.run(inputs)


def _gradient_of(tape: Tape | HastenedTape) -> _Gradient:
    graph = tape.graph()
    made, residuals = gradient_graph(graph, graph.inputs[: len(tape.leaves)], graph.outputs)
    return _Gradient(graph, made, tuple(graph.numbering[value] for value in residuals))


def _accumulate(parameter: Variable, share: Tensor) -> None:
    held = parameter.grad
    parameter.grad = share if held is None else add(held, share)
