"""How does one line of a kernel become instructions, wherever the loops stand?

A `Scope` knows the values of names and how many elements are computed at a time: one, or a vector
along one axis, in one or more copies. A `Bundle` is a value in it: one LLVM value for each copy, or
a single one where all copies agree. What does not change along the vector stays a scalar until a
vector is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pellucid.core.dtype import DType, int64
from pellucid.engines.llvm import sizes
from pellucid.engines.llvm.elementwise import (
    apply,
    cast,
    combine,
    from_memory,
    identity,
    literal,
    memory_type,
    to_memory,
)
from pellucid.engines.llvm.philox import philox4x32
from pellucid.engines.llvm.sizes import Number
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import I1, I32, I64, Type, Value, constants, undefined
from pellucid.engines.loops.ir import (
    Affine,
    Apply,
    Chain,
    Const,
    Extent,
    Index,
    Kernel,
    Let,
    Load,
    Quotient,
    Random,
    Remainder,
    Size,
    Store,
    Update,
)
from pellucid.engines.loops.schedule import by_fours

Bundle = tuple[Value, ...]
Wild = tuple[tuple[Bundle, Number], ...]
"""Terms of an index that differ freely from lane to lane: values, and their factors."""


@dataclass(frozen=True, slots=True)
class Vector:
    """`copies` vectors of `lanes` elements along `axis`; if given, only lanes of `mask` exist."""

    axis: str
    lanes: int
    copies: int = 1
    mask: Value | None = None


@dataclass(frozen=True)
class Scope:
    """The names a statement can see. An axis is the index of the first element at hand."""

    f: Function
    kernel: Kernel
    pointers: Mapping[str, Value]
    sizes: Mapping[str, Value]
    vector: Vector | None = None
    axes: Mapping[str, Number] = field(default_factory=dict[str, Number])
    values: dict[str, Bundle] = field(default_factory=dict[str, Bundle])
    dtypes: dict[str, DType] = field(default_factory=dict[str, DType])

    def inside(self, axis: str, index: Number, vector: Vector | None = None) -> Scope:
        """The scope in a loop over `axis`, which stands at `index`."""
        return replace(
            self,
            vector=vector or self.vector,
            axes={**self.axes, axis: index},
            values=dict(self.values),
            dtypes=dict(self.dtypes),
        )

    def number(self, size: Size) -> Number:
        """A size as an int, or as the value of a parameter."""
        return size if isinstance(size, int) else self.sizes[size]

    def let(self, line: Let) -> None:
        """Compute a Let and remember it."""
        self.values[line.name] = self._evaluate(line)
        self.dtypes[line.name] = line.dtype

    def store(self, line: Store) -> None:
        """Write a Store."""
        dtype = self.kernel.buffer(line.buffer).dtype
        start, step, wild = self.locate(line.index)
        f, scalar = self.f, memory_type(dtype)
        for copy, value in enumerate(self.spread(line.value)):
            raw = to_memory(f, value, dtype)
            if raw.type.lanes == 1 or wild or step != 1:
                self._scatter(line, raw, start, step, wild, copy)
                continue
            at = f.gep(self.pointers[line.buffer], self._along(start, step, copy), scalar)
            if self._is_whole() and self.kernel.bound(line.buffer, "stream") is not None:
                f.stream(raw, at)
            else:
                self._write(at, raw)

    def update(self, line: Update) -> None:
        """Read, combine and write back, in the order of the loops."""
        start, step, wild = self.locate(line.index)
        (guard,) = self.values[line.guard]
        assert not wild, "vectors lie where each element is one of its own"
        assert guard.type.lanes == 1, "all lanes are written, or none"
        with self.f.when(guard):
            for copy, value in enumerate(self.spread(line.value)):
                self._update(line, value, start, step, copy)

    def _update(self, line: Update, value: Value, start: Number, step: Number, copy: int) -> None:
        f, dtype = self.f, self.kernel.buffer(line.buffer).dtype
        base, scalar = self.pointers[line.buffer], memory_type(dtype)
        along = value.type.lanes > 1
        at = f.gep(base, self._along(start, step, copy) if along else start, scalar)
        if line.how != "set":
            if not along:
                old = f.load(scalar, at)
            elif step == 1:
                old = self._load_vector(at, scalar.with_lanes(value.type.lanes))
            else:
                old = self._gather(base, scalar, self._each_lane(start, step, (), copy))
            kind = "sum" if line.how == "add" else line.how
            value = combine(f, kind, dtype, from_memory(f, old, dtype), value)
        raw = to_memory(f, value, dtype)
        if not along or step != 1:
            self._scatter(line, raw, start, step, (), copy)
        else:
            self._write(at, raw)

    def chain(self, line: Chain) -> None:
        """Combine with what the chains of these columns have reached."""
        f, dtype = self.f, self.kernel.buffer(line.buffer).dtype
        scalar, base = memory_type(dtype), self.pointers[line.buffer]
        start, step, wild = self.locate(line.index)
        assert not wild, "a column is found by the loops alone"
        assert self.vector is None or step == 1, "columns lie beside each other"
        along, _, _ = self.locate(line.along)
        begins = f.icmp("eq", sizes.value(along), 0)
        for copy, value in enumerate(self.spread(line.value)):
            at = f.gep(base, self._along(start, step, copy), scalar)
            old = self._load_vector(at, scalar.with_lanes(value.type.lanes))
            first = f.splat(identity(line.kind, dtype), old.type)
            new = combine(f, line.kind, dtype, f.select(begins, first, old), value)
            self._write(at, new)

    def _write(self, at: Value, raw: Value) -> None:
        """Write a vector, or the lanes of it that exist."""
        if self.vector is not None and self.vector.mask is not None:
            _store_masked(self.f, raw, at, self.vector.mask)
        else:
            self.f.store(raw, at)

    def _is_whole(self) -> bool:
        """Whether all lanes of a vector exist."""
        return self.vector is not None and self.vector.mask is None

    def spread(self, name: str) -> Bundle:
        """A named value as full vectors, one for each copy."""
        return self._full(self.values[name])

    def _full(self, bundle: Bundle) -> Bundle:
        if self.vector is None:
            return bundle
        lanes, copies = self.vector.lanes, self.vector.copies
        wide = tuple(self._wide(value, lanes) for value in bundle)
        return wide * copies if len(wide) < copies else wide

    def _wide(self, value: Value, lanes: int) -> Value:
        if value.type.lanes == lanes:
            return value
        return self.f.splat(value, value.type.with_lanes(lanes))

    def _evaluate(self, line: Let) -> Bundle:
        match line.value:
            case Const(number):
                return (literal(number, line.dtype),)
            case Load():
                return self._load(line.value)
            case Apply(op, operands):
                return self._apply(op, operands, line.dtype)
            case Index(index):
                return tuple(cast(self.f, value, int64, line.dtype) for value in self.index(index))
            case Quotient(index, by):
                return self._divide(self.f.udiv, index, by)
            case Remainder(index, by):
                return self._divide(self.f.urem, index, by)
            case Extent(size):
                return (sizes.value(self.number(size)),)
            case Random():
                return self._random(line.value)

    def _apply(self, op: str, names: tuple[str, ...], dtype: DType) -> Bundle:
        bundles = [self.values[name] for name in names]
        dtypes = [self.dtypes[name] for name in names]
        lanes = max(bundle[0].type.lanes for bundle in bundles)
        copies = max(len(bundle) for bundle in bundles)
        results: list[Value] = []
        for copy in range(copies):
            operands = [bundle[copy % len(bundle)] for bundle in bundles]
            wide = [self._wide(operand, lanes) for operand in operands]
            results.append(apply(self.f, op, wide, dtypes, dtype))
        return tuple(results)

    # Where an index points.

    def locate(self, index: Affine) -> tuple[Number, Number, Wild]:
        """First position, step between lanes, and the terms that differ freely by lane."""
        f, wild = self.f, list[tuple[Bundle, Number]]()
        total: Number = index.offset
        along: Number = 0
        for name, size in index.terms:
            factor = self.number(size)
            if name in self.axes:
                total = sizes.add(f, total, sizes.mul(f, self.axes[name], factor))
                if self.vector is not None and name == self.vector.axis:
                    along = factor
            elif self.values[name][0].type.lanes == 1:
                total = sizes.add(f, total, sizes.mul(f, self.values[name][0], factor))
            else:
                wild.append((self.values[name], factor))
        return total, along, tuple(wild)

    def index(self, index: Affine) -> Bundle:
        """The number an index stands for, as i64 values."""
        start, step, wild = self.locate(index)
        if self.vector is None or (step == 0 and not wild):
            return (sizes.value(start),)
        return tuple(
            self._lane_positions(start, step, wild, copy) for copy in range(self.vector.copies)
        )

    def _along(self, start: Number, step: Number, copy: int) -> Number:
        skipped = copy * self.vector.lanes if self.vector is not None else 0
        return sizes.add(self.f, start, sizes.mul(self.f, skipped, step))

    def _lane_positions(self, start: Number, step: Number, wild: Wild, copy: int) -> Value:
        assert self.vector is not None, "lanes exist in a vector only"
        f, wide = self.f, I64.with_lanes(self.vector.lanes)
        numbers = f.iota(I64, self.vector.lanes)
        scaled = f.mul(numbers, f.splat(sizes.value(step), wide))
        total = f.add(scaled, f.splat(sizes.value(self._along(start, step, copy)), wide))
        for bundle, factor in wild:
            term = f.mul(bundle[copy % len(bundle)], f.splat(sizes.value(factor), wide))
            total = f.add(total, term)
        return total

    def _each_lane(self, start: Number, step: Number, wild: Wild, copy: int) -> list[Number]:
        """The position of each lane, as scalars; that of the first where a mask excludes it."""
        assert self.vector is not None, "lanes exist in a vector only"
        f, lanes = self.f, range(self.vector.lanes)
        if wild:
            positions = self._lane_positions(start, step, wild, copy)
            found: list[Number] = [f.extract(positions, lane) for lane in lanes]
        else:
            first = self._along(start, step, copy)
            found = [sizes.add(f, first, sizes.mul(f, lane, step)) for lane in lanes]
        mask = self.vector.mask
        if mask is None:
            return found
        return [
            f.select(f.extract(mask, lane), sizes.value(at), sizes.value(found[0]))
            for lane, at in enumerate(found)
        ]

    # Memory.

    def _load(self, load: Load) -> Bundle:
        dtype = self.kernel.buffer(load.buffer).dtype
        f, scalar, base = self.f, memory_type(dtype), self.pointers[load.buffer]
        start, step, wild = self.locate(load.index)
        if self.vector is None or (step == 0 and not wild):
            return (from_memory(f, f.load(scalar, f.gep(base, start, scalar)), dtype),)
        raws: list[Value] = []
        for copy in range(self.vector.copies):
            if wild or step != 1:
                raws.append(self._gather(base, scalar, self._each_lane(start, step, wild, copy)))
            else:
                at = f.gep(base, self._along(start, step, copy), scalar)
                raws.append(self._load_vector(at, scalar.with_lanes(self.vector.lanes)))
                self._fetch_ahead(load.index, at, scalar)
        return tuple(from_memory(f, raw, dtype) for raw in raws)

    def _fetch_ahead(self, index: Affine, at: Value, scalar: Type) -> None:
        """Ask for what a later row has at the place of a vector, where the schedule says so."""
        assert self.vector is not None, "vectors are fetched ahead"
        ahead = self.kernel.bound(self.vector.axis, "ahead")
        rows = self.axes.keys() & set(index.names) - {self.vector.axis}
        if isinstance(ahead, int) and rows:
            self.f.prefetch(self.f.gep(at, ahead, scalar), locality=2)

    def _load_vector(self, at: Value, type: Type) -> Value:
        if self.vector is not None and self.vector.mask is not None:
            return self.f.masked_load(type, at, self.vector.mask)
        return self.f.load(type, at)

    def _gather(self, base: Value, scalar: Type, positions: list[Number]) -> Value:
        f = self.f
        vector = undefined(scalar.with_lanes(len(positions)))
        for lane, position in enumerate(positions):
            one = f.load(scalar, f.gep(base, position, scalar))
            vector = f.insert(vector, one, lane)
        return vector

    def _scatter(
        self,
        line: Store | Update,
        raw: Value,
        start: Number,
        step: Number,
        wild: Wild,
        copy: int,
    ) -> None:
        f, base, scalar = self.f, self.pointers[line.buffer], raw.type.with_lanes(1)
        if raw.type.lanes == 1:
            f.store(raw, f.gep(base, start, scalar))
            return
        mask = self.vector.mask if self.vector is not None else None
        for lane, position in enumerate(self._each_lane(start, step, wild, copy)):
            at, one = f.gep(base, position, scalar), f.extract(raw, lane)
            if mask is None:
                f.store(one, at)
            else:
                with f.when(f.extract(mask, lane)):
                    f.store(one, at)

    def _divide(self, divide: Callable[[Value, Value], Value], index: Affine, by: Size) -> Bundle:
        results: list[Value] = []
        for value in self.index(index):
            divisor = self.f.splat(sizes.value(self.number(by)), value.type)
            results.append(divide(value, divisor))
        return tuple(results)

    # Random words.

    def _random(self, random: Random) -> Bundle:
        vector = self.vector
        joint = vector is not None and vector.copies == 4 and by_fours(random, vector.axis)
        return self._blocks(random) if joint else self._words(random)

    def _blocks(self, random: Random) -> Bundle:
        """Four vectors from as many whole blocks as a vector has lanes."""
        assert self.vector is not None, "blocks are drawn for vectors"
        f, lanes = self.f, self.vector.lanes
        start, _, _ = self.locate(random.index)
        wide = I64.with_lanes(lanes)
        first = f.splat(f.lshr(sizes.value(start), 2), wide)
        w0, w1, w2, w3 = self._philox(random, f.add(first, f.iota(I64, lanes)))
        # Words 0 and 1 of each block side by side, likewise 2 and 3; then pairs of pairs.
        woven = [n for lane in range(lanes) for n in (lane, lanes + lane)]
        low, high = f.shuffle(w0, w1, woven), f.shuffle(w2, w3, woven)
        results: list[Value] = []
        for copy in range(4):
            picks: list[int] = []
            for word in range(copy * lanes, (copy + 1) * lanes):
                block, within = divmod(word, 4)
                picks.append(2 * block + within % 2 + (2 * lanes if within > 1 else 0))
            results.append(f.shuffle(low, high, picks))
        return tuple(results)

    def _words(self, random: Random) -> Bundle:
        """Each element's own block, of which it keeps one word."""
        f = self.f
        results: list[Value] = []
        for position in self.index(random.index):
            words = self._philox(random, f.lshr(position, 2))
            within = f.cast("trunc", f.and_(position, 3), I32)
            result = words[3]
            for number in (2, 1, 0):
                result = f.select(f.icmp("eq", within, number), words[number], result)
            results.append(result)
        return tuple(results)

    def _philox(self, random: Random, block: Value) -> tuple[Value, Value, Value, Value]:
        f, lanes = self.f, block.type.lanes
        halves: list[Value] = []
        for name in (random.seed, random.draw):
            (value,) = self.values[name]
            for part in (value, f.lshr(value, 32)):
                narrow = f.cast("trunc", part, I32)
                halves.append(self._wide(narrow, lanes) if lanes > 1 else narrow)
        low, high = f.cast("trunc", block, I32), f.cast("trunc", f.lshr(block, 32), I32)
        return philox4x32(f, (low, high, halves[2], halves[3]), (halves[0], halves[1]))


def _store_masked(f: Function, value: Value, at: Value, mask: Value) -> None:
    """Write the lanes of a mask; if they are known, in halves: masked writes can be very slow."""
    lanes = value.type.lanes
    counts = [n for n in range(lanes) if mask == prefix(n, lanes)]
    if not counts:
        f.masked_store(value, at, mask)
        return
    done, width = 0, lanes
    while width:
        if counts[0] & width:
            piece = f.shuffle(value, value, range(done, done + width))
            f.store(piece, f.gep(at, done, value.type.with_lanes(1)))
            done += width
        width //= 2


def prefix(count: int, lanes: int) -> Value:
    """The mask of the first `count` lanes."""
    return constants(I1, tuple(int(lane < count) for lane in range(lanes)))
