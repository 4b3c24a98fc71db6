"""How does the reference run a graph? Node by node, with what each op's card gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from pellucid.core.dtype import DType
from pellucid.core.error import DeviceError
from pellucid.engines.base import (
    ALIGNMENT,
    Frame,
    Launches,
    Layout,
    MemoryNeed,
    Storage,
    Tuned,
    array_at,
    layout,
)
from pellucid.ir.graph import Graph
from pellucid.ops.control import evaluate
from pellucid.ops.define import Op
from pellucid.passes.keep_operands import Form, as_it_lies
from pellucid.passes.pipeline import optimize


class ReferenceLaunch:
    """One op through its card's reference."""

    def __init__(self, op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...]) -> None:
        self.op, self.attrs, self.operands = op, dict(attrs), operands
        (type,) = op.result_types(tuple(operand.type for operand in operands), attrs)
        self.result = layout(type)

    def run(self, *addresses: int) -> None:
        """Read the operands, compute, write the result."""
        arrays = [array_at(a, o) for a, o in zip(addresses, self.operands, strict=False)]
        (result,) = self.op.evaluate(*arrays, **self.attrs)
        array_at(addresses[-1], self.result)[...] = result


class ReferenceFrame:
    """The addresses of one call."""

    def __init__(self, size: int) -> None:
        self.table = [0] * size

    def refilled(self) -> None:
        """Nothing is remembered of the table."""


class ReferenceExecutable:
    """A graph that is evaluated by the references of its ops."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs = tuple(value.tensor for value in graph.inputs)
        self.outputs = tuple(value.tensor for value in graph.outputs)

    @property
    def memory(self) -> MemoryNeed:
        """NumPy takes memory as it goes: nothing is planned. Raises DeviceError."""
        raise _not_here("memory: the engine 'reference' does not plan it")

    @property
    def launches(self) -> Launches:
        """NumPy computes op by op: there are no kernels. Raises DeviceError."""
        raise _not_here("launches: the engine 'reference' has no kernels")

    def lease(self, varying: Collection[int] | None = None) -> ReferenceFrame:
        """A frame; it holds nothing but the addresses."""
        return ReferenceFrame(len(self.inputs) + len(self.outputs))

    def run(self, frame: Frame) -> None:
        """Evaluate everything before anything is written: outputs may lie where inputs do."""
        layouts = [layout(type) for type in (*self.inputs, *self.outputs)]
        arrays = [array_at(a, o) for a, o in zip(frame.table, layouts, strict=True)]
        count = len(self.inputs)
        results = [np.array(result) for result in evaluate(self.graph, tuple(arrays[:count]))]
        for target, result in zip(arrays[count:], results, strict=True):
            target[...] = result

    def release(self, frame: Frame) -> None:
        """Nothing is kept."""


class ReferenceEngine:
    """The engine called "reference"."""

    name = "reference"

    def allocate(self, nbytes: int) -> Storage:
        """Plain NumPy memory, aligned."""
        block = np.empty(nbytes + ALIGNMENT, np.uint8)
        return Storage(block.ctypes.data + -block.ctypes.data % ALIGNMENT, nbytes, block)

    def allocator(self, nbytes: int) -> Callable[[], Storage]:
        """As `allocate`, for one size."""
        return partial(self.allocate, nbytes)

    def operand_form(self, dtype: DType) -> Form:
        """NumPy takes operands as they lie."""
        return as_it_lies(dtype)

    def launcher(
        self, op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...]
    ) -> ReferenceLaunch:
        """Every op has a reference."""
        return ReferenceLaunch(op, attrs, operands)

    def compile(self, graph: Graph, donate: Mapping[int, int]) -> ReferenceExecutable:
        """Nothing is compiled; the graph is kept."""
        return ReferenceExecutable(graph)

    def build(
        self, traced: Graph, donate: Mapping[int, int], fast: bool = False
    ) -> ReferenceExecutable:
        """The graph after the passes, kept."""
        return self.compile(optimize(traced, fast), donate)

    def tune(
        self, traced: Graph, donate: Mapping[int, int], seconds: float, fast: bool = False
    ) -> Tuned:
        """NumPy computes op by op: there are no schedules. Raises DeviceError."""
        raise _not_here("tune: the engine 'reference' has no schedules")


def _not_here(why: str) -> DeviceError:
    return DeviceError(f"{why}\n  ask elsewhere with `with pellucid.device('cpu'):`")


def make_engine() -> ReferenceEngine:
    """The engine, for `find_engine`."""
    return ReferenceEngine()
