"""Which divisions are products? Those by a number: x / c is x * (1 / c), with one rounding more.

Only where `fast=True` asked for it. Before: any graph that checks. After: no float is divided by a
uniform constant that is a normal number with a normal reciprocal. A quotient is off by at most 1.5
units in the last place, where it is normal.
"""

from __future__ import annotations

from math import frexp, isfinite

from pellucid.core.dtype import float16
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.elementwise import div, mul
from pellucid.ops.movement import full_like
from pellucid.passes.law import uniform
from pellucid.passes.stage import staged


@staged
def divide_by_numbers(graph: Graph) -> Graph:
    """x / c = x * (1 / c), up to rounding.

    %1 = constant() [value='3.0']  %2 = div(%0, %1)
      ->  %1 = constant() [value='0.33333334']  %2 = mul(%0, %1)
    """
    return rewrite_nodes(graph, _rule)


def _rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value] | None:
    if node.op is not div:
        return None
    x, by = operands
    number = uniform(by)
    if not x.dtype.is_floating or not number or not isfinite(number):
        return None
    limit = 13 if x.dtype is float16 else 125
    return (mul(x, full_like(x, 1 / number)),) if abs(frexp(number)[1]) <= limit else None
