"""How is a result filled that is not computed element by element? Into a target, or in order.

A write computes its elements as any kernel does, and puts each where a `Target` says; a sort puts
the places of a row's elements. Both give a `Draft`.
"""

from __future__ import annotations

from pellucid.core.dtype import bool_
from pellucid.engines.loops.build import written
from pellucid.engines.loops.draft import Draft, Strides, sizes_of
from pellucid.engines.loops.elements import rule_of
from pellucid.engines.loops.ir import Apply, Axis, Load, Sort, Store, Update
from pellucid.engines.loops.listed import write_lists
from pellucid.engines.loops.space import ZERO, dot, plus, row_major, times, variable
from pellucid.engines.loops.target import Target
from pellucid.engines.loops.writer import Writer
from pellucid.ir.graph import Graph


def draft_into(graph: Graph, strides: tuple[Strides, ...] | None, target: Target) -> Draft:
    """The lines that put a graph's first output into a result; the others are numbers it asks for.

    `strides` and buffers are as in `build.draft`; y0 is the result, from where the write begins.
    """
    return written(graph, strides, lambda writer: _write_into(writer, target))


def draft_sort(graph: Graph, strides: tuple[Strides, ...] | None = None) -> Draft:
    """The lines of a graph that is one argsort: a row is sorted at each place beside its axis."""
    (node,) = graph.nodes
    (x,) = node.operands
    shape, axis = sizes_of(x), int(node.attr("axis"))
    pieces = tuple((1 if at == axis else n,) for at, n in enumerate(shape))
    writer = Writer(rule_of, graph, strides, pieces)
    row = (*writer.place[:axis], variable("k"), *writer.place[axis + 1 :])
    value = Load("x0", writer.address(x, row))
    steps = row_major(shape)
    start, along = dot(writer.place, steps), Axis("k", shape[axis])
    writer.lines.append(Sort("y0", start, steps[axis], along, value, node.attr("descending")))
    return writer.finish(graph.outputs)


def _write_into(writer: Writer, target: Target) -> Draft:
    outputs = writer.graph.outputs
    if target.how == "list":
        return write_lists(writer, target.shape)
    value = writer.ask(outputs[0], writer.place)
    position, guard = ZERO, ""
    for axis, stride in zip(target.axes, row_major(target.shape), strict=True):
        index = ZERO if axis.loop is None else times(writer.place[axis.loop], axis.step)
        if axis.index is not None:
            number = outputs[axis.index]
            found = writer.whole(number, writer.place[: len(sizes_of(number))])
            if target.ordered:
                inside = writer.inside(found, axis.most + 1)
                both = Apply("logical_and", (guard, inside))
                guard = writer.let(bool_, both) if guard else inside
            else:
                found = writer.clamped(found, axis.most)
            index = plus(index, variable(found))
        position = plus(position, times(index, stride))
    if target.ordered:
        writer.lines.append(Update("y0", position, target.how, value, guard))
    else:
        writer.lines.append(Store("y0", position, value))
    return writer.finish(outputs[:1])
