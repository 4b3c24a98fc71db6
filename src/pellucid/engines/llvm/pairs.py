"""How are products of bfloat16 summed in pairs where lhs is found through tables?

As in a folded panel (see `folded`), an element of 32 bits holds the numbers at two k's. Those of
rhs are packed so, or, where it lies beside lhs, put together as they are read; those of lhs always
are. A last k alone is paired with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.engines.llvm.folded import multiply_add_folded
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import I16, I32, I64, Value, constant


def paired_sums(
    f: Function,
    rows: Sequence[Value],
    zeros: Sequence[Value],
    masks: Sequence[Value | None],
    beside: bool,
) -> tuple[Value, ...]:
    """The sums of a tile of `panels.define_table_tile`, begun at `zeros`, over one chunk of k.

    `rows` are where the rows of lhs begin; each vector of columns is read under its mask.
    """
    depth = f.parameters[3]
    chain = _Chain(f, tuple(rows), zeros[0].type.lanes, tuple(masks), beside)
    whole = f.and_(depth, -2)
    accs = tuple(zeros)
    for first, end, held in ((constant(I64, 0), whole, 2), (whole, depth, 1)):
        with f.loop(first, end, 2, accs=accs, name="k", unroll=1) as k:
            k.next(*chain.step(k.index, held, k.accs))
        accs = k.results
    return accs


@dataclass(frozen=True, slots=True)
class _Chain:
    f: Function
    rows: tuple[Value, ...]
    lanes: int
    masks: tuple[Value | None, ...]
    beside: bool

    def step(self, k: Value, held: int, accs: Sequence[Value]) -> list[Value]:
        """Add the products at k and, if two are `held`, at the next."""
        f, vectors = self.f, len(self.masks)
        table = f.parameters[6]
        offsets = [f.load(I64, f.gep(table, f.add(k, at), I64)) for at in range(held)]
        columns = self._columns(k, held)
        sums: list[Value] = []
        for number, row in enumerate(self.rows):
            factors = self._factors([f.gep(row, offset, I16) for offset in offsets])
            mine = accs[number * vectors : (number + 1) * vectors]
            triples = zip(factors, columns, mine, strict=True)
            sums += [multiply_add_folded(f, 2, *triple) for triple in triples]
        return sums

    def _columns(self, k: Value, held: int) -> list[Value]:
        f = self.f
        rhs, step = f.parameters[1], f.parameters[7]
        if self.beside:
            numbers = [f.add(k, at) for at in range(held)]
            return self._vectors([f.gep(rhs, f.mul(n, step, nsw=True), I16) for n in numbers])
        line = f.gep(rhs, f.mul(f.lshr(k, 1), step, nsw=True), I32)
        places = [f.gep(line, number * self.lanes, I32) for number in range(len(self.masks))]
        return [f.load(I32.with_lanes(self.lanes), place) for place in places]

    def _factors(self, places: Sequence[Value]) -> list[Value]:
        """What a row has for each vector of columns."""
        f = self.f
        if self.beside:
            return self._vectors(places)
        one = self._joined([f.load(I16, place) for place in places])
        return [f.splat(one, I32.with_lanes(self.lanes))] * len(self.masks)

    def _vectors(self, lines: Sequence[Value]) -> list[Value]:
        """The elements of each vector of columns, from the lines at one k or at two."""
        numbers = range(len(self.masks))
        return [self._joined([self._load(line, number) for line in lines]) for number in numbers]

    def _load(self, line: Value, number: int) -> Value:
        f, type, mask = self.f, I16.with_lanes(self.lanes), self.masks[number]
        at = f.gep(line, number * self.lanes, I16)
        return f.load(type, at) if mask is None else f.masked_load(type, at, mask)

    def _joined(self, parts: Sequence[Value]) -> Value:
        f = self.f
        low, *rest = (f.cast("zext", part, I32) for part in parts)
        return f.or_(low, f.shl(rest[0], 16)) if rest else low
