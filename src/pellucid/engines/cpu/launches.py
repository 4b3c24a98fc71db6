"""How do the kernels of one op run, once they are ready? As launches, one kind for each need.

Nearly all ops are one kernel on the calling thread, `Alone`: its `run` is a builtin function.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.engines.base import Launch, Layout
from pellucid.engines.cpu.calls import kernel_call
from pellucid.engines.cpu.pool import Step, Steps, pool
from pellucid.engines.llvm.jit import Code

Run = Callable[..., object]
"""Called with the operands' addresses, then the result's."""

Arrays = tuple[np.ndarray[Any, Any], ...]
"""Constants that a kernel reads; they live as long as its launch."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A compiled kernel with the values of its sizes; `order[i]` is the address of its buffer i."""

    code: Code
    name: str
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    tasks: int
    tasks_per_thread: int = 1
    scratch_bytes: int = 0


def step_of(ready: Ready, arguments: tuple[tuple[int, int], ...]) -> Step:
    """The step that runs a kernel on these (index of an address, further bytes)."""
    address, each = ready.code[ready.name], ready.tasks_per_thread
    return Step(address, arguments, ready.sizes, ready.tasks, each, ready.scratch_bytes)


class Nothing:
    """The launch of an op whose result has no elements."""

    __slots__ = ("result",)

    def __init__(self, result: Layout) -> None:
        self.result = result

    def run(self, *addresses: int) -> None:
        """Do nothing."""


class Ignoring:
    """The launch of what does not look at its operands."""

    __slots__ = ("_plain", "result")

    def __init__(self, result: Layout, plain: Launch) -> None:
        self.result, self._plain = result, plain.run

    def run(self, *addresses: int) -> None:
        """Run what looks at none."""
        self._plain(addresses[-1])


class Alone:
    """A kernel with little to do, run by the calling thread."""

    __slots__ = ("result", "run")

    def __init__(self, result: Layout, ready: Ready, arrays: Arrays, brief: bool) -> None:
        self.result = result
        sizes = array("q", ready.sizes)
        address = ready.code[ready.name]
        keep = (ready.code, sizes, arrays)
        call = kernel_call(address, sizes.buffer_info()[0], ready.tasks, brief, keep)
        self.run: Run = call
        if arrays:
            constants = _addresses(arrays)
            self.run = lambda *addresses: call(*addresses, *constants)


class Shared:
    """A kernel with scratch memory or enough to do for several threads."""

    __slots__ = ("_constants", "_keep", "_steps", "result")

    def __init__(self, result: Layout, ready: Ready, arrays: Arrays) -> None:
        self.result = result
        self._keep = (ready.code, arrays)
        self._constants = _addresses(arrays)
        self._steps = Steps([step_of(ready, tuple((index, 0) for index in ready.order))])

    def run(self, *addresses: int) -> None:
        """Run it on as many threads as that is worth."""
        pool().run_on(self._steps, *addresses, *self._constants)


class InTurn:
    """Kernels that fill one result, each on the operands that it reads."""

    __slots__ = ("_keep", "_steps", "result")

    def __init__(self, result: Layout, steps: list[Step], codes: list[Code]) -> None:
        self.result = result
        self._keep = codes
        self._steps = Steps(steps)

    def run(self, *addresses: int) -> None:
        """Run one after the other."""
        pool().run_on(self._steps, *addresses)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The copy of some weights, from `start` bytes on, to `at` in the memory of them all."""

    copy: Launch
    start: int
    at: int


class Phased:
    """A convolution over an operand with gaps: copies of its weights, then its phases in turn."""

    __slots__ = ("_copies", "_held", "_phases", "result")

    def __init__(self, result: Layout, copies: list[Gathered], phases: Launch, held: int) -> None:
        self.result, self._copies, self._phases, self._held = result, copies, phases, held

    def run(self, *addresses: int) -> None:
        """Copy the weights, then run the phases."""
        held = np.empty(self._held, np.uint8)
        for one in self._copies:
            one.copy.run(addresses[1] + one.start, held.ctypes.data + one.at)
        self._phases.run(*addresses, held.ctypes.data)


class Split:
    """A reduction with few results: the kernel of its chunks, then that of their sums."""

    __slots__ = ("_chunks", "_held", "_total", "result")

    def __init__(self, result: Layout, chunks: Launch, total: Launch, held: int) -> None:
        self.result, self._chunks, self._total, self._held = result, chunks, total, held

    def run(self, *addresses: int) -> None:
        """Sum the chunks, then their sums."""
        *operands, result = addresses
        held = np.empty(self._held, np.uint8)
        self._chunks.run(*operands, held.ctypes.data)
        self._total.run(result, held.ctypes.data)


class Pair:
    """A contraction one of whose operands is first copied, from `start` bytes on."""

    __slots__ = ("_copy", "_rest", "_side", "_start", "result")

    def __init__(self, copy: Launch, rest: Launch, side: int, start: int) -> None:
        self.result = rest.result
        self._copy, self._rest, self._side, self._start = copy, rest, side, start

    def run(self, *addresses: int) -> None:
        """Copy, then contract."""
        held = np.empty(self._copy.result.nbytes, np.uint8)
        operands = list(addresses)
        self._copy.run(operands[self._side] + self._start, held.ctypes.data)
        operands[self._side] = held.ctypes.data
        self._rest.run(*operands)


def _addresses(arrays: Arrays) -> tuple[int, ...]:
    return tuple(constant.ctypes.data for constant in arrays)


class Rounded:
    """An op some of whose operands, by number, are first copied."""

    __slots__ = ("_copies", "_rest", "result")

    def __init__(self, copies: Mapping[int, Launch], rest: Launch) -> None:
        self.result, self._rest = rest.result, rest.run
        self._copies = [(at, copy.run, copy.result.nbytes) for at, copy in copies.items()]

    def run(self, *addresses: int) -> None:
        """Copy, then run on the copies."""
        read, held = list(addresses), list[np.ndarray[Any, Any]]()
        for at, copy, nbytes in self._copies:
            held.append(np.empty(nbytes, np.uint8))
            copy(read[at], held[-1].ctypes.data)
            read[at] = held[-1].ctypes.data
        self._rest(*read)
