"""How does a graph become an executable on this CPU? Kernels for each node, memory, then code.

nodes -> loop nests (rules) -> places (passes/memory) -> LLVM IR -> object code -> steps
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from pellucid.core.error import UnsupportedOpError
from pellucid.core.shape import is_static
from pellucid.core.source import Source, at_line
from pellucid.engines.base import Layout, Storage
from pellucid.engines.cpu.eager import EagerLaunch, launcher
from pellucid.engines.cpu.pool import Step
from pellucid.engines.cpu.rules import (
    Argument,
    KernelCall,
    Realisation,
    body_of,
    realise,
    realise_graph,
)
from pellucid.engines.cpu.runtime import CpuExecutable, Launched
from pellucid.engines.cpu.storage import allocate
from pellucid.engines.llvm import cache
from pellucid.engines.llvm.jit import Code, assembly, optimised_ir
from pellucid.engines.llvm.target import Isa, host_isa
from pellucid.engines.loops.blocks import Blocked, kernel_text
from pellucid.engines.loops.ir import Kernel
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node, TensorType, Type, Value
from pellucid.ir.record import add_stage, is_recording
from pellucid.ops.define import Op
from pellucid.ops.movement import reshape
from pellucid.passes.memory import Copy, MemoryPlan, Place, plan_memory, value_bytes


class CpuEngine:
    """The engine called "cpu": everything it runs is generated here."""

    name = "cpu"

    def allocate(self, nbytes: int) -> Storage:
        """A pooled block, aligned to a cache line."""
        return allocate(nbytes)

    def launcher(
        self, op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...]
    ) -> EagerLaunch:
        """One op through a kernel that takes sizes and strides: a new shape compiles nothing."""
        return launcher(op, attrs, operands)

    def compile(self, graph: Graph, donate: Mapping[int, int]) -> CpuExecutable:
        """A graph of known sizes as one list of kernel launches."""
        return compile_graph(graph, donate, host_isa())


def make_engine() -> CpuEngine:
    """The engine, for `find_engine`."""
    return CpuEngine()


def compile_graph(graph: Graph, donate: Mapping[int, int], isa: Isa) -> CpuExecutable:
    """As `CpuEngine.compile`, for a given instruction set."""
    _require_static(graph)
    start = time.perf_counter()
    parts = _realised(graph, isa)
    add_stage(
        "kernels", lambda: _kernels_text(parts), "engines/cpu/rules", time.perf_counter() - start
    )
    plan = plan_memory(graph, donate, [part.temporaries for part in parts])
    return _Assembly(graph, plan, isa).executable(parts)


class _Assembly:
    """The steps of one executable as they are put together."""

    def __init__(self, graph: Graph, plan: MemoryPlan, isa: Isa) -> None:
        self.graph, self.plan, self.isa = graph, plan, isa
        self.steps: list[Step] = []
        self.launched: list[Launched] = []
        self.texts: dict[Kernel | Blocked, str] = {}
        self.code: dict[str, Code] = {}
        self.constants: list[Storage] = []
        self.arena = len(graph.inputs) + len(graph.outputs)

    def executable(self, parts: list[Realisation]) -> CpuExecutable:
        start = time.perf_counter()
        for copy in self.plan.before:
            self.copy(copy)
        for number, (node, part) in enumerate(zip(self.graph.nodes, parts, strict=True)):
            self.node(node, number, part)
        for copy in self.plan.after:
            self.copy(copy)
        add_stage("code", self.text, "engines/cpu/pipeline", time.perf_counter() - start)
        if is_recording():
            self.record_kernels()
        return CpuExecutable(
            self.graph,
            self.plan,
            tuple(self.steps),
            tuple(self.launched),
            tuple(self.code.values()),
            tuple(self.constants),
        )

    def node(self, node: Node, number: int, part: Realisation) -> None:
        """The launches of one node."""
        results = self.graph.results[number]
        first = len(self.constants)
        self.constants += [_constant(content) for content in part.constants]

        def base_of(argument: Argument) -> tuple[int, int]:
            match argument.kind:
                case "operand":
                    base, offset = self.base(self.plan.places[node.operands[argument.index]])
                    return base, offset + argument.offset
                case "result":
                    base, offset = self.base(self.plan.places[results[argument.index]])
                    return base, offset + argument.offset
                case "temporary":
                    return self.base(self.plan.temporaries[number][argument.index])
                case "constant":
                    return self.arena + 1 + first + argument.index, 0

        def bytes_of(argument: Argument) -> int:
            match argument.kind:
                case "operand":
                    return value_bytes(node.operands[argument.index])
                case "result":
                    return value_bytes(results[argument.index])
                case "temporary":
                    return part.temporaries[argument.index]
                case "constant":
                    return len(part.constants[argument.index])

        for call in part.calls:
            # A value that stands for two operands is read once.
            each = {(one.kind, base_of(one)): bytes_of(one) for one in call.arguments}
            self.launch(call, tuple(map(base_of, call.arguments)), node, sum(each.values()))

    def copy(self, copy: Copy) -> None:
        """The launches that move one value from one place to another."""
        places = {"operand": copy.source, "result": copy.target}
        node = _copy_node(copy.value)
        for call in realise(node, self.isa).calls:
            bases = tuple(self.base(places[one.kind]) for one in call.arguments)
            self.launch(call, bases, node, len(bases) * value_bytes(copy.value))

    def launch(
        self, call: KernelCall, bases: tuple[tuple[int, int], ...], node: Node, moved: int
    ) -> None:
        """One kernel launch; kernels with equal text are compiled and loaded once."""
        name = call.kernel.name
        if call.kernel not in self.texts:
            self.texts[call.kernel] = call.text(self.isa)
        text = self.texts[call.kernel]
        if text not in self.code:
            self.code[text] = cache.load(text, self.isa, (name,))
        self.steps.append(
            Step(
                self.code[text][name],
                bases,
                (),
                call.tasks,
                call.tasks_per_thread,
                call.scratch_bytes,
            )
        )
        self.launched.append(Launched(name, call.kernel, text, call.tasks, node, moved))

    def base(self, place: Place) -> tuple[int, int]:
        """The table entry and the offset in bytes at which a place lies."""
        if place.kind == "arena":
            return self.arena, place.offset
        return place.index + (len(self.graph.inputs) if place.kind == "output" else 0), 0

    def text(self) -> str:
        """The launches, one a line: for which node of the graph, and of which kernel below."""
        number = {node: f"node {n}" for n, node in enumerate(self.graph.nodes)}
        kernel = {text: n for n, text in enumerate(self.code)}
        head = f"{len(self.steps)} launches of {len(self.code)} kernels"
        rows = [
            f"  {number.get(one.node, 'copy')}: kernel {kernel[one.llvm]} {one.name}"
            f" ({one.tasks} task{'s' * (one.tasks != 1)})"
            for one in self.launched
        ]
        return "\n".join([head, *rows])

    def record_kernels(self) -> None:
        """Each different kernel as loops, as optimised LLVM IR and as assembly; by number."""
        first = {one.llvm: one for one in reversed(self.launched)}
        for text in self.code:
            one = first[text]
            made_by = f"engines/llvm: {one.name}"
            add_stage("loops", partial(kernel_text, one.kernel), f"engines/loops: {one.name}", 0.0)
            add_stage("llvm", partial(optimised_ir, text, self.isa), made_by, 0.0)
            add_stage("assembly", partial(assembly, text, self.isa), made_by, 0.0)


def _realised(graph: Graph, isa: Isa) -> list[Realisation]:
    """The kernels of each node; equal nodes, such as those of equal layers, are realised once."""
    known: dict[Graph, Realisation] = {}
    parts: list[Realisation] = []
    for node in graph.nodes:
        body = body_of(node)
        if body not in known:
            known[body] = realise_graph(body, isa, node.source)
        parts.append(known[body])
    return parts


def _constant(content: bytes) -> Storage:
    storage = allocate(len(content))
    ctypes.memmove(storage.address, content, len(content))
    return storage


def _copy_node(value: Value) -> Node:
    with building() as builder:
        source = builder.input(value.type)
        reshape(source, shape=value.shape)
        return builder.nodes[-1]


def _require_static(graph: Graph) -> None:
    for node in graph.nodes:
        _require_known(node.op.name, (*node.operands, *node.types), node.source)
    _require_known("a graph", graph.inputs, None)


def _require_known(name: str, values: Iterable[Value | Type], source: Source | None) -> None:
    for value in values:
        type = value.type if isinstance(value, Value) else value
        if isinstance(type, TensorType) and not is_static(type.shape):
            raise UnsupportedOpError(
                f"{name}: the engine 'cpu' needs known sizes, got {type}{at_line(source)}\n"
                "  compile it for each size that is needed"
            )


def _kernels_text(parts: list[Realisation]) -> str:
    calls = [call for part in parts for call in part.calls]
    return "\n\n".join(kernel_text(call.kernel) for call in calls)
