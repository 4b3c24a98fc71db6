"""Which nodes does nobody need? Those that no output depends on: dead-code elimination.

Before: any graph that checks; every op is pure, so what is not used need not be computed. After:
each node has a result that leads to an output, in the graphs inside nodes too. The nodes that are
left are as they were, in their order. The inputs stay, used or not, because callers count them. A
draw of random bits may go: a draw has a number of its own, so removing one shifts no other.
"""

from __future__ import annotations

from pellucid.ir.graph import Graph
from pellucid.ir.rewrite import map_subgraphs, prune
from pellucid.passes.stage import staged


@staged
def dce(graph: Graph) -> Graph:
    """Drop what no output depends on.

    graph(%0) { %1 = exp(%0)  %2 = neg(%0)  return %2 }  ->  graph(%0) { %1 = neg(%0)  return %1 }
    """
    return _prune_deep(graph)


def _prune_deep(graph: Graph) -> Graph:
    kept = prune(graph)
    if any(isinstance(attr, Graph) for node in kept.nodes for _, attr in node.attrs):
        return map_subgraphs(kept, _prune_deep)
    return kept
