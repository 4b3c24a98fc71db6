"""How does a graph of scalar meaning become one loop nest? By asking each output for its element.

Every output is asked for the element at its place; a movement op passes the question on with the
place rewritten, an elementwise op asks its operands at the same place, a reduction asks at the
places of its own loops (see `elements`). What was asked twice is computed once (see `writer`). The
answers are lines in a `Draft`, which `nest` arranges into loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from pellucid.engines.loops.convolved import begun
from pellucid.engines.loops.draft import REDUCTIONS, Draft, Strides, sizes_of
from pellucid.engines.loops.elements import rule_of
from pellucid.engines.loops.space import SplitAxis
from pellucid.engines.loops.writer import Pieces, Writer
from pellucid.ir.graph import Graph
from pellucid.ops.windows import Phase


def draft(graph: Graph, strides: tuple[Strides, ...] | None = None, fold: int = 1) -> Draft:
    """The lines that compute a graph's outputs, which all have one number of elements.

    In a graph of rows (see `passes.fuse`) some have it, and the others one element a row.
    `strides` of the inputs are in elements, row-major where none are given. The buffers are the
    inputs x0, x1, ..., the outputs y0, ..., and constant arrays. An operand of a contraction may
    be read where it lies folded by `fold` (see `contracted`). Raises ScatteredAxes.
    """
    return written(graph, strides, Writer.write, fold)


def draft_phase(graph: Graph, strides: tuple[Strides, ...] | None, phase: Phase) -> Draft:
    """As `draft`, for one phase of a convolution over an operand with gaps, and what follows it.

    If the phase meets anything, its weights are one more input of the graph (see `convolved`).
    """
    each = zip(graph.nodes, graph.results, strict=True)
    (shape,) = (sizes_of(results[0]) for n, results in each if n.op.name == "convolution")
    pieces = tuple((size,) for size in (shape[0], *phase.count, shape[-1]))
    found = cut_up(
        pieces, lambda pieces: Writer(rule_of, graph, strides, pieces, shape, phase).write()
    )
    lines, starts = begun(found.lines)
    return replace(found, lines=lines, starts=starts)


def written(
    graph: Graph,
    strides: tuple[Strides, ...] | None,
    write: Callable[[Writer], Draft],
    fold: int = 1,
) -> Draft:
    """The draft that `write` writes, in loops over the outputs."""
    pieces = tuple((size,) for size in whole_shape(graph))

    def begin(pieces: Pieces) -> Draft:
        return write(Writer(rule_of, graph, strides, pieces, fold=fold))

    return cut_up(pieces, begin)


def cut_up(pieces: Pieces, write: Callable[[Pieces], Draft]) -> Draft:
    """The draft that `write` writes, with the loops cut where it takes that."""
    while True:
        try:
            return write(pieces)
        except SplitAxis as cut:
            pieces = _split(pieces, cut)


def whole_shape(graph: Graph) -> tuple[int, ...]:
    """The shape over which a graph's loops run: that of its largest output.

    In a graph of rows it is spelled as its reductions spell it.
    """
    largest = max((sizes_of(output) for output in graph.outputs), key=math.prod)
    reduced = (sizes_of(n.operands[0]) for n in graph.nodes if n.op.name in REDUCTIONS)
    return next((one for one in reduced if math.prod(one) == math.prod(largest)), largest)


def _split(pieces: Pieces, cut: SplitAxis) -> Pieces:
    axis, part = (int(number) for number in cut.axis[1:].split("_"))
    old = pieces[axis]
    new = (*old[:part], old[part] // cut.inner, cut.inner, *old[part + 1 :])
    return (*pieces[:axis], new, *pieces[axis + 1 :])
