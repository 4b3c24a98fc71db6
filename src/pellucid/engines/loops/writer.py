"""How are the lines of a draft written? By asking for elements, each once.

Who is asked for an element at a place asks a rule of its op, which asks on; an input is loaded.
What was asked twice has one name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any, cast

from pellucid.core.dtype import DType, bool_, int64
from pellucid.engines.loops.draft import (
    REDUCTIONS,
    Draft,
    Group,
    Line,
    Listed,
    Strides,
    Where,
    sizes_of,
)
from pellucid.engines.loops.ir import (
    Accumulator,
    Affine,
    Apply,
    Axis,
    Buffer,
    Const,
    Expression,
    Extent,
    Let,
    Load,
    Quotient,
    Remainder,
    Store,
)
from pellucid.engines.loops.movement import MOVEMENT, moved
from pellucid.engines.loops.space import (
    ZERO,
    Division,
    Place,
    dot,
    plus,
    row_major,
    times,
    unflatten,
    variable,
)
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ops.windows import Phase

Pieces = tuple[tuple[int, ...], ...]


class Writer:
    """Writes one draft; `pieces[axis]` are the loops into which an axis of the outputs is cut.

    They go over all of the outputs, or over one phase of a `whole`.
    """

    def __init__(
        self,
        rules: Rules,
        graph: Graph,
        strides: tuple[Strides, ...] | None,
        pieces: Pieces,
        whole: tuple[int, ...] | None = None,
        phase: Phase | None = None,
        fold: int = 1,
    ) -> None:
        self.rules, self.graph, self.phase, self.fold = rules, graph, phase, fold
        self.inputs = {value: f"x{number}" for number, value in enumerate(graph.inputs)}
        given = strides or tuple(row_major(sizes_of(value)) for value in graph.inputs)
        self.strides = dict(zip(graph.inputs, given, strict=True))
        self.extents: dict[str, int] = {}
        self.place = tuple(self._axis(axis, sizes) for axis, sizes in enumerate(pieces))
        self.axes = tuple(Axis(name, size) for name, size in self.extents.items())
        self.shape = whole or tuple(math.prod(sizes) for sizes in pieces)
        if phase is not None:
            each = zip(self.place[1:-1], phase.step, phase.start, strict=True)
            inner = (plus(times(o, step), Affine((), start)) for o, step, start in each)
            self.place = (self.place[0], *inner, self.place[-1])
        self.position = dot(self.place, row_major(self.shape))
        self.lines: list[Line] = []
        self.arrays: dict[str, tuple[DType, bytes]] = {}
        self.groups: dict[Hashable, Group] = {}
        self.lists: dict[Hashable, Listed] = {}
        self._known: dict[Any, str] = {}

    def write(self) -> Draft:
        """Ask for each output and store it."""
        places = [self._place_of(output) for output in self.graph.outputs]
        names = [
            self.ask(v, where) for v, (where, _) in zip(self.graph.outputs, places, strict=True)
        ]
        # All is read before anything is written: an output may lie where an input does.
        for number, (name, (_, position)) in enumerate(zip(names, places, strict=True)):
            self.lines.append(Store(f"y{number}", position, name))
        return self.finish(self.graph.outputs)

    def _place_of(self, output: Value) -> tuple[Where, Affine]:
        """Where the element of an output that a turn of the loops computes lies, also row-major.

        An output with one element a row lies at the place of its row.
        """
        place, whole, own = self.place, self.shape, sizes_of(output)
        if math.prod(own) != math.prod(whole):
            gone = _reduced_axes(self.graph, whole)
            kept = tuple(axis for axis in range(len(whole)) if axis not in gone)
            place, whole = tuple(place[axis] for axis in kept), tuple(whole[axis] for axis in kept)
        position = dot(place, row_major(whole))
        return (place if own == whole else position), position

    def whole(self, value: Value, where: Where) -> str:
        """The name of a whole number at a place, as int64."""
        name = self.ask(value, where)
        return name if value.dtype is int64 else self.let(int64, Apply("cast", (name,)))

    def inside(self, index: str, size: int) -> str:
        """Whether an index lies in 0 .. size - 1."""
        zero, end = self.let(int64, Const(0)), self.let(int64, Extent(size))
        above = self.let(bool_, Apply("less_equal", (zero, index)))
        below = self.let(bool_, Apply("less", (index, end)))
        return self.let(bool_, Apply("logical_and", (above, below)))

    def clamped(self, index: str, most: int) -> str:
        """An index brought to 0 .. most."""
        zero, end = self.let(int64, Const(0)), self.let(int64, Extent(most))
        above = self.let(int64, Apply("maximum", (index, zero)))
        found = self.let(int64, Apply("minimum", (above, end)))
        self.extents[found] = most + 1
        return found

    def finish(self, outputs: tuple[Value, ...]) -> Draft:
        """The draft of the lines so far, which store these outputs."""
        reads = [Buffer(name, value.dtype, "read") for value, name in self.inputs.items()]
        writes = [Buffer(f"y{n}", v.dtype, "write") for n, v in enumerate(outputs)]
        constants = [Buffer(name, dtype, "read") for name, (dtype, _) in self.arrays.items()]
        contents = tuple(content for _, content in self.arrays.values())
        return Draft(self.axes, (*reads, *writes, *constants), tuple(self.lines), contents)

    def ask(self, value: Value, where: Where) -> str:
        """The name of the element of `value` at a place; writes the lines it takes."""
        if where == self.position and sizes_of(value) == self.shape:
            where = self.place  # one spelling, so that it is known when asked again
        return self.once((value, where), lambda: self._answer(value, where))

    def once(self, key: Hashable, make: Callable[[], str]) -> str:
        """The name that `make` gives; the same name for the same key."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def let(self, dtype: DType, expression: Expression) -> str:
        """A name for an expression; the same name for the same expression."""
        key = (dtype, expression)
        if key not in self._known:
            self._known[key] = self.name("t")
            self.lines.append(Let(self._known[key], dtype, expression))
        return self._known[key]

    def name(self, prefix: str) -> str:
        """A new name."""
        key = ("names", prefix)
        number = int(self._known.get(key, "0"))
        self._known[key] = str(number + 1)
        return f"{prefix}{number}"

    def placed(self, where: Where, shape: tuple[int, ...]) -> Place:
        """The place as one index an axis."""
        if isinstance(where, tuple):
            return where
        splittable = frozenset(axis.name for axis in self.axes)
        return unflatten(where, shape, Division(self.extents, splittable, self._divide))

    def placed_within(self, index: Affine, shape: tuple[int, ...]) -> Place:
        """An index along one axis as a place in the `shape` that the axis is made of."""
        splittable = frozenset(axis.name for axis in self.axes)
        return unflatten(index, shape, Division(self.extents, splittable, self._divide))

    def reduction(self, key: Hashable, rows: tuple[Axis, ...]) -> list[Accumulator]:
        """The results, to be added to, of a reduction over `rows` of elements beside each other."""
        if key not in self.groups:
            self.groups[key] = Group(rows, None)
            self.lines.append(self.groups[key])
            self.extents |= {axis.name: cast(int, axis.extent) for axis in rows}
        return self.groups[key].results

    def address(self, value: Value, where: Where) -> Affine:
        """How far from the start of an input the element at a place lies."""
        shape, strides = sizes_of(value), self.strides[value]
        kept = tuple(0 if size == 1 else s for size, s in zip(shape, strides, strict=True))
        if isinstance(where, Affine) and kept == row_major(shape):
            return where
        return dot(self.placed(where, shape), kept)

    def depth(self, node: Node) -> int:
        """How many reductions lie, one upon the other, below this node."""
        key = ("depth", node)
        if key not in self._known:
            below = [operand.node for operand in node.operands if operand.node is not None]
            depths = [self.depth(n) + (n.op.name in REDUCTIONS) for n in below]
            self._known[key] = str(max(depths, default=0))
        return int(self._known[key])

    def _answer(self, value: Value, where: Where) -> str:
        node = value.node
        if node is None:
            load = Load(self.inputs[value], self.address(value, where))
            return self.let(value.dtype, load)
        return self.rules(node)(self, node, value, where)

    def view(self, value: Value, where: Where) -> Load:
        """The element of an input seen through movement ops alone, as contractions read it."""
        node = value.node
        if node is None:
            return Load(self.inputs[value], self.address(value, where))
        assert node.op.name in MOVEMENT, f"a contraction cannot read the result of {node.op.name}"
        return self.view(*moved(self, node, value, where))

    def _divide(self, index: Affine, by: int) -> tuple[Affine, Affine]:
        terms = cast(tuple[tuple[str, int], ...], index.terms)
        ends = ((self.extents[name] - 1) * max(size, 0) for name, size in terms)
        largest = sum(ends) + index.offset
        quotient = self.let(int64, Quotient(index, by))
        remainder = self.let(int64, Remainder(index, by))
        self.extents |= {quotient: largest // by + 1, remainder: by}
        return variable(quotient), variable(remainder)

    def _axis(self, axis: int, sizes: tuple[int, ...]) -> Affine:
        index = ZERO
        for part, size in enumerate(sizes):
            if size != 1:
                name = f"i{axis}_{part}"
                self.extents[name] = size
                index = plus(index, variable(name, math.prod(sizes[part + 1 :])))
        return index


Rule = Callable[[Writer, Node, Value, Where], str]
"""Writes the lines of one element of a node's result, and gives its name."""

Rules = Callable[[Node], Rule]


def _reduced_axes(graph: Graph, whole: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which the rows of a graph lie."""
    over = (n for n in graph.nodes if n.op.name in REDUCTIONS)
    found = {n.attr("axes") for n in over if sizes_of(n.operands[0]) == whole}
    assert len(found) == 1, "the reductions of a kernel of rows go over the same axes"
    return found.pop()
