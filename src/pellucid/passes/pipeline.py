"""In what order does a graph become a program for an engine? Cleaned until it rests, then fused.

The meaning and the bits of the outputs stay the same throughout, but for the passes in FAST, which
run only where `fast=True` was asked for. Each pass says in its file what is legal before and after
it. After `optimize` no transform may follow: `stop_gradient` is gone and kernels are closed
`fusion` nodes.
"""

from __future__ import annotations

from pellucid.ir.graph import Graph
from pellucid.ir.record import add_stage
from pellucid.passes.cse import cse
from pellucid.passes.dce import dce
from pellucid.passes.divide_by_numbers import divide_by_numbers
from pellucid.passes.fast import FastPass, Rewrite, merged, went
from pellucid.passes.fold import fold
from pellucid.passes.fuse import fuse
from pellucid.passes.precision import with_casts
from pellucid.passes.simplify import simplify

ROUNDS = 8
"""Most graphs rest after two rounds; what still moves after this many is correct as it is."""

FAST: tuple[FastPass, ...] = (
    FastPass(divide_by_numbers, went("div"), "at most 1.5 units in the last place a quotient"),
)
"""The passes that change rounding, in the order in which they run."""


def optimize(graph: Graph, fast: bool = False) -> Graph:
    """The same program in fewer and larger steps: what an engine compiles.

    Where it may be `fast`, the results are the same but for the errors that passes in FAST state.
    """
    graph = clean(graph)
    if fast:
        graph, _ = hasten(graph)
    # Fusing comes last: it groups what is truly there, and the laws need not look into kernels.
    return fuse(graph)


def hasten(graph: Graph) -> tuple[Graph, tuple[Rewrite, ...]]:
    """A clean program with other rounding, clean again, and what was rewritten."""
    # After cleaning: how a thing was spelled then matters least.
    found: list[Rewrite] = []
    for one in FAST:
        graph, rewrite = one.rewrite(graph)
        found.append(rewrite)
    rewrites = merged(tuple(found))
    if rewrites:
        add_stage("fast", "\n".join(map(str, rewrites)), "passes/pipeline", 0.0)
    return (clean(graph) if rewrites else graph), rewrites


def clean(graph: Graph) -> Graph:
    """The same program without detours, every node still a single op."""
    # A gradient graph brings much that nobody asked for: drop it before the others look at it.
    graph = dce(graph)
    # Casts are what the laws, merging and fusing know; of a precision they know nothing.
    graph = with_casts(graph)
    for _ in range(ROUNDS):
        before = graph
        # Laws first: they bring constants together, which folding then computes.
        graph = simplify(graph)
        graph = fold(graph)
        # Merging after both: two values that were spelled differently are now spelled the same,
        # and the next round's laws (select(c, x, x) = x) see that they are one.
        graph = cse(graph)
        # Replaced nodes are still there, and count as users of their operands until they go.
        graph = dce(graph)
        if graph == before:
            break
    return graph
