"""How is a convolution with few features made? Along lines of results, from lines that are turned.

    out[b, m, n] = sum over k of lhs[b, m, k] * rhs[b, k, n]

A task turns the lines of lhs that its results meet into scratch memory, where the numbers of each
channel lie side by side, with zeros for what padding there is. A tile then is some lines by some
vectors along them, for all features: at each k it reads the vectors where it says so in a table,
and multiplies them by one weight a feature. Each result is the chains of page 0002, k by k.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import reduce

from pellucid.engines.llvm.line_choice import known
from pellucid.engines.llvm.matrices import Matrix
from pellucid.engines.llvm.panels import accumulator, element, multiply_add, store_sums, widened
from pellucid.engines.llvm.product_results import Epilogue, Place
from pellucid.engines.llvm.scratch import take_scratch
from pellucid.engines.llvm.sizes import (
    Number,
    add,
    dot,
    least,
    mul,
    quotient,
    remainder,
    sub,
    value,
)
from pellucid.engines.llvm.squares import turned
from pellucid.engines.llvm.tables import unravelled
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.tiling import ProductSpec, Tiling, chunk_length, extents_of
from pellucid.engines.llvm.turned_choice import turned_cut, turned_of
from pellucid.engines.llvm.types import I1, I64, PTR, Value, constant, constants


def write_turned_lines(f: Function, spec: ProductSpec, tiling: Tiling, epilogue: Epilogue) -> None:
    """Write the body of a kernel, as `product.define_product` has them, along turned lines.

    The lanes that `epilogue` is given are neighbours along a line of results: the place's n. Its
    rows are the other loops over m, and the feature.
    """
    _Kernel(f, spec, tiling, epilogue).tasks()


class _Kernel:
    def __init__(self, f: Function, spec: ProductSpec, tiling: Tiling, epilogue: Epilogue) -> None:
        found = turned_of(spec)
        assert found is not None, "results along lines have them"
        assert spec.tables is not None, "lines are found by tables"
        self.f, self.spec, self.tiling, self.epilogue = f, spec, tiling, epilogue
        self.turned, self.tables = found, spec.tables
        (self.block,) = known((tiling.block,))
        self.scalar, self.memory = accumulator(spec.dtype), element(spec.dtype)
        self.vector = self.scalar.with_lanes(tiling.lanes)
        pointers, self.sizes, self.lo, self.hi, self.context = f.parameters
        self.pointers = tuple(f.load(PTR, f.gep(pointers, at, PTR)) for at in range(spec.pointers))
        _, _, self.features, self.k = extents_of(spec)
        first, second = known((spec.rhs.first, spec.rhs.second))
        self.rhs = Matrix(self.pointers[1], known(spec.rhs.batch), first, second, self.memory)
        self.lhs = Matrix(self.pointers[0], known(spec.lhs.batch), 0, 1, self.memory)
        self.around = [axis for axis, step in enumerate(found.steps) if step.turns]
        self.width = found.width(tiling.lanes)
        self.row = found.channels * self.width
        extents = known(self.tables.depths)
        offsets = array("q", found.offsets(extents, self.block, tiling.lanes))
        self.offsets = f.module.data(f"{f.name}_offsets", offsets.tobytes())
        self.zeros = f.alloca(self.memory, tiling.lanes)
        self.totals = f.alloca(self.scalar, self.sums * tiling.lanes)
        cut = turned_cut(spec, tiling)
        self.scratch = take_scratch(f, self.context, constant(I64, cut.scratch_bytes))

    @property
    def sums(self) -> int:
        """The vectors of sums of a tile."""
        return self.tiling.rows * self.tiling.vectors * self.features

    def tasks(self) -> None:
        """The tasks lo to hi: so many lines of results each, of which the last begin earlier."""
        f, turned, lanes = self.f, self.turned, self.tiling.lanes
        f.store(constant(self.memory.with_lanes(lanes), 0), self.zeros)
        # What no line fills stays zero.
        numbers = turned.numbers(self.block, lanes)
        with f.loop(0, numbers, lanes, name="zero", unroll=1) as zero:
            f.store(constant(self.vector, 0), f.gep(self.scratch, zero.index, self.scalar))
        blocks = -(-turned.lines // self.block)
        with f.loop(self.lo, self.hi, name="task", unroll=1) as task:
            number, rest = remainder(f, task.index, blocks), quotient(f, task.index, blocks)
            sizes = (*known(self.spec.batch), *turned.outer)
            outer = unravelled(f, rest, sizes)
            batch, outer = outer[: len(self.spec.batch)], outer[len(self.spec.batch) :]
            wanted = mul(f, number, self.block)
            first = least(f, wanted, turned.lines - self.block)
            self._turn(batch, outer, first)
            self._make(batch, outer, first, sub(f, wanted, first))

    # Lines of lhs.

    def _turn(self, batch: Sequence[Number], outer: Sequence[Number], first: Number) -> None:
        """Turn all lines of lhs that the lines of results from `first` on meet."""
        f, turned, tables = self.f, self.turned, self.tables
        met, begin = turned.met(self.block), turned.exist[0]
        sizes = known([tables.depths[axis] for axis in self.around])
        steps = known([tables.depth_strides[axis] for axis in self.around])
        rows = (*outer, first) if len(tables.rows) > 1 else ()
        with (
            f.loop(0, turned.turns, name="turn", unroll=1) as turn,
            f.loop(0, met, name="met", unroll=1) as line,
        ):
            inside = unravelled(f, turn.index, sizes)
            at = dot(f, tables.offset, rows, known(tables.row_strides[: len(rows)]))
            at = dot(f, add(f, at, mul(f, line.index, turned.apart)), inside, steps)
            source = self.lhs.at(f, batch, 0, add(f, at, begin * turned.step))
            number = add(f, mul(f, turn.index, met), line.index)
            place = f.gep(self.scratch, add(f, mul(f, number, self.row), begin), self.scalar)
            exist = self._exist(rows, inside, line.index)
            if exist:
                whether = reduce(f.and_, exist)
                f.if_else(whether, lambda: self._fill(source, place), lambda: self._empty(place))
            else:
                self._fill(source, place)

    def _exist(self, rows: Sequence[Number], inside: Sequence[Number], line: Value) -> list[Value]:
        """Whether a line of lhs exists, for each bound but that along it."""
        f, turned, exist = self.f, self.turned, list[Value]()
        for bound in self.tables.bounds:
            if bound.rows[-1]:
                # Along the line, it says which positions are turned.
                continue
            unit = bound.rows[-2] // turned.down if rows else 0
            at = dot(f, bound.offset, rows, bound.rows[: len(rows)])
            at = add(f, at, mul(f, line, unit))
            at = dot(f, at, inside, [bound.depths[axis] for axis in self.around])
            exist.append(f.icmp("ult", value(at), bound.size))
        return exist

    def _fill(self, source: Value, place: Value) -> tuple[Value, ...]:
        """Turn one line: each channel's positions side by side."""
        f, lanes = self.f, self.tiling.lanes
        first, last = self.turned.exist
        count = last - first
        with f.loop(0, count, lanes, name="position", unroll=1) as position:
            # The last vector begins earlier, if it can.
            start = least(f, position.index, max(count - lanes, 0))
            base = f.gep(source, mul(f, start, self.turned.step), self.memory)
            held = f.gep(place, start, self.scalar)
            if self.turned.step == 1:
                self._copy(base, held, count)
            else:
                self._squares(base, held, count)
        return ()

    def _copy(self, base: Value, held: Value, count: int) -> None:
        f, lanes = self.f, self.tiling.lanes
        type = self.memory.with_lanes(lanes)
        mask = constants(I1, tuple(int(lane < count) for lane in range(lanes)))
        raw = f.load(type, base) if count >= lanes else f.masked_load(type, base, mask)
        f.store(widened(f, raw, self.spec.dtype), held)

    def _squares(self, base: Value, held: Value, count: int) -> None:
        f, channels, bits = self.f, self.turned.channels, self.scalar.bits
        # Pieces of 256 bits suit vectors of 512: half the loads.
        wide = 256 if bits * self.tiling.lanes == 512 else 128
        done = 0
        for piece in dict.fromkeys((wide // bits, 128 // bits, 1)):
            end = channels // piece * piece
            with f.loop(done, end, piece, name="channel", unroll=1) as channel:
                self._square(base, held, channel.index, piece, count)
            done = end

    def _square(self, base: Value, held: Value, channel: Number, inner: int, count: int) -> None:
        """Turn so many channels of a vector of positions; those that do not exist are zeros."""
        f, lanes = self.f, self.tiling.lanes
        pieces = list[Value]()
        for lane in range(lanes):
            at = add(f, channel, lane * self.turned.step)
            place = f.gep(base, at, self.memory) if lane < count else self.zeros
            raw = f.load(self.memory.with_lanes(inner), place)
            pieces.append(widened(f, raw, self.spec.dtype))
        for number, column in enumerate(turned(f, pieces)):
            row = mul(f, add(f, channel, number), self.width)
            f.store(column, f.gep(held, row, self.scalar))

    def _empty(self, place: Value) -> tuple[Value, ...]:
        """A line that does not exist: zeros."""
        f, lanes = self.f, self.tiling.lanes
        first, last = self.turned.exist
        with f.loop(0, self.turned.channels, name="channel", unroll=1) as channel:
            row = f.gep(place, mul(f, channel.index, self.width), self.scalar)
            with f.loop(0, last - first, lanes, name="position", unroll=1) as position:
                start = least(f, position.index, max(last - first - lanes, 0))
                f.store(constant(self.vector, 0), f.gep(row, start, self.scalar))
        return ()

    # Results.

    def _make(
        self, batch: Sequence[Number], outer: Sequence[Number], first: Number, own: Number
    ) -> None:
        """Make the lines of results from `first` on, and finish them from the `own`-th on."""
        f, tiling, lanes = self.f, self.tiling, self.tiling.lanes
        vectors, rows = -(-self.turned.length // lanes), tiling.rows
        with f.loop(0, self.block, rows, name="row", unroll=1) as tile:
            row = least(f, tile.index, self.block - rows)
            with f.loop(0, vectors, tiling.vectors, name="column", unroll=1) as panel:
                vector = least(f, panel.index, vectors - tiling.vectors)
                start = mul(f, mul(f, row, self.turned.down), self.row)
                seen = f.gep(self.scratch, add(f, start, mul(f, vector, lanes)), self.scalar)
                self._sum(seen, self.rhs.at(f, batch, 0, 0))
                begin = sub(f, f.min_max("smax", tile.index, value(own)), row)
                with f.loop(value(begin), rows, name="own", unroll=1) as line:
                    at = add(f, first, add(f, row, line.index))
                    rest = sub(f, panel.index, vector)
                    with f.loop(value(rest), tiling.vectors, name="vector", unroll=1) as one:
                        number = add(f, mul(f, line.index, tiling.vectors), one.index)
                        along = mul(f, add(f, vector, one.index), lanes)
                        self._finish(batch, (*outer, at), number, along)

    def _sum(self, seen: Value, weights: Value) -> None:
        """The sums of a tile, into the totals: chunk by chunk."""
        f, length = self.f, chunk_length(self.k)
        places = [f.gep(self.totals, n * self.tiling.lanes, self.scalar) for n in range(self.sums)]
        with f.loop(0, self.k, length, name="chunk", unroll=1) as chunk:
            end = least(f, add(f, chunk.index, length), self.k)
            sums = self._chain(seen, weights, chunk.index, value(end))
            store_sums(f, f.icmp("eq", chunk.index, 0), sums, places)

    def _chain(self, seen: Value, weights: Value, begin: Value, end: Value) -> tuple[Value, ...]:
        """The chains of a chunk: line by line, vector by vector, feature by feature."""
        f, tiling, features = self.f, self.tiling, range(self.features)
        zeros = [constant(self.vector, 0)] * self.sums
        with f.loop(begin, end, accs=zeros, name="k", unroll=1) as k:
            offset = f.load(I64, f.gep(self.offsets, k.index, I64))
            here = f.gep(seen, offset, self.scalar)
            first = f.gep(weights, mul(f, k.index, self.rhs.first), self.memory)
            factors = [self._weight(first, feature) for feature in features]
            sums = list[Value]()
            for row in range(tiling.rows):
                for vector in range(tiling.vectors):
                    at = row * self.turned.down * self.row + vector * tiling.lanes
                    numbers = f.load(self.vector, f.gep(here, at, self.scalar))
                    accs = k.accs[len(sums) : len(sums) + self.features]
                    pairs = zip(factors, accs, strict=True)
                    sums += [multiply_add(f, numbers, factor, acc) for factor, acc in pairs]
            k.next(*sums)
        return k.results

    def _weight(self, first: Value, feature: int) -> Value:
        f = self.f
        raw = f.load(self.memory, f.gep(first, mul(f, feature, self.rhs.second), self.memory))
        return f.splat(widened(f, raw, self.spec.dtype), self.vector)

    def _finish(
        self, batch: Sequence[Number], lines: Sequence[Number], number: Number, along: Number
    ) -> None:
        """Hand a vector along a line to the epilogue, feature by feature."""
        f, lanes, length = self.f, self.tiling.lanes, self.turned.length
        mask = f.mask(value(sub(f, length, along)), lanes) if length % lanes else None
        outer = lines if self.tables.rows[1:] else ()
        with f.loop(0, self.features, name="feature", unroll=1) as feature:
            at = mul(f, add(f, mul(f, number, self.features), feature.index), lanes)
            sums = f.load(self.vector, f.gep(self.totals, at, self.scalar))
            rows = tuple(map(value, (*outer, feature.index)))
            places = tuple(map(value, batch)), value(along), value(along), mask, rows
            self.epilogue(f, sums, Place(self.pointers, self.sizes, *places))
