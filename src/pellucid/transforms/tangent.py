"""Which values carry a tangent? Those of a floating dtype; what both modes say of them is here.

A value depends on another if a chain of floating results leads to it; whole numbers and
`stop_gradient` break the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pellucid.core.error import DerivativeError
from pellucid.core.source import at_line
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ops.define import Op, lookup
from pellucid.ops.elementwise import stop_gradient
from pellucid.ops.movement import full


def is_floating(value: Value) -> bool:
    """Whether the value is a tensor of a floating dtype, and so carries a tangent."""
    return isinstance(value.type, TensorType) and value.type.dtype.is_floating


def zero(value: Value) -> Value:
    """A tangent or cotangent of `value` that is zero everywhere."""
    return full(value.shape, 0.0, value.dtype)


def card(node: Node) -> Op:
    """The card of the node's op."""
    return lookup(node.op.name)


def dependents(graph: Graph, wrt: Sequence[Value]) -> set[Value]:
    """The values of the graph that change with `wrt`, these included."""
    found = set(wrt)
    for node, results in zip(graph.nodes, graph.results, strict=True):
        if node.op.name != stop_gradient.name and not found.isdisjoint(node.operands):
            found.update(value for value in results if is_floating(value))
    return found


def floating_inputs(name: str, graph: Graph, wrt: Sequence[int]) -> list[Value]:
    """The inputs numbered in `wrt`; raises DerivativeError where one carries no tangent."""
    chosen = [graph.inputs[index] for index in wrt]
    for index, value in zip(wrt, chosen, strict=True):
        if not is_floating(value):
            raise DerivativeError(
                f"{name}: expected a floating input {index}, got {value.type}; "
                "cast it, or leave it out"
            )
    return chosen


def composition(node: Node, parts: Callable[..., Value]) -> Graph:
    """What a node's op is composed of, as a graph with the node's operands for inputs."""
    with building() as builder:
        inputs = [builder.input(operand.type) for operand in node.operands]
        return builder.graph([parts(*inputs, **dict(node.attrs))])


def refuse(node: Node, why: str) -> DerivativeError:
    """The error for a node that stands on the path of a derivative and has none."""
    return DerivativeError(
        f"{node.op.name}: it has no derivative, {why}; "
        f"use stop_gradient where none is meant{at_line(node.source)}"
    )
