"""How does an attention read keys along the columns? From a copy in which they lie so.

A product of rows with keys runs its vectors over the columns, of which each key is a line. Turning
keys for a block of rows takes an eighth of the time of its multiply-adds; so it is done once for
all blocks that a thread does of a head, into its scratch memory. The copy is cut into parts of so
many columns that the lines of a part lie close together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pellucid.engines.loops.attention_block import (
    COLUMN,
    COLUMNS,
    DEPTH,
    Block,
    Strides,
    nested,
    pitch_of,
    plus,
    step_of,
)
from pellucid.engines.loops.blocks import Least, Repeat, Run, Scratch, Step
from pellucid.engines.loops.ir import Affine, Let, Line, Load, Size, Store

PART = 256
"""Columns of a part of a turned copy."""

FEW = 8
"""So few rows take their keys as they lie."""


@dataclass(frozen=True, slots=True)
class Side:
    """Keys, or values, as a product reads them: where they begin, and where an element lies.

    `parts`: they are read a part after the other, from column c on; `beside` is how far results go
    on with them.
    """

    buffer: str
    at: Affine
    step: Affine
    parts: bool = False

    @property
    def beside(self) -> Affine:
        """How far results go on from part to part."""
        return Affine((("c", 1),)) if self.parts else Affine()


class Turned(Block):
    """A block whose keys, and on the way back values, are turned if several blocks read them."""

    @property
    def turns(self) -> bool:
        """Whether there is a turned copy: where three blocks read it, or more, of some rows each.

        The step of a decoder has few. Else one code suits all shapes, if it has to.
        """
        several = self.generic or self.blocks * self.groups > 2
        few = 1 if self.generic and self.asked.lengths is None else FEW
        return several and self.rows > few and not self.rounds

    def turned_or(self, name: str, lying: tuple[str, Affine, Strides]) -> Side:
        """The turned copy called `name`, or else the operand itself."""
        buffer, at, strides = lying
        if not self.turns:
            return Side(buffer, at, step_of(strides, COLUMN, DEPTH))
        step = Affine(((DEPTH, self._pitch), (COLUMN, 1)))
        if not self._cut:
            return Side(name, Affine(), step)
        return Side(name, Affine((("c", self._per_column(self._depth(name))),)), step, True)

    def over_parts(
        self, side: Side, run: Callable[[Size], Run], given: tuple[Step, ...] = ()
    ) -> list[Step]:
        """Steps that run a kernel on the block's columns: all at once, or part by part."""
        if not side.parts:
            return [run(self.block_columns)]
        return [self._repeated(self.block_columns, run, given)]

    def turned(self, name: str, lying: tuple[str, Affine, Strides], stop: Size) -> list[Step]:
        """Turn the columns of an operand up to `stop`."""
        if not self.turns:
            return []
        side, depth = self.turned_or(name, lying), self._depth(name)
        buffer, at, strides = lying
        at = plus(at, "c", strides[1]) if side.parts else at
        lines: tuple[Line, ...] = (
            Let("t0", self.dtype, Load("x", step_of(strides, COLUMN, DEPTH))),
            Store("y", side.step, "t0"),
        )

        name = f"turned_{name}"

        def run(columns: Size) -> Run:
            # One name for both ends that there are, which is one kernel.
            stand = {COLUMNS: columns} if isinstance(columns, str) and columns != "part" else {}
            count = COLUMNS if stand else columns
            body = nested(((COLUMN, count), (DEPTH, depth)), lines)
            places = {"x": (buffer, at), "y": (side.buffer, side.at)}
            return self.run(name, (self.read("x"), self.write("y")), body, places, (count,), stand)

        return [self._repeated(stop, run) if side.parts else run(stop)]

    def copies(self, *names: str) -> tuple[Scratch, ...]:
        """Scratch memory for turned copies."""
        if not self.turns:
            return ()
        found: list[Scratch] = []
        for name in names:
            count = self._depth(name) * self._pitch
            if self._cut:
                count = -(-self.columns // PART) * PART * self._per_column(self._depth(name))
            found.append(Scratch(name, self.dtype, -(-count * self.dtype.bytes // 64) * 64))
        return tuple(found)

    def _repeated(
        self, stop: Size, run: Callable[[Size], Run], given: tuple[Step, ...] = ()
    ) -> Repeat:
        if isinstance(stop, int) and stop % PART == 0:
            return Repeat("c", stop, PART, (*given, run(PART)))
        left = (
            Affine((("c", -1),), stop) if isinstance(stop, int) else Affine(((stop, 1), ("c", -1)))
        )
        part = Least("part", (Affine((), PART), left))
        return Repeat("c", stop, PART, (part, *given, run("part")))

    @property
    def _cut(self) -> bool:
        return self.generic or self.columns > PART

    @property
    def _pitch(self) -> int:
        return pitch_of(min(self.columns, PART), self.dtype)

    def _per_column(self, depth: int) -> int:
        return -(-depth * self._pitch // PART)

    def _depth(self, name: str) -> int:
        return self.size if name == "k" else self.features
