"""How does a Python function become a graph that transforms take? It runs once, on traced values.

Arguments are trees: dicts, lists, tuples, dataclasses, Modules. Their leaves are Tensors, which
become inputs, and Parameters, which the function reads. Cells that it reads or assigns are handed
through.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.core import tree
from pellucid.core.error import TreeError
from pellucid.ir.graph import Graph, Value
from pellucid.passes.pipeline import hasten_early
from pellucid.tensor.cell import Cell
from pellucid.tensor.cells import cells_of, parts_of, with_cells
from pellucid.tensor.context import context, program_trace, tracing
from pellucid.tensor.creation import asarray, zeros_like
from pellucid.tensor.draws import count_outside, finish_draws
from pellucid.tensor.state import Variable, as_tensor
from pellucid.tensor.stateful import Stateful
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.trace import Trace

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Traced:
    """A function as a graph: `graph` of the results and then of the cells that it assigned.

    `outside` are the Tensors that its inputs stand for after those asked for; `parameters` the
    Variables that it read, as input numbers.
    """

    graph: Graph
    outside: tuple[Tensor, ...]
    treedef: tree.TreeDef
    results: int
    assigned: tuple[Variable, ...]
    parameters: dict[Cell, int]

    def finish(self, outputs: Sequence[Tensor]) -> Any:
        """Assign what was assigned, and give the tree of results."""
        for cell, tensor in zip(self.assigned, outputs[self.results :], strict=True):
            cell.assign(tensor)
        return tree.unflatten(self.treedef, list(outputs[: self.results]))


def trace_function(
    function: Function, arguments: Sequence[Any], inputs: Sequence[Tensor]
) -> Traced:
    """Run `function(*arguments)` on traced values.

    Each Tensor of `inputs` that is a leaf of the arguments (the same object) becomes an input, in
    that order; whatever else is used is found and follows.
    """
    trace = Trace(context.trace)
    stand_ins = {id(tensor): trace.input(tensor._layout.type) for tensor in inputs}

    def stand_in(leaf: Any) -> Any:
        return stand_ins.get(id(leaf), leaf)

    with tracing(trace):
        found = function(*tree.map_tree(stand_in, list(arguments)))
        leaves, treedef = tree.flatten(found)
        results = [trace.lift(asarray(leaf)) for leaf in leaves]
        draws = finish_draws(trace) if context.outermost is trace else {}
    count_outside(draws)
    return _finished(trace, treedef, results)


def _finished(trace: Trace, treedef: tree.TreeDef, results: list[Value]) -> Traced:
    assigned: list[Variable] = []
    for cell, state in trace.cells.items():
        assert isinstance(cell, Variable), "a trace reads and assigns Variables"
        if state.assigned:
            assigned.append(cell)
    graph = trace.builder.graph([*results, *(trace.cells[cell].current for cell in assigned)])
    program = program_trace()
    if program is not None and program.fast:
        # A derivative is then that of what it became.
        graph, _, rewrites = hasten_early(graph)
        program.rewrites += rewrites
    outer = {value: tensor for tensor, value in trace.captured.values()}
    parameters: dict[Cell, int] = {}
    for cell, state in trace.cells.items():
        if state.entry is not None and isinstance(cell, Variable):
            outer[state.entry] = cell.value
            parameters[cell] = graph.numbering[state.entry]
    outside = tuple(outer[value] for value in graph.inputs if value in outer)
    return Traced(graph, outside, treedef, len(results), tuple(assigned), parameters)


class Leaves:
    """The Tensors and the Parameters in some arguments, each once, in order.

    `values` are the arguments with arrays and numbers made Tensors, each its own object.
    """

    def __init__(self, arguments: Sequence[Any]) -> None:
        self.values = [as_leaves(argument) for argument in arguments]
        every = tree.flatten(self.values)[0]
        self.tensors = [leaf for leaf in every if isinstance(leaf, Tensor)]

    @property
    def parameters(self) -> list[Variable]:
        """The trainable cells that are there by now: a Module makes its own when it first runs."""
        every = tree.flatten(self.values)[0]
        rest = [leaf for leaf in every if not isinstance(leaf, Tensor)]
        return [cell for cell in cells_of(rest).values() if cell.trainable]

    def inputs(self, traced: Traced) -> list[tuple[Tensor | Variable, int]]:
        """Each leaf and the number of its graph input, -1 for a Parameter that was never read."""
        tensors = [(tensor, number) for number, tensor in enumerate(self.tensors)]
        return [*tensors, *((p, traced.parameters.get(p, -1)) for p in self.parameters)]

    def trees(self, shares: Sequence[Tensor | None]) -> list[Any]:
        """Trees like the arguments, with one share for each leaf; None where there is none.

        A Module comes as the same Module with shares in place of its Parameters.
        """
        ids = map(id, (*self.tensors, *self.parameters))
        by_id = dict(zip(ids, shares, strict=True))

        def share_of(leaf: Any) -> Any:
            if isinstance(leaf, Stateful):
                return with_cells(leaf, share_of)
            return by_id.get(id(leaf))

        return [tree.map_tree(share_of, value) for value in self.values]

    def tangents(self, moves: Sequence[Any]) -> dict[int, Tensor]:
        """The tangents by their leaf's id, from trees like those that `trees` gives."""
        found: dict[int, Tensor] = {}
        for value, move in zip(self.values, moves, strict=True):
            leaves, treedef = tree.flatten(value)
            moved, movedef = tree.flatten(move)
            if treedef != movedef:
                raise TreeError("jvp: the tangents do not have the structure of the primals")
            for leaf, tangent in zip(leaves, moved, strict=True):
                found.update((id(x), as_tensor(t, x.dtype)) for x, t in _paired(leaf, tangent))
        return found


def _paired(leaf: Any, tangent: Any) -> Iterator[tuple[Any, Any]]:
    """The Tensors and Variables in a leaf, and what stands in their places in another one."""
    if isinstance(leaf, Tensor | Variable):
        if tangent is not None:
            yield leaf, tangent
        return
    there = dict(parts_of(tangent))
    for name, part in parts_of(leaf):
        if name in there:
            yield from _paired(part, there[name])


def as_leaves(value: Any) -> Any:
    """A tree with its arrays and numbers made Tensors (each its own object); cells stay."""

    def as_leaf(leaf: Any) -> Any:
        return leaf if isinstance(leaf, Variable | Stateful) else _own(asarray(leaf))

    return tree.map_tree(as_leaf, value)


def _own(tensor: Tensor) -> Tensor:
    # The same Tensor given twice is two arguments; each needs an identity of its own.
    return Tensor(
        tensor._layout, tensor._storage, tensor._address, tensor._value, tensor._trace, tensor._tape
    )


def zero_where_none(leaf: Any, share: Tensor | None) -> Tensor:
    """A share, or zeros like the leaf where nothing depends on it."""
    return zeros_like(leaf) if share is None else share
