"""Where in a result does a kernel write, if not everywhere? Into a box, or where numbers say.

Ops that fill their result in turns (a copy, then what goes on top) are `Write`s, one after the
other: each is a small graph of elements, and a `Target` that says where each goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final, Literal

from pellucid.core.shape import static_shape
from pellucid.engines.loops.space import row_major
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType
from pellucid.ops.lists import END
from pellucid.ops.movement import constant

How = Literal["set", "add", "max", "min", "list"]


@dataclass(frozen=True, slots=True)
class TargetAxis:
    """The index along one axis of a result: step x (loop over axis `loop`) + a found number.

    The number is output `index` of the graph; it lies in 0 .. `most`: elsewhere it is brought to
    the nearer end, or the element is dropped.
    """

    loop: int | None
    step: int = 1
    index: int | None = None
    most: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """How an element at a place of the graph's first output goes into a result of `shape`.

    With `ordered`, several elements may meet at one place: they come one after the other in
    row-major order, and those with an index out of range are dropped. With how "list" the outputs
    are indices along the axes of `shape`, and each place gets a list (`listed.write_lists`).
    """

    shape: tuple[int, ...]
    axes: tuple[TargetAxis, ...]
    how: How = "set"
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """An input of a write: operand `operand` of the op, from the place `start` on."""

    operand: int
    start: tuple[int, ...] = ()

    def skipped(self, strides: tuple[int, ...]) -> int:
        """The elements from the operand's first to the first that is read."""
        return sum(at * step for at, step in zip(self.start, strides, strict=False))


@dataclass(frozen=True, slots=True)
class Write:
    """One turn: the graph, what its inputs are, the target, and its first place in the result."""

    graph: Graph
    reads: tuple[Read, ...]
    target: Target
    start: tuple[int, ...]
    whole: bool = False
    """It copies an operand as it is: nothing is to be done where the result lies there."""

    @property
    def skipped(self) -> int:
        """The elements of the result before the first that is written."""
        return sum(a * s for a, s in zip(self.start, row_major(self.target.shape), strict=True))


def writes(
    name: str, attrs: Mapping[str, Any], operands: tuple[TensorType, ...], result: TensorType
) -> tuple[Write, ...]:
    """The turns in which the op called `name`, one of `WRITTEN`, fills its result."""
    found = _WRITES[name](attrs, operands, result)
    return tuple(write for write in found if write.graph.outputs[0].tensor.size != 0)


def _copy(
    operand: int, type: TensorType, shape: tuple[int, ...], start: tuple[int, ...],
    source: tuple[int, ...] | None = None, steps: tuple[int, ...] | None = None,
) -> Write:  # fmt: skip
    """An operand, or a box of it of this type from `source` on, put into the result."""
    with building() as builder:
        value = builder.input(type)
        graph = builder.graph([value])
    rank = len(shape)
    each = zip(range(rank), steps or (1,) * rank, strict=True)
    axes = tuple(TargetAxis(axis, step) for axis, step in each)
    return Write(graph, (Read(operand, source or (0,) * rank),), Target(shape, axes), start)


def _concatenate(
    attrs: Mapping[str, Any], operands: tuple[TensorType, ...], result: TensorType
) -> list[Write]:
    shape = static_shape(result.shape, "a kernel with fixed sizes")
    found: list[Write] = []
    done, along = 0, int(attrs["axis"])
    for number, operand in enumerate(operands):
        start = tuple(done if axis == along else 0 for axis in range(len(shape)))
        found.append(_copy(number, operand, shape, start))
        done += static_shape(operand.shape, "a kernel with fixed sizes")[along]
    return found


def _pad(
    attrs: Mapping[str, Any], operands: tuple[TensorType, ...], result: TensorType
) -> list[Write]:
    shape = static_shape(result.shape, "a kernel with fixed sizes")
    sizes = static_shape(operands[0].shape, "a kernel with fixed sizes")
    steps = tuple(between + 1 for between in attrs["interior"])
    # Element i goes to low + i * step: those from `first` to `last` are inside.
    each = list(zip(sizes, shape, attrs["low"], steps, strict=True))
    first = tuple(max(0, -(low // step)) for _, _, low, step in each)
    last = tuple(min(n, (size - 1 - low) // step + 1) for n, size, low, step in each)
    box = tuple(max(0, high - low) for low, high in zip(first, last, strict=True))
    start = tuple(low + at * step for at, (_, _, low, step) in zip(first, each, strict=True))
    inside = _copy(0, TensorType(result.dtype, box), shape, start, first, steps)
    return [inside] if prod(box) == prod(shape) else [_fill(attrs["value"], result, shape), inside]


def _fill(value: str, result: TensorType, shape: tuple[int, ...]) -> Write:
    with building() as builder:
        graph = builder.graph([constant(dtype=result.dtype, shape=shape, value=value)])
    axes = tuple(TargetAxis(axis) for axis in range(len(shape)))
    return Write(graph, (), Target(shape, axes), (0,) * len(shape))


def _over(
    attrs: Mapping[str, Any], operands: tuple[TensorType, ...], target: Target
) -> list[Write]:
    """The first operand, and then the second one over it at the places that the others say."""
    with building() as builder:
        inputs = [builder.input(operand) for operand in operands[1:]]
        graph = builder.graph(inputs)
    start = (0,) * len(target.shape)
    reads = tuple(Read(number) for number in range(1, len(operands)))
    copy = replace(_copy(0, operands[0], target.shape, start), whole=True)
    return [copy, Write(graph, reads, target, start)]


def _scatter(
    attrs: Mapping[str, Any], operands: tuple[TensorType, ...], result: TensorType
) -> list[Write]:
    shape = static_shape(result.shape, "a kernel with fixed sizes")
    indexed: tuple[int, ...] = attrs["axes"]
    rest = iter(range(operands[2].rank, operands[1].rank))
    axes = tuple(
        TargetAxis(None, 1, 1 + indexed.index(axis), shape[axis] - 1)
        if axis in indexed
        else TargetAxis(next(rest))
        for axis in range(len(shape))
    )
    return _over(attrs, operands, Target(shape, axes, attrs["mode"], ordered=True))


def _list_updates(
    attrs: Mapping[str, Any], operands: tuple[TensorType, ...], result: TensorType
) -> list[Write]:
    with building() as builder:
        graph = builder.graph([builder.input(operand) for operand in operands])
    sizes: tuple[int, ...] = attrs["sizes"]
    axes = tuple(TargetAxis(None, 1, at, size - 1) for at, size in enumerate(sizes))
    reads, start = tuple(map(Read, range(len(operands)))), (0,) * len(sizes)
    shape = static_shape(result.shape, "a kernel with fixed sizes")
    target = Target(sizes, axes, "list", ordered=True)
    return [_fill(str(END), result, shape), Write(graph, reads, target, start)]


def _dynamic_update_slice(
    attrs: Mapping[str, Any], operands: tuple[TensorType, ...], result: TensorType
) -> list[Write]:
    shape = static_shape(result.shape, "a kernel with fixed sizes")
    box = static_shape(operands[1].shape, "a kernel with fixed sizes")
    each = enumerate(zip(shape, box, strict=True))
    axes = tuple(TargetAxis(axis, 1, 1 + axis, size - part) for axis, (size, part) in each)
    return _over(attrs, operands, Target(shape, axes))


_WRITES: Final = {
    "concatenate": _concatenate,
    "pad": _pad,
    "scatter": _scatter,
    "list_updates": _list_updates,
    "dynamic_update_slice": _dynamic_update_slice,
}
WRITTEN: Final = frozenset(_WRITES)
"""The ops that fill their result in turns."""
