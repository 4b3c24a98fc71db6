"""What does a traced function see? Tensors without numbers, and cells whose contents are traced.

A `Trace` collects the nodes, the Tensors of the outside that were used (they become inputs), the
cells that were read or assigned (inputs and outputs), and a journal of what Python changed
meanwhile, from which an exception restores everything.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pellucid.core.error import EscapedTraceError
from pellucid.engines.base import layout
from pellucid.ir.build import Builder
from pellucid.ir.graph import TensorType, Value
from pellucid.passes.fast import Rewrite
from pellucid.tensor.cell import Cell, clock
from pellucid.tensor.tensor import Tensor, escaped_error


@dataclass(slots=True)
class CellState:
    """A cell inside a trace: the input that brought its value, and the value it has now."""

    entry: Value | None
    current: Value
    assigned: bool = False


@dataclass(slots=True)
class GradientState:
    """What happened to the gradients of Parameters inside a trace.

    `found` is the clock's mood outside; `pending` says that the next `backward` drops what is left
    over, `dropped_at` how many steps came before the one that did. `values` are the gradients that
    were read or set, `set_at` the steps made before; `entries` are the inputs that brought one in,
    `present` what was found outside.
    """

    found: tuple[bool, bool]
    pending: bool = False
    used: bool = False
    dropped_at: int | None = None
    steps: int = 0
    backward_at: int | None = None
    values: dict[Cell, Tensor | None] = field(default_factory=dict[Cell, Tensor | None])
    set_at: dict[Cell, int] = field(default_factory=dict[Cell, int])
    entries: dict[Cell, Value] = field(default_factory=dict[Cell, Value])
    present: dict[Cell, bool] = field(default_factory=dict[Cell, bool])

    def begin_backward(self) -> None:
        """A `backward` begins: if a step came after the last one, what was left over is dropped."""
        self.used = True
        if self.pending:
            self.pending, self.dropped_at = False, self.steps
            for cell in self.values:
                # What was assigned since the step is not left over.
                if self.set_at.get(cell, -1) < self.steps and not self._came_early(cell):
                    self.values[cell] = None
        self.backward_at = self.steps

    def end_step(self) -> None:
        """An optimizer has made a step."""
        self.used = self.pending = True
        self.steps += 1

    def set(self, cell: Cell, gradient: Tensor | None) -> None:
        """Let a cell's gradient be this one."""
        self.used = True
        self.values[cell], self.set_at[cell] = gradient, self.steps

    def get(self, cell: Cell, trace: Trace) -> Tensor | None:
        """A cell's gradient; the first time it is asked for, what it brings from outside."""
        if cell not in self.values:
            self.values[cell] = self._entry(cell, trace)
        return self.values[cell]

    def _entry(self, cell: Cell, trace: Trace) -> Tensor | None:
        self.used = True
        if self.dropped_at is not None and not (self.dropped_at == 0 and self.found[1]):
            return None
        self.present[cell] = there = cell.held_gradient is not None
        if not there or (self.dropped_at is not None and not self._came_early(cell)):
            return None
        self.entries[cell] = trace.builder.input(cell.type)
        return trace.tensor(self.entries[cell])

    def _came_early(self, cell: Cell) -> bool:
        """Whether the gradient outside was assigned after the last step, before any `backward`."""
        return self.steps == 0 and cell not in self.set_at and cell.is_early


class Trace:
    """The graph that a Python function draws while it runs.

    One that `is_program` runs as a whole, gradients and all; a transform's trace is a function.
    A program that may be `fast` is rewritten to other rounding before derivatives are taken, and
    its `rewrites` say how.
    `draws` counts random draws since the outermost trace began, by generator, and `draws_at_once`
    those among them that ran at once and are not counted in the graph yet.
    """

    def __init__(self, parent: Trace | None, is_program: bool = False, fast: bool = False) -> None:
        self.parent = parent
        self.is_program = is_program
        self.fast = fast
        self.rewrites: list[Rewrite] = []
        self.builder = Builder()
        self.is_open = True
        self.captured: dict[int, tuple[Tensor, Value]] = {}
        self.cells: dict[Cell, CellState] = {}
        self.gradients = GradientState(clock.mood, clock.pending)
        self.undo: list[Callable[[], None]] = []
        self.attributes: list[tuple[object, str]] = []
        self.draws: dict[Any, int] = {}
        self.draws_at_once: dict[Any, int] = {}

    def input(self, type: TensorType) -> Tensor:
        """A traced Tensor for an argument."""
        return self.tensor(self.builder.input(type))

    def tensor(self, value: Value) -> Tensor:
        """The traced Tensor of a graph value."""
        return Tensor(layout(value.tensor), None, 0, value, self)

    def lift(self, tensor: Tensor) -> Value:
        """The graph value of a Tensor; one of the outside becomes an input."""
        if tensor._trace is self:
            assert tensor._value is not None, "a traced Tensor has a value"
            return tensor._value
        if tensor._trace is not None and not tensor._trace.is_open:
            raise escaped_error(tensor)
        known = self.captured.get(id(tensor))
        if known is None:
            # The Tensor is kept, so its id stays its own.
            known = self.captured[id(tensor)] = (tensor, self.builder.input(tensor._layout.type))
        return known[1]

    def read(self, cell: Cell, taped: bool) -> Tensor:
        """What a cell holds at this point of the trace."""
        state = self.cells.get(cell)
        if state is None:
            value = self.builder.input(cell.type)
            state = self.cells[cell] = CellState(value, value)
        tensor = self.tensor(state.current)
        if taped:
            tensor._tape = cell
        return tensor

    def assign(self, cell: Cell, tensor: Tensor) -> None:
        """Let a cell hold a value from this point on."""
        value = self.lift(tensor)
        state = self.cells.get(cell)
        if state is None:
            self.cells[cell] = CellState(None, value, assigned=True)
        else:
            state.current, state.assigned = value, True

    def restore(self) -> None:
        """Take back what Python changed while tracing, the latest first."""
        while self.undo:
            self.undo.pop()()

    def require_no_escape(self) -> None:
        """Raise EscapedTraceError where a traced Tensor was left in a plain attribute."""
        for holder, name in self.attributes:
            found = holder.__dict__.get(name)
            if any(one._trace is not None for one in tensors_in(found)):
                raise EscapedTraceError(
                    f"{type(holder).__name__}.{name}: a traced Tensor was left in a plain "
                    "attribute, where no number will ever be\n  make it a pe.Variable (or a "
                    f"pe.Buffer) and write {name}.assign(value)"
                )


def tensors_in(value: object) -> Iterator[Tensor]:
    """The Tensors in a value and in the lists, tuples and dicts that it consists of."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from tensors_in(item)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))  # pyright: ignore[reportUnknownArgumentType]
