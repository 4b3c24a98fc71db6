"""How does a test run a graph on an engine? Compiled as a whole, or launched op by op."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.engines.base import Engine, Layout, Storage, array_at, layout
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ops import lookup
from pellucid.ops.define import type_of

Arrays = tuple[NDArray[Any], ...]


def stored(engine: Engine, array: NDArray[Any], place: Layout | None = None) -> Storage:
    """A copy of the array in the engine's memory, in the layout `place` (dense by default)."""
    place = place or layout(type_of(array))
    block = engine.allocate(place.nbytes)
    array_at(block.address, place, block)[...] = array
    return block


def run_compiled(engine: Engine, graph: Graph, arrays: Arrays) -> Arrays:
    """The outputs of the graph compiled as it stands."""
    executable = engine.compile(graph, {})
    places = [layout(type) for type in executable.outputs]
    blocks = [engine.allocate(place.nbytes) for place in places]
    operands = [stored(engine, array) for array in arrays]
    frame = executable.lease()
    for index, block in enumerate((*operands, *blocks)):
        frame.table[index] = block.address
    executable.run(frame)
    executable.release(frame)
    return tuple(array_at(b.address, p, b) for b, p in zip(blocks, places, strict=True))


def run_launched(engine: Engine, graph: Graph, arrays: Arrays) -> Arrays:
    """The outputs of the graph run op by op, as eager execution does."""
    env = {v: stored(engine, array) for v, array in zip(graph.inputs, arrays, strict=True)}
    for node, (result,) in zip(graph.nodes, graph.results, strict=True):
        env[result] = _launched(engine, node, env)
    places = [(env[value], layout(value.tensor)) for value in graph.outputs]
    return tuple(np.array(array_at(block.address, place)) for block, place in places)


def _launched(engine: Engine, node: Node, env: dict[Value, Storage]) -> Storage:
    if node.op.name == "stop_gradient":  # eager gives the operand itself
        return env[node.operands[0]]
    operands = tuple(layout(value.tensor) for value in node.operands)
    launch = engine.launcher(lookup(node.op.name), dict(node.attrs), operands)
    block = engine.allocate(launch.result.nbytes)
    launch.run(*(env[value].address for value in node.operands), block.address)
    return block
