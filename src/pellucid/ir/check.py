"""Is this a graph? Types are inferred again op by op, and values must be made before their use."""

from __future__ import annotations

from pellucid.core.error import GraphError, OpError
from pellucid.ir.graph import Graph
from pellucid.ir.text import node_text


def check(graph: Graph, where: str = "graph") -> Graph:
    """Give the graph back; raises GraphError, naming `where` and the node, if it breaks a rule."""
    known = set(graph.inputs)
    if len(known) != len(graph.inputs):
        raise GraphError(f"{where}: an input stands twice")
    for node, results in zip(graph.nodes, graph.results, strict=True):
        for value in node.operands:
            if value not in known:
                raise GraphError(f"{where}: {node.op.name} uses a value that is not made before it")
        try:
            types = node.op.result_types(tuple(v.type for v in node.operands), dict(node.attrs))
        except OpError as error:
            raise GraphError(f"{where}: {node_text(graph, node)}: {error}") from error
        if types != node.types or types != tuple(value.type for value in results):
            raise GraphError(f"{where}: {node_text(graph, node)}: the op gives {_text(types)}")
        for _, attr in node.attrs:
            if isinstance(attr, Graph):
                check(attr, f"{where}: body of {node.op.name}")
        known.update(results)
    if not set(graph.outputs) <= known:
        raise GraphError(f"{where}: an output is not made by the graph")
    return graph


def _text(types: tuple[object, ...]) -> str:
    return ", ".join(map(str, types))
