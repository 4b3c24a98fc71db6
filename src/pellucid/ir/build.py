"""How does a graph come to be? A `Builder` collects nodes; ops called on Values go to the open one.

with building() as b:
    x = b.input(TensorType(float32, (3,)))
    y = mul(x, x)                     # a node in b
graph = b.graph([y])
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pellucid.core.error import GraphError
from pellucid.core.source import Source
from pellucid.ir.graph import Graph, Node, Operation, Type, Value, freeze_attrs


class Builder:
    """A graph under construction. `source` is the user's line given to new nodes."""

    def __init__(self, inputs: Sequence[Value] = ()) -> None:
        self.inputs: list[Value] = list(inputs)
        self.nodes: list[Node] = []
        self.results: list[tuple[Value, ...]] = []
        self.source: Source | None = None

    def input(self, type: Type) -> Value:
        """A new input of the graph."""
        value = Value(type)
        self.inputs.append(value)
        return value

    def add(
        self, op: Operation, operands: Sequence[Value], attrs: Mapping[str, Any]
    ) -> tuple[Value, ...]:
        """Append a node and give its results; raises what the op's inference raises."""
        types = op.result_types(tuple(value.type for value in operands), attrs)
        return self.append(Node(op, tuple(operands), freeze_attrs(attrs), types, self.source))

    def append(self, node: Node) -> tuple[Value, ...]:
        """Append a node whose types are known to be right, and give its results."""
        if len(node.types) == 1:
            values = (Value(node.types[0], node),)
        else:
            values = tuple(Value(type, node, index) for index, type in enumerate(node.types))
        self.nodes.append(node)
        self.results.append(values)
        return values

    def inline(self, graph: Graph, operands: Sequence[Value]) -> list[Value]:
        """Copy a graph's nodes here, its inputs being `operands`; gives its outputs."""
        env = self.copy(graph, operands)
        return [env[value] for value in graph.outputs]

    def copy(self, graph: Graph, operands: Sequence[Value]) -> dict[Value, Value]:
        """As `inline`, but gives what every value of the graph became."""
        assert len(operands) == len(graph.inputs), "one operand for each input"
        env = dict(zip(graph.inputs, operands, strict=True))
        outer = self.source
        for node, results in zip(graph.nodes, graph.results, strict=True):
            self.source = node.source or outer
            copies = self.add(node.op, [env[v] for v in node.operands], dict(node.attrs))
            env.update(zip(results, copies, strict=True))
        self.source = outer
        return env

    def graph(self, outputs: Sequence[Value]) -> Graph:
        """The finished graph."""
        return Graph(tuple(self.inputs), tuple(self.nodes), tuple(self.results), tuple(outputs))


class _Open(threading.local):
    def __init__(self) -> None:
        self.builders: list[Builder] = []


_open = _Open()


@contextmanager
def building(builder: Builder | None = None) -> Generator[Builder]:
    """Make `builder`, or a new one, the place where ops called on Values put their nodes."""
    builder = builder or Builder()
    _open.builders.append(builder)
    try:
        yield builder
    finally:
        _open.builders.pop()


def current_builder() -> Builder:
    """The innermost open builder; raises GraphError where there is none."""
    if not _open.builders:
        raise GraphError("an op was called on graph values outside `with building():`")
    return _open.builders[-1]
