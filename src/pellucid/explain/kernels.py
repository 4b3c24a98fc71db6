"""What became one kernel? Each node of a fused graph, told by the ops inside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pellucid.ir.graph import Graph, Node, Type

QUIET = ("constant", "broadcast", "reshape", "transpose", "stop_gradient")
"""Ops that only say where numbers come from: a kernel does no work for them."""


@dataclass(frozen=True)
class KernelSummary:
    """A kernel to be: its kind, its ops with how often they occur, and the types it gives."""

    kind: str
    ops: tuple[tuple[str, int], ...]
    results: tuple[Type, ...]

    @property
    def fused(self) -> bool:
        """Whether several ops became one kernel."""
        return sum(count for _, count in self.ops) > 1

    @property
    def work(self) -> str:
        """The ops in words: `exp mul×2`."""
        return " ".join(op if count == 1 else f"{op}×{count}" for op, count in self.ops)

    def __str__(self) -> str:
        return f"{self.kind}: {self.work} -> {', '.join(map(str, self.results))}"


def summaries(graph: Graph) -> tuple[KernelSummary, ...]:
    """One summary for each node of a graph that `fuse` left, constants aside.

    >>> import pellucid as pe
    >>> with pe.recording() as record:
    ...     made = pe.jit(lambda x: pe.exp(x) * x).compile(pe.zeros((3,)))
    >>> from pellucid.explain import graph_of
    >>> print(*summaries(graph_of(record.named("fuse")[-1])))
    loop: exp mul -> float32[3]
    """
    return tuple(map(summary_of, kernel_nodes(graph)))


def kernel_nodes(graph: Graph) -> tuple[Node, ...]:
    """The nodes of a graph that `fuse` left which become kernels: all but constants."""
    return tuple(node for node in graph.nodes if node.op.name != "constant")


def summary_of(node: Node) -> KernelSummary:
    """What one node of a fused graph will do as a kernel."""
    if node.op.name != "fusion":
        return KernelSummary("single", ((node.op.name, 1),), node.types)
    body: Graph = node.attr("body")
    return KernelSummary(str(node.attr("kind")), _counted(body.nodes), node.types)


def _counted(nodes: Iterable[Node]) -> tuple[tuple[str, int], ...]:
    names = [node.op.name for node in nodes]
    working = [name for name in names if name not in QUIET]
    return tuple(Counter(working or names).items())
