"""In what order does a graph become a program for an engine? Cleaned until it rests, then fused.

The meaning and the bits of the outputs stay the same throughout, but for the passes in FAST, which
run only where `fast=True` was asked for. Each pass says in its file what is legal before and after
it. After `optimize` no transform may follow: `stop_gradient` is gone and kernels are closed
`fusion` nodes.
"""

from __future__ import annotations

from collections.abc import Collection

from pellucid.ir.graph import Graph, Value
from pellucid.ir.record import add_stage
from pellucid.ir.rewrite import prune
from pellucid.passes.cse import cse
from pellucid.passes.dce import dce
from pellucid.passes.divide_by_numbers import divide_by_numbers
from pellucid.passes.fast import FastPass, Rewrite, Values, came, merged, went
from pellucid.passes.fold import fold
from pellucid.passes.fuse import fuse
from pellucid.passes.layout import layout
from pellucid.passes.listed import with_lists
from pellucid.passes.precision import with_casts
from pellucid.passes.recognise_attention import recognise_attention, recognised
from pellucid.passes.scored import LOW
from pellucid.passes.simplify import simplify
from pellucid.passes.spell import with_parts
from pellucid.passes.steady import steady_values
from pellucid.passes.winograd import keep_transformed, winograd

ROUNDS = 8
"""Most graphs rest after two rounds; what still moves after this many is correct as it is."""

FAST: tuple[FastPass, ...] = (
    FastPass(
        recognise_attention,
        came("attention"),
        "as accurate as what was written; zeros for a row that sees nothing; numbers that stand "
        f"for hidden scores are at most {LOW:g}",
        early=recognised,
    ),
    FastPass(
        winograd,
        went("convolution"),
        "at most 2e-5 of the largest result of numbers like noise; a NaN or an infinity spreads "
        "over 4x4 results",
        keep=keep_transformed,
    ),
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
    # When no law is left that knows scatters.
    graph = with_lists(graph)
    # Fusing comes last: it groups what is truly there, and the laws need not look into kernels.
    return fuse(graph)


def hasten(graph: Graph) -> tuple[Graph, tuple[Rewrite, ...]]:
    """A clean program with other rounding, clean again, and what was rewritten."""
    # After cleaning: how a thing was spelled then matters least.
    found: list[Rewrite] = []
    for one in FAST:
        after, rewrite = one.rewrite(graph)
        # What was replaced is gone before the next pass counts.
        graph = dce(after) if rewrite.times else graph
        found.append(rewrite)
    rewrites = _told(found)
    return (clean(graph) if rewrites else graph), rewrites


def hasten_early(graph: Graph) -> tuple[Graph, Values, tuple[Rewrite, ...]]:
    """A program with other rounding that transforms may still take.

    A derivative is then that of what came in place. Gives also what the values became, and what was
    rewritten.
    """
    became: Values = {value: value for value in graph.numbering}
    found: list[Rewrite] = []
    for one in FAST:
        if one.early is not None:
            after, values = one.early(graph)
            found.append(Rewrite(one.name, one.count(graph, after), one.error))
            became = {old: values[new] for old, new in became.items()}
            graph = after
    return graph, became, _told(found)


def hasten_kept(
    graph: Graph, numbers: Collection[int]
) -> tuple[Graph, frozenset[Value], tuple[Rewrite, ...]]:
    """A program with other rounding where that makes something worth keeping of steady inputs.

    `numbers` are theirs. Gives also what is to be kept, and what was rewritten.
    """
    # What nobody needs, such as the forward pass that a pass replaced, is not counted.
    graph, kept, found = prune(graph), frozenset[Value](), list[Rewrite]()
    is_steady = steady_values(graph, numbers).__contains__
    for one in FAST:
        if one.keep is not None:
            after, more = one.keep(graph, is_steady)
            found.append(Rewrite(one.name, one.count(graph, prune(after)), one.error))
            graph, kept = after, kept | more
    return graph, kept, _told(found)


def _told(found: list[Rewrite]) -> tuple[Rewrite, ...]:
    """What was rewritten, which is a stage too."""
    rewrites = merged(tuple(found))
    if rewrites:
        add_stage("fast", "\n".join(map(str, rewrites)), "passes/pipeline", 0.0)
    return rewrites


def clean(graph: Graph) -> Graph:
    """The same program without detours, every node still a single op."""
    # A gradient graph brings much that nobody asked for: drop it before the others look at it.
    graph = dce(graph)
    # Casts are what the laws, merging and fusing know; of a precision they know nothing.
    graph = with_casts(graph)
    graph = with_parts(graph)
    for _ in range(ROUNDS):
        before = graph
        # Laws first: they bring constants together, which folding then computes.
        graph = simplify(graph)
        # Transposes that it could not join meet where nothing is left between them.
        graph = layout(graph)
        graph = fold(graph)
        # Merging after both: two values that were spelled differently are now spelled the same,
        # and the next round's laws (select(c, x, x) = x) see that they are one.
        graph = cse(graph)
        # Replaced nodes are still there, and count as users of their operands until they go.
        graph = dce(graph)
        if graph == before:
            break
    return graph
