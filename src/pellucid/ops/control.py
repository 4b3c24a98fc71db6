"""Which ops hold a graph? `fusion`: its body, as one kernel. It means just what its body means."""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

from pellucid.core.error import OpTypeError
from pellucid.core.shape import Size
from pellucid.ir.build import current_builder
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops.define import Array, Cost, NoBatch, NoDerivative, define, lookup, moved_bytes

FUSION_KINDS = ("loop", "reduce", "rows", "columns", "contract")


def evaluate(graph: Graph, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Run a graph node by node with each op's reference."""
    env = dict(zip(graph.inputs, arrays, strict=True))
    for node, results in zip(graph.nodes, graph.results, strict=True):
        operands = [env[value] for value in node.operands]
        found = lookup(node.op.name).evaluate(*operands, **dict(node.attrs))
        env.update(zip(results, found, strict=True))
    return tuple(env[value] for value in graph.outputs)


def _fusion_infer(*types: TensorType, body: Graph, kind: str) -> tuple[TensorType, ...]:
    if kind not in FUSION_KINDS:
        raise OpTypeError(f"fusion: expected a kind of {', '.join(FUSION_KINDS)}, got {kind!r}")
    expected = tuple(value.tensor for value in body.inputs)
    if types != expected:
        raise OpTypeError(
            f"fusion: expected {', '.join(map(str, expected))}, got {', '.join(map(str, types))}"
        )
    return tuple(value.tensor for value in body.outputs)


def _fusion_cost(
    operands: tuple[TensorType, ...],
    results: tuple[TensorType, ...],
    *,
    body: Graph,
    kind: str,
) -> Cost:
    flops: Size = 0
    for node in body.nodes:
        types = tuple(value.tensor for value in node.operands)
        made: Any = node.types
        flops = flops + lookup(node.op.name).cost(types, made, **dict(node.attrs)).flops
    return Cost(flops, moved_bytes(operands) + moved_bytes(results))


def inline(body: Graph, operands: tuple[Value, ...]) -> list[Value]:
    """The nodes of a body in the open builder."""
    return current_builder().inline(body, operands)


fusion = define(
    "fusion",
    infer=_fusion_infer,
    reference=lambda *arrays, body, kind: evaluate(body, arrays),
    derivative=NoDerivative("transforms come before fusing"),
    batch=NoBatch("transforms come before fusing"),
    cost=_fusion_cost,
    kind="control",
    what="a graph as one kernel",
)
