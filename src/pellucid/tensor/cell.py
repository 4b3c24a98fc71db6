"""Where does a mutable value lie, and who may write there? Cells, watches, a clock, and a gate.

A `Cell` holds a block of memory. Compiled code remembers the addresses of cells and writes in place
until a cell tells it that it moved or was looked at; the gate keeps a step that writes apart from
readers.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import sys
import threading
from threading import get_ident
from typing import Final, Protocol
from weakref import ReferenceType

from pellucid.core.forking import Turn, held_across_forks
from pellucid.engines.base import Layout, Storage
from pellucid.ir.graph import TensorType
from pellucid.tensor.tensor import Operators, Tensor


class Clock:
    """Counts what compiled code and leftover gradients are compared with.

    `structure` grows when an attribute of a Stateful is set; `writes` when a cell that compiled
    code knows changes; `writers` when code is compiled that assigns cells; `steps` with each
    optimizer step. `backward_at` is the number of steps at the last `backward`, `early_at` at the
    last gradient that was assigned between a step and the next `backward`.
    """

    def __init__(self) -> None:
        self.structure = 0
        self.writes = 0
        self.writers = 0
        self.steps = 1
        self.backward_at = 0
        self.early_at = 0

    @property
    def pending(self) -> bool:
        """Whether the next `backward` drops what is left over: a step came after the last one."""
        return self.steps > self.backward_at

    @property
    def mood(self) -> tuple[bool, bool]:
        """What a traced `backward` takes for granted: what is dropped, and whether all of it."""
        return self.pending, self.early_at == self.steps


class Gate:
    """Keeps a compiled step that writes cells in place apart from everybody else who uses them.

    A step holds `lock` while it runs; `writer` is its thread, or 0. If that is the main thread, an
    interrupt only leaves a note in `interrupted`. A call that only reads enters `readers` while it
    holds the lock, and leaves without: steps that start meanwhile write elsewhere, and the memory
    that cells let go of is kept until the last reader has left.
    """

    def __init__(self) -> None:
        self.lock = held_across_forks(threading.RLock(), Turn.STEP)
        self.writer = 0
        self.interrupted = False
        self.readers: list[None] = []
        self._retired: list[object] = []
        self._retiring = threading.Lock()

    def renew_after_fork(self) -> None:
        """In a forked child: the other threads, which may have been reading, are not here."""
        self.readers.clear()
        self._retired.clear()
        self._retiring = threading.Lock()

    def leave(self) -> None:
        """A call that reads cells is done."""
        self.readers.pop()
        if self._retired:
            with self._retiring:
                if not self.readers:
                    self._retired.clear()

    def retire(self, storage: object) -> None:
        """Keep memory that a cell lets go of until no running call can be reading it."""
        if self.readers:
            with self._retiring:
                self._retired.append(storage)

    def wait(self) -> None:
        """Return once no other thread's compiled step is writing."""
        with self.lock:
            pass


clock: Final = Clock()
gate: Final = Gate()
os.register_at_fork(after_in_child=gate.renew_after_fork)


class Watch:
    """What cells have `told` one compiled function since it last looked: each puts itself here."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        self.told: list[Cell] = []


class Writer(Protocol):
    """Compiled code that assigns cells: what the count of writes was after it last did."""

    wrote_at: int


class Cell(Operators):
    """The memory behind a Variable; what may be said to it stands there.

    `_watched` says that compiled code knows the cell; `_movers` are the watches to be told when its
    memory is another one, `_takers` those to be told when somebody may hold it. Each is told once,
    until it watches again. `_grad_at` is the clock's `steps` when the gradient came.
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_grad",
        "_grad_at",
        "_layout",
        "_movers",
        "_storage",
        "_takers",
        "_trainable",
        "_watched",
        "_writers",
        "_written_at",
        "name",
    )

    def __init__(self, tensor: Tensor, name: str, trainable: bool) -> None:
        assert tensor._storage is not None, "a cell holds numbers"
        assert tensor._layout.dense, "a cell holds them in row-major order"
        self.name = name
        self._trainable = trainable
        self._watched = False
        self._movers: list[Watch] = []
        self._takers: list[Watch] = []
        self._grad: Tensor | None = None
        self._grad_at = 0
        # When the cell was assigned last, and what else writes it: code that knows it.
        self._written_at = 0
        self._writers: tuple[ReferenceType[Writer], ...] = ()
        self._layout: Layout = tensor._layout
        self._storage: Storage = tensor._storage
        self._address: int = tensor._address

    def is_written_since(self, writes: int) -> bool:
        """Whether it was assigned, or a compiled step wrote it, since that count of writes."""
        writers = [writer for reference in self._writers if (writer := reference()) is not None]
        return max((self._written_at, *(writer.wrote_at for writer in writers))) > writes

    @property
    def type(self) -> TensorType:
        """Dtype and shape."""
        return self._layout.type

    def take(self, tape: object = None) -> Tensor:
        """The Tensor that the cell holds now; from here on it has another holder."""
        while True:
            storage = self._storage
            tensor = Tensor(self._layout, storage, self._address, None, None, tape)
            if self._takers:
                self._tell(self._takers)
            # A step that began before it was told may have been writing, or replaced all this.
            if self._storage is storage and (not gate.writer or gate.writer == get_ident()):
                return tensor
            gate.wait()

    def hold(self, tensor: Tensor) -> None:
        """Hold a Tensor's memory from now on."""
        assert tensor._storage is not None, "a cell holds numbers"
        assert tensor._layout.dense, "a cell holds them in row-major order"
        with gate.lock:
            gate.retire(self._storage)
            self._layout = tensor._layout
            self._storage, self._address = tensor._storage, tensor._address
            if self._watched:
                clock.writes += 1
                self._written_at = clock.writes
                # After the change: who is told sees the new memory.
                self._tell(self._movers)
                self._tell(self._takers)

    def watched_by(self, watch: Watch, also_takers: bool) -> None:
        """Tell a watch when the memory is another one, and perhaps when somebody may hold it."""
        for watches in (self._movers, self._takers) if also_takers else (self._movers,):
            if watch not in watches:
                watches.append(watch)

    def _tell(self, watches: list[Watch]) -> None:
        while watches:
            # Another thread may be telling the same ones.
            try:
                watches.pop().told.append(self)
            except IndexError:
                return

    def keep_gradient(self, gradient: Tensor | None) -> None:
        """Let the gradient outside of traces be this one."""
        self._grad, self._grad_at = gradient, clock.steps
        if gradient is not None and clock.pending:
            clock.early_at = clock.steps

    @property
    def held_gradient(self) -> Tensor | None:
        """The gradient outside of traces; one that a later `backward` dropped is gone."""
        if self._grad is not None and self._grad_at < clock.backward_at:
            self._grad = None
        return self._grad

    @property
    def is_early(self) -> bool:
        """Whether a gradient was assigned since the last step."""
        return self._grad is not None and self._grad_at == clock.steps

    def is_sole_holder(self) -> bool:
        """Whether nobody but the cell holds its memory, so that it may be written in place."""
        storage = self._storage
        alone = sys.getrefcount(storage) == _ALONE + storage.kept
        return alone and not storage.borrowed


class _Probe:
    """As a cell: an attribute in a slot."""

    __slots__ = ("_storage",)

    def __init__(self) -> None:
        self._storage = object()

    def count(self) -> int:
        storage = self._storage
        return sys.getrefcount(storage)


# How many references `getrefcount` sees where one attribute, and a name, hold an object.
_ALONE: Final = _Probe().count()
