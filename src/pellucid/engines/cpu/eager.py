"""How does one op run at once, whatever its sizes? By a kernel that takes sizes and strides.

The op is realised for the operands at hand, then its numbers are made parameters (`loops.generic`):
what is left is the class of the call, for which there is one compiled kernel. A launch keeps the
kernel's address and the numbers of its layouts (launches.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import prod
from typing import Any, Final

import numpy as np

from pellucid.core.dtype import DType, float32
from pellucid.core.shape import Axes
from pellucid.engines.base import Launch, Layout, layout, unsupported
from pellucid.engines.cpu.attention import ATTENTIONS, draft_blocks
from pellucid.engines.cpu.launches import (
    Alone,
    Arrays,
    Gathered,
    Ignoring,
    InTurn,
    Nothing,
    Pair,
    Phased,
    Ready,
    Rounded,
    Shared,
    Split,
    step_of,
)
from pellucid.engines.cpu.pool import Step
from pellucid.engines.cpu.rules import (
    ENGINE,
    UNSUPPORTED,
    is_supported,
    kernel_name,
    sort_bytes,
    write_order,
)
from pellucid.engines.cpu.staging import (
    Stage,
    backwards,
    contraction_of,
    first_stage,
    gathered_weights,
    gathering,
)
from pellucid.engines.llvm import cache as code_cache
from pellucid.engines.llvm.contract import plan_contraction
from pellucid.engines.llvm.jit import Code
from pellucid.engines.llvm.lower import lower
from pellucid.engines.llvm.target import Isa, host_isa
from pellucid.engines.llvm.tiling import Cut, cut
from pellucid.engines.loops.blocks import Blocked, generalise_blocked
from pellucid.engines.loops.build import draft, draft_phase
from pellucid.engines.loops.contracted import ScatteredAxes
from pellucid.engines.loops.convolved import phases_of
from pellucid.engines.loops.generic import generalise
from pellucid.engines.loops.into import draft_into, draft_sort
from pellucid.engines.loops.ir import Axis, Kernel
from pellucid.engines.loops.nest import nest
from pellucid.engines.loops.parts import partial_bytes, split_reduction
from pellucid.engines.loops.roles import (
    BLOCK,
    DEPTH,
    GROUP,
    ROWS,
    Roles,
    has_contraction,
    orient,
    sort_loops,
)
from pellucid.engines.loops.schedule import TASKS_PER_THREAD, arrange, schedule, share_out, work
from pellucid.engines.loops.target import WRITTEN, Write, writes
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node, TensorType
from pellucid.ops.define import Op, lookup
from pellucid.ops.movement import full
from pellucid.ops.precision import unread
from pellucid.ops.windows import Phase

GRAIN: Final = "grain"
"""The size parameter that says how many turns of the outermost loop a task takes."""

BRIEF: Final = 8192
"""A kernel of fewer elementary steps is over before another thread could use the interpreter."""


def launcher(
    op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...], isa: Isa | None = None
) -> Launch:
    """The op ready to run on operands of these layouts; its result is dense.

    Raises UnsupportedOpError, and OpError where the op cannot take the operands.
    """
    if not is_supported(op.name) or op.name == "fusion":
        why = UNSUPPORTED.get(op.name, "only single ops with a rule are launched")
        raise unsupported(ENGINE, op.name, why)
    types = tuple(operand.type for operand in operands)
    (result,) = op.result_types(types, attrs)
    if "precision" in attrs and any(operand.dtype is float32 for operand in operands):
        return _rounded(op, attrs, operands, isa)
    if op.name in WRITTEN:
        turns = writes(op.name, attrs, types, result)
        return _written(op.name, turns, operands, layout(result), isa or host_isa())
    if op.name == "reverse":
        return _reversed(attrs["axes"], operands, layout(result), isa or host_isa())
    if op.name in ATTENTIONS:
        return _attention(op, attrs, operands, layout(result), isa or host_isa())
    if op.kind == "elementwise":
        operands = _flat(operands)
    graph = _graph(op, attrs, operands)
    if op.name == "argsort" and prod(operands[0].shape):
        return _sorted(graph, operands, layout(result), isa or host_isa())
    return _ready(graph, operands, layout(result), isa or host_isa())


def _flat(operands: tuple[Layout, ...]) -> tuple[Layout, ...]:
    """Operands with one axis where order says all: fewer axes are made ready sooner."""
    if not all(one.dense or not any(one.strides) for one in operands):
        return operands
    types = [TensorType(one.dtype, (prod(one.shape),)) for one in operands]
    pairs = zip(operands, types, strict=True)
    return tuple([layout(type, (int(one.dense),)) for one, type in pairs])


def _graph(op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...]) -> Graph:
    with building() as builder:
        inputs = [builder.input(operand.type) for operand in operands]
        if op.name == "reshape":
            # The elements in row-major order are those of the operand: a copy, loop by loop.
            return builder.graph(inputs)
        return builder.graph([op(*inputs, **attrs)])


def _ready(graph: Graph, operands: tuple[Layout, ...], result: Layout, isa: Isa) -> Launch:
    if not prod(result.shape):
        return Nothing(result)
    node = contraction_of(graph)
    stage = None if node is None else first_stage(node)
    if node is not None and stage is not None:
        return _staged(node, operands, stage, isa)
    if node is not None and phases_of(node):
        return _in_phases(node, operands, result, isa)
    try:
        plan = draft(graph, tuple(operand.strides for operand in operands))
    except ScatteredAxes as scattered:
        assert node is not None, "a contraction has axes to lie apart"
        return _staged(node, operands, gathering(node, scattered.side), isa)
    kernel = nest(kernel_name(graph), plan, None if node is not None else arrange)
    arrays = tuple(np.frombuffer(content, np.uint8) for content in plan.arrays)
    if has_contraction(kernel):
        return Shared(result, _product(kernel, result.dtype, isa), arrays)
    split = split_reduction(kernel)
    if split is None:
        return _launch(result, kernel, arrays, isa)
    chunks, total = (_launch(result, part, (), isa) for part in split)
    return Split(result, chunks, total, sum(partial_bytes(split[0])))


def _launch(result: Layout, kernel: Kernel, arrays: Arrays, isa: Isa) -> Launch:
    share = share_out(kernel)
    ready = _loops(kernel, share.block, share.count, isa)
    if share.count > 1:
        return Shared(result, ready, arrays)
    return Alone(result, ready, arrays, work(kernel.body) < BRIEF)


def _loops(kernel: Kernel, block: int, tasks: int, isa: Isa) -> Ready:
    bound = schedule(kernel, isa.vector_bits).schedule
    unit_axes = frozenset(binding.axis for binding in bound if binding.kind == "vector")
    generic, sizes = generalise(kernel, unit_axes)
    generic = replace(generic, parameters=(*generic.parameters, GRAIN))
    code = _compiled(schedule(generic, isa.vector_bits, GRAIN), isa)
    order = tuple(range(len(kernel.buffers)))
    return Ready(code, kernel.name, (*sizes, block), order, tasks, TASKS_PER_THREAD)


def _product(kernel: Kernel, dtype: DType, isa: Isa) -> Ready:
    oriented, operands = orient(kernel)
    roles = sort_loops(oriented, short=False)
    unit_axes = frozenset((roles.m.name, roles.n.name, roles.k.name))
    generic, sizes = generalise(oriented, unit_axes)
    totals = (ROWS, DEPTH) if roles.windowed else ()
    generic = replace(generic, parameters=(*generic.parameters, *totals, BLOCK, GROUP))
    made = _cut(roles, dtype, generic, isa)
    rows, depth = (_count(axes) for axes in (roles.rows, roles.contract.axes))
    names = [buffer.name for buffer in kernel.buffers]
    buffers = (*operands, *(buffer.name for buffer in oriented.buffers[2:]))
    return Ready(
        _compiled(generic, isa),
        kernel.name,
        (*sizes, *((rows, depth) if roles.windowed else ()), made.block, made.group),
        tuple(names.index(name) for name in buffers),
        made.tasks,
        made.tasks_per_thread,
        made.scratch_bytes,
    )


def _cut(roles: Roles, dtype: DType, generic: Kernel, isa: Isa) -> Cut:
    _, tiling = plan_contraction(generic, isa)
    loops = (roles.batch, roles.rows, (roles.n,), roles.contract.axes)
    return cut(dtype, tiling, *map(_count, loops))


def _count(axes: tuple[Axis, ...]) -> int:
    found = 1
    for axis in axes:
        assert isinstance(axis.extent, int), "sizes are known until the kernel is made generic"
        found *= axis.extent
    return found


def _written(
    name: str, turns: tuple[Write, ...], operands: tuple[Layout, ...], result: Layout, isa: Isa
) -> Launch:
    """The turns in which one op fills its result; each with the operands that it reads."""
    steps: list[Step] = []
    codes: list[Code] = []
    for number, write in enumerate(turns):
        strides = tuple(operands[read.operand].strides for read in write.reads)
        plan = draft_into(write.graph, strides, write.target)
        kernel = nest(f"{name}_{number}", plan, write_order(write.target))
        pairs = zip(write.reads, strides, strict=True)
        sources = [
            (read.operand, read.skipped(steps) * operands[read.operand].dtype.bytes)
            for read, steps in pairs
        ]
        share = share_out(kernel)
        ready = _loops(kernel, share.block, share.count, isa)
        target = (len(operands), write.skipped * result.dtype.bytes)
        steps.append(step_of(ready, (*sources, target)))
        codes.append(ready.code)
    return InTurn(result, steps, codes)


def _sorted(graph: Graph, operands: tuple[Layout, ...], result: Layout, isa: Isa) -> Launch:
    plan = draft_sort(graph, (operands[0].strides,))
    kernel = nest("argsort", plan, arrange)
    share = share_out(kernel)
    ready = _loops(kernel, share.block, share.count, isa)
    return Shared(result, replace(ready, scratch_bytes=sort_bytes(kernel)), ())


def _attention(
    op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...], result: Layout, isa: Isa
) -> Launch:
    types = tuple(operand.type for operand in operands)
    strides = tuple(operand.strides for operand in operands)
    blocked = draft_blocks(op.name, attrs, types, strides, isa, generic=True)
    if blocked is None or not prod(result.shape):
        with building() as builder:
            zeros = builder.graph([full(result.shape, 0.0, result.dtype)])
        plain = _ready(zeros, (), result, isa)
        return Ignoring(result, plain)
    generic, sizes = generalise_blocked(blocked)
    order = tuple(range(len(blocked.buffers)))
    ready = Ready(
        _compiled(generic, isa), blocked.name, sizes, order, blocked.tasks, 1, blocked.scratch_bytes
    )
    return Shared(result, ready, ())


def _reversed(axes: Axes, operands: tuple[Layout, ...], result: Layout, isa: Isa) -> Launch:
    """A copy that begins at the last element and walks back."""
    (operand,) = operands
    if not prod(result.shape):
        return Nothing(result)
    each = list(enumerate(zip(operand.shape, operand.strides, strict=True)))
    strides = tuple(-step if axis in axes else step for axis, (_, step) in each)
    last = sum((size - 1) * step for axis, (size, step) in each if axis in axes)
    with building() as builder:
        graph = builder.graph([builder.input(operand.type)])
    kernel = nest("reverse", draft(graph, (strides,)), arrange)
    share = share_out(kernel)
    ready = _loops(kernel, share.block, share.count, isa)
    step = step_of(ready, ((0, last * operand.dtype.bytes), (1, 0)))
    return InTurn(result, [step], [ready.code])


@cache
def _compiled(kernel: Kernel | Blocked, isa: Isa) -> Code:
    return code_cache.load(lower(kernel, isa), isa, (kernel.name,))


def _staged(node: Node, operands: tuple[Layout, ...], stage: Stage, isa: Isa) -> Launch:
    operand, start = operands[stage.side], 0
    if stage.reversed:
        strides, start = backwards(operand.shape, operand.strides, stage.reversed)
        operand = layout(operand.type, strides)
    copy = launcher(stage.op, stage.copying, (operand,), isa)
    rest = list(operands)
    # The copy lies in `order`; as an operand its axes are back in their places.
    made = copy.result.shape
    shape = tuple(made[stage.order.index(axis)] for axis in range(len(made)))
    type = TensorType(operand.dtype, shape)
    rest[stage.side] = layout(type, _strides(copy.result, stage.order))
    then = launcher(lookup(node.op.name), stage.attrs, tuple(rest), isa)
    return Pair(copy, then, stage.side, start * operand.dtype.bytes)


def _rounded(
    op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...], isa: Isa | None
) -> Launch:
    """An op that reads operands otherwise than they are; as compiled, it reads copies of them."""
    casting, layouts = {"dtype": attrs["precision"]}, list(operands)
    copies: dict[int, Launch] = {}
    for at, operand in enumerate(operands):
        if operand.dtype is float32:
            copies[at] = launcher(lookup("cast"), casting, (operand,), isa)
            layouts[at] = copies[at].result
    return Rounded(copies, launcher(op, unread(op, attrs), tuple(layouts), isa))


def _in_phases(node: Node, operands: tuple[Layout, ...], result: Layout, isa: Isa) -> Launch:
    """A convolution over an operand with gaps: a kernel for each phase, once the weights lie so."""
    copies, steps, codes, held = list[Gathered](), list[Step](), list[Code](), 0
    for phase in phases_of(node):
        layouts, at = operands, held
        if prod(phase.windows.window):
            view, start = gathered_weights(node, phase).layout(operands[1])
            order = tuple(range(len(view.shape)))
            copy = launcher(lookup("transpose"), {"permutation": order}, (view,), isa)
            copies.append(Gathered(copy, start * view.dtype.bytes, at))
            layouts = (*operands, copy.result)
            held += -(-copy.result.nbytes // 64) * 64
        ready, begun = _phase(node, phase, layouts, isa)
        bases = {"x0": (0, 0), "x1": (1, 0), "y0": (2, 0), "x2": (3, at)}
        places = ((bases[name], start) for name, start in begun)
        steps.append(step_of(ready, tuple((base, at + start) for (base, at), start in places)))
        codes.append(ready.code)
    return Phased(result, copies, InTurn(result, steps, codes), held)


def _phase(
    node: Node, phase: Phase, operands: tuple[Layout, ...], isa: Isa
) -> tuple[Ready, list[tuple[str, int]]]:
    """The kernel of one phase; its buffers, and how many bytes further each begins."""
    with building() as builder:
        inputs = [builder.input(operand.type) for operand in operands]
        graph = builder.graph([lookup(node.op.name)(*inputs[:2], **dict(node.attrs))])
    plan = draft_phase(graph, tuple(operand.strides for operand in operands), phase)
    met = bool(prod(phase.windows.window))
    kernel = nest(node.op.name, plan, None if met else arrange)
    share = share_out(kernel)
    dtype = operands[0].dtype
    ready = _product(kernel, dtype, isa) if met else _loops(kernel, share.block, share.count, isa)
    buffers = (kernel.buffers[at] for at in ready.order)
    return ready, [(b.name, plan.starts.get(b.name, 0) * b.dtype.bytes) for b in buffers]


def _strides(held: Layout, order: Axes) -> tuple[int, ...]:
    return tuple(held.strides[order.index(axis)] for axis in range(len(order)))
