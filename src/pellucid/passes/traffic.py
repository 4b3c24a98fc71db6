"""How much must a program move through memory, and how much does it compute? By its graph alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import prune
from pellucid.ops.define import Op, lookup
from pellucid.passes.views import value_bytes

MADE_AGAIN: Final = ("elementwise", "movement")
"""Kinds of ops that cost so little that their results need not be kept."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one call launches, moves and computes, beside the fewest bytes that it has to move.

    `moved_bytes` are the operands and results of all launches, each counted whole, without what a
    kernel packs for itself; `fewest_bytes` are those of the function of that name.
    """

    launches: int
    kernels: int
    moved_bytes: int
    fewest_bytes: int
    flops: int

    def __str__(self) -> str:
        times = self.moved_bytes / self.fewest_bytes if self.fewest_bytes else 1.0
        return (
            f"{self.launches} launches of {self.kernels} kernels, {self.flops:,} flops, "
            f"{self.moved_bytes:,} bytes moved, {times:.2f} times the fewest"
        )


def fewest_bytes(graph: Graph, results: int) -> int:
    """What any order of kernels moves at least, if nothing but cheap ops is computed twice.

    Each input that is used is read once and each output written once. What is kept from the forward
    pass is written and read: the forward pass is what the first `results` outputs are made of, and
    kept are its values that other nodes read, without those that elementwise ops and movement make
    again from inputs and from other kept ones. A value of which only a part is read counts whole.
    """
    used = {value for node in prune(graph).nodes for value in node.operands} | set(graph.outputs)
    total = sum(value_bytes(value) for value in graph.inputs if value in used)
    total += sum(value_bytes(value) for value in graph.outputs)
    outputs = set(graph.outputs)
    for value in _kept(graph, results):
        # An output is written already.
        total += value_bytes(value) * (1 if value in outputs else 2)
    return total


def flops_of(nodes: Iterable[Node]) -> int:
    """The floating operations of some nodes of known sizes, by the cards of their ops."""
    total = 0
    for node in nodes:
        assert isinstance(node.op, Op), "a graph for engines consists of ops"
        operands = tuple(value.tensor for value in node.operands)
        flops = node.op.cost(operands, node.types, **dict(node.attrs)).flops
        assert isinstance(flops, int), "sizes are known here"
        total += flops
    return total


def _kept(graph: Graph, results: int) -> list[Value]:
    forward = prune(Graph(graph.inputs, graph.nodes, graph.results, graph.outputs[:results]))
    inside = set(forward.nodes)
    rest = [node for node in prune(graph).nodes if node not in inside]
    operands = (value for node in rest for value in node.operands if value.node in inside)
    read = {_before_movement(value) for value in operands}
    there = {*graph.inputs, *read}
    kept: list[Value] = []
    for node, values in zip(forward.nodes, forward.results, strict=True):
        again = lookup(node.op.name).kind in MADE_AGAIN or not node.operands
        if again and there.issuperset(node.operands):
            there.update(values)
        else:
            kept += [value for value in values if value in read]
    return kept


def _before_movement(value: Value) -> Value:
    """Where a value's elements come from, if that is no larger: what is broadcast, for instance."""
    while value.node is not None and lookup(value.node.op.name).kind == "movement":
        (source,) = value.node.operands
        if value_bytes(source) > value_bytes(value):
            break
        value = source
    return value
