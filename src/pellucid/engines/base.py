"""What does every engine offer? Launches of single ops, executables of whole graphs, and memory.

    launch = engine.launcher(op, attrs, layouts)       # eager: one op, any sizes, no new code
    executable = engine.compile(graph, donate={})      # jit: the whole graph, sizes baked in

`Storage` is an engine's memory; a `Layout` says how a tensor lies in it. Engines never fall back to
one another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import DType
from pellucid.core.error import UnsupportedOpError
from pellucid.core.shape import static_shape
from pellucid.core.source import Source, at_line
from pellucid.ir.graph import Graph, TensorType
from pellucid.ops.define import Op
from pellucid.passes.keep_operands import Form
from pellucid.passes.memory import Held

ALIGNMENT: Final = 64
"""Every block of memory starts at a multiple of this many bytes."""

MOST_BYTES: Final = 1 << 62
"""Larger tensors cannot be addressed, not even as views that repeat a few numbers."""


class Layout:
    """How a tensor lies in memory: dtype, shape and strides in elements. One object for each.

    Layouts are interned by `layout`, so that they are compared by identity.
    """

    __slots__ = ("dense", "dtype", "nbytes", "shape", "strides", "type")

    def __init__(self, type: TensorType, strides: tuple[int, ...]) -> None:
        self.type = type
        self.dtype: DType = type.dtype
        self.shape: tuple[int, ...] = static_shape(type.shape, "a tensor in memory")
        self.strides = strides
        self.nbytes: int = prod(self.shape) * type.dtype.bytes
        self.dense = strides == dense_strides(self.shape)
        if self.nbytes > MOST_BYTES:
            raise MemoryError(f"{type} is larger than any memory")

    def __repr__(self) -> str:
        return f"<Layout {self.type} strides {self.strides}>"


_layouts: dict[tuple[TensorType, tuple[int, ...]], Layout] = {}
_dense: dict[TensorType, Layout] = {}


def layout(type: TensorType, strides: tuple[int, ...] | None = None) -> Layout:
    """The one layout of this type and these strides (row-major where none are given).

    >>> from pellucid.core.dtype import float32
    >>> layout(TensorType(float32, (2, 3))).strides
    (3, 1)
    """
    if strides is None:
        found = _dense.get(type)
        if found is None:
            strides = dense_strides(static_shape(type.shape, "a tensor in memory"))
            found = _dense.setdefault(type, layout(type, strides))
        return found
    key = (type, strides)
    found = _layouts.get(key)
    if found is None:
        # setdefault: two threads that meet here must get one object.
        found = _layouts.setdefault(key, Layout(type, strides))
    return found


@lru_cache(maxsize=4096)
def dense_layout(dtype: DType, shape: tuple[int, ...]) -> Layout:
    """The one row-major layout of this dtype and shape."""
    return layout(TensorType(dtype, shape))


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements; an axis of size 1 or an empty tensor counts like any other."""
    strides, step = list[int](), 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


class Storage:
    """A block of host memory, kept alive by whoever holds this object.

    `address` is where it starts, `owner` what must live as long (an array, a pooled block, a
    capsule); `borrowed` says that somebody outside may change the bytes. An engine may keep the
    object itself, to give it out again when nobody else holds it: `kept` is then 1.
    """

    __slots__ = ("__weakref__", "address", "borrowed", "kept", "nbytes", "owner")

    def __init__(self, address: int, nbytes: int, owner: object, borrowed: bool = False) -> None:
        self.address = address
        self.nbytes = nbytes
        self.owner = owner
        self.borrowed = borrowed
        self.kept = 0

    def view(self, layout: Layout, address: int) -> NDArray[Any]:
        """A read-only NumPy array over this memory; the array keeps the storage alive."""
        return array_at(address, layout, self, writable=False)


class _ArrayInterface:
    """NumPy's own protocol for borrowing memory; the array's base keeps `owner` alive."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, address: int, layout: Layout, owner: object, writable: bool) -> None:
        self.owner = owner
        self.__array_interface__ = {**_interface(layout), "data": (address, not writable)}


@cache
def _interface(layout: Layout) -> dict[str, Any]:
    """What the protocol says of a layout, of which there is one object for each."""
    dtype = layout.dtype.numpy
    return {
        "version": 3,
        "shape": layout.shape,
        # NumPy has no letter for bfloat16: it travels as 16 plain bits.
        "typestr": "<u2" if dtype.kind == "V" else dtype.str,
        "strides": tuple(stride * layout.dtype.bytes for stride in layout.strides),
    }


def array_at(
    address: int, layout: Layout, owner: object = None, writable: bool = True
) -> NDArray[Any]:
    """A NumPy array over memory that `owner` (or else the caller) keeps alive.

    One that is not writable cannot be made so.
    """
    array = np.asarray(_ArrayInterface(address, layout, owner, writable))
    return array if array.dtype == layout.dtype.numpy else array.view(layout.dtype.numpy)


class Launch(Protocol):
    """One op over operands of given layouts, ready to run; safe to run from several threads."""

    @property
    def result(self) -> Layout:
        """The layout of the result, which is dense."""
        ...

    @property
    def run(self) -> Callable[..., object]:
        """What runs it, called with the operands' addresses and then the result's."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What an executable takes beside its inputs, in bytes of the blocks that its engine gives.

    A call takes an `arena`, which is kept for later calls, and memory for the `outputs` that have
    none yet. The executable holds its `constants`. Each thread that works on it takes `scratch`,
    which is no block of the engine. `held` is in the arena when that is fullest, largest first.
    """

    arena: int
    outputs: tuple[int, ...]
    constants: int
    scratch: int
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Launches:
    """How many kernels a call launches, how many of them differ, what they read and write in all.

    Each operand and result of a launch counts whole, in bytes.
    """

    count: int
    kernels: int
    moved_bytes: int


@dataclass(frozen=True, slots=True)
class TunedKernel:
    """What tuning found for one kernel: the seconds of one launch before and after, how many
    schedules were tried, the schedule that was the default and the one that is kept.
    """

    name: str
    launches: int
    tried: int
    before: float
    after: float
    default: str
    schedule: str

    @property
    def changed(self) -> bool:
        """Whether another schedule than the default is kept."""
        return self.schedule != self.default

    def __str__(self) -> str:
        times = f"{self.before * 1e6:.1f} µs"
        end = "the default is kept"
        if self.changed:
            times += f" to {self.after * 1e6:.1f}, {self.before / self.after:.2f} times as fast"
            end = self.schedule
        return f"{self.name} x {self.launches}: {times}, of {self.tried} schedules\n    {end}"


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning a program found, kernel by kernel, on so many threads.

    For `untried` kernels that take a share of the time no time was left.
    """

    kernels: tuple[TunedKernel, ...]
    untried: int
    threads: int
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether some kernel has another schedule than the default."""
        return any(kernel.changed for kernel in self.kernels)

    @property
    def saved(self) -> float:
        """The seconds by which all launches of a run are faster."""
        return sum(one.launches * (one.before - one.after) for one in self.kernels)

    def __str__(self) -> str:
        faster = sum(kernel.changed for kernel in self.kernels)
        head = (
            f"tuned in {self.seconds:.1f} s on {self.threads} thread{'s' * (self.threads != 1)}: "
            f"{faster} of {len(self.kernels)} kernels faster than by default, "
            f"{self.saved * 1e6:.1f} µs a run saved"
        )
        rest = [f"no time was left for {self.untried} more"] * (self.untried > 0)
        return "\n".join([head, *(f"  {kernel}" for kernel in self.kernels), *rest])


class Frame(Protocol):
    """What one running call needs: `table[i]` is the address of input i, then of output j."""

    table: Any

    def refilled(self) -> None:
        """Entries of the table may be others than those that were said to vary."""
        ...


class Executable(Protocol):
    """A compiled graph. Any number of calls may run at once, each with a frame of its own."""

    @property
    def inputs(self) -> tuple[TensorType, ...]:
        """The types of the inputs."""
        ...

    @property
    def outputs(self) -> tuple[TensorType, ...]:
        """The types of the outputs."""
        ...

    @property
    def memory(self) -> MemoryNeed:
        """What a call takes, known before it runs; raises DeviceError where nothing is planned."""
        ...

    @property
    def launches(self) -> Launches:
        """What a call launches and moves; raises DeviceError where there are no kernels."""
        ...

    def lease(self, varying: Collection[int] | None = None) -> Frame:
        """A frame with working memory of its own.

        Of its entries only those `varying` change from run to run, unless it is `refilled`; all of
        them may where nothing is said.
        """
        ...

    def run(self, frame: Frame) -> None:
        """Run once; releases the GIL. Inputs and outputs are dense."""
        ...

    def release(self, frame: Frame) -> None:
        """Give a frame back."""
        ...


class Engine(Protocol):
    """Runs single ops and whole graphs on one kind of device."""

    @property
    def name(self) -> str:
        """The name by which it is looked up."""
        ...

    def allocate(self, nbytes: int) -> Storage:
        """Memory for a result, aligned to ALIGNMENT bytes, its content undefined."""
        ...

    def allocator(self, nbytes: int) -> Callable[[], Storage]:
        """What `allocate` does for so many bytes, quicker where it is asked for again and again."""
        ...

    def operand_form(self, dtype: DType) -> Form:
        """How a constant operand of products of this dtype is best laid out, if it may be kept."""
        ...

    def launcher(self, op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...]) -> Launch:
        """One op made ready for operands that lie so; raises UnsupportedOpError."""
        ...

    def compile(self, graph: Graph, donate: Mapping[int, int]) -> Executable:
        """The graph made ready to run.

        `donate[i] = j` lets output j be written where input i lies: the caller may give both one
        address, or different ones, call by call.
        """
        ...

    def build(self, traced: Graph, donate: Mapping[int, int], fast: bool = False) -> Executable:
        """As `compile`, for a graph as it was traced: first come the passes.

        Those that change rounding are among them only where it may be `fast`.
        An engine may remember from call to call, or from process to process, what came of it.
        """
        ...

    def tune(
        self, traced: Graph, donate: Mapping[int, int], seconds: float, fast: bool = False
    ) -> Tuned:
        """Try other schedules for the kernels that `build` makes, and remember faster ones.

        No bit of any result changes. Raises DeviceError where there are no schedules.
        """
        ...


def unsupported(engine: str, op: str, why: str, source: Source | None = None) -> UnsupportedOpError:
    """The error of an engine that has no rule for an op, saying why and where."""
    return UnsupportedOpError(
        f"{op}: the engine {engine!r} cannot run it, {why}{at_line(source)}\n"
        f"  run it elsewhere with `with pellucid.device('reference'):`"
    )
