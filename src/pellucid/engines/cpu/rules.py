"""How does the CPU engine realise an op? As kernels: one for most nodes, two where that is better.

A node, or the body of its fusion, becomes one loop nest; `supported_ops` says of what it may be
made. A contraction whose contracted axes lie apart in memory first has that operand copied; a
reduction with few results is shared by threads through its chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Final, Literal

from pellucid.core.shape import static_shape
from pellucid.core.source import Source
from pellucid.engines.base import unsupported
from pellucid.engines.cpu.attention import ATTENTIONS, draft_blocks
from pellucid.engines.cpu.staging import (
    Stage,
    backwards,
    contraction_of,
    first_stage,
    gathered_weights,
    gathering,
    input_below,
    staged_type,
)
from pellucid.engines.llvm.contract import contraction_cut, plan_contraction, schedule_contraction
from pellucid.engines.llvm.elementwise import supports
from pellucid.engines.llvm.folded import fold_in_memory
from pellucid.engines.llvm.lower import lower
from pellucid.engines.llvm.target import Isa
from pellucid.engines.loops.blocks import Blocked
from pellucid.engines.loops.build import draft, draft_phase
from pellucid.engines.loops.columns import (
    Columns,
    columns_of,
    draft_rows,
    graph_of_sums,
    in_one_chain,
)
from pellucid.engines.loops.contracted import ScatteredAxes
from pellucid.engines.loops.convolved import may_read_padding, phases_of, reads_padding
from pellucid.engines.loops.draft import Draft, Strides, sizes_of
from pellucid.engines.loops.hold import hold
from pellucid.engines.loops.into import draft_into, draft_sort
from pellucid.engines.loops.ir import Axis, Contract, Kernel, Sort, nested, scratch_bytes
from pellucid.engines.loops.nest import nest
from pellucid.engines.loops.parts import partial_bytes, split_reduction, tidy
from pellucid.engines.loops.roles import has_contraction, orient
from pellucid.engines.loops.schedule import TASKS_PER_THREAD, arrange, schedule, share_out
from pellucid.engines.loops.space import row_major
from pellucid.engines.loops.target import WRITTEN, Target, writes
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import made_of
from pellucid.ops.define import REGISTRY, lookup
from pellucid.ops.movement import full, inverse, transpose
from pellucid.ops.windows import Phase

ENGINE: Final = "cpu"

UNSUPPORTED: Final[dict[str, str]] = {}
"""Ops of the registry that this engine cannot run, and why."""

STRUCTURAL: Final = (
    "constant", "iota", "random_bits", "broadcast", "transpose", "reshape", "slice",
    "reverse", "gather", "dynamic_slice", "sum_lists", "sum", "prod", "max", "min", "spread",
    "dot_general", "stop_gradient", "fusion", "argsort", "convolution",
    "window_sum", "window_max", "window_argmax", "window_pick", "window_scatter",
    *ATTENTIONS, *WRITTEN,
)  # fmt: skip
"""The ops that are not one scalar op an element."""


Kind = Literal["operand", "result", "temporary", "constant"]
_KINDS: Final[dict[str, Kind]] = {
    "x": "operand", "y": "result", "p": "temporary", "c": "constant"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Argument:
    """A buffer of a kernel: operand or result `index` of the node, or one made for this node.

    The kernel's first element lies `offset` bytes from its start.
    """

    kind: Kind
    index: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One launch: the scheduled kernel, what its buffers are, and how its tasks are shared."""

    kernel: Kernel | Blocked
    arguments: tuple[Argument, ...]
    tasks: int
    tasks_per_thread: int = 1
    scratch_bytes: int = 0

    def text(self, isa: Isa) -> str:
        """The LLVM IR; the function has the kernel's name."""
        return lower(self.kernel, isa)


@dataclass(frozen=True, slots=True)
class Realisation:
    """How a node runs: calls in order, the bytes of their temporaries, the constants they read."""

    calls: tuple[KernelCall, ...]
    temporaries: tuple[int, ...] = ()
    constants: tuple[bytes, ...] = ()


def supported_ops() -> frozenset[str]:
    """The ops of the registry that the engine runs."""
    return frozenset(filter(is_supported, REGISTRY))


def is_supported(name: str) -> bool:
    """Whether the engine runs the op of this name."""
    return name in STRUCTURAL or supports(name)


def realise(node: Node, isa: Isa) -> Realisation:
    """The kernels of a node whose sizes are known; its operands and results are dense.

    Raises UnsupportedOpError with the user's line, and OpShapeError where a size is not known.
    """
    return realise_graph(body_of(node), isa, node.source)


def realise_graph(graph: Graph, isa: Isa, source: Source | None = None) -> Realisation:
    """As `realise`, for a graph that stands for one node; the operands are its inputs."""
    for node in graph.nodes:
        if not is_supported(node.op.name):
            why = UNSUPPORTED.get(node.op.name, "it has no rule for it")
            raise unsupported(ENGINE, node.op.name, why, node.source or source)
    if not all(prod(sizes_of(value)) for value in graph.outputs):
        return Realisation(())
    return _realised(graph, isa)


def body_of(node: Node) -> Graph:
    """What a node computes, as a graph with the node's operands for inputs."""
    if node.op.name == "fusion":
        return node.attr("body")
    with building() as builder:
        inputs = [builder.input(operand.type) for operand in node.operands]
        results = lookup(node.op.name).many(*inputs, **dict(node.attrs))
        return builder.graph(results)


def kernel_name(graph: Graph) -> str:
    """A name that says what a kernel does, from its ops: `mul_add_exp`."""
    ops = [node.op.name for node in graph.nodes if node.op.name not in _QUIET]
    return "_".join(dict.fromkeys(ops[:6])) or "copy"


_QUIET = ("constant", "broadcast", "reshape", "stop_gradient")


def _realised(graph: Graph, isa: Isa) -> Realisation:
    last = graph.nodes[-1].op.name if graph.nodes else ""
    if last in WRITTEN:
        return Realisation(tuple(_written(graph, isa)))
    if last == "argsort":
        kernel = nest("argsort", draft_sort(graph), arrange)
        return Realisation((replace(_loops(kernel, isa), scratch_bytes=sort_bytes(kernel)),))
    if last in ATTENTIONS:
        return _attention(graph, isa)
    node = contraction_of(graph)
    if node is None:
        columns = columns_of(graph)
        return _kernels(graph, isa) if columns is None else _columns(graph, columns, isa)
    stage = first_stage(node, may_read_padding(node))
    if stage is not None:
        return _staged(graph, node, stage, isa)
    try:
        made = _in_phases(graph, node, isa) if phases_of(node) else _kernels(graph, isa)
    except ScatteredAxes as scattered:
        return _staged(graph, node, gathering(node, scattered.side), isa)
    copied = first_stage(node)
    if copied is None or reads_padding(node) or all(_reads(call, isa) for call in made.calls):
        return made
    return _staged(graph, node, copied, isa)


def _reads(call: KernelCall, isa: Isa) -> bool:
    """Whether a kernel reads what padding it meets as zeros, being made line by line."""
    assert isinstance(call.kernel, Kernel), "convolutions are no kernels of kernels"
    contracts = [s for s in nested(call.kernel.body) if isinstance(s, Contract)]
    if not any(contract.within for contract in contracts):
        return True
    return plan_contraction(call.kernel, isa)[1].in_lines


def _kernels(graph: Graph, isa: Isa, strides: tuple[Strides, ...] | None = None) -> Realisation:
    node = contraction_of(graph)
    fold = 1 if node is None else fold_in_memory(node.operands[0].dtype, isa)
    return _planned(graph, draft(graph, strides, fold), isa)


def _planned(graph: Graph, plan: Draft, isa: Isa) -> Realisation:
    contraction = contraction_of(graph) is not None
    kernel = nest(kernel_name(graph), plan, None if contraction else arrange)
    if has_contraction(kernel):
        return Realisation((_contraction(kernel, isa),), (), plan.arrays)
    # What only copies an operand of a contraction has none of the others.
    kernel = tidy(kernel)
    split = split_reduction(kernel)
    if split is None:
        return Realisation((_loops(hold(kernel), isa),), (), plan.arrays)
    temporaries = partial_bytes(split[0])
    return Realisation(tuple(_loops(part, isa) for part in split), temporaries, plan.arrays)


def _columns(graph: Graph, columns: Columns, isa: Isa) -> Realisation:
    """What goes along the rows, with their chunks' sums; then the sums, and what needs them."""
    name = kernel_name(graph)
    plan, after = draft_rows(graph, columns), graph_of_sums(graph, columns)
    first = _loops(hold(tidy(nest(f"{name}_rows", plan))), isa)
    rest = draft(after)
    kernel = tidy(in_one_chain(nest(name, rest, arrange), columns))
    second = _loops(kernel, isa)
    whose = {
        Argument("operand", len(graph.inputs) + n): Argument("temporary", n)
        for n in range(len(columns.sums))
    }
    whose |= {Argument("result", n): Argument("result", at) for n, at in enumerate(columns.after)}
    whose |= {
        Argument("constant", n): Argument("constant", len(plan.arrays) + n)
        for n in range(len(rest.arrays))
    }
    second = replace(second, arguments=tuple(whose.get(one, one) for one in second.arguments))
    count = columns.chunks * columns.columns
    temporaries = tuple(dtype.bytes * count for dtype in columns.dtypes)
    return Realisation((first, second), temporaries, (*plan.arrays, *rest.arrays))


def _in_phases(graph: Graph, node: Node, isa: Isa) -> Realisation:
    """A convolution over an operand with gaps: each phase after a copy of the weights it meets."""
    calls, temporaries, constants = list[KernelCall](), list[int](), list[bytes]()
    gathered = Argument("operand", len(graph.inputs))
    for phase in phases_of(node):
        held, reading = Argument("temporary", len(temporaries)), graph
        if prod(phase.windows.window):
            copying = _gathering(graph, node, phase)
            (copy,) = copying.outputs
            made = _realised(copying, isa).calls
            calls += (_with(call, Argument("result", 0), held) for call in made)
            temporaries.append(copy.dtype.bytes * prod(sizes_of(copy)))
            reading = _with_input(graph, copy)
        plan = draft_phase(reading, None, phase)
        part = _planned(reading, plan, isa)
        for call in part.calls:
            begun = _begun(call, plan, len(constants))
            calls.append(_with(begun, gathered, held))
        constants += part.constants
    return Realisation(tuple(calls), tuple(temporaries), tuple(constants))


def _begun(call: KernelCall, plan: Draft, constants: int) -> KernelCall:
    """The call with each buffer from where a phase begins, and its constants after others."""
    bytes_of = {_argument(buffer.name): buffer.dtype.bytes for buffer in plan.buffers}
    starts = {_argument(name): start for name, start in plan.starts.items()}

    def moved(one: Argument) -> Argument:
        index = one.index + constants * (one.kind == "constant")
        return replace(one, index=index, offset=starts.get(one, 0) * bytes_of[one])

    return replace(call, arguments=tuple(map(moved, call.arguments)))


def _gathering(graph: Graph, node: Node, phase: Phase) -> Graph:
    """The copy of the weights that a phase meets."""
    with building() as builder:
        env = {input: builder.input(input.type) for input in graph.inputs}
        weights = made_of(builder, node.operands[1], env)
        return builder.graph([gathered_weights(node, phase).view(weights)])


def _with_input(graph: Graph, like: Value) -> Graph:
    """The graph with one more input, which no op of it reads."""
    with building() as builder:
        inputs = [builder.input(value.type) for value in graph.inputs]
        env = builder.copy(graph, inputs)
        builder.input(like.type)
        return builder.graph([env[value] for value in graph.outputs])


def _written(graph: Graph, isa: Isa) -> Iterator[KernelCall]:
    """The turns in which one op fills its result."""
    (node,), (result,) = graph.nodes, graph.outputs
    operands = tuple(operand.tensor for operand in node.operands)
    name = node.op.name
    for number, write in enumerate(writes(name, dict(node.attrs), operands, result.tensor)):
        shapes = [sizes_of(node.operands[read.operand]) for read in write.reads]
        strides = [row_major(shape) for shape in shapes]
        plan = draft_into(write.graph, tuple(strides), write.target)
        kernel = nest(f"{name}_{number}", plan, write_order(write.target))
        call = _loops(replace(kernel, unless=("x0", "y0") if write.whole else None), isa)
        whose = {Argument("result", 0): Argument("result", 0, write.skipped * result.dtype.bytes)}
        for at, (read, steps) in enumerate(zip(write.reads, strides, strict=True)):
            source = graph.inputs.index(node.operands[read.operand])
            skipped = read.skipped(steps) * operands[read.operand].dtype.bytes
            whose[Argument("operand", at)] = Argument("operand", source, skipped)
        yield replace(call, arguments=tuple(whose[one] for one in call.arguments))


def _attention(graph: Graph, isa: Isa) -> Realisation:
    (node,), (result,) = graph.nodes, graph.outputs
    operands = tuple(operand.tensor for operand in node.operands)
    strides = tuple(row_major(sizes_of(operand)) for operand in node.operands)
    blocked = draft_blocks(node.op.name, dict(node.attrs), operands, strides, isa)
    if blocked is None:
        with building() as builder:
            zeros = builder.graph([full(result.shape, 0.0, result.dtype)])
        return _kernels(zeros, isa)
    whose = [Argument("operand", graph.inputs.index(operand)) for operand in node.operands]
    arguments = (*whose, Argument("result", 0))
    call = KernelCall(blocked, arguments, blocked.tasks, 1, blocked.scratch_bytes)
    return Realisation((call,))


def sort_bytes(kernel: Kernel) -> int:
    """The scratch memory of a kernel that sorts: keys and places, twice."""
    extents = [s.axis.extent for s in nested(kernel.body) if isinstance(s, Sort)]
    return sum(32 * size for size in extents if isinstance(size, int))


def write_order(target: Target) -> Callable[[tuple[Axis, ...]], tuple[Axis, ...]] | None:
    """How the loops of a write may be ordered: not at all where their order has a meaning."""
    return None if target.ordered else arrange


def _loops(kernel: Kernel, isa: Isa) -> KernelCall:
    scheduled = schedule(kernel, isa.vector_bits)
    arguments = tuple(_argument(buffer.name) for buffer in kernel.buffers)
    tasks = share_out(scheduled).count
    return KernelCall(scheduled, arguments, tasks, TASKS_PER_THREAD, scratch_bytes(scheduled))


def _contraction(kernel: Kernel, isa: Isa) -> KernelCall:
    oriented, operands = orient(kernel)
    names = (*operands, *(buffer.name for buffer in oriented.buffers[2:]))
    scheduled = schedule_contraction(oriented, isa)
    cut = contraction_cut(scheduled, isa)
    arguments = tuple(_argument(name) for name in names)
    return KernelCall(scheduled, arguments, cut.tasks, cut.tasks_per_thread, cut.scratch_bytes)


def _argument(name: str) -> Argument:
    """What a draft's buffer is: x0 an operand, y0 a result, p0 a temporary, c0 a constant."""
    return Argument(_KINDS[name[0]], int(name[1:]))


def _staged(graph: Graph, node: Node, stage: Stage, isa: Isa) -> Realisation:
    """A contraction one of whose operands is first copied."""
    operand = node.operands[stage.side]
    copy = _copy(graph, operand, stage, isa)
    rest = _realised(_reading(graph, node, stage), isa)
    # The copy is the last temporary here, the result of the one and the last operand of the other.
    held = Argument("temporary", len(rest.temporaries))
    calls = (
        *(_with(call, Argument("result", 0), held) for call in copy.calls),
        *(_with(call, Argument("operand", len(graph.inputs)), held) for call in rest.calls),
    )
    made = staged_type(stage, operand.tensor)
    nbytes = made.dtype.bytes * prod(static_shape(made.shape, "a copy"))
    return Realisation(calls, (*rest.temporaries, nbytes), rest.constants)


def _with(call: KernelCall, old: Argument, new: Argument) -> KernelCall:
    """The call with another buffer for `old`, wherever in it an argument begins."""

    def changed(one: Argument) -> Argument:
        if (one.kind, one.index) != (old.kind, old.index):
            return one
        return replace(new, offset=new.offset + one.offset)

    return replace(call, arguments=tuple(map(changed, call.arguments)))


def _copy(graph: Graph, value: Value, stage: Stage, isa: Isa) -> Realisation:
    """The copy of one value that a stage makes."""
    with building() as builder:
        env = {input: builder.input(input.type) for input in graph.inputs}
        copying = builder.graph([stage.copy(made_of(builder, value, env))])
    if not stage.reversed:
        return _realised(copying, isa)
    source, axes = input_below(value, stage.reversed)
    number = graph.inputs.index(source)
    dense = [row_major(sizes_of(input)) for input in graph.inputs]
    dense[number], start = backwards(sizes_of(source), dense[number], axes)
    made = _kernels(copying, isa, tuple(dense))
    old, further = Argument("operand", number), start * source.dtype.bytes
    new = replace(old, offset=further)
    return replace(made, calls=tuple(_with(call, old, new) for call in made.calls))


def _reading(graph: Graph, contraction: Node, stage: Stage) -> Graph:
    """The graph with one more input: the copied operand, with which the contraction is simpler."""
    with building() as builder:
        env = {input: builder.input(input.type) for input in graph.inputs}
        held = builder.input(staged_type(stage, contraction.operands[stage.side].tensor))
        for node, results in zip(graph.nodes, graph.results, strict=True):
            operands, attrs = [env[operand] for operand in node.operands], dict(node.attrs)
            if node is contraction:
                operands[stage.side] = transpose(held, permutation=inverse(stage.order))
                attrs = stage.attrs
            copies = builder.add(node.op, operands, attrs)
            env.update(zip(results, copies, strict=True))
        return builder.graph([env[value] for value in graph.outputs])
