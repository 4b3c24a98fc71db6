"""Which weights has a block of an attention's rows? Scores, where shown, and their exponentials."""

from __future__ import annotations

from math import inf

import numpy as np

from pellucid.core.dtype import bool_, float32, int32, int64, uint32, uint64
from pellucid.engines.loops.attention_block import (
    COLUMN,
    DEPTH,
    FIRST,
    PLACE,
    ROW,
    nested,
    plus,
    step_of,
)
from pellucid.engines.loops.attention_turned import Side, Turned
from pellucid.engines.loops.blocks import Least, Run, Step
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
    Let,
    Line,
    Load,
    Random,
    Reduce,
    Size,
    Statement,
    Store,
)
from pellucid.ops.attention_forms import drawn_columns

PART_FIRST = "part_first"
"""Of a part of the columns: the last one that the first row may look at."""


class Scored(Turned):
    """A block with the kernels up to the weights."""

    def scores(self, query: Affine, key: Affine, mask: Affine) -> list[Step]:
        """s = query . key * scale, where shown."""
        keys = self.turned_or("k", ("x1", key, self.key))
        first = Least(PART_FIRST, (Affine(((FIRST, 1), ("c", -1))),), None)
        given = (first,) if self.asked.causal else ()
        return self.over_parts(
            keys, lambda columns: self._scores(query, keys, mask, columns), given
        )

    def _scores(self, query: Affine, keys: Side, mask: Affine, columns: Size) -> Run:
        """The same for so many columns."""
        rows = self.block_rows
        contract = Contract(
            "t0",
            self.dtype,
            (Axis(DEPTH, self.size),),
            Load("q", step_of(self.query, ROW, DEPTH)),
            Load("k", keys.step),
        )
        lines: list[Line] = [
            contract,
            *self.scale("t1"),
            Let("t2", self.dtype, Apply("mul", ("t0", "t1"))),
        ]
        buffers = [self.factor("q"), self.factor("k")]
        places = {"q": ("x0", query), "k": (keys.buffer, keys.at), "s": ("s", keys.beside)}
        shown = self._shown(lines)
        if self.asked.mask:
            buffers.append(Buffer("m", bool_, "read"))
            part = plus(mask, "c", self.asked.strides[-1][3]) if keys.parts else mask
            places["m"] = ("x4" if self.gradient else "x3", part)
        if shown:
            lines.append(Let("low", self.dtype, Const(-inf)))
            lines.append(Let("t3", self.dtype, Apply("select", (shown, "t2", "low"))))
        lines.append(Store("s", self.place(), "t3" if shown else "t2"))
        body = nested(((ROW, rows), (COLUMN, columns)), tuple(lines))
        given = (rows, columns, *((FIRST,) if self.asked.causal else ()), *self.scale_given)
        stand = {FIRST: PART_FIRST} if keys.parts else {}
        return self.run("scores", (*buffers, self.write("s")), body, places, given, stand)

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
            stored = (Let("t4", self.asked.factors, Apply("cast", ("t3",))), Store("u", c1, "t4"))
        body: tuple[Statement, ...] = (
            reduce("top", "max", "t0", "c0", (Let("t0", self.dtype, Load("s", c0)),)),
            Let("low", self.dtype, Const(-inf)),
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
        buffers = (self.write("s"), self.write("l"), *(self.rounded("u"),) * straight)
        places = {buffer.name: (buffer.name, Affine()) for buffer in buffers}
        return self.run(
            "exponentials", buffers, nested(((ROW, rows),), body), places, (rows, columns)
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
            *nested(((ROW, rows), (COLUMN, columns)), lines),
        )
        first = 3 + self.gradient + self.asked.mask + (self.asked.lengths is not None)
        places = {name: (f"x{first + at}", Affine()) for at, name in enumerate(("seed", "draw"))}
        places |= {"x": (scores, Affine()), "y": (into, Affine())}
        targets = (self.write("x"), *(self.rounded("y"),) * (into != scores))
        buffers = (Buffer("seed", uint64, "read"), Buffer("draw", uint64, "read"), *targets)
        name = "dropped" if into == scores else "dropped_rounded"
        return (self.run(name, buffers, body, places, (rows, columns, PLACE)),)

    def _kept(self, value: str, source: str, into: str) -> tuple[Line, ...]:
        """The lines that store what was dropped."""
        if source == into:
            return (Store("x", self.place(), value),)
        rounded = Let("t3", self.asked.factors, Apply("cast", (value,)))
        return rounded, Store("y", self.place(), "t3")
