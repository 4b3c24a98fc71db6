"""In which order of axes is a value computed? In that of its neighbours, where only views differ.

A model written for another layout turns its operand before each convolution and the result back.
What stands between, an activation, an addition, a joining of channels, does the same to every
element wherever it lies; so it moves to the other side of the transposes, which meet and cancel:

    transpose(relu(transpose(x, p)), q) -> transpose(transpose(relu(x), p), q)

Before: any graph that checks. After: the same inputs and outputs, and every bit of them. An op that
does the same to elements wherever they lie, and has turned operands alone, is computed in their
order, if a transpose awaits its result or an op that is so moved. Sums stay where they are: their
order is that of the logical axes. The transposes themselves are joined by the laws of `simplify`.
Bodies of nodes are left as they are.
"""

from __future__ import annotations

from typing import Any

from pellucid.core.shape import Axes
from pellucid.ir.build import current_builder
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.define import lookup
from pellucid.ops.movement import broadcast, constant, full, inverse, transpose
from pellucid.passes.law import uniform
from pellucid.passes.stage import staged


@staged
def layout(graph: Graph) -> Graph:
    """Compute what lies between transposes in the order in which its operands lie.

    %1 = transpose(%0)  %2 = exp(%1)  %3 = transpose(%2)
      ->  %4 = exp(%0)  %2 = transpose(%4)  %3 = transpose(%2)
    """
    awaited = _awaited(graph)

    def rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value] | None:
        if node not in awaited:
            return None
        permutation = _common(operands)
        if permutation is None:
            return None
        back = inverse(permutation)
        moved = [_turned(operand, back) for operand in operands]
        (found,) = current_builder().add(node.op, moved, _moved_attrs(node, permutation))
        return (transpose(found, permutation=permutation),)

    return rewrite_nodes(graph, rule)


def _awaited(graph: Graph) -> set[Node]:
    """The nodes that may move, and for whose result a transpose waits, itself or through others."""
    awaited, wanted = set[Node](), set[Value]()
    for node, results in zip(reversed(graph.nodes), reversed(graph.results), strict=True):
        if _moves(node) and not wanted.isdisjoint(results):
            awaited.add(node)
        if node.op is transpose or node in awaited:
            wanted.update(node.operands)
    return awaited


def _moves(node: Node) -> bool:
    """Whether a node does the same to elements however their axes are ordered."""
    op = lookup(node.op.name)
    return op.kind == "elementwise" or op.name in ("concatenate", "slice")


def _moved_attrs(node: Node, permutation: Axes) -> dict[str, Any]:
    """A node's attributes where its operands' axes are not yet permuted."""
    attrs = dict(node.attrs)
    if node.op.name == "concatenate":
        attrs["axis"] = permutation[attrs["axis"]]
    if node.op.name == "slice":
        back = inverse(permutation)
        for name in ("start", "stop", "strides"):
            attrs[name] = tuple(attrs[name][axis] for axis in back)
    return attrs


def _common(operands: tuple[Value, ...]) -> Axes | None:
    """The permutation by which all operands are turned that are no constants or broadcasts."""
    found: set[Axes] = set()
    for operand in operands:
        node = operand.node
        if node is not None and node.op is transpose:
            found.add(node.attr("permutation"))
        elif not _is_spread(operand):
            return None
    if len(found) != 1:
        return None
    (permutation,) = found
    back = inverse(permutation)
    kept = (
        _turns_freely(x, back) for x in operands if x.node is None or x.node.op is not transpose
    )
    return permutation if all(kept) else None


def _is_spread(value: Value) -> bool:
    return uniform(value) is not None or (value.node is not None and value.node.op is broadcast)


def _turns_freely(spread: Value, permutation: Axes) -> bool:
    """Whether a constant or a broadcast is one in the other order too, without a transpose."""
    axes = _broadcast_axes(spread, permutation)
    return list(axes) == sorted(axes)


def _broadcast_axes(spread: Value, permutation: Axes) -> Axes:
    if spread.node is None or spread.node.op is constant:
        return ()
    return tuple(permutation.index(axis) for axis in spread.node.attr("axes"))


def _turned(operand: Value, permutation: Axes) -> Value:
    """An operand with its axes permuted; what was turned the other way is as it was."""
    node = operand.node
    assert node is not None, "what is turned was made"
    if node.op is transpose:
        return node.operands[0]
    shape = tuple(operand.shape[axis] for axis in permutation)
    number = uniform(operand)
    if number is not None:
        return full(shape, number, operand.dtype)
    return broadcast(node.operands[0], shape=shape, axes=_broadcast_axes(operand, permutation))
