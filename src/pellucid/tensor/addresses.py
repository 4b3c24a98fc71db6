"""Where do the cells of a compiled function lie now? They say so themselves, if anything changed.

A cell tells a `Watch` that it moved, or that somebody took its value and may hold its memory. Only
these are looked at before the next call: for all others the addresses of the last one are right,
however many they are.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pellucid.engines.base import Engine, Layout
from pellucid.tensor.binding import Binding
from pellucid.tensor.cell import Cell, Watch, gate
from pellucid.tensor.steady import Steady
from pellucid.tensor.tensor import Tensor


class Known:
    """The first entries of a base table: inputs, then outputs; those of one call are zero.

    Those of `kept` values, which must live as long, are among them.
    """

    __slots__ = ("kept", "table")

    def __init__(self, table: array[int], kept: Sequence[Tensor]) -> None:
        self.table = table
        self.kept = kept


class Addresses:
    """What is known of where the cells lie, and what has to be looked at again.

    `states` are the slots and layouts of the outputs that cells will hold, in the order in which
    the binding says which; `steady` is what else is kept for the executable.
    """

    def __init__(
        self,
        engine: Engine,
        binding: Binding,
        states: Sequence[tuple[int, Layout]],
        entries: int,
        steady: Steady | None,
    ) -> None:
        self._engine = engine
        self._steady = steady
        self._reads = {cell: slot for slot, cell in binding.cells}
        self._writes = dict(zip(binding.assigned, states, strict=True))
        self.watch = Watch()
        # At first everything is new.
        self.watch.told += {**self._reads, **self._writes}
        table = array("q", bytes(8 * entries))
        for slot, tensor in binding.tensors:
            table[slot] = tensor._address
        self.known = Known(table, ())

    def look(self, exclusive: bool) -> tuple[Known, list[tuple[Cell, Tensor]]]:
        """What is known once all that was told is looked at; new memory for some cells.

        A cell whose memory somebody else holds is not written in place, and none is unless the
        call is `exclusive`.
        """
        with gate.lock:
            told = self.watch.told
            count = len(told)
            cells = dict.fromkeys(told[:count])
            table = self.known.table[:]
            fresh: list[tuple[Cell, Tensor]] = []
            # From here on they tell again, before it is seen who holds their memory.
            for cell in cells:
                cell.watched_by(self.watch, cell in self._writes)
                if cell in self._reads:
                    table[self._reads[cell]] = cell._address
            for cell in cells if exclusive else self._writes:
                if cell in self._writes:
                    slot, place = self._writes[cell]
                    if exclusive and cell.is_sole_holder():
                        table[slot] = cell._address
                    else:
                        fresh.append((cell, self._new(place)))
                        table[slot] = fresh[-1][1]._address
            kept: Sequence[Tensor] = ()
            if self._steady is not None:
                slots, kept = self._steady.slots(self._engine)
                for slot, address in slots:
                    table[slot] = address
            self.known = Known(table, kept)
            # Until they hold the new memory, it is for one call.
            told[:count] = [cell for cell, _ in fresh]
            return self.known, fresh

    def _new(self, place: Layout) -> Tensor:
        storage = self._engine.allocate(place.nbytes)
        return Tensor(place, storage, storage.address)
