"""What is a block of an attention's rows, and what do its kernels share, either way?

All scores that are held at one time are those of one block. Where they lie, and which numbers a
block has; how an inner kernel is entered; the products and passes that both directions have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from pellucid.core.dtype import DType, bool_, int32, int64, uint64
from pellucid.core.shape import static_shape
from pellucid.engines.loops.blocks import Least, Read, Repeat, Run, Scratch, Step
from pellucid.engines.loops.ir import (
    Affine,
    Apply,
    Axis,
    Buffer,
    Const,
    Contract,
    Extent,
    Kernel,
    Let,
    Line,
    Load,
    Loop,
    Size,
    Statement,
    Store,
)
from pellucid.ops.attention_forms import (
    COLUMN_CHUNK,
    HeadsFirst,
    Sizes,
    drawn_columns,
    rows_at_once,
)

Strides = tuple[int, ...]

ROW, COLUMN, DEPTH = "i", "j", "k"
"""The loops of an inner kernel: over the rows of its result, the columns, and what is summed."""

ROWS, COLUMNS, FIRST, SCALE, PLACE = "rows", "columns", "first", "scale", "place"
"""What an inner kernel may be given: rows and columns of the block, the last column that the first
row may look at, the bits of the scale, and a quarter of the place of the first random number."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An inner kernel ready to be called: its buffers' names as it was drafted, and its launch.

    `sizes` are the values of the parameters that it got beside those it was drafted with.
    """

    kernel: Kernel
    places: tuple[str, ...]
    sizes: tuple[int, ...]
    tasks: int
    scratch_bytes: int


Finish = Callable[[Kernel, dict[str, int]], Finished]
"""Schedules a drafted kernel; the dict has the largest value of each of its parameters."""


@dataclass(frozen=True, slots=True)
class Attention:
    """What is asked for: sizes, how the operands lie, and what is hidden.

    `strides` are those of query, key, value, for a gradient the cotangent, and then the mask, heads
    third; `length_step` leads from length to length. `heads_first` says of what is written whether
    it has its heads second: the result by its last entry, the shares of a gradient by the first
    three. It is computed in `dtype`; operands, and what else products read, are of dtype `factors`.
    """

    dtype: DType
    factors: DType
    sizes: Sizes
    strides: tuple[Strides, ...]
    scale: float
    causal: bool
    mask: bool
    lengths: DType | None
    length_step: int
    heads_first: HeadsFirst
    dropout: float


class Block:
    """The numbers of a block, its places, and the kernels that either direction builds on."""

    def __init__(self, asked: Attention, finish: Finish, generic: bool) -> None:
        self.asked, self.finish, self.dtype = asked, finish, asked.dtype
        self.generic = generic
        # What products read of the scores is rounded into memory of its own, if at all.
        self.rounds = asked.factors is not asked.dtype
        self.weights, self.shares = ("u", "v") if self.rounds else ("s", "t")
        n = asked.sizes
        self.batch, self.rows, self.columns, self.shared, self.groups, self.size, self.features = (
            static_shape(
                (n.batch, n.rows, n.columns, n.shared, n.groups, n.size, n.features),
                "the kernel of an attention",
            )
        )
        self.block = rows_at_once(self.rows, self.columns)
        self.blocks = -(-self.rows // self.block)
        self.width = pitch_of(self.columns, self.dtype)
        self.query, self.key, self.value = asked.strides[:3]
        self.kernels: list[Kernel] = []
        self.inner_bytes = 0
        self.even = self.rows % self.block == 0 and not generic
        self.full = not asked.causal and asked.lengths is None

    # The numbers of a block.

    @property
    def block_rows(self) -> Size:
        """The rows of a block: a number if all have so many."""
        return self.block if self.even else ROWS

    @property
    def block_columns(self) -> Size:
        """The columns that any row of the block can see."""
        return self.columns if self.full else COLUMNS

    def numbers(self) -> list[Step]:
        """The steps that find a block's numbers."""
        steps: list[Step] = []
        if not self.even:
            left = Affine((("r", -self.block),), self.rows)
            steps.append(Least(ROWS, (Affine((), self.block), left)))
        if self.asked.dropout:
            steps.append(Least(PLACE, (self.first_place(),)))
        if self.generic:
            number = np.asarray(self.asked.scale, self.dtype.numpy).view(f"i{self.dtype.bytes}")
            steps.append(Least(SCALE, (Affine((), int(number)),), None))
        if self.full:
            return steps
        reach: list[Affine] = [Affine((), self.columns)]
        last = Affine((("r", self.block),), self.block)
        if self.asked.lengths is not None:
            name = f"x{3 + self.gradient + self.asked.mask}"
            steps.append(Read("length", name, Affine((("b", self.asked.length_step),))))
            steps.append(Least("end", (Affine((), self.columns), Affine((("length", 1),)))))
            reach = [Affine((("end", 1),))]
            last = Affine((("r", self.block), ("end", 1)), self.block - self.rows)
        if self.asked.causal:
            steps.append(Least(FIRST, (replace_offset(last, -self.block),), None))
            reach.append(last)
        return [*steps, Least(COLUMNS, tuple(reach))]

    gradient = False

    # The kernels.

    def run(
        self,
        name: str,
        buffers: tuple[Buffer, ...],
        body: tuple[Statement, ...],
        places: dict[str, tuple[str, Affine]],
        given: tuple[Size, ...] = (),
        stand: dict[str, str] | None = None,
    ) -> Run:
        """A step that runs a kernel with this body; `given` are the numbers it depends on.

        Of the block's numbers, those of the same names, unless others `stand` for them.
        """
        names = tuple(dict.fromkeys(size for size in given if isinstance(size, str)))
        most = {
            ROWS: self.block,
            COLUMNS: self.columns,
            FIRST: 0,
            SCALE: 0,
            PLACE: 0,
            "part": COLUMN_CHUNK,
        }
        kernel = Kernel(name, names, buffers, body)
        done = self.finish(kernel, {one: most[one] for one in names})
        if done.kernel not in self.kernels:
            self.kernels.append(done.kernel)
        self.inner_bytes = max(self.inner_bytes, done.scratch_bytes)
        where = tuple(places[place] for place in done.places)
        values = tuple((stand or {}).get(name, name) for name in names)
        return Run(done.kernel.name, where, (*values, *done.sizes), done.tasks)

    def scale(self, name: str) -> tuple[Let, ...]:
        """The lines that give the scale its name: a number, or the bits of one as a parameter."""
        if not self.generic:
            return (Let(name, self.dtype, Const(self.asked.scale)),)
        bits = {"float32": int32, "float64": int64}[self.dtype.name]
        return (
            Let(f"{name}_given", int64, Extent(SCALE)),
            Let(f"{name}_bits", bits, Apply("cast", (f"{name}_given",))),
            Let(name, self.dtype, Apply("bitcast", (f"{name}_bits",))),
        )

    @property
    def scale_given(self) -> tuple[Size, ...]:
        """The scale, where it is a parameter."""
        return (SCALE,) if self.generic else ()

    def first_place(self) -> Affine:
        """A quarter of where the random numbers of a block begin."""
        row = drawn_columns(self.columns) // 4
        head = self.rows * row
        batch = self.shared * self.groups * head
        return Affine(
            (("b", batch), ("h", self.groups * head), ("g", head), ("r", self.block * row))
        )

    def zeros(self, name: str, rows: Size, width: int, step: int, place: tuple[str, Affine]) -> Run:
        """y = 0 for `rows` rows of `width` numbers."""
        lines: tuple[Line, ...] = (
            Let("t0", self.dtype, Const(0.0)),
            Store("y", Affine(((ROW, step), (COLUMN, 1))), "t0"),
        )
        body = nested(((ROW, rows), (COLUMN, width)), lines)
        return self.run(name, (self.write("y"),), body, {"y": place}, (rows,))

    def product(
        self,
        name: str,
        loops: tuple[tuple[str, Size], tuple[str, Size]],
        depth: Size,
        sides: tuple[tuple[str, Affine, Affine], tuple[str, Affine, Affine]],
        out: tuple[str, Affine, Affine],
        adds: bool = False,
        divides: bool = False,
    ) -> Run:
        """y = lhs . rhs, or y += it; a side: a buffer, where it begins, where an element lies."""
        (left, left_at, left_step), (right, right_at, right_step) = sides
        lines: list[Line] = [
            Contract(
                "t0",
                self.dtype,
                (Axis(DEPTH, depth),),
                Load("a", left_step),
                Load("b", right_step),
            )
        ]
        result = "t0"
        buffers = [self.factor("a"), self.factor("b")]
        places = {"a": (left, left_at), "b": (right, right_at), "y": out[:2]}
        if adds:
            lines.append(Let("t1", self.dtype, Load("y", out[2])))
            lines.append(Let("t2", self.dtype, Apply("add", ("t1", "t0"))))
            result = "t2"
        if divides:
            buffers.append(self.read("l"))
            places["l"] = ("l", Affine())
            lines.append(Let("t1", self.dtype, Load("l", Affine(((ROW, 1),)))))
            lines.append(Let("t2", self.dtype, Apply("div", ("t0", "t1"))))
            result = "t2"
        lines.append(Store("y", out[2], result))
        given = (loops[0][1], loops[1][1], depth)
        body = nested(loops, tuple(lines))
        return self.run(name, (*buffers, self.write("y")), body, places, given)

    def over_columns(
        self,
        name: str,
        source: str,
        other: tuple[str, Affine, Strides],
        width: int,
        out: tuple[str, Affine, int],
        divides: bool,
    ) -> list[Step]:
        """y = s . other over the block's columns, in chunks; divided by the rows' sums if asked."""
        buffer, at, strides = other
        y, y_at, y_step = out
        rows = self.block_rows
        step = Affine(((ROW, y_step), (COLUMN, 1)))
        loops = ((ROW, rows), (COLUMN, width))
        right = step_of(strides, DEPTH, COLUMN)
        left = self.place(DEPTH)
        if self.columns <= COLUMN_CHUNK:
            sides = ((source, Affine(), left), (buffer, at, right))
            target = (y, y_at, step)
            return [self.product(name, loops, self.block_columns, sides, target, divides=divides)]
        part = Least("part", (Affine((), COLUMN_CHUNK), self._left_over()))
        sides = (
            (source, Affine((("c", 1),)), left),
            (buffer, plus(at, "c", strides[1]), right),
        )
        added = self.product(name, loops, "part", sides, (y, y_at, step), adds=True)
        steps: list[Step] = [
            self.zeros(f"{name}_start", rows, width, y_step, (y, y_at)),
            Repeat("c", self.block_columns, COLUMN_CHUNK, (part, added)),
        ]
        return [*steps, self.quotients(width, (y, y_at, step))] if divides else steps

    def quotients(self, width: int, out: tuple[str, Affine, Affine]) -> Run:
        """y /= the row's sum."""
        lines: tuple[Statement, ...] = (
            Let("t1", self.dtype, Load("y", out[2])),
            Let("t2", self.dtype, Apply("div", ("t1", "t0"))),
            Store("y", out[2], "t2"),
        )
        sum_of_row = Let("t0", self.dtype, Load("l", Affine(((ROW, 1),))))
        body = nested(((ROW, self.block_rows),), (sum_of_row, *nested(((COLUMN, width),), lines)))
        places = {"l": ("l", Affine()), "y": out[:2]}
        buffers = (self.read("l"), self.write("y"))
        return self.run("quotients", buffers, body, places, (self.block_rows,))

    # Where things lie.

    def place(self, column: str = COLUMN) -> Affine:
        """Element (row, column) of a block's scores."""
        return Affine(((ROW, self.width), (column, 1)))

    def query_at(self, strides: Strides) -> Affine:
        """Where a block of rows of one query head begins."""
        batch, row, head, _ = strides
        return Affine(
            (("b", batch), ("h", head * self.groups), ("g", head), ("r", row * self.block))
        )

    def shared_at(self, strides: Strides) -> Affine:
        """Where a shared head begins."""
        return Affine((("b", strides[0]), ("h", strides[2])))

    def mask_at(self) -> Affine:
        """Where the mask of a block begins."""
        if not self.asked.mask:
            return Affine()
        batch, head, row, _ = self.asked.strides[-1]
        return Affine(
            (("b", batch), ("h", head * self.groups), ("g", head), ("r", row * self.block))
        )

    def _left_over(self) -> Affine:
        """The columns from c on."""
        if isinstance(self.block_columns, int):
            return Affine((("c", -1),), self.columns)
        return Affine(((COLUMNS, 1), ("c", -1)))

    def read(self, name: str) -> Buffer:
        """A buffer that an inner kernel reads."""
        return Buffer(name, self.dtype, "read")

    def factor(self, name: str) -> Buffer:
        """A buffer that a product reads."""
        return Buffer(name, self.asked.factors, "read")

    def rounded(self, name: str) -> Buffer:
        """A buffer that an inner kernel writes, and products read."""
        return Buffer(name, self.asked.factors, "write")

    def write(self, name: str) -> Buffer:
        """A buffer that an inner kernel writes, and may read."""
        return Buffer(name, self.dtype, "write")

    def operands(self) -> tuple[Buffer, ...]:
        """The buffers of the operands."""
        count = 4 if self.gradient else 3
        found = [self.factor(f"x{at}") for at in range(count)]
        if self.asked.mask:
            found.append(Buffer(f"x{len(found)}", bool_, "read"))
        if self.asked.lengths is not None:
            found.append(Buffer(f"x{len(found)}", self.asked.lengths, "read"))
        if self.asked.dropout:
            found += [Buffer(f"x{len(found) + at}", uint64, "read") for at in range(2)]
        return tuple(found)

    def scratch(self, *names: str) -> tuple[Scratch, ...]:
        """Scratch memory for the scores, and whatever has their shape, and for a number a row."""
        scores = self.block * self.width
        each = [(name, self.dtype, scores) for name in names]
        each.append(("l", self.dtype, self.block))
        if self.rounds:
            own = (self.weights, self.shares)[: len(names)]
            each += [(name, self.asked.factors, scores) for name in own]
        return tuple(
            Scratch(name, dtype, -(-count * dtype.bytes // 64) * 64) for name, dtype, count in each
        )


def pitch_of(columns: int, dtype: DType) -> int:
    """The elements from row to row of the scores: whole cache lines, and an odd number of them.

    With rows a large power of two apart, those of one column would meet in one set of the cache.
    """
    lines = -(-columns * dtype.bytes // 64) | 1
    return lines * 64 // dtype.bytes


def dense(shape: tuple[int, ...]) -> Strides:
    """Row-major strides."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def lying(shape: tuple[int, int, int, int], heads_first: bool) -> Strides:
    """The strides of a dense (batch, rows, heads, size), which may lie with its heads second."""
    if not heads_first:
        return dense(shape)
    batch, rows, heads, size = shape
    first, head, row, last = dense((batch, heads, rows, size))
    return first, row, head, last


def step_of(strides: Strides, along: str, across: str) -> Affine:
    """Element (along, across) of one head of an operand (batch, along, head, across)."""
    return Affine(((along, strides[1]), (across, strides[3])))


def plus(index: Affine, name: str, factor: int) -> Affine:
    """An index that also moves with `name`."""
    return Affine((*index.terms, (name, factor)), index.offset)


def replace_offset(index: Affine, by: int) -> Affine:
    """An index moved on by so many elements."""
    return Affine(index.terms, index.offset + by)


def nested(
    loops: tuple[tuple[str, Size], ...], body: tuple[Statement, ...]
) -> tuple[Statement, ...]:
    """Loops, the first outermost, around a body."""
    for name, extent in reversed(loops):
        body = (Loop(Axis(name, extent), body),)
    return body
