"""Where do windows over an array lie? The arithmetic that convolutions and poolings share.

Position o of a result and place w in its window meet element (o * stride + w * rhs_dilation - low)
/ lhs_dilation of the operand, where that is a whole number from 0 to size - 1; elsewhere there is
nothing. Operands are (batch, spatial axes, channels). Which places of a window fall into the gaps
of an operand depends on where it stands: windows that meet the same ones are a `Phase`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product as pairs

import numpy as np

from pellucid.core.error import OpAxisError, OpShapeError
from pellucid.core.shape import Size
from pellucid.ops.define import Array

Sizes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """Windows with the same places in gaps: what they meet are windows over an operand without.

    Along each axis they stand at `start`, `start + step`, ..., `count` of them, and meet the places
    `first`, `first + every`, ... of the window: as many as `windows` has, whose padding they need.
    """

    start: Sizes
    step: Sizes
    count: Sizes
    first: Sizes
    every: Sizes
    windows: Windows

    def positions(self) -> tuple[slice, ...]:
        """Where they stand, along each axis of all windows."""
        each = zip(self.start, self.step, self.count, strict=True)
        return tuple(slice(start, start + step * count, step) for start, step, count in each)

    def places(self) -> tuple[slice, ...]:
        """The places of the window that they meet."""
        each = zip(self.first, self.every, self.windows.window, strict=True)
        return tuple(slice(first, first + every * count, every) for first, every, count in each)


@dataclass(frozen=True, slots=True)
class Windows:
    """How windows lie along each spatial axis; padding is (low, high), and may be negative."""

    window: Sizes
    strides: Sizes
    padding: Padding
    lhs_dilation: Sizes
    rhs_dilation: Sizes

    def check(self, name: str, rank: int) -> None:
        """Raise OpError unless every attribute suits `rank` spatial axes."""
        for what in ("window", "strides", "padding", "lhs_dilation", "rhs_dilation"):
            found = getattr(self, what)
            if len(found) != rank:
                raise OpAxisError(f"{name}: expected {rank} numbers for {what}, got {found}")
        for what in ("window", "strides", "lhs_dilation", "rhs_dilation"):
            if any(number < 1 for number in getattr(self, what)):
                raise OpShapeError(f"{name}: expected {what} from 1, got {getattr(self, what)}")
        if any(len(pair) != 2 for pair in self.padding):
            raise OpAxisError(f"{name}: expected (low, high) pairs, got {self.padding}")

    def result_sizes(self, sizes: Sizes) -> Sizes:
        """How many windows fit along each axis.

        >>> Windows((3,), (2,), ((1, 1),), (1,), (1,)).result_sizes((6,))
        (3,)
        """
        return tuple(
            max(0, (dilated(size, ld) + low + high - dilated(w, rd)) // stride + 1)
            for size, w, stride, (low, high), ld, rd in zip(
                sizes, self.window, self.strides, self.padding, self.lhs_dilation,
                self.rhs_dilation, strict=True,
            )
        )  # fmt: skip

    def elements(self, x: Array, nothing: float) -> Iterator[Array]:
        """For each place in the window, row-major, what all windows hold there."""
        sizes = x.shape[1:-1]
        counts = self.result_sizes(sizes)
        for place in pairs(*map(range, self.window)):
            at, inside = list[Array](), np.ones((), np.bool_)
            for axis, (count, size) in enumerate(zip(counts, sizes, strict=True)):
                index = np.arange(count) * self.strides[axis] - self.padding[axis][0]
                index = index + place[axis] * self.rhs_dilation[axis]
                step = self.lhs_dilation[axis]
                here = (index % step == 0) & (index >= 0) & (index // step < size)
                inside = inside[..., None] & here
                at.append(np.clip(index // step, 0, max(size - 1, 0)))
            if not all(sizes):
                yield np.full((x.shape[0], *counts, x.shape[-1]), nothing, x.dtype)
                continue
            held = x[(slice(None), *np.ix_(*at))]
            yield np.where(inside[None, ..., None], held, np.asarray(nothing, x.dtype))

    def phases(self, sizes: Sizes) -> tuple[Phase, ...]:
        """All windows, by the places that meet an operand of these sizes or its padding, row-major.

        >>> windows = Windows((3,), (1,), ((1, 1),), (2,), (1,))
        >>> [(phase.start, phase.places(), phase.windows.padding) for phase in windows.phases((4,))]
        [((0,), (slice(1, 3, 2),), ((0, 0),)), ((1,), (slice(0, 4, 2),), ((0, 0),))]
        """
        counts = self.result_sizes(sizes)
        axes = [self._phases_along(axis, size, counts[axis]) for axis, size in enumerate(sizes)]
        return tuple(_crossed(phases) for phases in pairs(*axes))

    def _phases_along(self, axis: int, size: int, count: int) -> list[Phase]:
        """Those along one axis."""
        stride, gap, step = (
            numbers[axis] for numbers in (self.strides, self.lhs_dilation, self.rhs_dilation)
        )
        low = self.padding[axis][0]
        apart, every = gap // math.gcd(gap, stride), gap // math.gcd(gap, step)
        found: list[Phase] = []
        for start in range(min(apart, count)):
            there = range(min(every, self.window[axis]))
            fits = (w for w in there if (start * stride + w * step - low) % gap == 0)
            first = next(fits, self.window[axis])
            places = -(-(self.window[axis] - first) // every)
            many = -(-(count - start) // apart)
            moved = apart * stride // gap, every * step // gap
            before = (low - start * stride - first * step) // gap if places else 0
            reach = (many - 1) * moved[0] + dilated(places, moved[1])
            padding = ((before, reach - size - before),)
            windows = Windows((places,), moved[:1], padding, (1,), moved[1:])
            found.append(Phase((start,), (apart,), (many,), (first,), (every,), windows))
        return found

    def transposed(self, sizes: Sizes) -> Windows:
        """Windows over the results that each meet what this element of the operand went to.

        To be read backwards. `sizes` are those of the operand, and of the transposed result.
        """
        counts = self.result_sizes(sizes)
        padding: list[tuple[int, int]] = []
        for axis, (low, _) in enumerate(self.padding):
            before = dilated(self.window[axis], self.rhs_dilation[axis]) - low - 1
            spread = dilated(counts[axis], self.strides[axis])
            after = dilated(sizes[axis], self.lhs_dilation[axis]) + low - spread
            padding.append((before, after))
        return Windows(
            self.window, self.lhs_dilation, tuple(padding), self.strides, self.rhs_dilation
        )


def _crossed(phases: tuple[Phase, ...]) -> Phase:
    """Phases along one axis each as one along all."""
    each = [phase.windows for phase in phases]
    padding = tuple(one.padding[0] for one in each)
    window, strides, gaps, steps = (
        tuple(getattr(one, name)[0] for one in each)
        for name in ("window", "strides", "lhs_dilation", "rhs_dilation")
    )
    start, step, count, first, every = (
        tuple(getattr(phase, name)[0] for phase in phases)
        for name in ("start", "step", "count", "first", "every")
    )
    windows = Windows(window, strides, padding, gaps, steps)
    return Phase(start, step, count, first, every, windows)


def dilated(size: int, step: int) -> int:
    """The extent of `size` elements `step` apart.

    >>> dilated(3, 2), dilated(0, 2)
    (5, 0)
    """
    return (size - 1) * step + 1 if size else 0


def spatial_sizes(name: str, sizes: tuple[Size, ...]) -> Sizes:
    """The sizes of the spatial axes, which must be known numbers."""
    found = tuple(size for size in sizes if isinstance(size, int))
    if len(found) != len(sizes):
        raise OpShapeError(f"{name}: expected known spatial sizes, got {sizes}")
    return found


def count_of(sizes: Sizes) -> int:
    """How many places there are."""
    return math.prod(sizes)
