"""What do the tests of kernels share? Graphs made in a line, data, and a runner of kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import DType, bool_
from pellucid.engines.cpu.pool import Pool, Step, Steps
from pellucid.engines.cpu.rules import Argument, KernelCall, Realisation, realise_graph
from pellucid.engines.llvm import cache as code_cache
from pellucid.engines.llvm.jit import Code
from pellucid.engines.llvm.target import Isa, host_isa
from pellucid.engines.loops.draft import sizes_of
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops.control import evaluate

Array = NDArray[Any]
Kind = tuple[DType, tuple[int, ...]]

GUARD = 128
"""Bytes beside each result that no kernel may touch."""


def graph_of(kinds: Sequence[Kind], build: Callable[..., Value | Sequence[Value]]) -> Graph:
    """The graph of a function of values with these dtypes and shapes."""
    with building() as builder:
        inputs = [builder.input(TensorType(dtype, shape)) for dtype, shape in kinds]
        found = build(*inputs)
        return builder.graph([found] if isinstance(found, Value) else list(found))


def data(kinds: Sequence[Kind], seed: int = 0) -> tuple[Array, ...]:
    """Arrays of these dtypes and shapes: small whole numbers, or normal ones."""
    rng = np.random.default_rng(seed)
    return tuple(_array(rng, dtype, shape) for dtype, shape in kinds)


def _array(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype is bool_:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.is_integer:
        return np.asarray(rng.integers(0 if dtype.kind == "uint" else -90, 100, shape)).astype(
            dtype.numpy
        )
    return np.asarray(rng.standard_normal(shape)).astype(dtype.numpy)


def run_graph(
    graph: Graph, arrays: Sequence[Array], isa: Isa | None = None, threads: int = 1
) -> tuple[Array, ...]:
    """The graph's outputs, run as one realisation with every result between guards."""
    isa = isa or host_isa()
    return run(realise_graph(graph, isa), graph.outputs, arrays, isa, threads)


def run(
    plan: Realisation,
    outputs: Sequence[Value],
    arrays: Sequence[Array],
    isa: Isa,
    threads: int,
) -> tuple[Array, ...]:
    """Run a realisation on arrays; check that nothing beside the results was written."""
    blocks = [_block(value.dtype.bytes * array_size(value)) for value in outputs]
    dense = [np.ascontiguousarray(array) for array in arrays]
    temporaries = [np.zeros(nbytes + GUARD, np.uint8) for nbytes in plan.temporaries]
    constants = [np.frombuffer(content, np.uint8) for content in plan.constants]
    bases = [*dense, *(block[GUARD:] for block in blocks), *temporaries, *constants]
    starts = {
        "operand": 0,
        "result": len(dense),
        "temporary": len(dense) + len(blocks),
        "constant": len(dense) + len(blocks) + len(temporaries),
    }
    codes = [load(call, isa) for call in plan.calls]
    steps = Steps([_step(call, code, starts) for call, code in zip(plan.calls, codes, strict=True)])
    table = (ctypes.c_int64 * (len(bases) + 1))(*(base.ctypes.data for base in bases))
    pool_of(threads).run(steps, ctypes.addressof(table))
    return tuple(_result(block, value) for block, value in zip(blocks, outputs, strict=True))


@cache
def pool_of(threads: int) -> Pool:
    """A pool of so many threads, kept for all tests."""
    return Pool(threads)


def load(call: KernelCall, isa: Isa) -> Code:
    """The machine code of a call."""
    return code_cache.load(call.text(isa), isa, (call.kernel.name,))


def _step(call: KernelCall, code: Code, starts: dict[str, int]) -> Step:
    def place(argument: Argument) -> tuple[int, int]:
        return starts[argument.kind] + argument.index, 0

    arguments = tuple(place(argument) for argument in call.arguments)
    return Step(
        code[call.kernel.name],
        arguments,
        (),
        call.tasks,
        call.tasks_per_thread,
        call.scratch_bytes,
    )


def array_size(value: Value) -> int:
    """The number of elements."""
    return prod(sizes_of(value))


def _block(nbytes: int) -> Array:
    return np.full(nbytes + 2 * GUARD, 0xA5, np.uint8)


def _result(block: Array, value: Value) -> Array:
    inside = block[GUARD:-GUARD]
    assert (block[:GUARD] == 0xA5).all(), "something before a result was written"
    assert (block[-GUARD:] == 0xA5).all(), "something after a result was written"
    return inside.view(value.dtype.numpy).reshape(sizes_of(value)).copy()


TOLERANCES = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-14}


def check(
    kinds: Sequence[Kind],
    build: Callable[..., Value | Sequence[Value]],
    isas: Sequence[Isa] | None = None,
    slack: float = 1.0,
) -> None:
    """The kernels of a function agree with the reference, and their bits with each other's."""
    graph, arrays = graph_of(kinds, build), data(kinds)
    expected = evaluate(graph, arrays)
    bits: dict[tuple[str, bool], list[bytes]] = {}
    for isa in isas or (host_isa(),):
        for threads in (1, 3):
            found = run_graph(graph, arrays, isa, threads)
            for mine, right, value in zip(found, expected, graph.outputs, strict=True):
                assert_close(mine, right, value.dtype, slack)
            mine_bits = [array.tobytes() for array in found]
            kind = isa.bit_class, isa.pairs_bfloat16
            assert bits.setdefault(kind, mine_bits) == mine_bits, "bits differ"


def assert_close(found: Array, expected: Array, dtype: DType, slack: float = 1.0) -> None:
    """Equal within the dtype's tolerance, relative to the largest value around."""
    if not dtype.is_floating:
        np.testing.assert_array_equal(found, expected)
        return
    limit = TOLERANCES[dtype.name] * slack
    np.testing.assert_allclose(
        found.astype(np.float64), expected.astype(np.float64), rtol=limit, atol=limit
    )
