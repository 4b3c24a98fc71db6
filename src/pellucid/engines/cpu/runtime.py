"""How does a compiled graph run? As steps over a table of base addresses, in one native call.

The table holds the addresses of inputs and outputs, of one arena, and of constants. Each running
call has a frame with a table and an arena of its own, so calls may overlap.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pellucid.engines.base import Launches, MemoryNeed, Storage, layout
from pellucid.engines.cpu import native
from pellucid.engines.cpu.pool import Step, Steps, pool
from pellucid.engines.cpu.program import Program
from pellucid.engines.cpu.storage import allocate, allocate_for_long, block_bytes
from pellucid.engines.llvm.jit import Code
from pellucid.engines.loops.blocks import Blocked
from pellucid.engines.loops.ir import Kernel
from pellucid.ir.graph import Graph, Node, TensorType
from pellucid.ir.record import Run, TimedStep, add_run, clocks, is_timing
from pellucid.passes.memory import MemoryPlan


@dataclass(frozen=True, slots=True)
class Launched:
    """One step as it is explained: the kernel, the LLVM IR it became, how it is shared out.

    `node` is whose work it does: a node of the graph, or one made up for a copy. `moved_bytes` are
    its operands and results, each whole. `tuned`: its schedule was found by `tune`.
    """

    name: str
    kernel: Kernel | Blocked
    llvm: str
    tasks: int
    node: Node
    moved_bytes: int
    tuned: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """What a program came from: the graph as it was compiled, its memory, its launches."""

    graph: Graph
    plan: MemoryPlan
    launched: tuple[Launched, ...]


class CpuFrame:
    """What one call needs: the base table, and the arena that its last entries point to.

    Natively it is the words at `record`, among them the arguments' addresses as they were found.
    """

    __slots__ = ("_pointers", "_varying", "_words", "address", "arena", "record", "table")

    def __init__(self, slots: int, arena: Storage | None, arguments: int) -> None:
        self.table = array("q", bytes(8 * slots))
        self.address = self.table.buffer_info()[0]
        self.arena = arena
        self._pointers = array("q", bytes(8 * arguments))
        self._words = array("q", bytes(8 * native.FRAME_WORDS))
        self._words[native.FRAME_BASES] = self.address
        self._words[native.FRAME_POINTERS] = self._pointers.buffer_info()[0]
        self.record = self._words.buffer_info()[0]
        self._varying: array[int] | None = None

    def vary(self, varying: array[int] | None) -> None:
        """Say which arguments may vary while nothing is refilled: three words each; None: all."""
        self._varying = varying
        if varying is not None:
            address, count = varying.buffer_info()
            self._words[native.FRAME_VARYING] = address
            self._words[native.FRAME_COUNT] = count // 3
        self.refilled()

    def refilled(self) -> None:
        """Any entry of the table may be another one."""
        anew = native.ANEW if self._varying is None else native.ANEW_ONCE
        self._words[native.FRAME_STATE] = anew


class CpuExecutable:
    """A program ready to run on the CPU: its kernels are `code`, in the program's order.

    `explain` says what it came from; it is asked when first somebody wants to know.
    """

    def __init__(
        self,
        inputs: tuple[TensorType, ...],
        outputs: tuple[TensorType, ...],
        program: Program,
        code: tuple[Code, ...],
        explain: Callable[[], Explained],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.program = program
        self._steps = Steps(_placed(program, code))
        self._scratch = max((step.scratch_bytes for step in program.steps), default=0)
        self._code = code
        self._constants = tuple(map(_constant, program.constants))
        self._explain = explain
        self._frames: list[CpuFrame] = []

    @cached_property
    def explained(self) -> Explained:
        """What the program came from."""
        return self._explain()

    @property
    def graph(self) -> Graph:
        """The graph as it was compiled."""
        return self.explained.graph

    @property
    def plan(self) -> MemoryPlan:
        """Where its values lie."""
        return self.explained.plan

    @property
    def launched(self) -> tuple[Launched, ...]:
        """The steps, in order."""
        return self.explained.launched

    @property
    def memory(self) -> MemoryNeed:
        """What a call takes, to the byte."""
        return MemoryNeed(
            arena=block_bytes(self.program.arena_bytes) if self.program.arena_bytes else 0,
            outputs=tuple(block_bytes(layout(type).nbytes) for type in self.outputs),
            constants=sum(constant.nbytes for constant in self._constants),
            scratch=self._scratch,
            held=self.plan.held,
        )

    @property
    def launches(self) -> Launches:
        """What a call launches and moves."""
        kernels = len({one.llvm for one in self.launched})
        moved = sum(one.moved_bytes for one in self.launched)
        return Launches(len(self.launched), kernels, moved)

    def lease(self, varying: Collection[int] | None = None) -> CpuFrame:
        """A frame; one that was released is used again."""
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = self._new_frame()
        frame.vary(None if varying is None else self._varying(frozenset(varying)))
        return frame

    def run(self, frame: Any) -> None:
        """Run once, without the GIL. Raises MemoryError if a kernel's scratch cannot be had."""
        if clocks.running and is_timing():
            self._run_recorded(frame)
        else:
            pool().run_frame(self._steps, frame.record)

    def run_timed(self, frame: Any) -> tuple[int, ...]:
        """Run once; the nanoseconds of each step, in the order of `launched`."""
        return pool().run_timed(self._steps, frame.address)

    def release(self, frame: Any) -> None:
        """Give a frame back."""
        self._frames.append(frame)

    def _varying(self, slots: frozenset[int]) -> array[int]:
        """Of each argument that lies in a slot: its number, the slot, and the offset in there."""
        every = (pair for arguments in self._steps.arguments for pair in arguments)
        found = [(at, *pair) for at, pair in enumerate(every) if pair[0] in slots]
        return array("q", [word for words in found for word in words])

    def _run_recorded(self, frame: CpuFrame) -> None:
        times = self.run_timed(frame)
        steps = [
            TimedStep(one.name, one.node, nanoseconds * 1e-9)
            for one, nanoseconds in zip(self.launched, times, strict=True)
        ]
        add_run(Run(self.graph, tuple(steps)))

    def _new_frame(self) -> CpuFrame:
        first = len(self.inputs) + len(self.outputs)
        arena = allocate_for_long(self.program.arena_bytes) if self.program.arena_bytes else None
        arguments = sum(map(len, self._steps.arguments))
        frame = CpuFrame(first + 1 + len(self._constants), arena, arguments)
        frame.table[first] = arena.address if arena is not None else 0
        for number, constant in enumerate(self._constants):
            frame.table[first + 1 + number] = constant.address
        return frame


def _placed(program: Program, code: tuple[Code, ...]) -> list[Step]:
    """The steps with the addresses of their kernels."""
    pairs = zip(program.kernels, code, strict=True)
    addresses = [loaded[name] for (_, name), loaded in pairs]
    return [replace(step, kernel=addresses[step.kernel]) for step in program.steps]


def _constant(content: bytes) -> Storage:
    storage = allocate(len(content))
    ctypes.memmove(storage.address, content, len(content))
    return storage
