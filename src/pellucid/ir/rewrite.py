"""How is a graph changed? Node by node into a new one: a rule gives what replaces a node's values.

The rule works on values of the new graph, so rewriting a producer is seen by its consumers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pellucid.ir.build import Builder, building, current_builder
from pellucid.ir.graph import Graph, Node, Value

Rule = Callable[[Node, tuple[Value, ...]], Sequence[Value] | None]


def rewrite_nodes(graph: Graph, rule: Rule) -> Graph:
    """Rebuild a graph, asking `rule(node, operands)` for each node what stands in its place.

    The operands are values of the new graph; the rule may call ops, and gives None to keep a
    node. Nodes that end up unused stay: `dce` removes them. The new graph shares with the old one
    its inputs and the nodes before which nothing changed; if nothing changed, it is the old one.
    """
    return rewrite_values(graph, rule)[0]


def rewrite_values(graph: Graph, rule: Rule) -> tuple[Graph, dict[Value, Value]]:
    """As `rewrite_nodes`; gives also what each value of the old graph is in the new one."""
    with building(Builder(graph.inputs)) as builder:
        env: dict[Value, Value] = {value: value for value in graph.inputs}
        for node, results in zip(graph.nodes, graph.results, strict=True):
            builder.source = node.source
            operands = tuple(env[value] for value in node.operands)
            values = rule(node, operands)
            if values is None:
                values = keep_node(builder, node, results, operands)
            else:
                types = tuple(value.type for value in values)
                assert types == node.types, f"{node.op.name} changed its type"
            env.update(zip(results, values, strict=True))
        if builder.nodes == list(graph.nodes):
            return graph, env
        return builder.graph([env[value] for value in graph.outputs]), env


def keep_node(
    builder: Builder, node: Node, results: tuple[Value, ...], operands: tuple[Value, ...]
) -> tuple[Value, ...]:
    """The node itself with its results, where its operands are the old ones; else a copy."""
    if operands == node.operands:
        builder.nodes.append(node)
        builder.results.append(results)
        return results
    return copy_node(builder, node, operands)


def copy_node(builder: Builder, node: Node, operands: Sequence[Value]) -> tuple[Value, ...]:
    """The same node over other operands, with the source of the builder."""
    if all(new.type == old.type for new, old in zip(operands, node.operands, strict=True)):
        # Equal operands give equal results: nothing is to be inferred again.
        copy = Node(node.op, tuple(operands), node.attrs, node.types, builder.source)
        return builder.append(copy)
    return builder.add(node.op, operands, dict(node.attrs))


def made_of(builder: Builder, value: Value, env: dict[Value, Value]) -> Value:
    """A value copied with all that it is made of, down to what `env` has; that grows by it."""
    node = value.node
    if node is None or value in env:
        return env[value]
    operands = [made_of(builder, operand, env) for operand in node.operands]
    (env[value],) = builder.add(node.op, operands, dict(node.attrs))
    return env[value]


def prune(graph: Graph) -> Graph:
    """The graph without the nodes that no output needs; its inputs stay.

    The graph itself, if every node is needed.
    """
    needed = set(graph.outputs)
    kept: list[tuple[Node, tuple[Value, ...]]] = []
    for node, results in zip(reversed(graph.nodes), reversed(graph.results), strict=True):
        if not needed.isdisjoint(results):
            needed.update(node.operands)
            kept.append((node, results))
    if len(kept) == len(graph.nodes):
        return graph
    kept.reverse()
    nodes, values = tuple(node for node, _ in kept), tuple(results for _, results in kept)
    return Graph(graph.inputs, nodes, values, graph.outputs)


def map_subgraphs(graph: Graph, function: Callable[[Graph], Graph]) -> Graph:
    """The graph with `function` applied to every graph in its nodes' attributes."""

    def rule(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        if not any(isinstance(attr, Graph) for _, attr in node.attrs):
            return None
        attrs: dict[str, Any] = {
            name: function(attr) if isinstance(attr, Graph) else attr for name, attr in node.attrs
        }
        return current_builder().add(node.op, operands, attrs)

    return rewrite_nodes(graph, rule)
