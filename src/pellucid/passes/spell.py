"""Which ops are there for their derivative alone? They are spelled out by others.

    %1 = spread(%0)  ->  %1 = sum(%0) ... %4 = sub(%0, %3)  %5 = mul(%4, %4)  %6 = sum(%5)

Before: any graph that checks. After: no `spread` is left, and every bit is the same. What its parts
share with others (a mean that is needed anyway) is made once, and fusion sees into them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.spread import spelled_out, spread
from pellucid.passes.stage import staged


@staged
def spell(graph: Graph) -> Graph:
    """Spell out sums of squared distances from a mean."""

    def rule(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        return (spelled_out(operands[0], node.attr("axes")),) if node.op is spread else None

    return rewrite_nodes(graph, rule)


def with_parts(graph: Graph) -> Graph:
    """The graph after the pass, which does not take place where there is nothing for it."""
    return spell(graph) if any(node.op is spread for node in graph.nodes) else graph
