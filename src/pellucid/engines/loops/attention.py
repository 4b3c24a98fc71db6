"""Which kernels does an attention run on a block of its rows, and in which order?

Forward, for each block of rows of each query head: the scores of the block into scratch memory;
their exponentials, in place, with the sum of each row; the values weighted by these, divided by the
sum. Backward, for each shared head: block after block of each of its query heads, as
`ops.attention` states it. All scores that are held at one time are those of one block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod
from typing import Final

import numpy as np

from pellucid.core.dtype import DType, bool_, float32, int32, int64, uint32, uint64
from pellucid.core.shape import static_shape
from pellucid.engines.loops.blocks import Blocked, Least, Read, Repeat, Run, Scratch, Step
from pellucid.engines.loops.ir import (
    CHUNK_ELEMENTS,
    Accumulator,
    Affine,
    Apply,
    Axis,
    Buffer,
    Const,
    Contract,
    Extent,
    Index,
    Kernel,
    Let,
    Line,
    Load,
    Loop,
    Random,
    Reduce,
    Size,
    Statement,
    Store,
)
from pellucid.ops.attention_forms import COLUMN_CHUNK, Sizes, drawn_columns, rows_at_once

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
    third; `length_step` leads from length to length. The result may have its heads second. It is
    computed in `dtype`; the operands, and what else the products read, are of dtype `read`.
    """

    dtype: DType
    read: DType
    sizes: Sizes
    strides: tuple[Strides, ...]
    scale: float
    causal: bool
    mask: bool
    lengths: DType | None
    length_step: int
    heads_first: bool
    dropout: float


def draft_attention(asked: Attention, finish: Finish, generic: bool = False) -> Blocked:
    """The kernel of an attention; if `generic`, as it is for any number of rows."""
    return _Forward(asked, finish, generic).blocked()


def draft_gradient(asked: Attention, finish: Finish, generic: bool = False) -> Blocked:
    """The kernel of an attention's gradient; if `generic`, as it is for any number of rows."""
    return _Backward(asked, finish, generic).blocked()


_LEAST: Final = Const(-inf)


class _Draft:
    """What both directions share: the numbers, and the kernels up to the exponentials."""

    def __init__(self, asked: Attention, finish: Finish, generic: bool) -> None:
        self.asked, self.finish, self.dtype = asked, finish, asked.dtype
        self.generic = generic
        # What products read of the scores is rounded into memory of its own, if at all.
        self.rounds = asked.read is not asked.dtype
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
        # Whole vectors from row to row of the scores.
        self.width = -(-self.columns // 16) * 16
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
            steps.append(Least(PLACE, (self._first_place(),)))
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
    ) -> Run:
        """A step that runs a kernel with this body; `given` are the numbers it depends on."""
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
        return Run(done.kernel.name, where, (*names, *done.sizes), done.tasks)

    def scores(self, query: Affine, key: Affine, mask: Affine) -> Run:
        """s = query . key * scale, where shown."""
        rows, columns = self.block_rows, self.block_columns
        contract = Contract(
            "t0",
            self.dtype,
            (Axis(DEPTH, self.size),),
            Load("q", step_of(self.query, ROW, DEPTH)),
            Load("k", step_of(self.key, COLUMN, DEPTH)),
        )
        lines: list[Line] = [
            contract,
            *self.scale("t1"),
            Let("t2", self.dtype, Apply("mul", ("t0", "t1"))),
        ]
        buffers = [self._factor("q"), self._factor("k")]
        places = {"q": ("x0", query), "k": ("x1", key), "s": ("s", Affine())}
        shown = self._shown(lines)
        if self.asked.mask:
            buffers.append(Buffer("m", bool_, "read"))
            places["m"] = ("x4" if self.gradient else "x3", mask)
        if shown:
            lines.append(Let("low", self.dtype, _LEAST))
            lines.append(Let("t3", self.dtype, Apply("select", (shown, "t2", "low"))))
        lines.append(Store("s", self.place(), "t3" if shown else "t2"))
        body = _loops(((ROW, rows), (COLUMN, columns)), tuple(lines))
        given = (rows, columns, *((FIRST,) if self.asked.causal else ()), *self.scale_given)
        return self.run("scores", (*buffers, self._write("s")), body, places, given)

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

    def _shown(self, lines: list[Line]) -> str:
        """Add the lines that say whether a row sees a column; the name of that, or nothing."""
        shown = ""
        if self.asked.causal:
            lines += [
                Let("a0", int32, Index(Affine(((COLUMN, 1),)))),
                Let("a1", int32, Index(Affine(((ROW, 1),)))),
                Let("a2", int64, Extent(FIRST)),
                Let("a3", int32, Apply("cast", ("a2",))),
                Let("a4", int32, Apply("add", ("a1", "a3"))),
                Let("a5", bool_, Apply("less_equal", ("a0", "a4"))),
            ]
            shown = "a5"
        if self.asked.mask:
            strides = self.asked.strides[-1]
            pairs = zip((ROW, COLUMN), strides[2:], strict=True)
            index = Affine(tuple((name, step) for name, step in pairs if step))
            lines.append(Let("b0", bool_, Load("m", index)))
            if shown:
                lines.append(Let("b1", bool_, Apply("logical_and", (shown, "b0"))))
            shown = "b1" if shown else "b0"
        return shown

    def exponentials(self) -> Run:
        """s = exp(s - the row's largest) in place, and l = the row's sum."""
        rows, columns = self.block_rows, self.block_columns
        whole = self.columns < CHUNK_ELEMENTS
        chunk = (1, columns if whole else CHUNK_ELEMENTS)

        def reduce(
            name: str, kind: str, of: str, column: str, body: tuple[Statement, ...]
        ) -> Reduce:
            result = Accumulator(name, "max" if kind == "max" else "sum", self.dtype, of)
            return Reduce((result,), "lanes", (Axis(column, columns),), chunk, body)

        c0, c1 = self.place("c0"), self.place("c1")
        # Forward, products alone read the exponentials; a dropout comes between and rounds itself.
        straight = self.rounds and not self.gradient and not self.asked.dropout
        stored: tuple[Statement, ...] = (Store("s", c1, "t3"),)
        if straight:
            stored = (Let("t4", self.asked.read, Apply("cast", ("t3",))), Store("u", c1, "t4"))
        body: tuple[Statement, ...] = (
            reduce("top", "max", "t0", "c0", (Let("t0", self.dtype, Load("s", c0)),)),
            Let("low", self.dtype, _LEAST),
            Let("none", bool_, Apply("equal", ("top", "low"))),
            Let("zero", self.dtype, Const(0.0)),
            Let("base", self.dtype, Apply("select", ("none", "zero", "top"))),
            reduce(
                "total",
                "sum",
                "t3",
                "c1",
                (
                    Let("t1", self.dtype, Load("s", c1)),
                    Let("t2", self.dtype, Apply("sub", ("t1", "base"))),
                    Let("t3", self.dtype, Apply("exp", ("t2",))),
                    *stored,
                ),
            ),
            Let("one", self.dtype, Const(1.0)),
            Let("void", bool_, Apply("equal", ("total", "zero"))),
            Let("by", self.dtype, Apply("select", ("void", "one", "total"))),
            Store("l", Affine(((ROW, 1),)), "by"),
        )
        buffers = (self._write("s"), self._write("l"), *(self._rounded("u"),) * straight)
        places = {buffer.name: (buffer.name, Affine()) for buffer in buffers}
        return self.run(
            "exponentials", buffers, _loops(((ROW, rows),), body), places, (rows, columns)
        )

    def dropped(self, scores: str, into: str) -> tuple[Run, ...]:
        """y = x * (1 / (1 - dropout)) where its random number is small, and 0 elsewhere.

        y is x itself, or where it is read rounded by a product.
        """
        if not self.asked.dropout:
            return ()
        rows, columns, drawn = self.block_rows, self.block_columns, drawn_columns(self.columns)
        stays = 1.0 - self.asked.dropout
        place = Affine((("place4", 4), (ROW, drawn), (COLUMN, 1)))
        lines: tuple[Line, ...] = (
            Let("r0", uint32, Random("seed", "draw", place)),
            Let("eight", uint32, Const(8)),
            Let("r1", uint32, Apply("shift_right", ("r0", "eight"))),
            Let("r2", float32, Apply("cast", ("r1",))),
            Let("unit", float32, Const(2.0**-24)),
            Let("r3", float32, Apply("mul", ("r2", "unit"))),
            Let("most", float32, Const(float(np.float32(stays)))),
            Let("kept", bool_, Apply("less", ("r3", "most"))),
            Let("t0", self.dtype, Load("x", self.place())),
            Let("by", self.dtype, Const(1.0 / stays)),
            Let("t1", self.dtype, Apply("mul", ("t0", "by"))),
            Let("none", self.dtype, Const(0.0)),
            Let("t2", self.dtype, Apply("select", ("kept", "t1", "none"))),
            *self._kept("t2", scores, into),
        )
        body = (
            Let("seed", uint64, Load("seed", Affine())),
            Let("draw", uint64, Load("draw", Affine())),
            Let("place4", int64, Extent(PLACE)),
            *_loops(((ROW, rows), (COLUMN, columns)), lines),
        )
        first = 3 + self.gradient + self.asked.mask + (self.asked.lengths is not None)
        places = {name: (f"x{first + at}", Affine()) for at, name in enumerate(("seed", "draw"))}
        places |= {"x": (scores, Affine()), "y": (into, Affine())}
        targets = (self._write("x"), *(self._rounded("y"),) * (into != scores))
        buffers = (Buffer("seed", uint64, "read"), Buffer("draw", uint64, "read"), *targets)
        name = "dropped" if into == scores else "dropped_rounded"
        return (self.run(name, buffers, body, places, (rows, columns, PLACE)),)

    def _kept(self, value: str, source: str, into: str) -> tuple[Line, ...]:
        """The lines that store what was dropped."""
        if source == into:
            return (Store("x", self.place(), value),)
        rounded = Let("t3", self.asked.read, Apply("cast", (value,)))
        return rounded, Store("y", self.place(), "t3")

    def _first_place(self) -> Affine:
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
        body = _loops(((ROW, rows), (COLUMN, width)), lines)
        return self.run(name, (self._write("y"),), body, {"y": place}, (rows,))

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
        buffers = [self._factor("a"), self._factor("b")]
        places = {"a": (left, left_at), "b": (right, right_at), "y": out[:2]}
        if adds:
            lines.append(Let("t1", self.dtype, Load("y", out[2])))
            lines.append(Let("t2", self.dtype, Apply("add", ("t1", "t0"))))
            result = "t2"
        if divides:
            buffers.append(self._read("l"))
            places["l"] = ("l", Affine())
            lines.append(Let("t1", self.dtype, Load("l", Affine(((ROW, 1),)))))
            lines.append(Let("t2", self.dtype, Apply("div", ("t0", "t1"))))
            result = "t2"
        lines.append(Store("y", out[2], result))
        given = (loops[0][1], loops[1][1], depth)
        body = _loops(loops, tuple(lines))
        return self.run(name, (*buffers, self._write("y")), body, places, given)

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
        body = _loops(((ROW, self.block_rows),), (sum_of_row, *_loops(((COLUMN, width),), lines)))
        places = {"l": ("l", Affine()), "y": out[:2]}
        buffers = (self._read("l"), self._write("y"))
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

    def _read(self, name: str) -> Buffer:
        return Buffer(name, self.dtype, "read")

    def _factor(self, name: str) -> Buffer:
        """What a product reads."""
        return Buffer(name, self.asked.read, "read")

    def _rounded(self, name: str) -> Buffer:
        """Where a product will read what is written."""
        return Buffer(name, self.asked.read, "write")

    def _write(self, name: str) -> Buffer:
        return Buffer(name, self.dtype, "write")

    def operands(self) -> tuple[Buffer, ...]:
        """The buffers of the operands."""
        count = 4 if self.gradient else 3
        found = [self._factor(f"x{at}") for at in range(count)]
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
            each += [(name, self.asked.read, scores) for name in own]
        return tuple(
            Scratch(name, dtype, -(-count * dtype.bytes // 64) * 64) for name, dtype, count in each
        )


class _Forward(_Draft):
    def blocked(self) -> Blocked:
        heads = self.shared * self.groups
        out = dense((self.batch, self.rows, heads, self.features))
        if self.asked.heads_first:
            batch, row, head, one = dense((self.batch, heads, self.rows, self.features))
            out = batch, head, row, one
        values = ("x2", self.shared_at(self.value), self.value)
        target = ("y0", self.query_at(out), out[1])
        body = (
            *self.numbers(),
            self.scores(self.query_at(self.query), self.shared_at(self.key), self.mask_at()),
            self.exponentials(),
            *self.dropped("s", self.weights),
            *self.over_columns(
                "weighted", self.weights, values, self.features, target, divides=True
            ),
        )
        grid = (
            Axis("b", self.batch),
            Axis("h", self.shared),
            Axis("g", self.groups),
            Axis("r", self.blocks),
        )
        return Blocked(
            "attention",
            (*self.operands(), Buffer("y0", self.dtype, "write")),
            self.scratch("s"),
            grid,
            body,
            tuple(self.kernels),
            self.inner_bytes,
        )


class _Backward(_Draft):
    gradient = True

    def blocked(self) -> Blocked:
        query = dense((self.batch, self.rows, self.shared * self.groups, self.size))
        key = dense((self.batch, self.columns, self.shared, self.size))
        value = dense((self.batch, self.columns, self.shared, self.features))
        after = self.batch * self.rows * self.shared * self.groups * self.size
        key_at = replace_offset(self.shared_at(key), after)
        value_at = replace_offset(
            self.shared_at(value), after + self.batch * self.columns * self.shared * self.size
        )
        keys = ("x1", self.shared_at(self.key), self.key)
        target = ("y0", self.query_at(query), query[1])
        block = (
            *self.numbers(),
            self.scores(self.query_at(self.query), self.shared_at(self.key), self.mask_at()),
            self.exponentials(),
            self._weights_share(),
            *self.dropped("t", "t"),
            self._scores_share(),
            *self.dropped("s", self.weights),
            self._added(
                "value_share", self.weights, "x3", self.asked.strides[3], value_at, value[1]
            ),
            self._added("key_share", self.shares, "x0", self.query, key_at, key[1]),
            *self.over_columns("query_share", self.shares, keys, self.size, target, divides=False),
        )
        body = (
            self.zeros("key_start", self.columns, self.size, key[1], ("y0", key_at)),
            self.zeros("value_start", self.columns, self.features, value[1], ("y0", value_at)),
            Repeat("g", self.groups, 1, (Repeat("r", self.blocks, 1, block),)),
        )
        return Blocked(
            "attention_gradient",
            (*self.operands(), Buffer("y0", self.dtype, "write")),
            self.scratch("s", "t"),
            (Axis("b", self.batch), Axis("h", self.shared)),
            body,
            tuple(self.kernels),
            self.inner_bytes,
        )

    def _weights_share(self) -> Run:
        """t = g . value"""
        cotangent = self.asked.strides[3]
        loops = ((ROW, self.block_rows), (COLUMN, self.block_columns))
        sides = (
            ("x3", self.query_at(cotangent), step_of(cotangent, ROW, DEPTH)),
            ("x2", self.shared_at(self.value), step_of(self.value, COLUMN, DEPTH)),
        )
        out = ("t", Affine(), self.place())
        return self.product("weights_share", loops, self.features, sides, out)

    def _scores_share(self) -> Run:
        """s = w = e * (1 / sum); t = (w * (t - sum(w * t))) * scale"""
        rows, columns = self.block_rows, self.block_columns
        whole = self.columns < CHUNK_ELEMENTS
        chunk = (1, columns if whole else CHUNK_ELEMENTS)
        c0 = self.place("c0")
        summed = (
            Let("t1", self.dtype, Load("s", c0)),
            Let("w", self.dtype, Apply("mul", ("t1", "by"))),
            Store("s", c0, "w"),
            *self._also_rounded("w", "u", c0, not self.asked.dropout),
            Let("t2", self.dtype, Load("t", c0)),
            Let("t3", self.dtype, Apply("mul", ("w", "t2"))),
        )
        result = Accumulator("mean", "sum", self.dtype, "t3")
        shares: tuple[Statement, ...] = (
            Let("t4", self.dtype, Load("s", self.place())),
            Let("t5", self.dtype, Load("t", self.place())),
            Let("t6", self.dtype, Apply("sub", ("t5", "mean"))),
            Let("t7", self.dtype, Apply("mul", ("t4", "t6"))),
            Let("t8", self.dtype, Apply("mul", ("t7", "by_scale"))),
            *self._also_rounded("t8", "v", self.place(), True),
            *(() if self.rounds else (Store("t", self.place(), "t8"),)),
        )
        body: tuple[Statement, ...] = (
            Let("one", self.dtype, Const(1.0)),
            Let("total", self.dtype, Load("l", Affine(((ROW, 1),)))),
            Let("by", self.dtype, Apply("div", ("one", "total"))),
            Reduce((result,), "lanes", (Axis("c0", columns),), chunk, summed),
            *self.scale("by_scale"),
            *_loops(((COLUMN, columns),), shares),
        )
        rounded = (*(("u",) if not self.asked.dropout else ()), "v") if self.rounds else ()
        buffers = (
            self._write("s"),
            self._write("t"),
            self._read("l"),
            *map(self._rounded, rounded),
        )
        places = {buffer.name: (buffer.name, Affine()) for buffer in buffers}
        given = (rows, columns, *self.scale_given)
        return self.run("scores_share", buffers, _loops(((ROW, rows),), body), places, given)

    def _also_rounded(
        self, value: str, into: str, place: Affine, asked: bool
    ) -> tuple[Statement, ...]:
        """The lines that store what products read of a value, if that is asked for and rounded."""
        if not (self.rounds and asked):
            return ()
        rounded = Let(f"{value}_rounded", self.asked.read, Apply("cast", (value,)))
        return rounded, Store(into, place, rounded.name)

    def _added(
        self, name: str, source: str, other: str, strides: Strides, out: Affine, step: int
    ) -> Run:
        """y += source^T . other over the rows of the block."""
        width = self.size if name == "key_share" else self.features
        loops = ((ROW, self.block_columns), (COLUMN, width))
        sides = (
            (source, Affine(), Affine(((ROW, 1), (DEPTH, self.width)))),
            (other, self.query_at(strides), step_of(strides, DEPTH, COLUMN)),
        )
        target = ("y0", out, Affine(((ROW, step), (COLUMN, 1))))
        return self.product(name, loops, self.block_rows, sides, target, adds=True)


def dense(shape: tuple[int, ...]) -> Strides:
    """Row-major strides."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def step_of(strides: Strides, along: str, across: str) -> Affine:
    """Element (along, across) of one head of an operand (batch, along, head, across)."""
    return Affine(((along, strides[1]), (across, strides[3])))


def plus(index: Affine, name: str, factor: int) -> Affine:
    """An index that also moves with `name`."""
    return Affine((*index.terms, (name, factor)), index.offset)


def replace_offset(index: Affine, by: int) -> Affine:
    """An index moved on by so many elements."""
    return Affine(index.terms, index.offset + by)


def _loops(
    loops: tuple[tuple[str, Size], ...], body: tuple[Statement, ...]
) -> tuple[Statement, ...]:
    """Loops, the first outermost, around a body."""
    for name, extent in reversed(loops):
        body = (Loop(Axis(name, extent), body),)
    return body
