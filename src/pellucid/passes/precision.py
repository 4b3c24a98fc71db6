"""Where are numbers rounded before they are multiplied? What `precision` says becomes casts.

    %2 = dot_general(%0, %1) [precision=bfloat16]
      ->  %2 = cast(%0)  %3 = cast(%1)  %4 = dot_general(%2, %3) [dtype=float32]

Before: contractions and attentions of float32 that read their operands in another precision. After:
their operands have that dtype. What they read is cast once for all that read it (`cse`), by the
kernel that makes it (`fuse`), and stands in memory in the dtype that it is read in.
"""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.core.dtype import DType, float32
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.define import lookup
from pellucid.ops.elementwise import cast
from pellucid.ops.precision import unread
from pellucid.passes.stage import staged


@staged
def precision(graph: Graph) -> Graph:
    """Cast the operands of ops that are given a precision, and leave their results.

    dot_general(x, y, precision=p) = dot_general(cast(x, p), cast(y, p), dtype=float32)
    """
    return rewrite_nodes(graph, _cast_operands)


def with_casts(graph: Graph) -> Graph:
    """The graph after the pass, which does not take place where there is nothing for it."""
    return precision(graph) if any(map(_is_unrounded, graph.nodes)) else graph


def _cast_operands(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    if not _is_unrounded(node):
        return None
    op, attrs = lookup(node.op.name), dict(node.attrs)
    narrow: DType = attrs["precision"]
    read = [cast(x, dtype=narrow) if x.dtype is float32 else x for x in operands]
    return op.many(*read, **unread(op, attrs))


def _is_unrounded(node: Node) -> bool:
    """Whether a node is to read its operands otherwise than they are."""
    attrs = dict(node.attrs)
    return "precision" in attrs and any(x.dtype is float32 for x in node.operands)
