"""How does one op run at once, whatever its sizes? By a kernel that takes sizes and strides.

The op is realised for the operands at hand, then its numbers are made parameters (`loops.generic`):
what is left is the class of the call, for which there is one compiled kernel. A launch keeps the
kernel's address and the numbers of its layouts; a call of it is one native call with one argument,
for each further one costs a tenth of a microsecond.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, PYFUNCTYPE, c_char_p
from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod
from typing import Any, Final

import numpy as np

from pellucid.core.dtype import DType
from pellucid.core.shape import Axes
from pellucid.engines.base import Layout, layout, unsupported
from pellucid.engines.cpu.attention import ATTENTIONS, draft_blocks
from pellucid.engines.cpu.pool import Step, Steps, pool
from pellucid.engines.cpu.rounded import EagerLaunch, is_to_round, rounded
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
from pellucid.engines.llvm.target import SSE2, Isa, host_isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.tiling import Cut, cut
from pellucid.engines.llvm.types import I64, NULL, PTR, VOID, constant
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
from pellucid.ops.windows import Phase

GRAIN: Final = "grain"
"""The size parameter that says how many turns of the outermost loop a task takes."""

BRIEF: Final = 8192
"""A kernel of fewer elementary steps is over before another thread could use the interpreter."""


Arrays = tuple[np.ndarray[Any, Any], ...]
"""Constants that a kernel reads; they live as long as its launch."""


def launcher(
    op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...], isa: Isa | None = None
) -> EagerLaunch:
    """The op ready to run on operands of these layouts; its result is dense.

    Raises UnsupportedOpError, and OpError where the op cannot take the operands.
    """
    if not is_supported(op.name) or op.name == "fusion":
        why = UNSUPPORTED.get(op.name, "only single ops with a rule are launched")
        raise unsupported(ENGINE, op.name, why)
    types = tuple(operand.type for operand in operands)
    (result,) = op.result_types(types, attrs)
    if is_to_round(attrs, operands):
        return rounded(op, attrs, operands, partial(launcher, isa=isa))
    if op.name in WRITTEN:
        turns = writes(op.name, attrs, types, result)
        return _written(op.name, turns, operands, layout(result), isa or host_isa())
    if op.name == "reverse":
        return _reversed(attrs["axes"], operands, layout(result), isa or host_isa())
    if op.name in ATTENTIONS:
        return _attention(op, attrs, operands, layout(result), isa or host_isa())
    graph = _graph(op, attrs, operands)
    if op.name == "argsort" and prod(operands[0].shape):
        return _sorted(graph, operands, layout(result), isa or host_isa())
    return _ready(graph, operands, layout(result), isa or host_isa())


def _graph(op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...]) -> Graph:
    with building() as builder:
        inputs = [builder.input(operand.type) for operand in operands]
        if op.name == "reshape":
            # The elements in row-major order are those of the operand: a copy, loop by loop.
            return builder.graph(inputs)
        return builder.graph([op(*inputs, **attrs)])


def _ready(graph: Graph, operands: tuple[Layout, ...], result: Layout, isa: Isa) -> EagerLaunch:
    if not prod(result.shape):
        return _Nothing(result)
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
        return _Shared(result, _product(kernel, result.dtype, isa), arrays)
    split = split_reduction(kernel)
    if split is None:
        return _launch(result, kernel, arrays, isa)
    chunks, total = (_launch(result, part, (), isa) for part in split)
    return _Split(result, chunks, total, sum(partial_bytes(split[0])))


def _launch(result: Layout, kernel: Kernel, arrays: Arrays, isa: Isa) -> EagerLaunch:
    share = share_out(kernel)
    ready = _loops(kernel, share.block, share.count, isa)
    if share.count > 1:
        return _Shared(result, ready, arrays)
    return _Alone(result, ready, arrays, work(kernel.body) < BRIEF)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A compiled kernel with the values of its sizes; `order[i]` is the address of its buffer i."""

    code: Code
    name: str
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    tasks: int
    tasks_per_thread: int = 1
    scratch_bytes: int = 0


def _loops(kernel: Kernel, block: int, tasks: int, isa: Isa) -> _Ready:
    bound = schedule(kernel, isa.vector_bits).schedule
    unit_axes = frozenset(binding.axis for binding in bound if binding.kind == "vector")
    generic, sizes = generalise(kernel, unit_axes)
    generic = replace(generic, parameters=(*generic.parameters, GRAIN))
    code = _compiled(schedule(generic, isa.vector_bits, GRAIN), isa)
    order = tuple(range(len(kernel.buffers)))
    return _Ready(code, kernel.name, (*sizes, block), order, tasks, TASKS_PER_THREAD)


def _product(kernel: Kernel, dtype: DType, isa: Isa) -> _Ready:
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
    return _Ready(
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
) -> EagerLaunch:
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
        steps.append(_step(ready, (*sources, target)))
        codes.append(ready.code)
    return _InTurn(result, steps, codes)


def _sorted(graph: Graph, operands: tuple[Layout, ...], result: Layout, isa: Isa) -> EagerLaunch:
    plan = draft_sort(graph, (operands[0].strides,))
    kernel = nest("argsort", plan, arrange)
    share = share_out(kernel)
    ready = _loops(kernel, share.block, share.count, isa)
    return _Shared(result, replace(ready, scratch_bytes=sort_bytes(kernel)), ())


def _attention(
    op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...], result: Layout, isa: Isa
) -> EagerLaunch:
    types = tuple(operand.type for operand in operands)
    strides = tuple(operand.strides for operand in operands)
    blocked = draft_blocks(op.name, attrs, types, strides, isa, generic=True)
    if blocked is None or not prod(result.shape):
        with building() as builder:
            zeros = builder.graph([full(result.shape, 0.0, result.dtype)])
        plain = _ready(zeros, (), result, isa)
        return _Ignoring(result, plain)
    generic, sizes = generalise_blocked(blocked)
    order = tuple(range(len(blocked.buffers)))
    ready = _Ready(
        _compiled(generic, isa), blocked.name, sizes, order, blocked.tasks, 1, blocked.scratch_bytes
    )
    return _Shared(result, ready, ())


def _reversed(axes: Axes, operands: tuple[Layout, ...], result: Layout, isa: Isa) -> EagerLaunch:
    """A copy that begins at the last element and walks back."""
    (operand,) = operands
    if not prod(result.shape):
        return _Nothing(result)
    each = list(enumerate(zip(operand.shape, operand.strides, strict=True)))
    strides = tuple(-step if axis in axes else step for axis, (_, step) in each)
    last = sum((size - 1) * step for axis, (size, step) in each if axis in axes)
    with building() as builder:
        graph = builder.graph([builder.input(operand.type)])
    kernel = nest("reverse", draft(graph, (strides,)), arrange)
    share = share_out(kernel)
    ready = _loops(kernel, share.block, share.count, isa)
    step = _step(ready, ((0, last * operand.dtype.bytes), (1, 0)))
    return _InTurn(result, [step], [ready.code])


def _step(ready: _Ready, arguments: tuple[tuple[int, int], ...]) -> Step:
    address, each = ready.code[ready.name], ready.tasks_per_thread
    return Step(address, arguments, ready.sizes, ready.tasks, each, ready.scratch_bytes)


@cache
def _compiled(kernel: Kernel | Blocked, isa: Isa) -> Code:
    return code_cache.load(lower(kernel, isa), isa, (kernel.name,))


class _Nothing:
    """The launch of an op whose result has no elements."""

    __slots__ = ("result",)

    def __init__(self, result: Layout) -> None:
        self.result = result

    def __call__(self, *addresses: int) -> None:
        pass


class _Ignoring:
    """The launch of what does not look at its operands."""

    __slots__ = ("_run", "result")

    def __init__(self, result: Layout, run: EagerLaunch) -> None:
        self.result, self._run = result, run

    def __call__(self, *addresses: int) -> None:
        self._run(addresses[-1])


class _Alone:
    """A kernel with little to do, run by the calling thread."""

    __slots__ = ("_head", "_keep", "_pack", "_run", "result")

    def __init__(self, result: Layout, ready: _Ready, arrays: Arrays, brief: bool) -> None:
        self.result = result
        sizes = array("q", ready.sizes)
        self._keep = (ready.code, sizes, arrays)
        self._head = struct.pack("3q", ready.code[ready.name], sizes.buffer_info()[0], ready.tasks)
        constants = tuple(constant.ctypes.data for constant in arrays)
        self._pack = _packer(len(ready.order) - len(constants), constants)
        self._run = _caller(brief)

    def __call__(self, *addresses: int) -> None:
        self._run(self._head + self._pack(*addresses))


def _packer(count: int, constants: tuple[int, ...]) -> Callable[..., bytes]:
    if not constants:
        return struct.Struct(f"{count}q").pack
    pack = struct.Struct(f"{count + len(constants)}q").pack
    return lambda *addresses: pack(*addresses, *constants)


class _Shared:
    """A kernel with scratch memory or enough to do for several threads."""

    __slots__ = ("_constants", "_keep", "_steps", "result")

    def __init__(self, result: Layout, ready: _Ready, arrays: Arrays) -> None:
        self.result = result
        self._keep = (ready.code, arrays)
        self._constants = tuple(constant.ctypes.data for constant in arrays)
        step = Step(
            ready.code[ready.name],
            tuple((index, 0) for index in ready.order),
            ready.sizes,
            ready.tasks,
            ready.tasks_per_thread,
            ready.scratch_bytes,
        )
        self._steps = Steps([step])

    def __call__(self, *addresses: int) -> None:
        bases = array("q", addresses + self._constants)
        pool().run(self._steps, bases.buffer_info()[0])


class _InTurn:
    """Kernels that fill one result, each on the operands that it reads."""

    __slots__ = ("_keep", "_steps", "result")

    def __init__(self, result: Layout, steps: list[Step], codes: list[Code]) -> None:
        self.result = result
        self._keep = codes
        self._steps = Steps(steps)

    def __call__(self, *addresses: int) -> None:
        bases = array("q", addresses)
        pool().run(self._steps, bases.buffer_info()[0])


@dataclass(frozen=True, slots=True)
class _Gathered:
    """The copy of some weights, from `start` bytes on, to `at` in the memory of them all."""

    copy: EagerLaunch
    start: int
    at: int


class _Phased:
    """A convolution over an operand with gaps: copies of its weights, then its phases in turn."""

    __slots__ = ("_copies", "_held", "_phases", "result")

    def __init__(
        self, result: Layout, copies: list[_Gathered], phases: EagerLaunch, held: int
    ) -> None:
        self.result, self._copies, self._phases, self._held = result, copies, phases, held

    def __call__(self, *addresses: int) -> None:
        held = np.empty(self._held, np.uint8)
        for one in self._copies:
            one.copy(addresses[1] + one.start, held.ctypes.data + one.at)
        self._phases(*addresses, held.ctypes.data)


class _Split:
    """A reduction with few results: the kernel of its chunks, then that of their sums."""

    __slots__ = ("_chunks", "_held", "_total", "result")

    def __init__(self, result: Layout, chunks: EagerLaunch, total: EagerLaunch, held: int) -> None:
        self.result, self._chunks, self._total, self._held = result, chunks, total, held

    def __call__(self, *addresses: int) -> None:
        *operands, result = addresses
        held = np.empty(self._held, np.uint8)
        self._chunks(*operands, held.ctypes.data)
        self._total(result, held.ctypes.data)


class _Pair:
    """A contraction one of whose operands is first copied, from `start` bytes on."""

    __slots__ = ("_copy", "_rest", "_side", "_start", "result")

    def __init__(self, copy: EagerLaunch, rest: EagerLaunch, side: int, start: int) -> None:
        self.result = rest.result
        self._copy, self._rest, self._side, self._start = copy, rest, side, start

    def __call__(self, *addresses: int) -> None:
        held = np.empty(self._copy.result.nbytes, np.uint8)
        operands = list(addresses)
        self._copy(operands[self._side] + self._start, held.ctypes.data)
        operands[self._side] = held.ctypes.data
        self._rest(*operands)


def _staged(node: Node, operands: tuple[Layout, ...], stage: Stage, isa: Isa) -> EagerLaunch:
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
    return _Pair(copy, then, stage.side, start * operand.dtype.bytes)


def _in_phases(node: Node, operands: tuple[Layout, ...], result: Layout, isa: Isa) -> EagerLaunch:
    """A convolution over an operand with gaps: a kernel for each phase, once the weights lie so."""
    copies, steps, codes, held = list[_Gathered](), list[Step](), list[Code](), 0
    for phase in phases_of(node):
        layouts, at = operands, held
        if prod(phase.windows.window):
            view, start = gathered_weights(node, phase).layout(operands[1])
            order = tuple(range(len(view.shape)))
            copy = launcher(lookup("transpose"), {"permutation": order}, (view,), isa)
            copies.append(_Gathered(copy, start * view.dtype.bytes, at))
            layouts = (*operands, copy.result)
            held += -(-copy.result.nbytes // 64) * 64
        ready, begun = _phase(node, phase, layouts, isa)
        bases = {"x0": (0, 0), "x1": (1, 0), "y0": (2, 0), "x2": (3, at)}
        places = ((bases[name], start) for name, start in begun)
        steps.append(_step(ready, tuple((base, at + start) for (base, at), start in places)))
        codes.append(ready.code)
    return _Phased(result, copies, _InTurn(result, steps, codes), held)


def _phase(
    node: Node, phase: Phase, operands: tuple[Layout, ...], isa: Isa
) -> tuple[_Ready, list[tuple[str, int]]]:
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


@cache
def _caller(brief: bool) -> Callable[[bytes], None]:
    """The native function that runs a record; a `brief` one keeps the interpreter's lock."""
    module = Module(SSE2)
    f = module.function("run_record", VOID, [("record", PTR)])
    (record,) = f.parameters
    kernel, sizes = (f.load(PTR, f.gep(record, at, PTR)) for at in (0, 1))
    tasks = f.load(I64, f.gep(record, 2, I64))
    pointers = f.gep(record, 3, PTR)
    operands = (pointers, sizes, constant(I64, 0), tasks, NULL)
    f.call_pointer(kernel, VOID, operands)
    f.ret()
    code = code_cache.load(module.text(), SSE2, ("run_record",))
    code.keep_forever()
    prototype = PYFUNCTYPE(None, c_char_p) if brief else CFUNCTYPE(None, c_char_p)
    return prototype(code["run_record"])
