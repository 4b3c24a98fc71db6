"""Which nodes have a simpler equal? Laws that keep every bit are applied from the inputs onward.

Before: any graph that checks, after all transforms. After: the same inputs, and outputs of the same
types and, whatever the inputs hold, of the same bits (which NaN it is stays open). No law in the
tables of `arithmetic_laws` and `movement_laws` applies to a node whose operands did not change
meanwhile; the pipeline repeats the pass until nothing changes. What was replaced stays behind
unused, for `dce`. `stop_gradient` is gone, so no transform may follow. Bodies are left as they are.
"""

from __future__ import annotations

from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.passes import arithmetic_laws, movement_laws
from pellucid.passes.law import LAWS
from pellucid.passes.stage import staged

__all__ = ["TABLES", "simplify"]

TABLES = (arithmetic_laws, movement_laws)
"""The modules whose import fills LAWS."""


@staged
def simplify(graph: Graph) -> Graph:
    """Replace nodes by what a law says equals them.

    %1 = constant() [value='1.0']  %2 = mul(%0, %1)  %3 = neg(%2)  ->  %3 = neg(%0)
    """

    def rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value] | None:
        only_user = bool(operands) and graph.uses[node.operands[0]] == 1
        value = _simpler(node, operands, only_user)
        if value is None:
            return None
        # What a law makes may itself have a simpler equal.
        while value.node is not None:
            better = _simpler(value.node, value.node.operands, False)
            if better is None:
                break
            value = better
        return (value,)

    return rewrite_nodes(graph, rule)


def _simpler(node: Node, operands: tuple[Value, ...], only_user: bool) -> Value | None:
    for law in LAWS.get(node.op.name, ()):
        value = law.apply(node, operands, only_user)
        if value is not None:
            return value
    return None
