"""What of a row is computed once and kept? What costs much and is asked for in several passes.

A kernel of rows goes over a row again and again: for a softmax once for the maximum, once for the
sum, once for the results. Where a later pass needs a costly value of an earlier one, the earlier
writes it into scratch memory, one element a column, from where the later reads it. The row lies in
the nearest cache, and the value has been rounded to its dtype, so no bit changes.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from pellucid.core.dtype import DType
from pellucid.engines.loops.ir import (
    Affine,
    Apply,
    Axis,
    Buffer,
    Const,
    Expression,
    Extent,
    Follow,
    Index,
    Kernel,
    Let,
    Load,
    Loop,
    Quotient,
    Random,
    Reduce,
    Remainder,
    Size,
    Statement,
    Store,
    used_names,
)
from pellucid.engines.loops.schedule import weight

COSTLY: Final = 8
"""From how many elementary steps on a value is kept: a write and a read cost less."""

MOST_BYTES: Final = 1 << 18
"""What a kernel keeps at most: a share of the second-level cache."""


def hold(kernel: Kernel) -> Kernel:
    """The kernel with scratch memory for what its passes over a row share."""
    holder = _Holder()
    body = holder.block(kernel.body)
    return replace(kernel, body=body, scratch=tuple(holder.scratch))


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over a row: the axes along it, and its statements."""

    axes: tuple[Axis, ...]
    body: tuple[Statement, ...]
    whole: Statement

    @property
    def results(self) -> tuple[str, ...]:
        """The values that are reduced."""
        found = self.whole.results if isinstance(self.whole, Reduce) else ()
        return tuple(result.value for result in found)

    @property
    def elements(self) -> int:
        """How many elements a row has."""
        return prod(axis.extent for axis in self.axes if isinstance(axis.extent, int))

    @property
    def position(self) -> Affine:
        """The number of the element at hand, row-major."""
        names, count = list[tuple[str, Size]](), 1
        for axis in reversed(self.axes):
            assert isinstance(axis.extent, int), "rows are kept while sizes are numbers"
            names.insert(0, (axis.name, count))
            count *= axis.extent
        return Affine(tuple(names))


class _Holder:
    """Rewrites blocks of statements; `scratch` are the buffers that it took for that."""

    def __init__(self) -> None:
        self.scratch: list[Buffer] = []

    def block(self, statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
        """A block with what its passes share kept, or the block of passes inside it."""
        passes = {at: one for at, s in enumerate(statements) if (one := _as_pass(s)) is not None}
        if any(isinstance(statements[at], Reduce) for at in passes):
            bodies = dict(zip(passes, self._shared(list(passes.values())), strict=True))
            return tuple(
                _with_body(s, bodies[at]) if at in bodies else s for at, s in enumerate(statements)
            )
        return tuple(
            replace(s, body=self.block(s.body)) if isinstance(s, Loop) else s for s in statements
        )

    def _shared(self, passes: list[_Pass]) -> list[tuple[Statement, ...]]:
        """The bodies of passes that keep costly values for those after them."""
        bodies: list[tuple[Statement, ...]] = []
        makers: dict[Hashable, tuple[int, str]] = {}
        kept: dict[Hashable, Buffer] = {}

        def read(one: _Pass, let: Let, key: Hashable) -> Let:
            if key not in kept:
                kept[key] = self._take(let.dtype, one.elements)
                maker, name = makers[key]
                bodies[maker] = _storing(bodies[maker], kept[key], passes[maker].position, name)
            return replace(let, value=Load(kept[key].name, one.position))

        for number, one in enumerate(passes):
            keys, costs = _keys(one), _costs(one)
            body: list[Statement] = []
            wanted = set(one.results)
            for statement in reversed(one.body):
                if isinstance(statement, Let):
                    key = keys[statement.name]
                    if statement.name not in wanted:
                        continue
                    known = key in kept or (key in makers and self._has_room(one, statement))
                    if known and costs[statement.name] >= COSTLY:
                        statement = read(one, statement, key)
                assert not isinstance(statement, Loop | Reduce | Follow), (
                    "a pass has no loops inside"
                )
                wanted.update(used_names(statement))
                body.insert(0, statement)
            bodies.append(tuple(body))
            for let in body:
                if isinstance(let, Let):
                    makers.setdefault(keys[let.name], (number, let.name))
        return bodies

    def _has_room(self, one: _Pass, let: Let) -> bool:
        taken = sum(buffer.elements * buffer.dtype.bytes for buffer in self.scratch)
        return taken + one.elements * let.dtype.bytes <= MOST_BYTES

    def _take(self, dtype: DType, elements: int) -> Buffer:
        """Scratch memory for one value an element of a row."""
        self.scratch.append(Buffer(f"h{len(self.scratch)}", dtype, "scratch", elements))
        return self.scratch[-1]


def _as_pass(statement: Statement) -> _Pass | None:
    """A reduction, or loops without reductions, as a pass over a row."""
    if isinstance(statement, Reduce):
        plain = statement.order == "lanes" and statement.part is None
        plain = plain and not any(isinstance(s, Follow) for s in statement.body)
        return _Pass(statement.axes, statement.body, statement) if plain else None
    axes: list[Axis] = []
    body: tuple[Statement, ...] = (statement,)
    while len(body) == 1 and isinstance(body[0], Loop):
        axes.append(body[0].axis)
        body = body[0].body
    flat = axes and not any(isinstance(s, Loop | Reduce | Follow) for s in body)
    return _Pass(tuple(axes), body, statement) if flat else None


def _with_body(statement: Statement, body: tuple[Statement, ...]) -> Statement:
    """A pass with another body."""
    if isinstance(statement, Loop) and isinstance(statement.body[0], Loop):
        return replace(statement, body=(_with_body(statement.body[0], body),))
    assert isinstance(statement, Loop | Reduce), "a pass is a loop or a reduction"
    return replace(statement, body=body)


def _storing(
    body: tuple[Statement, ...], buffer: Buffer, position: Affine, name: str
) -> tuple[Statement, ...]:
    """A body that also writes the value called `name`, as soon as it is there."""
    at = next(n for n, s in enumerate(body) if isinstance(s, Let) and s.name == name)
    return (*body[: at + 1], Store(buffer.name, position, name), *body[at + 1 :])


def _keys(one: _Pass) -> dict[str, Hashable]:
    """What each name in a pass means: equal in two passes if the values are equal."""
    keys: dict[str, Hashable] = {}
    for let in one.body:
        if isinstance(let, Let):
            keys[let.name] = (one.elements, let.dtype, _meaning(let.value, keys, one.axes))
    return keys


def _meaning(value: Expression, keys: dict[str, Hashable], axes: tuple[Axis, ...]) -> Hashable:
    match value:
        case Const() | Extent():
            return value
        case Apply(op, operands):
            return op, tuple(keys.get(name, name) for name in operands)
        case Load(buffer, index):
            return "load", buffer, _along(index, keys, axes)
        case Random(seed, draw, index):
            return "random", seed, draw, _along(index, keys, axes)
        case Index(index):
            return "index", _along(index, keys, axes)
        case Quotient(index, by) | Remainder(index, by):
            return type(value).__name__, _along(index, keys, axes), by


def _along(index: Affine, keys: dict[str, Hashable], axes: tuple[Axis, ...]) -> Hashable:
    """An index without the names of the axes of its pass.

    Axes that are one row-major axis here count as one: so reductions and merged loops are equal.
    """
    names = [axis.name for axis in axes]
    steps = [index.coefficient(name) for name in names]
    sizes = [axis.extent for axis in axes]
    last = steps[-1]
    whole = all(
        outer == inner * size
        for outer, inner, size in zip(steps, steps[1:], sizes[1:], strict=False)
        if isinstance(inner, int) and isinstance(size, int)
    )
    others = frozenset((keys.get(n, n), size) for n, size in index.terms if n not in names)
    return others, index.offset, last if whole else (tuple(steps), tuple(sizes))


def _costs(one: _Pass) -> dict[str, int]:
    """The elementary steps of each name of a pass, those of its operands included."""
    costs: dict[str, int] = {}
    for let in one.body:
        if isinstance(let, Let):
            below = sum(costs.get(name, 0) for name in dict.fromkeys(used_names(let)))
            costs[let.name] = below + weight(let)
    return costs
