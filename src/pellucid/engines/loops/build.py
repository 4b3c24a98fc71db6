"""How does a graph of scalar meaning become one loop nest? By asking each output for its element.

Every output is asked for the element at its place; a movement op passes the question on with the
place rewritten, an elementwise op asks its operands at the same place, a reduction asks at the
places of its own loops. What was asked twice is computed once. The answers are lines in a `Draft`,
which `nest` arranges into loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, cast

from pellucid.core.dtype import DType, bool_, int64
from pellucid.core.shape import static_shape
from pellucid.engines.loops import windows
from pellucid.engines.loops.contracted import one_axis
from pellucid.engines.loops.convolved import begun, convolution
from pellucid.engines.loops.ir import (
    Accumulator,
    Affine,
    Apply,
    Axis,
    Buffer,
    Const,
    Contract,
    Expression,
    Extent,
    Index,
    Let,
    Load,
    Quotient,
    Random,
    Remainder,
    Sort,
    Store,
    Update,
    accumulation_dtype,
)
from pellucid.engines.loops.space import (
    ZERO,
    Division,
    Place,
    SplitAxis,
    dot,
    plus,
    row_major,
    times,
    unflatten,
    variable,
)
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ops.movement import literal_number
from pellucid.ops.windows import Phase

REDUCTIONS: Final[dict[str, Literal["sum", "prod", "max", "min"]]] = {
    "sum": "sum", "prod": "prod", "max": "max", "min": "min",
}  # fmt: skip
"""Reducing ops, and how they combine two elements."""

Strides = tuple[int, ...]
Pair = tuple[tuple[int, ...], tuple[int, ...]]
Pieces = tuple[tuple[int, ...], ...]
Where = Place | Affine
"""A place: an index an axis, or the row-major position."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Reductions in the same loops: over `rows`, and over `column` if the last axis goes."""

    rows: tuple[Axis, ...]
    column: Axis | None
    results: list[Accumulator] = field(default_factory=list[Accumulator])


Line = Let | Store | Update | Group | Contract | Sort


@dataclass(frozen=True, slots=True)
class Draft:
    """The lines of a kernel before they stand in loops.

    `axes` are the loops of the outputs, in row-major order. A reduction's group may stand before
    the lines it uses.
    `arrays` are the contents of the buffers c0, c1, ..., which come after the outputs. A buffer in
    `starts` is to be given from so many elements on.
    """

    axes: tuple[Axis, ...]
    buffers: tuple[Buffer, ...]
    lines: tuple[Line, ...]
    arrays: tuple[bytes, ...]
    starts: dict[str, int] = field(default_factory=dict[str, int])


def draft(graph: Graph, strides: tuple[Strides, ...] | None = None) -> Draft:
    """The lines that compute a graph's outputs, which all have one number of elements.

    In a graph of rows (see `passes.fuse`) some have it, and the others one element a row.
    `strides` of the inputs are in elements, row-major where none are given. The buffers are the
    inputs x0, x1, ..., the outputs y0, ..., and constant arrays. Raises ScatteredAxes.
    """
    return written(graph, strides, Writer.write)


def draft_phase(graph: Graph, strides: tuple[Strides, ...] | None, phase: Phase) -> Draft:
    """As `draft`, for one phase of a convolution over an operand with gaps, and what follows it.

    If the phase meets anything, its weights are one more input of the graph (see `convolved`).
    """
    each = zip(graph.nodes, graph.results, strict=True)
    (shape,) = (sizes_of(results[0]) for n, results in each if n.op.name == "convolution")
    pieces = tuple((size,) for size in (shape[0], *phase.count, shape[-1]))
    found = _cut_up(pieces, lambda pieces: Writer(graph, strides, pieces, shape, phase).write())
    lines, starts = begun(found.lines)
    return replace(found, lines=lines, starts=starts)


def written(
    graph: Graph, strides: tuple[Strides, ...] | None, write: Callable[[Writer], Draft]
) -> Draft:
    """The draft that `write` writes, with the loops of the outputs cut where it takes that."""
    pieces = tuple((size,) for size in whole_shape(graph))
    return _cut_up(pieces, lambda pieces: write(Writer(graph, strides, pieces)))


def _cut_up(pieces: Pieces, write: Callable[[Pieces], Draft]) -> Draft:
    while True:
        try:
            return write(pieces)
        except SplitAxis as cut:
            pieces = _split(pieces, cut)


def whole_shape(graph: Graph) -> tuple[int, ...]:
    """The shape over which a graph's loops run: that of its largest output.

    In a graph of rows it is spelled as its reductions spell it.
    """
    largest = max((sizes_of(output) for output in graph.outputs), key=math.prod)
    reduced = (sizes_of(n.operands[0]) for n in graph.nodes if n.op.name in REDUCTIONS)
    return next((one for one in reduced if math.prod(one) == math.prod(largest)), largest)


def sizes_of(value: Value) -> tuple[int, ...]:
    """The shape of a value, all of whose sizes are known."""
    return static_shape(value.shape, "a kernel with fixed sizes")


def _reduced_axes(graph: Graph, whole: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which the rows of a graph lie."""
    over = (n for n in graph.nodes if n.op.name in REDUCTIONS)
    found = {n.attr("axes") for n in over if sizes_of(n.operands[0]) == whole}
    assert len(found) == 1, "the reductions of a kernel of rows go over the same axes"
    return found.pop()


def _split(pieces: Pieces, cut: SplitAxis) -> Pieces:
    axis, part = (int(number) for number in cut.axis[1:].split("_"))
    old = pieces[axis]
    new = (*old[:part], old[part] // cut.inner, cut.inner, *old[part + 1 :])
    return (*pieces[:axis], new, *pieces[axis + 1 :])


class Writer:
    """Writes one draft; `pieces[axis]` are the loops into which an axis of the outputs is cut.

    They go over all of the outputs, or over one phase of a `whole`.
    """

    def __init__(
        self,
        graph: Graph,
        strides: tuple[Strides, ...] | None,
        pieces: Pieces,
        whole: tuple[int, ...] | None = None,
        phase: Phase | None = None,
    ) -> None:
        self.graph, self.phase = graph, phase
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
        return _RULES.get(node.op.name, _elementwise)(self, node, value, where)

    def view(self, value: Value, where: Where) -> Load:
        """The element of an input seen through movement ops alone, as contractions read it."""
        node = value.node
        if node is None:
            return Load(self.inputs[value], self.address(value, where))
        assert node.op.name in _MOVEMENT, f"a contraction cannot read the result of {node.op.name}"
        return self.view(*_moved(self, node, value, where))

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


# One function an op that is not elementwise.


def _elementwise(writer: Writer, node: Node, value: Value, where: Where) -> str:
    operands = tuple(writer.ask(operand, where) for operand in node.operands)
    if node.op.name == "stop_gradient" or _is_idle_cast(node):
        return operands[0]
    return writer.let(value.dtype, Apply(_scalar_op(node), operands))


def _scalar_op(node: Node) -> str:
    """The op's name, with its number where it is one of a family: `polygamma.2`."""
    order = dict(node.attrs).get("order")
    return node.op.name if order is None else f"{node.op.name}.{order}"


def _is_idle_cast(node: Node) -> bool:
    return node.op.name == "cast" and node.operands[0].type == node.types[0]


def _constant(writer: Writer, node: Node, value: Value, where: Where) -> str:
    content: str | bytes = node.attr("value")
    if isinstance(content, str):
        return writer.let(value.dtype, Const(literal_number(content, value.dtype)))
    name = f"c{len(writer.arrays)}"
    for known, pair in writer.arrays.items():
        name = known if pair == (value.dtype, content) else name
    writer.arrays[name] = (value.dtype, content)
    return writer.let(value.dtype, Load(name, _position(writer, value, where)))


def _position(writer: Writer, value: Value, where: Where) -> Affine:
    return where if isinstance(where, Affine) else dot(where, row_major(sizes_of(value)))


def _iota(writer: Writer, node: Node, value: Value, where: Where) -> str:
    place = writer.placed(where, sizes_of(value))
    return writer.let(value.dtype, Index(place[cast(int, node.attr("axis"))]))


def _random_bits(writer: Writer, node: Node, value: Value, where: Where) -> str:
    seed, draw = (writer.ask(operand, ()) for operand in node.operands)
    return writer.let(value.dtype, Random(seed, draw, _position(writer, value, where)))


def _movement(writer: Writer, node: Node, value: Value, where: Where) -> str:
    return writer.ask(*_moved(writer, node, value, where))


def _moved(writer: Writer, node: Node, value: Value, where: Where) -> tuple[Value, Where]:
    """The operand of a movement op, and the place in it that the result's place stands for."""
    (operand,) = node.operands
    if node.op.name == "reshape":
        return operand, _position(writer, value, where)
    if node.op.name == "transpose":
        place = writer.placed(where, sizes_of(value))
        permutation: tuple[int, ...] = node.attr("permutation")
        return operand, tuple(place[permutation.index(axis)] for axis in range(len(place)))
    if node.op.name in ("slice", "reverse"):
        return operand, _stepped(node, sizes_of(operand), writer.placed(where, sizes_of(value)))
    shape, axes = sizes_of(operand), cast(tuple[int, ...], node.attr("axes"))
    if all(size == 1 for size in shape):
        return operand, (ZERO,) * len(shape)
    place = writer.placed(where, sizes_of(value))
    # A size of 1 stretches: its index stays 0.
    pairs = zip(axes, shape, strict=True)
    return operand, tuple(place[axis] if size != 1 else ZERO for axis, size in pairs)


def _stepped(node: Node, shape: tuple[int, ...], place: Place) -> Place:
    """The place in the operand of a slice or a reverse."""
    if node.op.name == "reverse":
        turned: tuple[int, ...] = node.attr("axes")
        ends = zip(place, shape, strict=True)
        return tuple(
            plus(times(index, -1), Affine((), size - 1)) if axis in turned else index
            for axis, (index, size) in enumerate(ends)
        )
    parts = zip(place, node.attr("start"), node.attr("strides"), strict=True)
    return tuple(plus(times(index, step), Affine((), start)) for index, start, step in parts)


def _gather(writer: Writer, node: Node, value: Value, where: Where) -> str:
    x, *indices = node.operands
    axes: tuple[int, ...] = node.attr("axes")
    shape = sizes_of(x)
    nothing = writer.let(value.dtype, Const(_zero(value.dtype)))
    if not math.prod(shape):
        return nothing
    place = writer.placed(where, sizes_of(value))
    rank = len(sizes_of(indices[0]))
    found = [writer.whole(index, place[:rank]) for index in indices]
    inside = ""
    for name, axis in zip(found, axes, strict=True):
        one = writer.inside(name, shape[axis])
        inside = writer.let(bool_, Apply("logical_and", (inside, one))) if inside else one
    zero = writer.let(int64, Const(0))
    known = dict[int, Affine]()
    for name, axis in zip(found, axes, strict=True):
        # What is out of range reads the first element, and is then forgotten.
        safe = writer.let(int64, Apply("select", (inside, name, zero)))
        writer.extents[safe] = shape[axis]
        known[axis] = variable(safe) if shape[axis] != 1 else ZERO
    element = writer.ask(x, _with_axes(place[rank:], known))
    return writer.let(value.dtype, Apply("select", (inside, element, nothing)))


def _dynamic_slice(writer: Writer, node: Node, value: Value, where: Where) -> str:
    x, *starts = node.operands
    place = writer.placed(where, sizes_of(value))
    shape: list[Affine] = []
    each = zip(place, starts, sizes_of(x), sizes_of(value), strict=True)
    for index, start, size, part in each:
        moved = ZERO
        if size != part:
            moved = variable(writer.clamped(writer.whole(start, ()), size - part))
        shape.append(plus(index, moved))
    return writer.ask(x, tuple(shape))


def _contraction(writer: Writer, node: Node, value: Value, where: Where) -> str:
    lhs, rhs = node.operands
    contract: Pair = node.attr("contract")
    batch: Pair = node.attr("batch")
    extents = tuple(sizes_of(lhs)[axis] for axis in contract[0])
    if not math.prod(extents):
        return writer.let(value.dtype, Const(_zero(value.dtype)))
    place = writer.placed(where, sizes_of(value))
    shared, rest = place[: len(batch[0])], list(place[len(batch[0]) :])
    axes = tuple(Axis(f"k{number}", size) for number, size in enumerate(extents) if size != 1)
    inside = tuple(variable(f"k{at}") if size != 1 else ZERO for at, size in enumerate(extents))
    writer.extents |= {axis.name: cast(int, axis.extent) for axis in axes}
    loads: list[Load] = []
    for side, operand in enumerate((lhs, rhs)):
        known = dict(zip((*batch[side], *contract[side]), (*shared, *inside), strict=True))
        rank = len(sizes_of(operand))
        index = tuple(known[at] if at in known else rest.pop(0) for at in range(rank))
        loads.append(writer.view(operand, index))
    result = writer.name("s")
    wide = accumulation_dtype(value.dtype)
    writer.lines.append(one_axis(Contract(result, wide, axes, *loads)))
    narrow = Apply("cast", (result,))
    return result if wide is value.dtype else writer.let(value.dtype, narrow)


def _reduce(writer: Writer, node: Node, value: Value, where: Where) -> str:
    (operand,) = node.operands
    axes: tuple[int, ...] = node.attr("axes")
    shape = sizes_of(operand)
    kept = writer.placed(where, sizes_of(value))
    kind = REDUCTIONS[node.op.name]
    if not math.prod(shape[axis] for axis in axes):
        return writer.let(value.dtype, Const(_zero(value.dtype) + (kind == "prod")))
    gone = tuple(axis for axis in axes if shape[axis] != 1)
    if not gone:
        return writer.ask(operand, _with_axes(kept, dict.fromkeys(axes, ZERO)))
    group = _group(writer, node, shape, gone, kept)
    loops = (*group.rows, *([group.column] if group.column else []))
    inside = dict.fromkeys(axes, ZERO)
    inside |= {axis: variable(loop.name) for axis, loop in zip(gone, loops, strict=True)}
    element = writer.ask(operand, _with_axes(kept, inside))
    wide = accumulation_dtype(value.dtype)
    result = Accumulator(writer.name("s"), kind, wide, element)
    group.results.append(result)
    narrow = Apply("cast", (result.name,))
    return result.name if wide is value.dtype else writer.let(value.dtype, narrow)


def _group(
    writer: Writer, node: Node, shape: tuple[int, ...], gone: tuple[int, ...], kept: Place
) -> Group:
    """The loops of a reduction; shared by those over equal spaces that do not use each other."""
    key = (shape, gone, kept, writer.depth(node))
    if key not in writer.groups:
        last = max(axis for axis, size in enumerate(shape) if size != 1)
        number = len(writer.groups)
        loops = tuple(Axis(f"r{number}_{axis}", shape[axis]) for axis in gone)
        writer.extents |= {loop.name: shape[axis] for loop, axis in zip(loops, gone, strict=True)}
        lanes = gone[-1] == last
        group = Group(loops[:-1], loops[-1]) if lanes else Group(loops, None)
        writer.groups[key] = group
        writer.lines.append(group)
    return writer.groups[key]


def _with_axes(kept: Place, others: dict[int, Affine]) -> Place:
    rest = iter(kept)
    return tuple(
        others[axis] if axis in others else next(rest) for axis in range(len(kept) + len(others))
    )


def _zero(dtype: DType) -> bool | int | float:
    if dtype is bool_:
        return False
    return 0.0 if dtype.is_floating else 0


_MOVEMENT: Final = ("broadcast", "transpose", "reshape", "slice", "reverse")
Rule = Callable[[Writer, Node, Value, Where], str]
_RULES: Final[dict[str, Rule]] = {
    "constant": _constant,
    "iota": _iota,
    "random_bits": _random_bits,
    **dict.fromkeys(_MOVEMENT, _movement),
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "dot_general": _contraction,
    **dict.fromkeys(REDUCTIONS, _reduce),
    "convolution": convolution,
    "window_sum": windows.window_sum,
    "window_max": windows.window_max,
    "window_argmax": windows.window_argmax,
    "window_pick": windows.window_pick,
    "window_scatter": windows.window_scatter,
}
