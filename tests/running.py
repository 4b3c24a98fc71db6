"""How does a test run one executable again and again? Arrays in, arrays out, outputs poisoned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import c_uint8
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.engines import find_engine
from pellucid.engines.base import Executable, Storage, array_at, layout
from pellucid.ir.graph import Graph

Array = NDArray[Any]
Arrays = tuple[Array, ...]

POISON = 0xA5


def compiled(graph: Graph, arrays: Sequence[Array]) -> Arrays:
    """The outputs of the graph, compiled for the CPU as it stands."""
    return call(find_engine("cpu").compile(graph, {}), arrays)


def call(
    executable: Executable, arrays: Sequence[Array], shared: Mapping[int, int] | None = None
) -> Arrays:
    """Run once, in memory of its own; `shared[i] = j` puts output j where input i lies."""
    cpu = find_engine("cpu")
    blocks = [cpu.allocate(layout(type).nbytes) for type in executable.inputs]
    for block, type, array in zip(blocks, executable.inputs, arrays, strict=True):
        array_at(block.address, layout(type), block)[...] = array
    results = [poisoned(layout(type).nbytes) for type in executable.outputs]
    for i, j in (shared or {}).items():
        results[j] = blocks[i]
    frame = executable.lease()
    for number, block in enumerate((*blocks, *results)):
        frame.table[number] = block.address
    executable.run(frame)
    executable.release(frame)
    return tuple(
        array_at(block.address, layout(type), block).copy()
        for block, type in zip(results, executable.outputs, strict=True)
    )


def poisoned(nbytes: int) -> Storage:
    """Memory in which whatever is not written is seen."""
    block = find_engine("cpu").allocate(nbytes)
    bytes_of(block)[...] = POISON
    return block


def bytes_of(block: Storage) -> Array:
    """All bytes of a block."""
    return np.ctypeslib.as_array((c_uint8 * block.nbytes).from_address(block.address))
