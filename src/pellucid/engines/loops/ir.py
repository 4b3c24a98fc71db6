"""What does one kernel compute, and in which order where the order changes bits?

A `Kernel` is a scalar loop nest over named buffers. Its statements say what each element is; its
schedule says, beside them, which axis runs over threads, which over vector lanes and which is
unrolled. The schedule never changes a bit: the orders that do matter (of a sum, of a product's
chain) are part of the meaning of `Reduce` and `Contract`. A size is an int, or the name of a size
parameter that is given at each call, so that one compiled kernel can serve many shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pellucid.core.dtype import DType, float32

Size = int | str
"""A number, or the name of one of the kernel's size parameters."""

LANES: Final = 64
"""Virtual lanes of a reduction whose last axis goes: column c is added to lane c % 64."""

CHUNK_ELEMENTS: Final = 8192
"""A lanes reduction over more elements than this is cut into chunks, each reduced alone."""

CHAIN_CHUNK: Final = 256
"""A chain reduction starts a new chain every so many elements."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop's name and how often it turns."""

    name: str
    extent: Size


@dataclass(frozen=True, slots=True)
class Affine:
    """A sum of (axis or integer variable) x size, plus an offset: where an element lies.

    >>> print(Affine((("i", 512), ("j", 1)), 3))
    512*i + j + 3
    """

    terms: tuple[tuple[str, Size], ...] = ()
    offset: int = 0

    def coefficient(self, name: str) -> Size:
        """What `name` is multiplied by; 0 where it does not occur."""
        return next((size for term, size in self.terms if term == name), 0)

    @property
    def names(self) -> tuple[str, ...]:
        """The axes and variables it depends on."""
        return tuple(name for name, _ in self.terms)

    def __str__(self) -> str:
        parts = [name if size == 1 else f"{size}*{name}" for name, size in self.terms]
        if self.offset or not parts:
            parts.append(str(self.offset))
        return " + ".join(parts)


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a kernel: its name in the nest, what it holds, what is done with it.

    One with the access "scratch" has `elements` elements, and belongs to the running thread.
    """

    name: str
    dtype: DType
    access: Literal["read", "write", "scratch"]
    elements: int = 0

    @property
    def padded_bytes(self) -> int:
        """The bytes of scratch memory it takes: whole cache lines."""
        return -(-self.elements * self.dtype.bytes // 64) * 64


# Expressions: what a Let can say. Operands are names of earlier Lets; the Let gives the dtype.


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A number. Two are equal if they are written the same: -0.0 is not 0.0, and NaN is NaN."""

    value: bool | int | float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash(repr(self.value))


@dataclass(frozen=True, slots=True)
class Load:
    """The element of a buffer at an index."""

    buffer: str
    index: Affine


@dataclass(frozen=True, slots=True)
class Apply:
    """A scalar op, by the name on its card; rounded to the Let's dtype."""

    op: str
    operands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """Where the loops stand, as a number."""

    index: Affine


@dataclass(frozen=True, slots=True)
class Quotient:
    """An index divided by a size, rounded down (the index is never negative)."""

    index: Affine
    by: Size


@dataclass(frozen=True, slots=True)
class Remainder:
    """What the division of an index by a size leaves."""

    index: Affine
    by: Size


@dataclass(frozen=True, slots=True)
class Extent:
    """A size, as a number."""

    size: Size


@dataclass(frozen=True, slots=True)
class Random:
    """Word index % 4 of Philox 4x32-10's block index // 4, for the uint64 `seed` and `draw`."""

    seed: str
    draw: str
    index: Affine


Expression = Const | Load | Apply | Index | Quotient | Remainder | Extent | Random


# Statements.

ReductionKind = Literal["sum", "prod", "max", "min"]
"""How a reduction combines two elements."""


@dataclass(frozen=True, slots=True)
class Let:
    """A name for the value of an expression, rounded to `dtype`."""

    name: str
    dtype: DType
    value: Expression


@dataclass(frozen=True, slots=True)
class Store:
    """Write a named value, which has the buffer's dtype."""

    buffer: str
    index: Affine
    value: str


@dataclass(frozen=True, slots=True)
class Update:
    """Combine a named value with what is in the buffer (or "set" it), if `guard` is true.

    Updates of one element come in the order of the loops, each rounded to the buffer's dtype.
    """

    buffer: str
    index: Affine
    how: Literal["set", "add", "max", "min"]
    value: str
    guard: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Combine a named value with an element of the buffer, which begins anew where `along` is 0.

    A reduction down the rows of a nest, in which each column has a chain of its own. `along` counts
    the elements of a chain, whose turns come one after the other.
    """

    buffer: str
    index: Affine
    kind: ReductionKind
    value: str
    along: Affine


@dataclass(frozen=True, slots=True)
class Until:
    """Turns are made while `index` is below `size`; axes further inside count as 0 in it."""

    index: Affine
    size: int


@dataclass(frozen=True, slots=True)
class Loop:
    """Run the body for each position of the axis, or for those before the end that is given."""

    axis: Axis
    body: tuple[Statement, ...]
    until: Until | None = None


@dataclass(frozen=True, slots=True)
class Accumulator:
    """One result of a Reduce: `name` is the sum, say, of `value`, kept in `dtype`."""

    name: str
    kind: ReductionKind
    dtype: DType
    value: str


@dataclass(frozen=True, slots=True)
class Reduce:
    """Reduce values over axes in a fixed order; then the accumulators' names hold the results.

    `order` "lanes" (axes: rows if any, then columns): column c goes to lane c % 64; each lane adds
    over rows, then over columns in increasing order, starting at the identity (-0.0 for a sum of
    floats, 1 for a product); then a halving tree adds lane i + 32 to lane i, then 16, 8, 4, 2, 1.
    `chunk` = (rows, columns) cuts the space into pieces, each reduced so; their results, in
    row-major order, are one more row of columns to reduce.

    `order` "chain" (one axis): elements are added one after the other, starting at the identity;
    every `chunk[0]` elements a new chain begins, and the chains' results are added in order.

    `part` names an outer axis: then the result is that of the chunk with this number alone.
    """

    results: tuple[Accumulator, ...]
    order: Literal["lanes", "chain"]
    axes: tuple[Axis, ...]
    chunk: tuple[Size, ...]
    body: tuple[Statement, ...]
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """Add values along a list: `axis` stands at `first`, then at `following`, until it is negative.

    Each result begins at zero; its values are added one after the other in its dtype. The body
    gives the values, and `following`, at the place where the axis stands.
    """

    results: tuple[Accumulator, ...]
    axis: Axis
    first: str
    following: str
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Within:
    """That an index lies from 0 to below `size`."""

    index: Affine
    size: int


@dataclass(frozen=True, slots=True)
class Contract:
    """The sum over `axes`, row-major, of lhs x rhs, in `dtype`, as multiply-add chains.

    Along several axes rhs still moves by one step from each k to the next, unless it is folded:
    then there are two axes, along the last one, of `fold` places, neighbours lie together, and all
    else moves rhs by multiples of `fold`. K elements are cut into
    n = ceil(K / 512) chunks of ceil(ceil(K / n) / 8) * 8; in each a chain acc = fma(lhs, rhs, acc)
    runs from +0.0 in increasing order; the chunks' results are added in order. K = 0 gives 0.
    An element of lhs is +0.0, and is not read, where an index is not `within` its bounds.
    """

    name: str
    dtype: DType
    axes: tuple[Axis, ...]
    lhs: Load
    rhs: Load
    within: tuple[Within, ...] = ()

    @property
    def fold(self) -> int:
        """How many k's lie together in rhs where it is folded, else 1."""
        if len(self.axes) != 2:
            return 1
        outer, inner = (self.rhs.index.coefficient(axis.name) for axis in self.axes)
        fold = self.axes[1].extent
        if not (isinstance(outer, int) and isinstance(inner, int) and isinstance(fold, int)):
            return 1
        return fold if outer != inner * fold else 1


@dataclass(frozen=True, slots=True)
class Sort:
    """Write the places along `axis` of the elements of `value` in their order, `step` apart.

    Equal ones keep their order, NaN comes last, and -0.0 equals 0.0.
    """

    buffer: str
    index: Affine
    step: Size
    axis: Axis
    value: Load
    descending: bool


Line = Let | Store | Update | Chain | Contract | Sort
"""A statement with no others in it."""

Statement = Line | Loop | Reduce | Follow


BindingKind = Literal[
    "thread",
    "vector",
    "unroll",
    "rows",
    "vectors",
    "block",
    "group",
    "pack",
    "whole",
    "stream",
    "ahead",
]


@dataclass(frozen=True, slots=True)
class Binding:
    """How one axis runs: over threads in blocks of `factor`, or over `factor` lanes or copies.

    A product's m runs in tiles of so many `rows`, its n in panels of so many `vectors`; a task
    takes a `block` of tiles by a `group` of panels. The operand that moves along an axis with
    `pack` is packed; a k that is `whole`, though a parameter, is not longer than one chunk. With
    "stream" the name is a buffer's, which is written past the caches and begins at a multiple of so
    many bytes. A pass along an axis with "ahead" fetches what it will read so many elements further
    on.
    """

    axis: str
    kind: BindingKind
    factor: Size


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loop nest with its size parameters, its buffers (in the order of the call) and schedule.

    `scratch` are buffers that no call hands over: what a task writes there it reads itself.
    Nothing is done where the two buffers of `unless` are one memory.
    An axis without a binding runs serially. One "thread" axis at most: the outermost loop.
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    body: tuple[Statement, ...]
    schedule: tuple[Binding, ...] = ()
    scratch: tuple[Buffer, ...] = ()
    unless: tuple[str, str] | None = None

    def buffer(self, name: str) -> Buffer:
        """The buffer called `name`."""
        return next(one for one in (*self.buffers, *self.scratch) if one.name == name)

    def bound(self, axis: str, kind: str) -> Size | None:
        """The factor by which `axis` is bound to `kind`; None where it is not."""
        wanted = (axis, kind)
        found = (b.factor for b in self.schedule if (b.axis, b.kind) == wanted)
        return next(found, None)


def nested(statements: tuple[Statement, ...]) -> Iterator[Statement]:
    """Every statement, outer before inner, in order."""
    for statement in statements:
        yield statement
        if isinstance(statement, Loop | Reduce | Follow):
            yield from nested(statement.body)


def scratch_bytes(kernel: Kernel) -> int:
    """The bytes of all scratch buffers of a kernel."""
    return sum(buffer.padded_bytes for buffer in kernel.scratch)


def accumulation_dtype(dtype: DType) -> DType:
    """The dtype in which a sum or product of `dtype` is kept: float32 for the 16-bit floats."""
    return float32 if dtype.is_floating and dtype.bits == 16 else dtype


def is_ordered(loop: Loop) -> bool:
    """Whether turns of a loop may meet at one element, so that they come one after the other."""
    name = loop.axis.name
    made = {s.name for s in nested(loop.body) if isinstance(s, Let)}
    return any(
        not s.index.coefficient(name)
        or (isinstance(s, Update) and made.intersection((*s.index.names, s.guard)))
        or (isinstance(s, Chain) and s.along.coefficient(name))
        for s in nested(loop.body)
        if isinstance(s, Update | Chain)
    )


def indexes(statement: Line) -> tuple[Affine, ...]:
    """Every index that stands in a statement."""
    match statement:
        case Let():
            value = statement.value
            return () if isinstance(value, Const | Apply | Extent) else (value.index,)
        case Store() | Update():
            return (statement.index,)
        case Chain():
            return (statement.index, statement.along)
        case Contract():
            bounds = (bound.index for bound in statement.within)
            return (statement.lhs.index, statement.rhs.index, *bounds)
        case Sort():
            return (statement.index, statement.value.index)


def used_names(statement: Line) -> tuple[str, ...]:
    """The variables and the axes that a statement uses."""
    used = tuple(name for index in indexes(statement) for name in index.names)
    match statement:
        case Let():
            return (*used, *_operands(statement.value))
        case Store() | Chain():
            return (*used, statement.value)
        case Update():
            return (*used, statement.value, statement.guard)
        case Contract():
            inside = [axis.name for axis in statement.axes]
            return tuple(name for name in used if name not in inside)
        case Sort():
            return tuple(name for name in used if name != statement.axis.name)


def _operands(value: Expression) -> tuple[str, ...]:
    match value:
        case Apply():
            return value.operands
        case Random():
            return (value.seed, value.draw)
        case _:
            return ()


def chunk_of(rows: int, columns: int) -> tuple[int, int]:
    """The chunks of a lanes reduction: whole rows, or pieces of a long row.

    >>> chunk_of(4, 1000), chunk_of(100, 1000), chunk_of(3, 20000)
    ((4, 1000), (8, 1000), (1, 8192))
    """
    if columns >= CHUNK_ELEMENTS:
        return 1, CHUNK_ELEMENTS
    return min(max(rows, 1), CHUNK_ELEMENTS // max(columns, 1)), columns
