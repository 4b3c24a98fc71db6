"""Where does an element of a matrix lie in a running kernel? A base and strides, known or read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.engines.llvm.sizes import Number, dot
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Type, Value


@dataclass(frozen=True, slots=True)
class Matrix:
    """An operand in a running kernel: where it begins, its strides, its scalar in memory."""

    base: Value
    batch: tuple[Number, ...]
    first: Number
    second: Number
    scalar: Type

    def at(self, f: Function, batch: Sequence[Number], first: Number, second: Number) -> Value:
        """The address of element [batch, first, second]."""
        steps = *self.batch, self.first, self.second
        return f.gep(self.base, dot(f, 0, (*batch, first, second), steps), self.scalar)
