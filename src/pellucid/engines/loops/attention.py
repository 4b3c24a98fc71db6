"""Which kernels does an attention run on a block of its rows, and in which order?

For each block of rows of each query head: the scores of the block into scratch memory; their
exponentials, in place, with the sum of each row; the values weighted by these, divided by the sum.
"""

from __future__ import annotations

from pellucid.engines.loops.attention_block import Attention, Finish, lying
from pellucid.engines.loops.attention_scores import Scored
from pellucid.engines.loops.blocks import Blocked, Once, Step
from pellucid.engines.loops.ir import Axis, Buffer, Size


def draft_attention(asked: Attention, finish: Finish, generic: bool = False) -> Blocked:
    """The kernel of an attention; if `generic`, as it is for any number of rows."""
    return _Forward(asked, finish, generic).blocked()


class _Forward(Scored):
    def blocked(self) -> Blocked:
        heads = self.shared * self.groups
        shape = (self.batch, self.rows, heads, self.features)
        out = lying(shape, self.asked.heads_first[3])
        values = ("x2", self.shared_at(self.value), self.value)
        target = ("y0", self.query_at(out), out[1])
        body = (
            *self.numbers(),
            *self._turned_keys(),
            *self.scores(self.query_at(self.query), self.shared_at(self.key), self.mask_at()),
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
            (*self.scratch("s"), *self.copies("k")),
            grid,
            body,
            tuple(self.kernels),
            self.inner_bytes,
        )

    def _turned_keys(self) -> tuple[Step, ...]:
        """The keys of a head, turned for all blocks."""
        stop: Size = self.columns if self.asked.lengths is None else "end"
        steps = self.turned("k", ("x1", self.shared_at(self.key), self.key), stop)
        return (Once(2, tuple(steps)),) if steps else ()
