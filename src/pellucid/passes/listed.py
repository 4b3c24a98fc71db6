"""Which scatters need no zeros? Those that add rows into zeros: each row is a sum along a list.

    %1 = constant() [value='0.0']  %2 = scatter(%1, %updates, %index) [axes=(0,), mode='add']
      ->  %1 = list_updates(%index) [sizes=(n,)]  %2 = sum_lists(%updates, %1) [..]

The sum of a row is found where it is needed, by whoever reads it: `fuse` puts it into the kernel of
an optimizer's update, and the gradient of an embedding's table is nowhere in memory. Before: any
graph that checks. After: no scatter of long rows adds into zeros that are large beside the updates,
and every bit is the same, for each place adds the same numbers in the same order.
"""

from __future__ import annotations

from math import copysign, prod
from typing import Final

from pellucid.core.shape import Shape, is_static, static_shape
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.index import scatter
from pellucid.ops.lists import list_updates, sum_lists
from pellucid.passes.law import uniform
from pellucid.passes.stage import staged

SHORTEST_ROW: Final = 8
"""The elements of a row at least: along shorter ones there are no vectors."""

MOST_MET: Final = 2
"""The updates of a place, on average, up to which lists are the faster way.

The lists of long rows are followed once for each few vectors of a row.
"""

LINK: Final = 64
"""The bytes whose way to memory and back takes as long as one more link."""

MOST: Final = 1 << 31
"""Numbers of updates and places are int32."""


@staged
def listed(graph: Graph) -> Graph:
    """Spell scatters into zeros as sums along lists where that moves less."""
    lists: dict[tuple[Shape, tuple[Value, ...]], Value] = {}

    def rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value] | None:
        if not _is_listed(node, operands):
            return None
        x, updates, *indices = operands
        sizes = x.shape[: len(indices)]
        key = sizes, tuple(indices)
        if key not in lists:
            lists[key] = list_updates(*indices, sizes=sizes)
        return (sum_lists(updates, lists[key], sizes=sizes, rank=indices[0].tensor.rank),)

    return rewrite_nodes(graph, rule)


def with_lists(graph: Graph) -> Graph:
    """The graph after the pass, which does not take place where there is nothing for it."""
    found = any(_is_listed(node, node.operands) for node in graph.nodes)
    return listed(graph) if found else graph


def _is_listed(node: Node, operands: tuple[Value, ...]) -> bool:
    """Whether a node adds long rows into zeros that are large beside the updates."""
    if node.op is not scatter or node.attr("mode") != "add" or not _is_zero(operands[0]):
        return False
    axes: tuple[int, ...] = node.attr("axes")
    if axes != tuple(range(len(axes))) or not all(is_static(value.shape) for value in operands):
        return False
    sizes = static_shape(operands[0].shape, "a scatter")
    met = prod(static_shape(operands[2].shape, "a scatter"))
    places, row = prod(sizes[: len(axes)]), prod(sizes[len(axes) :])
    if not met or row < SHORTEST_ROW or sizes[-1] == 1 or places + met >= MOST:
        return False
    return _pays(places, met, row * operands[0].dtype.bytes)


def _is_zero(value: Value) -> bool:
    number = uniform(value)
    return number == 0 and copysign(1, number) > 0


def _pays(places: int, met: int, row: int) -> bool:
    """Whether the zeros that are neither written nor read outweigh going from link to link."""
    return places * MOST_MET >= met and places * row >= met * LINK
