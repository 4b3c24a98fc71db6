"""How is a law written? A pattern over an op and its operands, and what may stand in its place.

    @law("mul", ANY, number(1), commutes=True)
    def times_one(node: Node, x: Value, one: Value) -> Value:
        '''x * 1 = x'''
        return x

A law keeps every bit of the result, with -0.0, infinities and NaN among the values (which NaN it
is stays open), and leaves fewer nodes or cheaper ones. It may look closer and decline with None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import copysign

from pellucid.core.dtype import DTYPES, DType
from pellucid.ir.graph import Node, Value
from pellucid.ops.movement import constant, literal_number

Pattern = Callable[[Value], bool]
Replace = Callable[..., Value | None]


@dataclass(frozen=True, slots=True)
class Law:
    """One rule: where it applies, and the function (its docstring the law) that replaces.

    `once` restricts it to nodes that are the only user of their first operand.
    """

    op: str
    operands: tuple[Pattern, ...]
    replace: Replace
    on: tuple[DType, ...]
    once: bool

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.replace.__name__

    def apply(self, node: Node, operands: tuple[Value, ...], only_user: bool) -> Value | None:
        """What replaces the node, or None where the law does not apply."""
        if len(operands) != len(self.operands) or operands[-1].dtype not in self.on:
            return None
        if self.once and not only_user:
            return None
        if not all(fits(value) for fits, value in zip(self.operands, operands, strict=True)):
            return None
        return self.replace(node, *operands)


LAWS: dict[str, list[Law]] = {}
"""The laws of each op, in the order in which they are tried."""


def law(
    op: str,
    *operands: Pattern,
    on: tuple[DType, ...] = DTYPES,
    commutes: bool = False,
    once: bool = False,
) -> Callable[[Replace], Replace]:
    """Enter a function into LAWS; `commutes` enters it with the operands exchanged as well."""

    def enter(function: Replace) -> Replace:
        LAWS.setdefault(op, []).append(Law(op, operands, function, on, once))
        if commutes:
            LAWS[op].append(Law(op, operands[::-1], _exchanged(function), on, once))
        return function

    return enter


def ANY(value: Value) -> bool:
    """Every operand."""
    return True


def number(expected: int | float) -> Pattern:
    """A constant that is `expected` everywhere; 0.0 and -0.0 differ."""

    def fits(value: Value) -> bool:
        found = uniform(value)
        if found is None or found != expected:
            return False
        return copysign(1, found) == copysign(1, expected)

    return fits


def made_by(op: str) -> Pattern:
    """The result of a node of that op."""
    return lambda value: value.node is not None and value.node.op.name == op


def uniform(value: Value) -> bool | int | float | None:
    """The number that a constant holds everywhere, or None."""
    if value.node is None or value.node.op is not constant:
        return None
    text = value.node.attr("value")
    return literal_number(text, value.dtype) if isinstance(text, str) else None


def producer(value: Value) -> Node:
    """The node that made a value which a pattern has found to be made."""
    assert value.node is not None, "the pattern asks for a made value"
    return value.node


def _exchanged(function: Replace) -> Replace:
    def replace(node: Node, lhs: Value, rhs: Value) -> Value | None:
        return function(node, rhs, lhs)

    replace.__name__, replace.__doc__ = function.__name__, function.__doc__
    return replace
