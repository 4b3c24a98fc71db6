"""What does a panel of columns see of lhs where columns come in groups? Lines, picked from.

A vector holds the columns of as many whole groups as it has room for. At one place these groups see
neighbours in memory: their elements are read together, and for each k of a group every lane picks
that of its own. Where a vector is one group, all its lanes see one element.
"""

from __future__ import annotations

from pellucid.engines.llvm.line_choice import groups_of
from pellucid.engines.llvm.panels import accumulator, element, widened
from pellucid.engines.llvm.sizes import Number, add, least, mul, sub, value
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.tiling import ProductSpec, Tiling, extents_of
from pellucid.engines.llvm.types import I1, Value, constants


def elements_of_vector(spec: ProductSpec, tiling: Tiling) -> int:
    """The elements of lhs that a vector of columns sees at one place."""
    groups = groups_of(spec)
    assert groups is not None, "columns come in groups"
    return (tiling.lanes - tiling.idle) // groups.columns * groups.step


class GroupPanel:
    """The panel of columns that begins at `n`, in a function being written."""

    def __init__(self, f: Function, spec: ProductSpec, tiling: Tiling, n: Number) -> None:
        groups = groups_of(spec)
        assert groups is not None, "columns come in groups"
        self.f, self.spec, self.tiling, self.groups, self.n = f, spec, tiling, groups, n
        self.memory, self.scalar = element(spec.dtype), accumulator(spec.dtype)
        self.held = tiling.lanes - tiling.idle
        self.span = elements_of_vector(spec, tiling)
        self.masks = tuple(self._columns_mask(v) for v in range(tiling.vectors))
        pieces = range(-(-self.span // tiling.lanes))
        self._seen_masks = [
            [self._elements_mask(v, piece) for piece in pieces] for v in range(tiling.vectors)
        ]

    @property
    def is_broadcast(self) -> bool:
        """Whether a vector is one group."""
        return self.groups.columns == self.tiling.lanes

    def column(self, at: Value, v: int) -> Value:
        """A vector of rhs, of whose row the panel begins at `at`."""
        return self._load(self.f.gep(at, v * self.held, self.memory), self.masks[v])

    def seen(self, at: Value, v: int) -> list[Value]:
        """What a vector sees of what the panel sees at `at`."""
        f, lanes, start = self.f, self.tiling.lanes, v * self.span
        return [
            self._load(f.gep(at, start + piece * lanes, self.memory), mask)
            for piece, mask in enumerate(self._seen_masks[v])
        ]

    def picked(self, seen: list[Value], k: int) -> Value:
        """What each lane's group has at one of its k's."""
        columns, step = self.groups.columns, self.groups.step
        lanes = [
            lane // columns * step + k if lane < self.held else -1
            for lane in range(self.tiling.lanes)
        ]
        if lanes == list(range(self.tiling.lanes)):
            return seen[0]
        return self.f.shuffle(seen[0], seen[-1], lanes)

    def broadcast(self, at: Value, v: int, k: Number) -> Value:
        """The same where a vector is one group, read from what the panel sees at `at`."""
        f = self.f
        one = f.load(self.memory, f.gep(at, add(f, k, v * self.span), self.memory))
        vector = self.scalar.with_lanes(self.tiling.lanes)
        return f.splat(widened(f, one, self.spec.dtype), vector)

    def _load(self, at: Value, mask: Value | None) -> Value:
        f, type = self.f, self.memory.with_lanes(self.tiling.lanes)
        raw = f.load(type, at) if mask is None else f.masked_load(type, at, mask)
        return widened(f, raw, self.spec.dtype)

    def _count(self, v: int) -> Number:
        """How many columns a vector has: none, or fewer than that, beyond the last."""
        f, all = self.f, extents_of(self.spec)[2]
        if all % self.tiling.columns == 0:
            return self.held
        return least(f, sub(f, sub(f, all, self.n), v * self.held), self.held)

    def _columns_mask(self, v: int) -> Value | None:
        return self._mask(self._count(v))

    def _elements_mask(self, v: int, piece: int) -> Value | None:
        f, count = self.f, self._count(v)
        if isinstance(count, int):
            return self._mask(self.span - piece * self.tiling.lanes)
        whole = mul(f, f.sdiv(count, self.groups.columns), self.groups.step)
        return self._mask(sub(f, whole, piece * self.tiling.lanes))

    def _mask(self, count: Number) -> Value | None:
        """The first lanes, so many; None for all."""
        lanes = self.tiling.lanes
        if not isinstance(count, int):
            return self.f.mask(value(count), lanes)
        exist = constants(I1, tuple(int(lane < count) for lane in range(lanes)))
        return exist if count < lanes else None
