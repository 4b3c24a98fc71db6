"""How do several kernels work on one block after another? As a kernel of kernels.

A `Blocked` kernel has a grid of blocks. For each block it runs kernels in turn, each on a part of
the buffers, and hands what one leaves in scratch memory to the next: what is between them never
lies whole in memory. The numbers that a kernel is given may depend on the block.

    blocked attention over b < 4, h < 8, r < 16
      ...
      let columns = least of 256, 16*r + 16
      run scores(x0[65536*b + 64*h], x1[65536*b + 64*h], s) with 16, columns
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from pellucid.core.dtype import DType
from pellucid.engines.loops.ir import Affine, Axis, Buffer, Kernel, Size
from pellucid.engines.loops.text import print_kernel


@dataclass(frozen=True, slots=True)
class Least:
    """A name for the least of some numbers, which may depend on the block; never below `floor`."""

    name: str
    values: tuple[Affine, ...]
    floor: int | None = 0


@dataclass(frozen=True, slots=True)
class Read:
    """A name for a whole number of a buffer."""

    name: str
    buffer: str
    index: Affine


@dataclass(frozen=True, slots=True)
class Repeat:
    """Run the body with `name` at 0, step, 2 * step, ... while it is below `stop`."""

    name: str
    stop: Size
    step: int
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Once:
    """Run the body once for each turn of the first `axes` of the grid.

    That is before the first of a turn's blocks that a thread runs: scratch memory is its own.
    """

    axes: int
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Run a kernel, by name: where its buffers begin, its size parameters, its tasks."""

    kernel: str
    places: tuple[tuple[str, Affine], ...]
    sizes: tuple[Size, ...]
    tasks: int = 1


Step = Least | Read | Repeat | Once | Run


@dataclass(frozen=True, slots=True)
class Scratch:
    """Memory of the running thread: what it holds, and its bytes, whole cache lines."""

    name: str
    dtype: DType
    bytes: Size


@dataclass(frozen=True, slots=True)
class Blocked:
    """Steps for each block of a grid, row-major; a task is one block.

    `parameters` are the sizes of the call. `kernels` are those that the steps run, none of them
    shared among threads; they take `inner_bytes` of scratch memory at most.
    """

    name: str
    buffers: tuple[Buffer, ...]
    scratch: tuple[Scratch, ...]
    grid: tuple[Axis, ...]
    body: tuple[Step, ...]
    kernels: tuple[Kernel, ...]
    inner_bytes: Size
    parameters: tuple[str, ...] = ()

    @property
    def scratch_bytes(self) -> int:
        """The bytes of scratch memory that a task takes, where sizes are numbers."""
        sizes = [*(one.bytes for one in self.scratch), self.inner_bytes]
        return sum(size for size in sizes if isinstance(size, int))

    @property
    def tasks(self) -> int:
        """How many blocks there are."""
        return prod(axis.extent for axis in self.grid if isinstance(axis.extent, int))

    def dtype_of(self, name: str) -> DType:
        """What the buffer called `name` holds."""
        return next(one.dtype for one in (*self.buffers, *self.scratch) if one.name == name)


ONE: Final = "one"
"""The name of the number 1, so that an offset can be a parameter."""

UNITS: Final = 1
"""The step of a `Repeat` over single numbers."""


def kernel_text(kernel: Kernel | Blocked) -> str:
    """The text of a kernel of either kind."""
    return print_blocked(kernel) if isinstance(kernel, Blocked) else print_kernel(kernel)


def print_blocked(blocked: Blocked) -> str:
    """The text of a kernel of kernels: its own steps, then each kernel."""
    grid = ", ".join(f"{axis.name} < {axis.extent}" for axis in blocked.grid)
    lines = [f"blocked {blocked.name} over {grid}"]
    if blocked.parameters:
        lines.append(f"  sizes {' '.join(blocked.parameters)}")
    lines += [f"  {b.access} {b.name}: {b.dtype}" for b in blocked.buffers]
    lines += [f"  scratch {b.name}: {b.dtype}, {b.bytes} bytes" for b in blocked.scratch]
    lines += _lines(blocked.body, "  ", tuple(axis.name for axis in blocked.grid))
    for kernel in blocked.kernels:
        lines += [f"  {line}" for line in print_kernel(kernel).splitlines()]
    return "\n".join(lines)


def generalise_blocked(blocked: Blocked) -> tuple[Blocked, tuple[int, ...]]:
    """The kernel of kernels with parameters in place of its numbers, and their values.

    Its inner kernels are made generic one by one before; what they are given stands in the steps.
    """
    numbers: list[int] = []

    def parameter(size: Size) -> str:
        if isinstance(size, str):
            return size
        numbers.append(size)
        return f"p{len(numbers) - 1}"

    def index(one: Affine, grounded: bool = False) -> Affine:
        terms = tuple((name, parameter(factor)) for name, factor in one.terms)
        if one.offset or grounded:
            terms = (*terms, (ONE, parameter(one.offset)))
        return Affine(terms)

    def steps(body: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(map(step, body))

    def step(one: Step) -> Step:
        match one:
            case Least(name, values, floor):
                return Least(name, tuple(index(each, grounded=True) for each in values), floor)
            case Read(name, buffer, at):
                return Read(name, buffer, index(at))
            case Repeat(name, stop, by, body):
                return Repeat(name, parameter(stop), by, steps(body))
            case Once(axes, body):
                return Once(axes, steps(body))
            case Run(kernel, places, sizes, tasks):
                where = tuple((buffer, index(at)) for buffer, at in places)
                return Run(kernel, where, tuple(map(parameter, sizes)), tasks)

    grid = tuple(Axis(axis.name, parameter(axis.extent)) for axis in blocked.grid)
    scratch = tuple(replace(one, bytes=parameter(one.bytes)) for one in blocked.scratch)
    inner = parameter(blocked.inner_bytes)
    body = steps(blocked.body)
    names = tuple(f"p{number}" for number in range(len(numbers)))
    made = replace(
        blocked, grid=grid, scratch=scratch, inner_bytes=inner, body=body, parameters=names
    )
    return made, tuple(numbers)


def _lines(steps: tuple[Step, ...], indent: str, axes: tuple[str, ...]) -> Iterator[str]:
    for step in steps:
        match step:
            case Least(name, values, floor):
                least = ("least of " if len(values) > 1 else "") + ", ".join(map(str, values))
                ground = "" if floor is None else f", at least {floor}"
                yield f"{indent}let {name} = {least}{ground}"
            case Read(name, buffer, index):
                yield f"{indent}let {name} = read {buffer}[{index}]"
            case Repeat(name, stop, by, body):
                yield f"{indent}for {name} < {stop}" + ("" if by == UNITS else f" by {by}")
                yield from _lines(body, indent + "  ", axes)
            case Once(outer, body):
                yield f"{indent}once for each {', '.join(axes[:outer])}"
                yield from _lines(body, indent + "  ", axes)
            case Run(kernel, places, sizes, tasks):
                where = ", ".join(f"{buffer}[{index}]" for buffer, index in places)
                given = f" with {', '.join(map(str, sizes))}" if sizes else ""
                cut = f" in {tasks} tasks" if tasks > 1 else ""
                yield f"{indent}run {kernel}({where}){given}{cut}"
