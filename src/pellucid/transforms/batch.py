"""How does one example's program become a batch's? Each op's card says how a leading axis goes on.

A value is mapped, and then has the batch axis in front, or is the same for every example; ops on
unmapped values alone are copied as they are, and computed once.
"""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.core.error import OpTypeError
from pellucid.core.shape import Size
from pellucid.core.source import at_line
from pellucid.ir.build import Builder, building
from pellucid.ir.graph import Graph, Node, TensorType, Type, Value
from pellucid.ops.define import NoBatch
from pellucid.ops.movement import broadcast
from pellucid.transforms.tangent import card


def batch(graph: Graph, mapped: Sequence[bool], size: Size) -> Graph:
    """The graph over `size` examples at once: inputs where `mapped` get a leading axis.

    All outputs get one; an output that is the same for every example is repeated.
    """
    assert len(mapped) == len(graph.inputs), "one flag for each input"
    with building() as builder:
        env = {
            value: builder.input(_with_axis(value.type, size) if flag else value.type)
            for value, flag in zip(graph.inputs, mapped, strict=True)
        }
        moving = {value for value, flag in zip(graph.inputs, mapped, strict=True) if flag}
        for node, results in zip(graph.nodes, graph.results, strict=True):
            builder.source = node.source
            flags = tuple(value in moving for value in node.operands)
            operands = tuple(env[value] for value in node.operands)
            env.update(zip(results, _apply(builder, node, operands, flags), strict=True))
            if any(flags):
                moving.update(results)
        builder.source = None
        return builder.graph(
            [env[v] if v in moving else _repeat(env[v], size) for v in graph.outputs]
        )


def _apply(
    builder: Builder, node: Node, operands: tuple[Value, ...], mapped: tuple[bool, ...]
) -> tuple[Value, ...]:
    if not any(mapped):
        return builder.add(node.op, operands, dict(node.attrs))
    rule = card(node).batch
    if isinstance(rule, NoBatch):
        raise OpTypeError(f"{node.op.name}: {rule.why}{at_line(node.source)}")
    found = rule(operands, mapped, **dict(node.attrs))
    return found if isinstance(found, tuple) else (found,)


def _with_axis(type: Type, size: Size) -> Type:
    assert isinstance(type, TensorType), "only tensors are mapped"
    return TensorType(type.dtype, (size, *type.shape))


def _repeat(value: Value, size: Size) -> Value:
    axes = tuple(range(1, value.tensor.rank + 1))
    return broadcast(value, shape=(size, *value.shape), axes=axes)
