"""What is a kernel before its lines stand in loops? A `Draft`: the lines and the outer loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pellucid.core.shape import static_shape
from pellucid.engines.loops.ir import (
    Accumulator,
    Affine,
    Axis,
    Buffer,
    Chain,
    Contract,
    Let,
    ReductionKind,
    Sort,
    Store,
    Until,
    Update,
)
from pellucid.engines.loops.space import Place
from pellucid.ir.graph import Value

REDUCTIONS: Final[dict[str, ReductionKind]] = {
    "sum": "sum", "prod": "prod", "max": "max", "min": "min",
}  # fmt: skip
"""Reducing ops, and how they combine two elements."""

Strides = tuple[int, ...]
Where = Place | Affine
"""A place: an index an axis, or the row-major position."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Reductions in the same loops: over `rows`, and over `column` if the last axis goes."""

    rows: tuple[Axis, ...]
    column: Axis | None
    results: list[Accumulator] = field(default_factory=list[Accumulator])


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """Sums along one list: the axis that stands at its places, their names, and the results."""

    axis: Axis
    first: str
    following: str
    results: list[Accumulator] = field(default_factory=list[Accumulator])


Line = Let | Store | Update | Chain | Group | Listed | Contract | Sort | Until


@dataclass(frozen=True, slots=True)
class Draft:
    """The lines of a kernel before they stand in loops.

    `axes` are the loops of the outputs, in row-major order. A reduction's group may stand before
    the lines it uses, and so may the sums along a list.
    `arrays` are the contents of the buffers c0, c1, ..., which come after the outputs. A buffer in
    `starts` is to be given from so many elements on. An `Until` among the lines says where all
    loops but the first end.
    """

    axes: tuple[Axis, ...]
    buffers: tuple[Buffer, ...]
    lines: tuple[Line, ...]
    arrays: tuple[bytes, ...]
    starts: dict[str, int] = field(default_factory=dict[str, int])


def sizes_of(value: Value) -> tuple[int, ...]:
    """The shape of a value, all of whose sizes are known."""
    return static_shape(value.shape, "a kernel with fixed sizes")
