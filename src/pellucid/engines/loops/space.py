"""How does an element's place follow through reshapes, broadcasts and transposes?

A place is either one `Affine` a tensor axis, or one `Affine` for the row-major position. Movement
ops only rewrite places, so that they cost nothing where a place stays affine. A reshape that does
not fit the loops asks for a loop to be split in two; where even that does not help, the place is
found by division.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pellucid.engines.loops.ir import Affine, Size

Place = tuple[Affine, ...]
"""Where an element lies in a tensor: one index an axis."""

ZERO = Affine()


class SplitAxis(Exception):
    """A reshape cuts the loop `axis`: it should become two, the inner one `inner` long."""

    def __init__(self, axis: str, inner: int) -> None:
        super().__init__(axis, inner)
        self.axis = axis
        self.inner = inner


@dataclass(frozen=True)
class Division:
    """What reshapes need to know and to ask for.

    `extents` are those of all axes and variables; `splittable` the axes that may become two;
    `divide(index, by)` makes the variables for quotient and remainder.
    """

    extents: Mapping[str, int]
    splittable: frozenset[str]
    divide: Callable[[Affine, int], tuple[Affine, Affine]]


def variable(name: str, coefficient: int = 1) -> Affine:
    """The index that is an axis or a variable."""
    return Affine(((name, coefficient),)) if coefficient else ZERO


def plus(lhs: Affine, rhs: Affine) -> Affine:
    """The sum of two indexes."""
    terms = {name: _int(size) for name, size in lhs.terms}
    for name, size in rhs.terms:
        terms[name] = terms.get(name, 0) + _int(size)
    kept = tuple((name, size) for name, size in terms.items() if size)
    return Affine(kept, lhs.offset + rhs.offset)


def times(index: Affine, factor: int) -> Affine:
    """An index times a number."""
    if not factor:
        return ZERO
    terms = tuple((name, _int(size) * factor) for name, size in index.terms)
    return Affine(terms, index.offset * factor)


def dot(place: Sequence[Affine], strides: Sequence[int]) -> Affine:
    """The distance from the start, for strides in elements."""
    total = ZERO
    for index, stride in zip(place, strides, strict=True):
        total = plus(total, times(index, stride))
    return total


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a dense tensor; 0 on axes of size 1, where the index is 0 anyway."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return tuple(0 if size == 1 else s for size, s in zip(shape, strides, strict=True))


def unflatten(position: Affine, shape: Sequence[int], division: Division) -> Place:
    """The place of a row-major position in a tensor of `shape`.

    >>> known = Division({"i": 6, "j": 4}, frozenset(), lambda index, by: (index, index))
    >>> [str(index) for index in unflatten(Affine((("i", 8), ("j", 1))), (6, 2, 4), known)]
    ['i', '0', 'j']
    """
    place: list[Affine] = []
    rest = position
    for size, stride in zip(shape, row_major(shape), strict=True):
        if size == 1:
            place.append(ZERO)
            continue
        index, rest = _divided(rest, stride, division)
        # Each stride divides the one before: what is left is also left of the whole position.
        rest = _left(position, stride, division) or rest
        place.append(index)
    return tuple(place)


def _left(index: Affine, by: int, division: Division) -> Affine | None:
    """The remainder, where it is seen without dividing: that of terms that stay below `by`."""
    rest = tuple((name, _int(size)) for name, size in index.terms if _int(size) % by)
    largest = sum((division.extents[name] - 1) * size for name, size in rest)
    if all(size > 0 for _, size in rest) and largest + index.offset % by < by:
        return Affine(rest, index.offset % by)
    return None


def _divided(index: Affine, by: int, division: Division) -> tuple[Affine, Affine]:
    """Quotient and remainder, as indexes."""
    if by == 1:
        return index, ZERO
    left = _left(index, by, division)
    sizes = [(name, _int(size)) for name, size in index.terms]
    if left is not None:
        quotient = tuple((name, size // by) for name, size in sizes if size % by == 0)
        return Affine(quotient, index.offset // by), left
    for name, size in (term for term in sizes if term[1] % by):
        inner = by // size if size > 0 and by % size == 0 else 0
        if name in division.splittable and inner > 1 and division.extents[name] % inner == 0:
            raise SplitAxis(name, inner)
    return division.divide(index, by)


def _int(size: Size) -> int:
    assert isinstance(size, int), "places are built from numbers; parameters come afterwards"
    return size
