"""What stands at each input and output of a traced graph? An argument, a cell, a gradient …

A `Binding` is made from a trace that has ended well, and says so by number.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pellucid.ir.graph import Graph
from pellucid.passes.fast import Rewrite
from pellucid.tensor.cell import Cell
from pellucid.tensor.dispatch import dense
from pellucid.tensor.draws import finish_draws
from pellucid.tensor.state import Variable
from pellucid.tensor.tape import TapeNode
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.trace import GradientState, Trace

RESULT: Final = object()
"""Stands in the tree of results where a Tensor comes out."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The inputs of a graph by number, and its outputs in order.

    A Tensor of `tensors` is dense unless its memory is borrowed.

    Outputs are the Tensors, for which RESULT stands among the `results` and of which some are
    `taped`, then the `assigned` cells, then the gradients that are `left` (each with the steps made
    before it). `donate` pairs a cell's input and output.
    `draws` are random draws that ran while tracing and that the graph does not count,
    `draws_inside` those that it does. `once` says that tracing changed the program, so that the
    graph is right for a single call. `fast` says whether its rounding may change, `rewrites` where
    it did already.
    """

    graph: Graph
    arguments: tuple[int, ...]
    tensors: tuple[tuple[int, Tensor], ...]
    cells: tuple[tuple[int, Cell], ...]
    gradients: tuple[tuple[int, Cell], ...]
    results: tuple[Any, ...]
    taped: tuple[bool, ...]
    assigned: tuple[Cell, ...]
    left: tuple[tuple[Cell, int], ...]
    donate: dict[int, int]
    state: GradientState
    draws: dict[Variable, int]
    draws_inside: dict[Variable, int]
    once: bool
    fast: bool
    rewrites: tuple[Rewrite, ...]


def bind(trace: Trace, results: Sequence[Any]) -> Binding:
    """The graph of an open trace that gives the Tensors among `results`."""
    once = bool(trace.undo or trace.draws_at_once)
    draws = finish_draws(trace)
    assigned = [c for c, s in trace.cells.items() if s.assigned]
    state = trace.gradients
    left = {c: t for c, t in state.values.items() if t is not None and c in state.set_at}
    outputs = [trace.lift(one) for one in results if isinstance(one, Tensor)]
    first = len(outputs)
    outputs += [trace.cells[cell].current for cell in assigned]
    outputs += [trace.lift(tensor) for tensor in left.values()]
    graph = trace.builder.graph(outputs)
    number = {value: index for index, value in enumerate(graph.inputs)}
    tensors = {number[value]: tensor for tensor, value in trace.captured.values()}
    cells = {number[s.entry]: c for c, s in trace.cells.items() if s.entry is not None}
    brought = {number[value]: cell for cell, value in state.entries.items()}
    place = {cell: index for index, cell in cells.items()}
    inner = {*tensors, *cells, *brought}
    # The traced Tensors have done their work; they would keep the whole trace alive.
    state.values.clear()
    state.entries.clear()
    return Binding(
        graph=graph,
        arguments=tuple(index for index in number.values() if index not in inner),
        tensors=tuple((index, _as_captured(tensor)) for index, tensor in tensors.items()),
        cells=tuple(cells.items()),
        gradients=tuple(brought.items()),
        results=tuple(RESULT if isinstance(one, Tensor) else one for one in results),
        taped=tuple(is_live(one) for one in results if isinstance(one, Tensor)),
        assigned=tuple(assigned),
        left=tuple((cell, state.set_at[cell]) for cell in left),
        donate={place[c]: first + i for i, c in enumerate(assigned) if c in place},
        state=state,
        draws=draws,
        draws_inside={c: n for c, n in trace.draws.items() if c not in draws},
        once=once,
        fast=trace.fast,
        rewrites=tuple(trace.rewrites),
    )


def _as_captured(tensor: Tensor) -> Tensor:
    # A copy of borrowed memory would not show what its owner writes later.
    assert tensor._storage is not None, "a captured Tensor has numbers"
    return tensor if tensor._storage.borrowed else dense(tensor)


def is_live(result: Tensor) -> bool:
    """Whether `backward` could still start from a traced result."""
    tape = result._tape
    return tape is not None and not (isinstance(tape, TapeNode) and tape.freed)
