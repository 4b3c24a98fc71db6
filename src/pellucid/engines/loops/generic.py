"""How does one compiled kernel serve many shapes? Its numbers become parameters of each call.

Extents and strides go into the table of sizes. What stays in the text decides what code is good:
how many loops there are, which operands an axis does not move at all, a stride of 1 along vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pellucid.engines.loops.ir import (
    CHAIN_CHUNK,
    Affine,
    Apply,
    Axis,
    Chain,
    Const,
    Contract,
    Extent,
    Follow,
    Kernel,
    Let,
    Loop,
    Quotient,
    Reduce,
    Remainder,
    Size,
    Sort,
    Statement,
    Store,
    Update,
)


def generalise(kernel: Kernel, unit_axes: frozenset[str]) -> tuple[Kernel, tuple[int, ...]]:
    r"""The kernel with parameters in place of numbers, after those it has; and their values.

    A stride of 1 along one of `unit_axes` stays a number.

    >>> from pellucid.engines.loops.text import parse_kernel, print_kernel
    >>> text = "kernel k\n  for i < 9\n    t0: float32 = load x[5*i]\n    store y[i] = t0"
    >>> generic, sizes = generalise(parse_kernel(text), frozenset("i"))
    >>> print(print_kernel(generic), sizes)
    kernel k
      sizes n0 s1
      for i < n0
        t0: float32 = load x[s1*i]
        store y[i] = t0 (9, 5)
    """
    numbers: list[int] = []
    names: list[str] = []

    def parameter(prefix: str, size: Size) -> str:
        if isinstance(size, str):
            return size
        names.append(f"{prefix}{len(names)}")
        numbers.append(size)
        return names[-1]

    body = _Generaliser(parameter, unit_axes).block(kernel.body)
    every = (*kernel.parameters, *names)
    return replace(kernel, parameters=every, body=body), tuple(numbers)


class _Generaliser:
    """Rebuilds statements, asking for a parameter for each number met."""

    def __init__(self, parameter: Callable[[str, Size], str], unit_axes: frozenset[str]) -> None:
        self.parameter, self.unit_axes = parameter, unit_axes

    def block(self, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        """The statements of a block."""
        return tuple(self._statement(statement) for statement in body)

    def _statement(self, statement: Statement) -> Statement:
        match statement:
            case Loop(axis, body):
                return Loop(self._axis(axis), self.block(body))
            case Store() | Update():
                return replace(statement, index=self._index(statement.index))
            case Chain():
                raise AssertionError("rows and columns are one kernel where sizes are known")
            case Contract(_, _, axes, lhs, rhs):
                left, right = (replace(x, index=self._index(x.index)) for x in (lhs, rhs))
                inside = tuple(self._axis(axis) for axis in axes)
                return replace(statement, axes=inside, lhs=left, rhs=right)
            case Sort(_, index, step, axis, value):
                return replace(
                    statement,
                    index=self._index(index),
                    step=self.parameter("s", step),
                    axis=self._axis(axis),
                    value=replace(value, index=self._index(value.index)),
                )
            case Reduce():
                return self._reduce(statement)
            case Follow(_, axis, _, _, body):
                return replace(statement, axis=self._axis(axis), body=self.block(body))
            case Let():
                return self._let(statement)

    def _reduce(self, reduce: Reduce) -> Reduce:
        axes = tuple(self._axis(axis) for axis in reduce.axes)
        extents = [axis.extent for axis in reduce.axes]
        chunk = reduce.chunk
        if reduce.order == "lanes" and chunk[-len(extents) :] == tuple(extents):
            # One chunk: its size is the axes' own, by name, so that no loop over chunks is made.
            chunk = (*chunk[: -len(extents)], *(axis.extent for axis in axes))
        elif reduce.order == "lanes" or chunk != (CHAIN_CHUNK,):
            # A chain's chunks have one length for all shapes, but where their sums are added.
            chunk = tuple(self.parameter("q", size) for size in reduce.chunk)
        return replace(reduce, axes=axes, chunk=chunk, body=self.block(reduce.body))

    def _let(self, let: Let) -> Let:
        value = let.value
        if isinstance(value, Const | Apply):
            return let
        if isinstance(value, Extent):
            return replace(let, value=Extent(self.parameter("n", value.size)))
        index = self._index(value.index)
        if isinstance(value, Quotient | Remainder):
            return replace(let, value=replace(value, index=index, by=self.parameter("d", value.by)))
        return replace(let, value=replace(value, index=index))

    def _axis(self, axis: Axis) -> Axis:
        return Axis(axis.name, self.parameter("n", axis.extent))

    def _index(self, index: Affine) -> Affine:
        return Affine(
            tuple(
                (name, size if size == 1 and name in self.unit_axes else self.parameter("s", size))
                for name, size in index.terms
            ),
            index.offset,
        )
