"""Which sums have one term? Those over a row where all but the place of a label is zero.

The score of a label is written as a sum over its row, of the score where the place is the label and
of 0 elsewhere; and so is what a cross-entropy's gradient needs. Such a sum is its one term, read at
its place, plus the zero of the others: no bit differs, and a pass over the row is saved.

    reduce s0: float32 = sum t3 over c < 8192 by lanes in 1 x 8192
      t0: int64 = index [c]
      t1: float32 = load x0[c]
      t2: bool = equal label t0
      t3: float32 = select t2 t1 zero
      ->
    t1: float32 = load x0[place]
    t2: bool = equal label place
    t3: float32 = select t2 t1 zero
    s0: float32 = add t3 zero

The place is the label's, or the nearest there is: then it is not equal, and the sum is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import copysign
from typing import Final

from pellucid.core.dtype import int64, integer_range
from pellucid.engines.loops.ir import (
    Accumulator,
    Affine,
    Apply,
    Const,
    Expression,
    Extent,
    Index,
    Kernel,
    Let,
    Loop,
    Reduce,
    Statement,
    nested,
)

Lets = Mapping[str, Let]


def pick(kernel: Kernel) -> Kernel:
    """The kernel with each sum of one term replaced by the term."""
    numbers = {s.name: s for s in nested(kernel.body) if isinstance(s, Let)}
    body = _block(kernel.body, numbers)
    return kernel if body == kernel.body else replace(kernel, body=body)


def _block(statements: tuple[Statement, ...], known: Lets) -> tuple[Statement, ...]:
    found: list[Statement] = []
    for statement in statements:
        if isinstance(statement, Loop):
            found.append(replace(statement, body=_block(statement.body, known)))
        elif isinstance(statement, Reduce):
            found += _without_picked(statement, known)
        else:
            found.append(statement)
    return tuple(found)


def _without_picked(reduce: Reduce, known: Lets) -> list[Statement]:
    """A reduction of what has more terms, if any, and the terms of the other sums."""
    terms = {result: _term(reduce, result, known) for result in reduce.results}
    left = tuple(result for result, term in terms.items() if term is None)
    lines = [line for term in terms.values() if term is not None for line in term]
    return [replace(reduce, results=left), *lines] if left else [*lines]


def _term(reduce: Reduce, result: Accumulator, known: Lets) -> list[Let] | None:
    """The lines that make a sum of one term; None where it has more."""
    inside = {s.name: s for s in reduce.body if isinstance(s, Let)}
    if len(inside) != len(reduce.body) or len(reduce.axes) != 1 or reduce.part is not None:
        return None
    if result.kind != "sum" or not result.dtype.is_floating or result.value not in inside:
        return None
    found = _elsewhere(result.value, inside, known)
    if found is None or inside[result.value].dtype is not result.dtype:
        return None
    zero, label = found
    (axis,) = reduce.axes
    # A sum of one element begins at -0.0, to which no zero of others is added.
    if not isinstance(axis.extent, int) or axis.extent < 2 or not _counts(label, axis.extent):
        return None
    return _lines(result, tuple(inside.values()), axis.name, axis.extent, label.name, zero)


def _counts(label: Let, extent: int) -> bool:
    """Whether a label tells all places apart, and is an int64 or narrower."""
    if label.dtype.kind not in ("int", "uint"):
        return False
    return extent <= integer_range(label.dtype)[1] <= integer_range(int64)[1]


def _lines(
    result: Accumulator, body: tuple[Let, ...], axis: str, extent: int, label: str, zero: float
) -> list[Let]:
    name = result.name
    low, most, wide, above, place = (f"{name}_{end}" for end in _NAMES)
    lines = [
        Let(low, int64, Const(0)),
        Let(most, int64, Const(extent - 1)),
        Let(wide, int64, Apply("cast", (label,))),
        Let(above, int64, Apply("maximum", (wide, low))),
        Let(place, int64, Apply("minimum", (above, most))),
    ]
    names = {axis: place, **{let.name: f"{name}_{let.name}" for let in body}}
    lines += [Let(names[let.name], let.dtype, _renamed(let.value, names)) for let in body]
    rest = f"{name}_zero"
    lines.append(Let(rest, result.dtype, Const(zero)))
    lines.append(Let(name, result.dtype, Apply("add", (names[result.value], rest))))
    return lines


_NAMES: Final = ("low", "most", "wide", "above", "place")


def _elsewhere(name: str, inside: Lets, known: Lets) -> tuple[float, Let] | None:
    """The zero that a value is at all places but one, with its sign, and what says which."""
    match inside[name].value if name in inside else None:
        case Apply("neg", (operand,)):
            found = _elsewhere(operand, inside, known)
            return None if found is None else (-found[0], found[1])
        case Apply("select", (pred, _, otherwise)):
            label = _label(pred, inside, known)
            rest = known[otherwise].value if otherwise in known else None
            if label is None or not isinstance(rest, Const) or rest.value != 0:
                return None
            return copysign(0.0, rest.value), label
        case _:
            return None


def _label(pred: str, inside: Lets, known: Lets) -> Let | None:
    """What the place along the row is compared with, being the same for all of it."""
    match inside[pred].value if pred in inside else None:
        case Apply("equal", (lhs, rhs)):
            for place, label in ((lhs, rhs), (rhs, lhs)):
                if place in inside and label in known and label not in inside:
                    return known[label] if _is_place(inside[place].value) else None
        case _:
            pass
    return None


def _is_place(value: Expression) -> bool:
    """Whether it counts the places of the row."""
    if not isinstance(value, Index) or value.index.offset:
        return False
    return [size for _, size in value.index.terms] == [1]


def _renamed(value: Expression, names: Mapping[str, str]) -> Expression:
    match value:
        case Const() | Extent():
            return value
        case Apply(op, operands):
            return Apply(op, tuple(names.get(one, one) for one in operands))
        case _:
            terms = tuple((names.get(one, one), size) for one, size in value.index.terms)
            return replace(value, index=Affine(terms, value.index.offset))
