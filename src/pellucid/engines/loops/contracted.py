"""How do the contracted axes of a product become one loop, or as few as can be?

Where each operand's elements lie in equal steps along several axes, these are one axis. Where they
do not, the operand has to be copied first: that is what `ScatteredAxes` says. But one operand may
be folded: as many k's as the target multiplies at a time lie together, the others in equal steps.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import cast

from pellucid.engines.loops.ir import Affine, Axis, Contract, Load
from pellucid.engines.loops.space import plus, variable


class ScatteredAxes(Exception):
    """An operand (0: lhs, 1: rhs) of a contraction has its contracted axes apart in memory."""

    def __init__(self, side: int) -> None:
        super().__init__(side)
        self.side = side


def one_axis(contract: Contract, fold: int = 1) -> Contract:
    """The contraction with one axis k for all; raises ScatteredAxes where they cannot be.

    One that is folded by `fold` keeps its two axes, and has its folded operand as rhs.
    """
    axes = contract.axes
    loads: list[Load] = []
    scattered = [
        side for side, load in enumerate((contract.lhs, contract.rhs)) if not _is_even(load, axes)
    ]
    if len(scattered) == 1 and fold > 1:
        exchanged = replace(contract, lhs=contract.rhs, rhs=contract.lhs)
        folded = exchanged if scattered == [0] else contract
        if _is_folded(folded, fold):
            return folded
    if scattered:
        raise ScatteredAxes(scattered[0])
    for load in (contract.lhs, contract.rhs):
        steps = [cast(int, load.index.coefficient(axis.name)) for axis in axes]
        names = {axis.name for axis in axes}
        others = Affine(tuple(t for t in load.index.terms if t[0] not in names), load.index.offset)
        loads.append(Load(load.buffer, plus(others, variable("k", steps[-1] if axes else 0))))
    count = math.prod(cast(int, axis.extent) for axis in axes)
    left, right = loads
    return Contract(contract.name, contract.dtype, (Axis("k", count),), left, right)


def _is_even(load: Load, axes: tuple[Axis, ...]) -> bool:
    """Whether an operand moves by one step from each k to the next."""
    steps = [cast(int, load.index.coefficient(axis.name)) for axis in axes]
    sizes = [cast(int, axis.extent) for axis in axes]
    return steps == [steps[-1] * math.prod(sizes[at + 1 :]) for at in range(len(axes))]


def _is_folded(contract: Contract, fold: int) -> bool:
    """Whether rhs holds `fold` k's together, and all else in steps of so many elements."""
    index, axes = contract.rhs.index, contract.axes
    if len(axes) != 2 or axes[1].extent != fold or index.coefficient(axes[1].name) != 1:
        return False
    others = [step for name, step in index.terms if name != axes[1].name]
    return all(cast(int, step) % fold == 0 for step in (*others, index.offset))


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
