"""Which kernels does an attention's gradient run on a block of its rows, and in which order?

For each shared head: block after block of each of its query heads, as `ops.attention` states it.
The weights are made again; nothing is kept of the way forward.
"""

from __future__ import annotations

from pellucid.engines.loops.attention_block import (
    COLUMN,
    DEPTH,
    ROW,
    Attention,
    Finish,
    Strides,
    lying,
    nested,
    replace_offset,
    step_of,
)
from pellucid.engines.loops.attention_scores import Scored
from pellucid.engines.loops.blocks import Blocked, Repeat, Run, Step
from pellucid.engines.loops.ir import (
    CHUNK_ELEMENTS,
    Accumulator,
    Affine,
    Apply,
    Axis,
    Buffer,
    Const,
    Let,
    Load,
    Reduce,
    Size,
    Statement,
    Store,
)


def draft_gradient(asked: Attention, finish: Finish, generic: bool = False) -> Blocked:
    """The kernel of an attention's gradient; if `generic`, as it is for any number of rows."""
    return _Backward(asked, finish, generic).blocked()


class _Backward(Scored):
    gradient = True

    def blocked(self) -> Blocked:
        shapes = (
            (self.batch, self.rows, self.shared * self.groups, self.size),
            (self.batch, self.columns, self.shared, self.size),
            (self.batch, self.columns, self.shared, self.features),
        )
        query, key, value = map(lying, shapes, self.asked.heads_first[:3])
        after = self.batch * self.rows * self.shared * self.groups * self.size
        key_at = replace_offset(self.shared_at(key), after)
        value_at = replace_offset(
            self.shared_at(value), after + self.batch * self.columns * self.shared * self.size
        )
        keys = ("x1", self.shared_at(self.key), self.key)
        target = ("y0", self.query_at(query), query[1])
        block = (
            *self.numbers(),
            *self.scores(self.query_at(self.query), self.shared_at(self.key), self.mask_at()),
            self.exponentials(),
            *self._weights_share(),
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
            *self.turned("k", keys, self.columns),
            *self.turned("v", ("x2", self.shared_at(self.value), self.value), self.columns),
            Repeat("g", self.groups, 1, (Repeat("r", self.blocks, 1, block),)),
        )
        return Blocked(
            "attention_gradient",
            (*self.operands(), Buffer("y0", self.dtype, "write")),
            (*self.scratch("s", "t"), *self.copies("k", "v")),
            (Axis("b", self.batch), Axis("h", self.shared)),
            body,
            tuple(self.kernels),
            self.inner_bytes,
        )

    def _weights_share(self) -> list[Step]:
        """t = g . value"""
        cotangent = self.asked.strides[3]
        values = self.turned_or("v", ("x2", self.shared_at(self.value), self.value))
        sides = (
            ("x3", self.query_at(cotangent), step_of(cotangent, ROW, DEPTH)),
            (values.buffer, values.at, values.step),
        )
        out = ("t", values.beside, self.place())

        def run(columns: Size) -> Run:
            loops = ((ROW, self.block_rows), (COLUMN, columns))
            return self.product("weights_share", loops, self.features, sides, out)

        return self.over_parts(values, run)

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
            *nested(((COLUMN, columns),), shares),
        )
        rounded = (*(("u",) if not self.asked.dropout else ()), "v") if self.rounds else ()
        buffers = (
            self.write("s"),
            self.write("t"),
            self.read("l"),
            *map(self.rounded, rounded),
        )
        places = {buffer.name: (buffer.name, Affine()) for buffer in buffers}
        given = (rows, columns, *self.scale_given)
        return self.run("scores_share", buffers, nested(((ROW, rows),), body), places, given)

    def _also_rounded(
        self, value: str, into: str, place: Affine, asked: bool
    ) -> tuple[Statement, ...]:
        """The lines that store what products read of a value, if that is asked for and rounded."""
        if not (self.rounds and asked):
            return ()
        rounded = Let(f"{value}_rounded", self.asked.factors, Apply("cast", (value,)))
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
