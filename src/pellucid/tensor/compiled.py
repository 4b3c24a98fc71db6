"""How is a compiled graph called with cells? Addresses go into a table, then one native call runs.

While nobody else touched the cells, their addresses in the table are still right, however many they
are: a call then costs a few microseconds. A cell is written in place only if nobody else holds
its memory and no other call is reading.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from threading import get_ident
from typing import Any
from weakref import ref

from pellucid.core import tree
from pellucid.engines.base import Frame, layout
from pellucid.ir.graph import Graph, TensorType
from pellucid.passes.fast import Rewrite
from pellucid.passes.pipeline import clean
from pellucid.passes.traffic import Traffic, fewest_bytes, flops_of
from pellucid.tensor.addresses import Addresses, Known
from pellucid.tensor.binding import RESULT, Binding
from pellucid.tensor.cell import Cell, clock, gate
from pellucid.tensor.context import context, current_engine
from pellucid.tensor.deferred import DeferredCall, DeferredResult
from pellucid.tensor.dispatch import dense
from pellucid.tensor.footprint import Footprint
from pellucid.tensor.interrupt import raise_late
from pellucid.tensor.reach import Reach
from pellucid.tensor.steady import Program, build_program
from pellucid.tensor.tensor import Tensor, escaped_error


class _Seat:
    """A frame, and what its table was filled with."""

    __slots__ = ("filled", "frame", "table")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.table = frame.table
        self.filled: Known | None = None


class Compiled:
    """One executable of a jitted function, its guards, and its way of being called.

    `graph` is what was traced and `executable` what the engine made of it; `inputs` and `outputs`
    are their types.
    """

    # So many that they would not be looked up quickly in a dict.
    __slots__ = (
        "__weakref__",
        "_addresses",
        "_brings",
        "_commits",
        "_engine",
        "_gradients",
        "_kinds",
        "_left",
        "_mode",
        "_mood",
        "_once",
        "_plain",
        "_present",
        "_reads",
        "_resultdef",
        "_results",
        "_seats",
        "_single",
        "_slots",
        "_states",
        "_steady",
        "_taped",
        "_told",
        "_uneven",
        "_varying",
        "_writes",
        "binding",
        "executable",
        "graph",
        "inputs",
        "name",
        "outputs",
        "program",
        "reach",
        "spent",
        "wrote_at",
    )

    def __init__(
        self,
        name: str,
        program: Program,
        binding: Binding,
        reach: Reach,
        treedef: tree.TreeDef,
        leaves: Sequence[Any],
        resultdef: tree.TreeDef,
    ) -> None:
        self.name = name
        self.program = program
        self.executable = program.executable
        self.binding = binding
        self.reach = reach
        self.graph: Graph = binding.graph
        self.inputs: tuple[TensorType, ...] = tuple(one.tensor for one in self.graph.inputs)
        self.outputs: tuple[TensorType, ...] = self.executable.outputs
        self.spent = False
        self._once = binding.once
        self._resultdef = resultdef
        self._kinds = _plain_kinds(treedef, leaves)
        self._engine = current_engine()
        self._gradients = context.gradients
        self._mode = context.mode
        first = len(self.executable.inputs)
        places = [(first + i, layout(type)) for i, type in enumerate(self.outputs)]
        count = len(binding.taped)
        # Borrowed memory that lies otherwise than kernels expect is copied at each call.
        self._uneven = [(slot, t) for slot, t in binding.tensors if not t._layout.dense]
        take = self._engine.allocator
        self._results = [(slot, place, take(place.nbytes)) for slot, place in places[:count]]
        self._states = places[count : count + len(binding.assigned)]
        self._left = places[count + len(binding.assigned) :]
        self._slots = binding.arguments
        self._brings = bool(binding.gradients or self._uneven)
        brought = (number for number, _ in (*binding.gradients, *self._uneven))
        made = (slot for slot, *_ in (*self._results, *self._left))
        self._varying = (*self._slots, *brought, *made)
        self._taped = binding.taped if any(binding.taped) else ()
        self._single = resultdef == tree.LEAF and count == 1
        self._plain = _plain_kind(resultdef, binding.results)
        self._writes = bool(binding.assigned or binding.left or binding.state.used)
        self._reads = bool(binding.cells)
        self._present = tuple(binding.state.present.items())
        self._mood = binding.state.found if binding.state.used else None
        self._steady = program.steady
        self.wrote_at = 0
        for cell in {*(c for _, c in binding.cells), *binding.assigned}:
            cell._watched = True
        self._take_seats()

    @property
    def memory(self) -> Footprint:
        """What a call holds in memory, known before it runs."""
        binding, need = self.binding, self.executable.memory
        cells = {*(cell for _, cell in binding.cells), *binding.assigned}
        places = [layout(self.inputs[number]) for number in binding.arguments]
        outside = [tensor._layout.nbytes for _, tensor in binding.tensors]
        first = len(self._results) + len(self._states)
        arena, kept = need.arena, need.constants
        if self._steady is not None:
            once = self._steady.executable.memory
            # Its arena is given back before the function's own is taken.
            arena, kept = max(arena, once.arena), kept + once.constants + sum(once.outputs)
        return Footprint(
            name=self.name,
            arguments=sum(place.nbytes for place in places),
            state=sum(cell._layout.nbytes for cell in cells) + sum(outside),
            results=sum((*need.outputs[: len(self._results)], *need.outputs[first:])),
            arena=arena,
            constants=kept,
            scratch=need.scratch,
            held=need.held,
        )

    @property
    def traffic(self) -> Traffic:
        """What a call launches, moves and computes, beside the fewest bytes it has to move."""
        made, graph = self.executable.launches, clean(self.graph)
        fewest = fewest_bytes(graph, len(self._results))
        return Traffic(made.count, made.kernels, made.moved_bytes, fewest, flops_of(graph.nodes))

    @property
    def rewrites(self) -> tuple[Rewrite, ...]:
        """What was rewritten to other rounding, and to which error; nothing unless `fast`."""
        return self.program.rewrites

    def renewed(self) -> Compiled:
        """The same call, with what the engine makes of the graph now; this one runs as before."""
        made = copy(self)
        made.program = build_program(self._engine, self.binding)
        made.executable, made._steady = made.program.executable, made.program.steady
        made._take_seats()
        return made

    def _take_seats(self) -> None:
        """Begin with no seat, and with nothing known of where cells lie."""
        used = self._steady is not None or self.binding.state.used
        # What a run does beside writing cells where they are.
        self._commits = self._writes and used
        self._seats: list[_Seat] = []
        entries = len(self.executable.inputs) + len(self.outputs)
        self._addresses = Addresses(self._engine, self.binding, self._states, entries, self._steady)
        self._told = self._addresses.watch.told
        for cell in self.binding.assigned:
            cell._writers = (*cell._writers, ref(self))
            clock.writers += 1

    def takes(self, args: Sequence[Any]) -> bool:
        """Whether plain positional arguments are just of the kinds compiled for; quick."""
        kinds = self._kinds
        if context.mode is not self._mode or kinds is None or len(kinds) != len(args):
            return False
        # Not `zip`, whose keyword would cost as much as all the rest.
        for number, arg in enumerate(args):
            if (arg._layout if type(arg) is Tensor else arg) is not kinds[number]:
                return False
        return True

    def is_current(self) -> bool:
        """Whether what the function reaches, and what gradients there are, is as when traced."""
        if self.spent or not self.reach.is_current():
            return False
        if self._mood is not None and self._mood != clock.mood:
            return False
        return not self._present or all(
            (cell.held_gradient is not None) == there for cell, there in self._present
        )

    def reason(self) -> str:
        """Why it does not suit any more, as a sentence."""
        if self.spent:
            return "the first call made new state, which later calls find there"
        for cell, there in self._present:
            if (cell.held_gradient is not None) != there:
                name = cell.name or "a Parameter"
                return f"the gradient of {name} is {'gone' if there else 'there already'}"
        if self._mood is not None and self._mood != clock.mood:
            return "gradients are left over from before, or are not any more"
        return self.reach.reason()

    def run(self, args: Sequence[Any]) -> Any:
        """Call the executable with the Tensors among `args` and give the tree of results."""
        if self._writes:
            outputs = self._run_alone(args)
        elif self._reads:
            with gate.lock:
                gate.readers.append(None)
            try:
                outputs = self._call(args, False)
            finally:
                gate.leave()
        else:
            outputs = self._call(args, False)
        if self._gradients:
            through = False
            for arg in args:
                if type(arg) is Tensor and arg._tape is not None:
                    through = True
            if through or self._taped:
                self._defer(outputs, args, through)
        if self._single:
            return outputs[0]
        if self._plain is not None:
            return self._plain(outputs)
        found = iter(outputs)
        leaves = [next(found) if one is RESULT else one for one in self.binding.results]
        return tree.unflatten(self._resultdef, leaves)

    def _run_alone(self, args: Sequence[Any]) -> list[Tensor]:
        with gate.lock:
            gate.writer = get_ident()
            try:
                return self._call(args, not gate.readers)
            finally:
                gate.writer = 0
                if gate.interrupted:
                    raise_late()

    def _call(self, args: Sequence[Any], exclusive: bool) -> list[Tensor]:
        addresses = self._addresses
        known = addresses.known
        fresh: list[tuple[Cell, Tensor]] = []
        if (
            self._told
            or (self._states and not exclusive)
            or (self._steady is not None and not self._steady.is_current())
        ):
            known, fresh = addresses.look(exclusive)
        try:
            seat = self._seats.pop()
        except IndexError:
            seat = _Seat(self.executable.lease(self._varying))
        table = seat.table
        if seat.filled is not known:
            table[: len(known.table)] = known.table
            seat.filled = known
            seat.frame.refilled()
        number = 0
        for arg in args:
            if type(arg) is Tensor:
                table[self._slots[number]] = arg._address or _refuse(arg)
                number += 1
        brought = self._bring(table) if self._brings else ()
        outputs: list[Tensor] = []
        for slot, place, take in self._results:
            storage = take()
            table[slot] = address = storage.address
            outputs.append(Tensor(place, storage, address))
        left = [self._new(place, slot, table) for slot, place in self._left] if self._left else []
        self.executable.run(seat.frame)
        if self._once:
            # Later calls have another entry, which is to work in the same memory.
            self.spent = True
            self.executable.release(seat.frame)
        else:
            self._seats.append(seat)
        del brought  # what was brought lives until the run is over
        if self._commits or fresh:
            self._commit(fresh, left)
        elif self._writes:
            clock.writes += 1
            self.wrote_at = clock.writes
        return outputs

    def _bring(self, table: Any) -> list[Tensor]:
        """The gradients and uneven Tensors from outside, dense, their addresses in the table."""
        brought: list[Tensor] = []
        for slot, tensor in self._uneven:
            brought.append(dense(tensor))
            table[slot] = brought[-1]._address
        for slot, cell in self.binding.gradients:
            held = cell.held_gradient
            assert held is not None, "is_current looked"
            brought.append(dense(held))
            table[slot] = brought[-1]._address
        return brought

    def _new(self, place: Any, slot: int, table: Any) -> Tensor:
        storage = self._engine.allocate(place.nbytes)
        table[slot] = storage.address
        return Tensor(place, storage, storage.address)

    def _commit(self, fresh: list[tuple[Cell, Tensor]], left: list[Tensor]) -> None:
        """Make what the run computed the state of the program."""
        binding, state = self.binding, self.binding.state
        before = clock.writes
        for cell, tensor in fresh:
            cell.hold(tensor)
        if binding.assigned:
            clock.writes += 1
            self.wrote_at = clock.writes
        if self._steady is not None:
            self._steady.skip(before)
        if not state.used:
            return
        for cell in state.set_at:
            cell._grad = None
        for (cell, after), tensor in zip(binding.left, left, strict=True):
            cell._grad, cell._grad_at = tensor, clock.steps + after
        if state.backward_at is not None:
            clock.backward_at = clock.steps + state.backward_at
        clock.steps += state.steps

    def _defer(self, outputs: list[Tensor], args: Sequence[Any], through: bool) -> None:
        """Give results a tape where a Parameter, or an argument with a tape, is behind them."""
        tensors = [arg for arg in args if type(arg) is Tensor]
        call = DeferredCall(self.name, self.binding, tensors)
        for index, output in enumerate(outputs):
            if (self._taped and self._taped[index]) or (through and output.dtype.is_floating):
                output._tape = DeferredResult(call, index)


def _refuse(tensor: Tensor) -> int:
    raise escaped_error(tensor)


def _plain_kind(resultdef: tree.TreeDef, results: Sequence[Any]) -> Callable[[Any], Any] | None:
    """What makes the result of the Tensors in a row: `tuple` or `list` where that is all."""
    flat = all(child == tree.LEAF for child in resultdef.children)
    if flat and resultdef.kind in (tuple, list) and all(one is RESULT for one in results):
        return resultdef.kind
    return None


def _plain_kinds(treedef: tree.TreeDef, leaves: Sequence[Any]) -> tuple[Any, ...] | None:
    """What plain positional arguments must be, or None where the call had more structure."""
    args, kwargs = treedef.children
    if kwargs.children or any(child != tree.LEAF for child in args.children):
        return None
    return tuple(one._layout if isinstance(one, Tensor) else one for one in leaves)
