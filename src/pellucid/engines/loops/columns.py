"""How are sums down the columns made by what goes along the rows? In chunks, as the rows come.

A kernel takes one row after the other, and keeps a running sum for each column in memory, which
begins anew with every 256 rows, as the order of a chain wants it (see `ir.Reduce`). The sums of the
chunks are a buffer p0, p1, ... for each reduction; a second kernel adds these up, and goes on from
there. So what the rows are made of is read once, and threads share the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from pellucid.core.dtype import DType
from pellucid.engines.loops.build import cut_up
from pellucid.engines.loops.draft import REDUCTIONS, Draft, sizes_of
from pellucid.engines.loops.elements import rule_of
from pellucid.engines.loops.ir import (
    CHAIN_CHUNK,
    Affine,
    Buffer,
    Chain,
    Kernel,
    Loop,
    Reduce,
    Statement,
    Store,
    Until,
    accumulation_dtype,
)
from pellucid.engines.loops.space import plus, times
from pellucid.engines.loops.writer import Writer
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node
from pellucid.ir.rewrite import made_of
from pellucid.ops.elementwise import cast
from pellucid.ops.movement import reshape
from pellucid.passes.columns import after_sums, span_of


@dataclass(frozen=True, slots=True)
class Columns:
    """The reductions of a graph down `columns` columns of `rows` rows, and its outputs by number.

    Those in `before` do without them and go along the rows; those in `after` need them.
    """

    sums: tuple[Node, ...]
    rows: int
    columns: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def chunks(self) -> int:
        """How many chunks the rows are cut into."""
        return -(-self.rows // CHAIN_CHUNK)

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """In what each reduction is kept."""
        return tuple(accumulation_dtype(node.operands[0].dtype) for node in self.sums)


def columns_of(graph: Graph) -> Columns | None:
    """The reductions down the columns of a graph that also goes along its rows; else None.

    It does if it has outputs along them, or reductions of each.
    """
    found = {node: span for node in graph.nodes if (span := span_of(node)) is not None}
    if len(set(found.values())) != 1:
        return None
    (span,) = set(found.values())
    last = after_sums(graph)
    after = tuple(n for n, value in enumerate(graph.outputs) if value in last)
    before = tuple(n for n in range(len(graph.outputs)) if n not in after)
    reductions = sum(node.op.name in REDUCTIONS for node in graph.nodes)
    if not before and reductions == len(found):
        return None
    return Columns(tuple(found), *span, before, after)


def draft_rows(graph: Graph, columns: Columns) -> Draft:
    """The lines that make the outputs before the sums, as y0, ... by their numbers, and the chunks'
    sums p0, ...
    """
    rows = (columns.chunks, CHAIN_CHUNK) if columns.chunks > 1 else (columns.rows,)
    whole = columns.rows, columns.columns
    return cut_up(
        (rows, (columns.columns,)),
        lambda pieces: _write(Writer(rule_of, graph, None, pieces, whole), columns),
    )


def graph_of_sums(graph: Graph, columns: Columns) -> Graph:
    """The graph of the outputs after the sums, from the inputs and the chunks' sums."""
    with building() as builder:
        env = {value: builder.input(value.type) for value in graph.inputs}
        shape = columns.chunks, columns.columns
        for node, dtype in zip(columns.sums, columns.dtypes, strict=True):
            (result,) = graph.results[graph.nodes.index(node)]
            chunks = builder.input(replace(result.tensor, shape=shape, dtype=dtype))
            (total,) = builder.add(node.op, [chunks], {"axes": (0,)})
            total = reshape(total, shape=result.shape)
            env[result] = total if dtype is result.dtype else cast(total, dtype=result.dtype)
        return builder.graph([made_of(builder, graph.outputs[n], env) for n in columns.after])


def in_one_chain(kernel: Kernel, columns: Columns) -> Kernel:
    """The kernel of the sums: the chunks' results are added one after the other, however many."""

    def change(statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            return replace(statement, body=tuple(map(change, statement.body)))
        reduces = isinstance(statement, Reduce)
        return replace(statement, chunk=(columns.chunks,)) if reduces else statement

    return replace(kernel, body=tuple(map(change, kernel.body)))


def _write(writer: Writer, columns: Columns) -> Draft:
    row, column = writer.place
    lines: list[Store | Chain | Until] = []
    for number in columns.before:
        value = writer.graph.outputs[number]
        own, where = sizes_of(value), writer.position
        if prod(own) == columns.rows:
            name, where = writer.ask(value, writer.placed(row, own)), row
        else:
            name = writer.ask(value, where)
        lines.append(Store(f"y{number}", where, name))
    chunk, along = _cut(row)
    where = plus(times(chunk, columns.columns), column)
    for number, node in enumerate(columns.sums):
        name = writer.ask(node.operands[0], writer.position)
        lines.append(Chain(f"p{number}", where, REDUCTIONS[node.op.name], name, along))
    if columns.rows % CHAIN_CHUNK and columns.chunks > 1:
        lines.append(Until(row, columns.rows))
    # All is read before anything is written: an output may lie where an input does.
    writer.lines += lines
    return _with_outputs(writer, columns)


def _cut(row: Affine) -> tuple[Affine, Affine]:
    """The number of a row's chunk, and that of the row in it."""
    terms = [(name, size) for name, size in row.terms if isinstance(size, int)]
    chunk = tuple((name, size // CHAIN_CHUNK) for name, size in terms if size >= CHAIN_CHUNK)
    return Affine(chunk), Affine(tuple(term for term in terms if term[1] < CHAIN_CHUNK))


def _with_outputs(writer: Writer, columns: Columns) -> Draft:
    found = writer.finish(())
    outputs = writer.graph.outputs
    made = [Buffer(f"y{n}", outputs[n].dtype, "write") for n in columns.before]
    sums = [Buffer(f"p{n}", dtype, "write") for n, dtype in enumerate(columns.dtypes)]
    return replace(found, buffers=(*found.buffers, *made, *sums))
