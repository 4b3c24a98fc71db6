"""Which nodes say the same? Equal op, operands and attributes: common subexpressions are merged.

Before: any graph that checks; every op is pure, so an equal node is an equal value. After: no two
nodes of a graph have the same op, operands and attributes, the operands of a commutative op being
compared without their order. The first of equal nodes stays, with its source line. Equal draws of
random bits are equal too: seed and draw number are operands. Bodies of nodes are left as they are.
"""

from __future__ import annotations

from typing import Any

from pellucid.ir.build import current_builder
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import keep_node, rewrite_nodes
from pellucid.passes.stage import staged

# maximum and minimum are not here: of 0.0 and -0.0 they may give either, by position.
COMMUTATIVE = frozenset(
    (
        "add",
        "mul",
        "equal",
        "not_equal",
        "logical_and",
        "logical_or",
        "bit_and",
        "bit_or",
        "bit_xor",
    )
)


@staged
def cse(graph: Graph) -> Graph:
    """Merge nodes that compute the same.

    %2 = mul(%0, %1)  %3 = mul(%1, %0)  %4 = add(%2, %3)
      ->  %2 = mul(%0, %1)  %3 = add(%2, %2)
    """
    seen: dict[Any, tuple[Value, ...]] = {}
    results = dict(zip(graph.nodes, graph.results, strict=True))

    def rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        order = [id(value) for value in operands]
        if node.op.name in COMMUTATIVE:
            order.sort()
        key = (node.op.name, tuple(order), node.attrs)
        if key not in seen:
            seen[key] = keep_node(current_builder(), node, results[node], operands)
        return seen[key]

    return rewrite_nodes(graph, rule)
