"""What of a compiled function need not be computed at every call? Its steady part, which is kept.

Cells that the function does not assign, and Tensors that it found outside, seldom change from call
to call. What depends on them alone (a batch norm's factors, weights cast to bfloat16) is computed
by an executable of its own, at the first call and when one of the cells was written since.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from weakref import ReferenceType

from pellucid.engines.base import Engine, Executable, layout
from pellucid.ir.graph import Graph, Value
from pellucid.ir.record import add_stage, unheard
from pellucid.ir.text import print_graph
from pellucid.passes.fast import Rewrite, merged
from pellucid.passes.pipeline import clean, hasten, hasten_early, hasten_kept
from pellucid.passes.precision import with_casts
from pellucid.passes.steady import Split, split_steady
from pellucid.tensor.binding import Binding
from pellucid.tensor.cell import Cell, Watch, Writer, clock
from pellucid.tensor.tensor import Tensor

NEVER: Final = -1
"""The count of writes at which nothing was computed yet."""


class Steady:
    """The kept values of a function, as good as the cells they come from.

    `kept` is right while no source was written after the count of writes `as_of`: by assignment,
    of which the cells tell, or by compiled code, which counts when it did.
    """

    def __init__(self, executable: Executable, split: Split, binding: Binding) -> None:
        self.executable = executable
        self.split = split
        cells, tensors = dict(binding.cells), dict(binding.tensors)
        self._sources: list[Cell | Tensor] = [
            cells[number] if number in cells else tensors[number] for number in split.reads
        ]
        self._cells = [source for source in self._sources if isinstance(source, Cell)]
        self._first = len(binding.graph.inputs)
        self._now = _Kept(NEVER, [])
        self._watch = Watch()
        self._writers: tuple[ReferenceType[Writer], ...] = ()
        self._writers_at = NEVER

    def is_current(self) -> bool:
        """Whether what is kept is what would be computed now."""
        kept, writes = self._now, clock.writes
        if kept.as_of == writes:
            return True
        if kept.as_of == NEVER or self._watch.told or self._is_overwritten(kept.as_of):
            return False
        self._now = _Kept(writes, kept.values)
        return True

    def _is_overwritten(self, as_of: int) -> bool:
        """Whether compiled code wrote a source since that count of writes."""
        if self._writers_at != clock.writers:
            self._writers_at = clock.writers
            # A writer of many cells is looked at once; the references of those gone are no keys.
            found = [(ref(), ref) for cell in self._cells for ref in cell._writers]
            self._writers = tuple({writer: ref for writer, ref in found if writer}.values())
        writers = [writer for ref in self._writers if (writer := ref()) is not None]
        return any(writer.wrote_at > as_of for writer in writers)

    def skip(self, before: int) -> None:
        """The function itself wrote other cells since that count of writes, and nobody else did."""
        if self._now.as_of == before:
            self._now = _Kept(clock.writes, self._now.values)

    def slots(self, engine: Engine) -> tuple[list[tuple[int, int]], list[Tensor]]:
        """Slots and addresses of what is kept, computed if need be, and the Tensors that hold it.

        The caller is among the gate's readers, or writes alone.
        """
        if not self.is_current():
            self._now = self._computed(engine)
        values = self._now.values
        return [(self._first + n, one._address) for n, one in enumerate(values)], values

    def _computed(self, engine: Engine) -> _Kept:
        # Counted first: what is written from now on is noticed by the next call.
        writes, frame = clock.writes, self.executable.lease()
        self._watch.told.clear()
        for cell in self._cells:
            cell.watched_by(self._watch, also_takers=False)
        values: list[Tensor] = []
        for slot, source in enumerate(self._sources):
            frame.table[slot] = source._address
        for slot, type in enumerate(self.executable.outputs, len(self._sources)):
            place = layout(type)
            storage = engine.allocate(place.nbytes)
            frame.table[slot] = storage.address
            values.append(Tensor(place, storage, storage.address))
        # The frame is not given back: its memory is seldom needed again.
        self.executable.run(frame)
        return _Kept(writes, values)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Values, computed when the clock had counted so many writes."""

    as_of: int
    values: list[Tensor]


@dataclass(frozen=True, slots=True)
class Program:
    """A traced function as it runs: an executable for `graph`, and its steady part if it has one.

    The executable takes the inputs of the traced graph, then what is kept. Where it is `fast`, its
    rounding may have changed; `early` is what was rewritten before the engine had it.
    """

    graph: Graph
    executable: Executable
    steady: Steady | None
    fast: bool
    early: tuple[Rewrite, ...]

    @property
    def rewrites(self) -> tuple[Rewrite, ...]:
        """What was rewritten to other rounding, where it might be `fast`; found out anew."""
        if not self.fast:
            return ()
        graphs = [self.graph] if self.steady is None else [self.graph, self.steady.split.steady]
        with unheard():
            late = [one for graph in graphs for one in hasten(clean(graph))[1]]
        return merged((*self.early, *late))

    def bound(self, binding: Binding) -> Program:
        """The same program for a graph that is equal, but has other cells."""
        if self.steady is None:
            return self
        steady = Steady(self.steady.executable, self.steady.split, binding)
        return replace(self, steady=steady)


def build_program(engine: Engine, binding: Binding) -> Program:
    """The program of a traced function, made by an engine."""
    graph, fast, early = binding.graph, binding.fast, binding.rewrites
    if fast:
        # Before it is split: a mask is seen to be one by how it is made.
        graph, _, found = hasten_early(graph)
        early = (*early, *found)
    # Before it is split: weights that are rounded are rounded once.
    graph = with_casts(graph)
    numbers, chosen = steady_inputs(binding), frozenset[Value]()
    if fast:
        graph, chosen, found = hasten_kept(graph, numbers)
        early = (*early, *found)
    split = split_steady(graph, numbers, engine.operand_form, chosen)
    if split is None:
        executable = engine.build(graph, binding.donate, fast)
        return Program(graph, executable, None, fast, early)
    add_stage("steady", lambda: _text(split), "passes/steady", 0.0)
    with unheard():
        steady = engine.build(split.steady, {}, fast)
    executable = engine.build(split.rest, binding.donate, fast)
    return Program(split.rest, executable, Steady(steady, split, binding), fast, early)


def steady_inputs(binding: Binding) -> list[int]:
    """The inputs that seldom change: cells that are not assigned, and Tensors from outside."""
    assigned = set(binding.assigned)
    numbers = [number for number, cell in binding.cells if cell not in assigned]
    # Others may write to borrowed memory at any time.
    return numbers + [number for number, tensor in binding.tensors if not _is_borrowed(tensor)]


def _is_borrowed(tensor: Tensor) -> bool:
    return tensor._storage is not None and tensor._storage.borrowed


def _text(split: Split) -> str:
    kept = len(split.steady.outputs)
    head = f"steady: {kept} value{'s' * (kept != 1)} computed once and kept, as further inputs"
    return f"{head}\n{print_graph(split.steady)}"
