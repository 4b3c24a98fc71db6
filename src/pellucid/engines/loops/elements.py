"""What is one element of an op's result? A rule an op, in terms of the elements of its operands."""

from __future__ import annotations

import math
from typing import Final, cast

from pellucid.core.dtype import DType, bool_, int64
from pellucid.engines.loops import windows
from pellucid.engines.loops.contracted import one_axis
from pellucid.engines.loops.convolved import convolution
from pellucid.engines.loops.draft import REDUCTIONS, Group, Where, sizes_of
from pellucid.engines.loops.ir import (
    Accumulator,
    Affine,
    Apply,
    Axis,
    Const,
    Contract,
    Extent,
    Index,
    Load,
    Random,
    accumulation_dtype,
)
from pellucid.engines.loops.listed import sum_lists
from pellucid.engines.loops.movement import MOVEMENT, moved, position
from pellucid.engines.loops.space import ZERO, Place, plus, variable
from pellucid.engines.loops.writer import Rule, Writer
from pellucid.ir.build import building
from pellucid.ir.graph import Node, TensorType, Value
from pellucid.ops.movement import literal_number
from pellucid.ops.spread import spelled_out

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def rule_of(node: Node) -> Rule:
    """The rule of a node's op."""
    return _RULES.get(node.op.name, _elementwise)


# One function an op that is not elementwise.


def _elementwise(writer: Writer, node: Node, value: Value, where: Where) -> str:
    operands = tuple(writer.ask(operand, where) for operand in node.operands)
    if node.op.name == "stop_gradient" or _is_idle_cast(node):
        return operands[0]
    return writer.let(value.dtype, Apply(_scalar_op(node), operands))


def _scalar_op(node: Node) -> str:
    """The op's name, with its number where it is one of a family: `polygamma.2`."""
    order = dict(node.attrs).get("order")
    return node.op.name if order is None else f"{node.op.name}.{order}"


def _is_idle_cast(node: Node) -> bool:
    return node.op.name == "cast" and node.operands[0].type == node.types[0]


def _constant(writer: Writer, node: Node, value: Value, where: Where) -> str:
    content: str | bytes = node.attr("value")
    if isinstance(content, str):
        return writer.let(value.dtype, Const(literal_number(content, value.dtype)))
    name = f"c{len(writer.arrays)}"
    for known, pair in writer.arrays.items():
        name = known if pair == (value.dtype, content) else name
    writer.arrays[name] = (value.dtype, content)
    return writer.let(value.dtype, Load(name, position(value, where)))


def _iota(writer: Writer, node: Node, value: Value, where: Where) -> str:
    place = writer.placed(where, sizes_of(value))
    return writer.let(value.dtype, Index(place[cast(int, node.attr("axis"))]))


def _random_bits(writer: Writer, node: Node, value: Value, where: Where) -> str:
    seed, draw = (writer.ask(operand, ()) for operand in node.operands)
    return writer.let(value.dtype, Random(seed, draw, position(value, where)))


def _movement(writer: Writer, node: Node, value: Value, where: Where) -> str:
    return writer.ask(*moved(writer, node, value, where))


def _gather(writer: Writer, node: Node, value: Value, where: Where) -> str:
    x, *indices = node.operands
    axes: tuple[int, ...] = node.attr("axes")
    shape = sizes_of(x)
    nothing = writer.let(value.dtype, Const(_zero(value.dtype)))
    if not math.prod(shape):
        return nothing
    place = writer.placed(where, sizes_of(value))
    rank = len(sizes_of(indices[0]))
    found = [writer.whole(index, place[:rank]) for index in indices]
    inside = ""
    for name, axis in zip(found, axes, strict=True):
        one = writer.inside(name, shape[axis])
        inside = writer.let(bool_, Apply("logical_and", (inside, one))) if inside else one
    zero = writer.let(int64, Const(0))
    known = dict[int, Affine]()
    for name, axis in zip(found, axes, strict=True):
        # What is out of range reads the first element, and is then forgotten.
        safe = writer.let(int64, Apply("select", (inside, name, zero)))
        writer.extents[safe] = shape[axis]
        known[axis] = variable(safe) if shape[axis] != 1 else ZERO
    element = writer.ask(x, _with_axes(place[rank:], known))
    return writer.let(value.dtype, Apply("select", (inside, element, nothing)))


def _dynamic_slice(writer: Writer, node: Node, value: Value, where: Where) -> str:
    x, *starts = node.operands
    place = writer.placed(where, sizes_of(value))
    shape: list[Affine] = []
    each = zip(place, starts, sizes_of(x), sizes_of(value), strict=True)
    for index, start, size, part in each:
        moved = ZERO
        if size != part:
            moved = variable(writer.clamped(writer.whole(start, ()), size - part))
        shape.append(plus(index, moved))
    return writer.ask(x, tuple(shape))


def _contraction(writer: Writer, node: Node, value: Value, where: Where) -> str:
    lhs, rhs = node.operands
    contract: Pair = node.attr("contract")
    batch: Pair = node.attr("batch")
    extents = tuple(sizes_of(lhs)[axis] for axis in contract[0])
    if not math.prod(extents):
        return writer.let(value.dtype, Const(_zero(value.dtype)))
    place = writer.placed(where, sizes_of(value))
    shared, rest = place[: len(batch[0])], list(place[len(batch[0]) :])
    axes = tuple(Axis(f"k{number}", size) for number, size in enumerate(extents) if size != 1)
    inside = tuple(variable(f"k{at}") if size != 1 else ZERO for at, size in enumerate(extents))
    writer.extents |= {axis.name: cast(int, axis.extent) for axis in axes}
    loads: list[Load] = []
    for side, operand in enumerate((lhs, rhs)):
        known = dict(zip((*batch[side], *contract[side]), (*shared, *inside), strict=True))
        rank = len(sizes_of(operand))
        index = tuple(known[at] if at in known else rest.pop(0) for at in range(rank))
        loads.append(writer.view(operand, index))
    result = writer.name("s")
    wide = accumulation_dtype(value.dtype)
    product = Contract(result, wide, axes, loads[0], loads[1])
    writer.lines.append(one_axis(product, writer.fold))
    narrow = Apply("cast", (result,))
    return result if wide is value.dtype else writer.let(value.dtype, narrow)


def _reduce(writer: Writer, node: Node, value: Value, where: Where) -> str:
    (operand,) = node.operands
    axes: tuple[int, ...] = node.attr("axes")
    shape = sizes_of(operand)
    kept = writer.placed(where, sizes_of(value))
    kind = REDUCTIONS[node.op.name]
    if not math.prod(shape[axis] for axis in axes):
        return writer.let(value.dtype, Const(_zero(value.dtype) + (kind == "prod")))
    gone = tuple(axis for axis in axes if shape[axis] != 1)
    if not gone:
        return writer.ask(operand, _with_axes(kept, dict.fromkeys(axes, ZERO)))
    group = _group(writer, node, shape, gone, kept)
    loops = (*group.rows, *([group.column] if group.column else []))
    inside = dict.fromkeys(axes, ZERO)
    inside |= {axis: variable(loop.name) for axis, loop in zip(gone, loops, strict=True)}
    element = writer.ask(operand, _with_axes(kept, inside))
    wide = accumulation_dtype(value.dtype)
    result = Accumulator(writer.name("s"), kind, wide, element)
    group.results.append(result)
    narrow = Apply("cast", (result.name,))
    return result.name if wide is value.dtype else writer.let(value.dtype, narrow)


def _spread(writer: Writer, node: Node, value: Value, where: Where) -> str:
    (x,), axes = node.operands, cast(tuple[int, ...], node.attr("axes"))
    with building() as builder:
        count = builder.input(TensorType(x.dtype, ()))
        parts = spelled_out(x, axes, count)

    def counted() -> str:
        # A number of the loops and no constant: kernels for any sizes have none of one shape.
        size = Extent(math.prod(sizes_of(x)[axis] for axis in axes))
        return writer.let(x.dtype, Apply("cast", (writer.let(int64, size),)))

    writer.once((count, ()), counted)
    return writer.ask(parts, where)


def _group(
    writer: Writer, node: Node, shape: tuple[int, ...], gone: tuple[int, ...], kept: Place
) -> Group:
    """The loops of a reduction; shared by those over equal spaces that do not use each other."""
    key = (shape, gone, kept, writer.depth(node))
    if key not in writer.groups:
        last = max(axis for axis, size in enumerate(shape) if size != 1)
        number = len(writer.groups)
        loops = tuple(Axis(f"r{number}_{axis}", shape[axis]) for axis in gone)
        writer.extents |= {loop.name: shape[axis] for loop, axis in zip(loops, gone, strict=True)}
        lanes = gone[-1] == last
        group = Group(loops[:-1], loops[-1]) if lanes else Group(loops, None)
        writer.groups[key] = group
        writer.lines.append(group)
    return writer.groups[key]


def _with_axes(kept: Place, others: dict[int, Affine]) -> Place:
    rest = iter(kept)
    return tuple(
        others[axis] if axis in others else next(rest) for axis in range(len(kept) + len(others))
    )


def _zero(dtype: DType) -> bool | int | float:
    if dtype is bool_:
        return False
    return 0.0 if dtype.is_floating else 0


_RULES: Final[dict[str, Rule]] = {
    "constant": _constant,
    "iota": _iota,
    "random_bits": _random_bits,
    **dict.fromkeys(MOVEMENT, _movement),
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "sum_lists": sum_lists,
    "dot_general": _contraction,
    **dict.fromkeys(REDUCTIONS, _reduce),
    "spread": _spread,
    "convolution": convolution,
    "window_sum": windows.window_sum,
    "window_max": windows.window_max,
    "window_argmax": windows.window_argmax,
    "window_pick": windows.window_pick,
    "window_scatter": windows.window_scatter,
}
