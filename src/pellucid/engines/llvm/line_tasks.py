"""What do kernels that go along lines share? Their operands, a line of zeros, how tasks are cut."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from pellucid.engines.llvm.group_panels import GroupPanel, elements_of_vector
from pellucid.engines.llvm.line_choice import known
from pellucid.engines.llvm.matrices import Matrix
from pellucid.engines.llvm.panels import accumulator, element
from pellucid.engines.llvm.sizes import Number, add, dot, least, mul, quotient, remainder, value
from pellucid.engines.llvm.tables import unravelled
from pellucid.engines.llvm.text import Function, Loop
from pellucid.engines.llvm.tiling import ProductSpec, Strides, Tiling, extents_of
from pellucid.engines.llvm.types import I64, PTR, Value, constant

Span = tuple[Number, Number]
"""From a number on to below another."""


@dataclass(frozen=True, slots=True)
class Task:
    """The part of the work that is done in one go: some blocks, and some panels of columns."""

    batch: tuple[Number, ...]
    blocks: Span
    panels: Span


class Lines:
    """The operands of a product in a kernel that is being written (see `product.KERNEL`)."""

    def __init__(self, f: Function, spec: ProductSpec, tiling: Tiling) -> None:
        assert spec.tables is not None, "lines are found by tables"
        self.f, self.spec, self.tiling, self.tables = f, spec, tiling, spec.tables
        self.scalar, self.memory = accumulator(spec.dtype), element(spec.dtype)
        self.vector = self.scalar.with_lanes(tiling.lanes)
        pointers, self.sizes, self.lo, self.hi, self.context = f.parameters
        self.pointers = tuple(f.load(PTR, f.gep(pointers, at, PTR)) for at in range(spec.pointers))
        self._lhs = self._matrix(self.pointers[0], spec.lhs)
        self._rhs = self._matrix(self.pointers[1], spec.rhs)
        (self.step,) = known((spec.rhs.first,))
        self.span = elements_of_vector(spec, tiling) * tiling.vectors
        self.zeros = f.alloca(self.scalar, self.span)

    def _matrix(self, base: Value, strides: Strides) -> Matrix:
        return Matrix(base, known(strides.batch), 0, 1, self.memory)

    @property
    def bounded(self) -> bool:
        """Whether lines reach beyond lhs, into a line of zeros."""
        return bool(self.tables.bounds)

    def loop(self, name: str, over: Span, step: int = 1) -> AbstractContextManager[Loop]:
        """A loop that is not unrolled."""
        return self.f.loop(value(over[0]), value(over[1]), step, name=name, unroll=1)

    @contextmanager
    def tasks(self, blocks: int) -> Generator[Task]:
        """A loop over the tasks from lo to hi, of so many blocks in all."""
        f, tiling = self.f, self.tiling
        block, group = known((tiling.block, tiling.group))
        panels = -(-extents_of(self.spec)[2] // tiling.columns)
        rows, columns = -(-blocks // block), -(-panels // group)
        with self.loop("zero", (0, self.span)) as zero:
            f.store(constant(self.scalar, 0), f.gep(self.zeros, zero.index, self.scalar))
        with self.loop("task", (self.lo, self.hi)) as task:
            column, rest = remainder(f, task.index, columns), quotient(f, task.index, columns)
            batch = unravelled(f, quotient(f, rest, rows), known(self.spec.batch))
            first, panel = mul(f, remainder(f, rest, rows), block), mul(f, column, group)
            end, last = least(f, add(f, first, block), blocks), add(f, panel, group)
            yield Task(batch, (first, end), (panel, least(f, last, panels)))

    def panel(self, number: Value) -> GroupPanel:
        """A panel of columns."""
        return GroupPanel(self.f, self.spec, self.tiling, mul(self.f, number, self.tiling.columns))

    def seen(self, batch: tuple[Number, ...], panel: Value) -> Value:
        """What a panel sees of the first place of lhs."""
        return self._lhs.at(self.f, batch, 0, mul(self.f, panel, self.span))

    def columns(self, batch: tuple[Number, ...], panel: Value) -> Value:
        """A panel's columns of rhs at the first k."""
        return self._rhs.at(self.f, batch, 0, mul(self.f, panel, self.tiling.columns))

    def entry(self, table: Value, number: Number) -> Value:
        """Where an entry of a table of I64 lies."""
        return self.f.gep(table, number, I64)

    def dot(self, start: Number, indexes: tuple[Number, ...], steps: tuple[int, ...]) -> Number:
        """`start` and the sum of indexes times steps."""
        return dot(self.f, start, indexes, steps)

    def within(self, at: Value, position: Value, size: Value) -> Value:
        """`at` where a position lies from 0 to below `size`, else a line of zeros."""
        f = self.f
        return f.select(f.icmp("ult", position, size), at, self.zeros)
