"""How do the contracted axes of a product become one loop, or as few as can be?

Where each operand's elements lie in equal steps along several axes, these are one axis. Where they
do not, the operand has to be copied first: that is what `ScatteredAxes` says.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

from pellucid.engines.loops.ir import Affine, Axis, Contract, Load
from pellucid.engines.loops.space import plus, variable


class ScatteredAxes(Exception):
    """An operand (0: lhs, 1: rhs) of a contraction has its contracted axes apart in memory."""

    def __init__(self, side: int) -> None:
        super().__init__(side)
        self.side = side


def one_axis(contract: Contract) -> Contract:
    """The contraction with one axis k for all; raises ScatteredAxes where they cannot be."""
    axes = contract.axes
    loads: list[Load] = []
    for side, load in enumerate((contract.lhs, contract.rhs)):
        steps = [cast(int, load.index.coefficient(axis.name)) for axis in axes]
        sizes = [cast(int, axis.extent) for axis in axes]
        dense = [steps[-1] * math.prod(sizes[at + 1 :]) for at in range(len(axes))]
        if steps != dense:
            raise ScatteredAxes(side)
        names = {axis.name for axis in axes}
        others = Affine(tuple(t for t in load.index.terms if t[0] not in names), load.index.offset)
        loads.append(Load(load.buffer, plus(others, variable("k", steps[-1] if axes else 0))))
    count = math.prod(cast(int, axis.extent) for axis in axes)
    left, right = loads
    return Contract(contract.name, contract.dtype, (Axis("k", count),), left, right)


def merged_axes(contract: Contract) -> Contract:
    """The contraction over as few axes as can be; raises ScatteredAxes if rhs has no one step."""
    loads, kept = [contract.lhs, contract.rhs], list[Axis]()
    for inner in contract.axes:
        outer = kept[-1] if kept else None
        size = cast(int, inner.extent)
        indexes = [*(load.index for load in loads), *(one.index for one in contract.within)]
        if outer is None or any(
            index.coefficient(outer.name) != size * cast(int, index.coefficient(inner.name))
            for index in indexes
        ):
            kept.append(inner)
            continue
        gone = {outer.name}
        loads = [Load(load.buffer, _without(load.index, gone)) for load in loads]
        kept[-1] = Axis(inner.name, size * cast(int, outer.extent))
    for outer, inner in pairwise(kept):
        step = cast(int, loads[1].index.coefficient(inner.name)) * cast(int, inner.extent)
        if loads[1].index.coefficient(outer.name) != step:
            raise ScatteredAxes(1)
    axes = tuple(kept) or (Axis("k", 1),)
    left, right = loads
    return Contract(contract.name, contract.dtype, axes, left, right, contract.within)


def _without(index: Affine, names: set[str]) -> Affine:
    return Affine(tuple(term for term in index.terms if term[0] not in names), index.offset)
