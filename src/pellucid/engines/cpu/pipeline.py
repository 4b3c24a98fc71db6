"""How does a graph become an executable on this CPU? Kernels for each node, memory, then code.

nodes -> loop nests (rules) -> places (passes/memory) -> LLVM IR -> object code -> steps
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pellucid.core.config import setting
from pellucid.core.dtype import DType
from pellucid.core.error import UnsupportedOpError
from pellucid.core.machine import cache_bytes
from pellucid.core.shape import is_static
from pellucid.core.source import Source, at_line
from pellucid.engines.base import Launch, Layout, Storage, Tuned
from pellucid.engines.cpu.book import Book, read_book
from pellucid.engines.cpu.eager import launcher
from pellucid.engines.cpu.forms import operand_form
from pellucid.engines.cpu.pool import Step
from pellucid.engines.cpu.program import Program, program_key, read, written
from pellucid.engines.cpu.rules import (
    Argument,
    KernelCall,
    Realisation,
    body_of,
    realise,
    realise_graph,
)
from pellucid.engines.cpu.runtime import CpuExecutable, Explained, Launched
from pellucid.engines.cpu.storage import allocate, allocator
from pellucid.engines.cpu.tune import tune_program
from pellucid.engines.llvm import cache
from pellucid.engines.llvm.cache import cache_key
from pellucid.engines.llvm.jit import assembly, optimised_ir, uninterrupted
from pellucid.engines.llvm.target import Isa, host_isa
from pellucid.engines.loops.blocks import Blocked, kernel_text
from pellucid.engines.loops.ir import Kernel
from pellucid.engines.loops.roles import has_contraction
from pellucid.engines.loops.stream import LINE, streamed
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node, TensorType, Type, Value
from pellucid.ir.record import add_stage, is_recording, unheard
from pellucid.ops.define import Op
from pellucid.ops.movement import reshape
from pellucid.passes.keep_operands import Form
from pellucid.passes.memory import Copy, MemoryPlan, Place, plan_memory
from pellucid.passes.pipeline import optimize
from pellucid.passes.precision import with_casts
from pellucid.passes.views import value_bytes

FAR_SHARE: Final = 16
"""A result is large where it is one of so many parts of what a kernel moves, or more."""


class CpuEngine:
    """The engine called "cpu": everything it runs is generated here."""

    name = "cpu"

    def allocate(self, nbytes: int) -> Storage:
        """A pooled block, aligned to a cache line."""
        return allocate(nbytes)

    def allocator(self, nbytes: int) -> Callable[[], Storage]:
        """As `allocate`, for one size."""
        return allocator(nbytes)

    def operand_form(self, dtype: DType) -> Form:
        """As the instructions of this machine read it (see forms.py)."""
        return operand_form(dtype, host_isa())

    def launcher(self, op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...]) -> Launch:
        """One op through a kernel that takes sizes and strides: a new shape compiles nothing."""
        return launcher(op, attrs, operands)

    def compile(self, graph: Graph, donate: Mapping[int, int]) -> CpuExecutable:
        """A graph of known sizes as one list of kernel launches."""
        # A graph may come without the passes.
        return compile_graph(with_casts(graph), donate, host_isa())

    def build(self, traced: Graph, donate: Mapping[int, int], fast: bool = False) -> CpuExecutable:
        """A traced graph through the passes and `compile`, or what they once led to."""
        return build_program(traced, donate, host_isa(), fast)

    def tune(
        self, traced: Graph, donate: Mapping[int, int], seconds: float, fast: bool = False
    ) -> Tuned:
        """Other schedules for the kernels of a traced graph, tried one by one (see tune.py)."""
        isa = host_isa()
        by_default = compile_graph(optimize(traced, fast), donate, isa, Book({}))
        return tune_program(by_default, isa, seconds)


def make_engine() -> CpuEngine:
    """The engine, for `find_engine`."""
    return CpuEngine()


def compile_graph(
    graph: Graph, donate: Mapping[int, int], isa: Isa, book: Book | None = None
) -> CpuExecutable:
    """As `CpuEngine.compile`, for a given instruction set, by the schedules of a book.

    Without one, by those that are remembered.
    """
    assembly = _assembled(graph, donate, isa, read_book(isa) if book is None else book)
    start = time.perf_counter()
    code = tuple(cache.load(text, isa, (name,)) for text, name in assembly.names.items())
    seconds = assembly.seconds + time.perf_counter() - start
    add_stage("code", assembly.text, "engines/cpu/pipeline", seconds)
    if is_recording():
        assembly.record_kernels()
    explained = assembly.explained()
    return CpuExecutable(*_types(graph), assembly.program(), code, lambda: explained)


def build_program(
    traced: Graph, donate: Mapping[int, int], isa: Isa, fast: bool = False
) -> CpuExecutable:
    """As `CpuEngine.build`, for a given instruction set."""
    # Who records the stages, or has them checked, wants them to happen.
    watched = is_recording() or setting("CHECK") == "1"
    book = read_book(isa)
    key = None if watched else program_key(traced, donate, isa, book.state, fast)
    if key is None:
        return compile_graph(optimize(traced, fast), donate, isa, book)
    known = _recalled(key, traced, donate, isa, book, fast)
    if known is None:
        known = compile_graph(optimize(traced, fast), donate, isa, book)
        cache.process_cache().store(key, written(known.program))
    return known


def _recalled(
    key: str, traced: Graph, donate: Mapping[int, int], isa: Isa, book: Book, fast: bool
) -> CpuExecutable | None:
    """The program stored under the key, if it and all its kernels are there and whole."""
    store = cache.process_cache()
    content = store.read(key)
    if content is None:
        return None
    program = read(content)
    # All in one piece of work: to begin one for each would take as long as what it does.
    code = uninterrupted(lambda: store.recall_all(program.kernels))
    if code is None:
        return None

    def explain() -> Explained:
        with unheard():
            return _assembled(optimize(traced, fast), donate, isa, book).explained()

    return CpuExecutable(*_types(traced), program, code, explain)


def _assembled(graph: Graph, donate: Mapping[int, int], isa: Isa, book: Book) -> _Assembly:
    """The steps of a graph with the texts of their kernels, before any is compiled."""
    _require_static(graph)
    start = time.perf_counter()
    parts = _realised(graph, isa)
    add_stage(
        "kernels", lambda: _kernels_text(parts), "engines/cpu/rules", time.perf_counter() - start
    )
    plan = plan_memory(graph, donate, [part.temporaries for part in parts])
    return _Assembly(graph, plan, isa, parts, book, frozenset(donate.values()))


def _types(graph: Graph) -> tuple[tuple[TensorType, ...], tuple[TensorType, ...]]:
    inputs, outputs = graph.inputs, graph.outputs
    return tuple(value.tensor for value in inputs), tuple(value.tensor for value in outputs)


class _Assembly:
    """The steps of one executable as they are put together.

    `names` are the functions of the different kernels by their texts, in the order of first use.
    """

    def __init__(
        self,
        graph: Graph,
        plan: MemoryPlan,
        isa: Isa,
        parts: list[Realisation],
        book: Book,
        donated: frozenset[int],
    ) -> None:
        self.graph, self.plan, self.isa, self.book = graph, plan, isa, book
        self.donated = donated
        self.known: dict[Kernel | Blocked, KernelCall] = {}
        self.steps: list[Step] = []
        self.launched: list[Launched] = []
        self.texts: dict[Kernel | Blocked, str] = {}
        self.names: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.constants: list[bytes] = []
        self.arena = len(graph.inputs) + len(graph.outputs)
        start = time.perf_counter()
        for copy in plan.before:
            self.copy(copy)
        for number, (node, part) in enumerate(zip(graph.nodes, parts, strict=True)):
            if graph.results[number][0] not in plan.views:
                self.node(node, number, part)
        for copy in plan.after:
            self.copy(copy)
        self.seconds = time.perf_counter() - start

    def program(self) -> Program:
        """What runs."""
        kernels = tuple((cache_key(text, self.isa), name) for text, name in self.names.items())
        steps, constants = tuple(self.steps), tuple(self.constants)
        return Program(kernels, steps, self.plan.arena_bytes, constants)

    def explained(self) -> Explained:
        """What it came from."""
        return Explained(self.graph, self.plan, tuple(self.launched))

    def node(self, node: Node, number: int, part: Realisation) -> None:
        """The launches of one node."""
        values = {"operand": node.operands, "result": self.graph.results[number]}
        first = len(self.constants)
        self.constants += part.constants

        def base_of(argument: Argument) -> tuple[int, int]:
            if argument.kind == "constant":
                return self.arena + 1 + first + argument.index, 0
            if argument.kind == "temporary":
                place = self.plan.temporaries[number][argument.index]
            else:
                place = self.plan.places[values[argument.kind][argument.index]]
            base, offset = self.base(place)
            return base, offset + argument.offset

        def bytes_of(argument: Argument) -> int:
            if argument.kind == "constant":
                return len(part.constants[argument.index])
            if argument.kind == "temporary":
                return part.temporaries[argument.index]
            return value_bytes(values[argument.kind][argument.index])

        for call in part.calls:
            bases = tuple(map(base_of, call.arguments))
            # A value that stands for two operands is read once.
            pairs = zip(call.arguments, bases, strict=True)
            each = {(one.kind, base): bytes_of(one) for one, base in pairs}
            if node.op.name != "concatenate":
                moved = sum(each.values())
                far = self.far(call, bases, tuple(map(bytes_of, call.arguments)), moved)
                self.launch(call, bases, node, moved, far)
            elif len(set(bases)) > 1:
                # It copies one operand, which was not made where it belongs.
                self.launch(call, bases, node, 2 * min(each.values()))

    def copy(self, copy: Copy) -> None:
        """The launches that move one value from one place to another."""
        places = {"operand": copy.source, "result": copy.target}
        node = _copy_node(copy.value)
        for call in realise(node, self.isa).calls:
            bases = tuple(self.base(places[one.kind]) for one in call.arguments)
            self.launch(call, bases, node, len(bases) * value_bytes(copy.value))

    def far(
        self,
        call: KernelCall,
        bases: tuple[tuple[int, int], ...],
        sizes: tuple[int, ...],
        moved: int,
    ) -> frozenset[str]:
        """The large results of a kernel that moves more than the last-level cache holds.

        Their memory is one that nothing else of the kernel lies in, and that begins at a line.
        """
        if (
            moved < cache_bytes(3)
            or isinstance(call.kernel, Blocked)
            or has_contraction(call.kernel)
        ):
            return frozenset()
        given = {len(self.graph.inputs) + output for output in self.donated}
        found: set[str] = set()
        for buffer, one, base, size in zip(
            call.kernel.buffers, call.arguments, bases, sizes, strict=True
        ):
            alone = one.kind == "result" and bases.count(base) == 1 and base[0] not in given
            if alone and base[1] % LINE == 0 and size * FAR_SHARE >= moved:
                found.add(buffer.name)
        return frozenset(found)

    def launch(
        self,
        call: KernelCall,
        bases: tuple[tuple[int, int], ...],
        node: Node,
        moved: int,
        far: frozenset[str] = frozenset(),
    ) -> None:
        """One kernel launch, by the book's schedule; kernels with equal text are one."""
        default = call.kernel
        if default not in self.known:
            self.known[default] = self.book.applied(call, self.isa)
        kernel = self.known[default].kernel
        if far and isinstance(kernel, Kernel):
            kernel = streamed(kernel, far)
        call = replace(self.known[default], arguments=call.arguments, kernel=kernel)
        name = call.kernel.name
        if call.kernel not in self.texts:
            self.texts[call.kernel] = call.text(self.isa)
        text = self.texts[call.kernel]
        self.names.setdefault(text, name)
        number = self.numbers.setdefault(text, len(self.numbers))
        limits = (call.tasks, call.tasks_per_thread, call.scratch_bytes)
        self.steps.append(Step(number, bases, (), *limits))
        tuned = self.known[default].kernel != default
        self.launched.append(Launched(name, call.kernel, text, call.tasks, node, moved, tuned))

    def base(self, place: Place) -> tuple[int, int]:
        """The table entry and the offset in bytes at which a place lies."""
        if place.kind == "arena":
            return self.arena, place.offset
        first = len(self.graph.inputs) if place.kind == "output" else 0
        return place.index + first, place.offset

    def text(self) -> str:
        """The launches, one a line: for which node of the graph, and of which kernel below."""
        number = {node: f"node {n}" for n, node in enumerate(self.graph.nodes)}
        head = f"{len(self.steps)} launches of {len(self.names)} kernels"
        rows = [
            f"  {number.get(one.node, 'copy')}: kernel {self.numbers[one.llvm]} {one.name}"
            f" ({one.tasks} task{'s' * (one.tasks != 1)}{', tuned' * one.tuned})"
            for one in self.launched
        ]
        return "\n".join([head, *rows])

    def record_kernels(self) -> None:
        """Each different kernel as loops, as optimised LLVM IR and as assembly; by number."""
        first = {one.llvm: one for one in reversed(self.launched)}
        for text in self.names:
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
