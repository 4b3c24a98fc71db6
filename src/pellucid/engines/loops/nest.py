"""How do the lines of a draft come to stand in loops? Few loops, each line in the outermost it can.

Loops whose two indexes always occur as one row-major index are merged; the axes of a reduction
become one row axis (by division where they do not merge). Then each line goes to the outermost
loop that knows all it depends on, so that what does not change in a loop is computed before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from pellucid.core.dtype import int64
from pellucid.engines.loops.draft import Draft, Group, Line, Listed
from pellucid.engines.loops.ir import (
    CHAIN_CHUNK,
    Affine,
    Apply,
    Axis,
    Chain,
    Const,
    Contract,
    Extent,
    Follow,
    Kernel,
    Let,
    Load,
    Loop,
    Quotient,
    Reduce,
    Remainder,
    Size,
    Sort,
    Statement,
    Store,
    Until,
    Update,
    chunk_of,
    indexes,
    used_names,
)

NAMES = "ijlmnuvw"
"""Names of the loops over results, from the outermost of row-major order; k is for contractions."""


def nest(
    name: str, draft: Draft, order: Callable[[tuple[Axis, ...]], tuple[Axis, ...]] | None = None
) -> Kernel:
    """The kernel of a draft; `order` may change that of its loops, merged and row-major."""
    axes, lines = _merge(draft.axes, draft.lines)
    groups = [line for line in lines if isinstance(line, Group)]
    for number, group in enumerate(groups):
        rows, lines = _merge(group.rows, lines)
        suffix = str(number) if len(groups) > 1 else ""
        lines = _one_row(group, rows, suffix, lines)
    names = {axis.name: _loop_name(at) for at, axis in enumerate(axes)}
    lines = tuple(_substitute(line, lambda index: _renamed(index, names)) for line in lines)
    axes = tuple(Axis(names[axis.name], axis.extent) for axis in axes)
    end = next((line for line in lines if isinstance(line, Until)), None)
    placer = _Placer(tuple(line for line in lines if line is not end), end)
    if order is None:
        axes = _by_lhs(axes, lines)
    else:
        # Axes that a reduction's rows lie along come inside: it is computed once for each row.
        rows = placer.rows(axes)
        axes = (*order(rows), *(axis for axis in axes if axis not in rows))
        axes = _along_what_is_read(axes, lines)
    body = placer.place(axes)
    return Kernel(name, (), draft.buffers, body)


def _along_what_is_read(axes: tuple[Axis, ...], lines: tuple[Line, ...]) -> tuple[Axis, ...]:
    """Loops where a matrix is turned: lines of what is read inside, vectors of what is written.

    A vector then reads a number of each of its lines, and the next one their neighbours, while
    these are in the nearest cache.
    """
    if len(axes) < 2 or not all(isinstance(line, Let | Store) for line in lines):
        return axes
    last = axes[-1]
    loads = [s.value.index for s in lines if isinstance(s, Let) and isinstance(s.value, Load)]
    stores = [line.index for line in lines if isinstance(line, Store)]
    turned = [index for index in loads if index.coefficient(last.name) not in (0, 1)]
    if not turned or any(index.coefficient(last.name) != 1 for index in stores):
        return axes
    for axis in axes[:-1]:
        if all(index.coefficient(axis.name) == 1 for index in turned):
            return (*(one for one in axes if one not in (axis, last)), last, axis)
    return axes


def _by_lhs(axes: tuple[Axis, ...], lines: tuple[Line, ...]) -> tuple[Axis, ...]:
    """Loops in row-major order of lhs, where a contraction has several axes: neighbours in memory
    become rows beside each other. The last loop, along which the result lies, stays.
    """
    for line in lines:
        if isinstance(line, Contract) and len(line.axes) > 1 and axes:
            steps = line.lhs.index.coefficient
            return (*sorted(axes[:-1], key=lambda axis: -_times(1, steps(axis.name))), axes[-1])
    return axes


def _loop_name(at: int) -> str:
    return NAMES[at] if at < len(NAMES) else f"z{at:02}"


def _merge(
    axes: Sequence[Axis], lines: tuple[Line, ...]
) -> tuple[tuple[Axis, ...], tuple[Line, ...]]:
    """Make one loop of two neighbours wherever every index allows it."""
    kept: list[Axis] = []
    for inner in axes:
        outer = kept[-1] if kept else None
        if outer is None or not _mergeable(outer, inner, lines):
            kept.append(inner)
            continue
        # a*(n*s) + b*s = (a*n + b)*s: the outer name goes, the inner one counts on.
        drop = partial(_without, name=outer.name)
        lines = tuple(_substitute(line, drop) for line in lines)
        kept[-1] = Axis(inner.name, _times(outer.extent, inner.extent))
    return tuple(kept), lines


def _mergeable(outer: Axis, inner: Axis, lines: tuple[Line, ...]) -> bool:
    return all(
        index.coefficient(outer.name) == _times(inner.extent, index.coefficient(inner.name))
        for line in lines
        for index in _indexes(line)
    )


def _indexes(line: Line) -> tuple[Affine, ...]:
    if isinstance(line, Until):
        return (line.index,)
    return () if isinstance(line, Group | Listed) else indexes(line)


def _times(lhs: Size, rhs: Size) -> int:
    assert isinstance(lhs, int), "loops are merged while sizes are numbers"
    assert isinstance(rhs, int), "loops are merged while sizes are numbers"
    return lhs * rhs


def _one_row(
    group: Group, rows: tuple[Axis, ...], suffix: str, lines: tuple[Line, ...]
) -> tuple[Line, ...]:
    """Give a group one row axis `r` at most, and its column axis the name `c`."""
    count = 1
    for axis in rows:
        count = _times(count, axis.extent)
    row, names, divisions = f"r{suffix}", dict[str, str](), list[Line]()
    if len(rows) == 1:
        names[rows[0].name] = row
    else:
        divisions = _divisions(rows, row)
    if group.column is not None:
        names[group.column.name] = f"c{suffix}"
    one = Group(
        (Axis(row, count),) if rows else (),
        Axis(f"c{suffix}", group.column.extent) if group.column else None,
        group.results,
    )
    moved = (one if line is group else line for line in lines)
    renamed = (_substitute(line, lambda index: _renamed(index, names)) for line in moved)
    return (*divisions, *renamed)


def _divisions(rows: tuple[Axis, ...], row: str) -> list[Line]:
    """Each of several row axes as a variable, found from the one that replaces them."""
    lines, rest = list[Line](), Affine(((row, 1),))
    for outer, inner in pairwise(rows):
        by = 1
        for axis in rows[rows.index(inner) :]:
            by = _times(by, axis.extent)
        lines.append(Let(outer.name, int64, Quotient(rest, by)))
        name = inner.name if inner is rows[-1] else f"{inner.name}_rest"
        lines.append(Let(name, int64, Remainder(rest, by)))
        rest = Affine(((name, 1),))
    return lines


def _renamed(index: Affine, names: Mapping[str, str]) -> Affine:
    return Affine(tuple((names.get(n, n), size) for n, size in index.terms), index.offset)


def _without(index: Affine, name: str) -> Affine:
    return Affine(tuple(term for term in index.terms if term[0] != name), index.offset)


def _substitute(line: Line, change: Callable[[Affine], Affine]) -> Line:
    match line:
        case Let(_, _, value):
            if isinstance(value, Const | Apply | Extent):
                return line
            return replace(line, value=replace(value, index=change(value.index)))
        case Store() | Update() | Until():
            return replace(line, index=change(line.index))
        case Chain(_, index, _, _, along):
            return replace(line, index=change(index), along=change(along))
        case Contract(_, _, _, lhs, rhs):
            left, right = (replace(load, index=change(load.index)) for load in (lhs, rhs))
            within = tuple(replace(one, index=change(one.index)) for one in line.within)
            return replace(line, lhs=left, rhs=right, within=within)
        case Sort(_, index, _, _, value):
            moved = replace(value, index=change(value.index))
            return replace(line, index=change(index), value=moved)
        case Group() | Listed():
            return line


class _Placer:
    """Puts lines where all they depend on is known, in loops of which the inner may have an end."""

    def __init__(self, lines: tuple[Line, ...], end: Until | None) -> None:
        self.end = end
        self.made_by: dict[str, Line] = {}
        for line in lines:
            for name in _made(line):
                self.made_by[name] = line
        self.depends: dict[int, frozenset[str]] = {}
        self.lines = self._ordered(lines)
        blocks = (line for line in lines if isinstance(line, Group | Listed))
        self.inside = frozenset[str]().union(*map(self._loops, blocks))

    def rows(self, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """The axes on which the reductions depend; all of them where there is no reduction."""
        groups = [line for line in self.lines if isinstance(line, Group)]
        names = frozenset[str]().union(*(self._depends(group) for group in groups))
        return tuple(axis for axis in axes if axis.name in names) if groups else axes

    def place(self, axes: tuple[Axis, ...]) -> tuple[Statement, ...]:
        """All lines in the loops `axes`."""
        outside = [line for line in self.lines if not self._depends(line) & self.inside]
        return self._nested(outside, axes)

    def _nested(self, lines: list[Line], axes: tuple[Axis, ...]) -> tuple[Statement, ...]:
        if not axes:
            return tuple(self._statement(line) for line in lines)
        names = {axis.name for axis in axes}
        before = [line for line in lines if not self._depends(line) & names]
        after = [line for line in lines if self._depends(line) & names]
        loop = Loop(axes[0], self._nested(after, axes[1:]), self._end_of(axes[0]))
        return (*(self._statement(line) for line in before), loop)

    def _end_of(self, axis: Axis) -> Until | None:
        """Where a loop ends, if not after all its turns: a chunk begins, but may not be full."""
        if self.end is None or axis.name not in self.end.index.names[1:]:
            return None
        return self.end

    def _statement(self, line: Line) -> Statement:
        assert not isinstance(line, Until), "an end belongs to the loops"
        if not isinstance(line, Group | Listed):
            return line
        statements = tuple(map(self._statement, self._body(line)))
        if isinstance(line, Listed):
            results = tuple(line.results)
            return Follow(results, line.axis, line.first, line.following, statements)
        if line.column is None:
            (axis,) = line.rows
            return Reduce(tuple(line.results), "chain", (axis,), (CHAIN_CHUNK,), statements)
        rows = _times(1, line.rows[0].extent) if line.rows else 1
        chunk = chunk_of(rows, _times(1, line.column.extent))
        axes = (*line.rows, line.column)
        return Reduce(tuple(line.results), "lanes", axes, chunk, statements)

    def _body(self, block: Group | Listed) -> list[Line]:
        """The lines that depend on the loops of a reduction or a list, and on none further in."""
        loops = self._loops(block)
        around = loops | self._depends(block)
        return [
            line
            for line in self.lines
            if self._depends(line) & loops and self._depends(line) & self.inside <= around
        ]

    def _loops(self, group: Group | Listed) -> frozenset[str]:
        if isinstance(group, Listed):
            return frozenset((group.axis.name,))
        column = [group.column.name] if group.column else []
        return frozenset((*(axis.name for axis in group.rows), *column))

    def _depends(self, line: Line) -> frozenset[str]:
        """The axes on which a line's value depends, through all that it uses."""
        key = id(line)
        if key not in self.depends:
            found = frozenset[str]()
            for name in _used(line):
                made = self.made_by.get(name)
                found |= self._depends(made) if made is not None else {name}
            block = isinstance(line, Group | Listed)
            self.depends[key] = found - self._loops(line) if block else found
        return self.depends[key]

    def _ordered(self, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        """The lines, each after what it uses, else in the order given."""
        done: dict[int, Line] = {}

        def visit(line: Line) -> None:
            if id(line) in done:
                return
            for name in _used(line):
                if name in self.made_by:
                    visit(self.made_by[name])
            done[id(line)] = line

        for line in lines:
            visit(line)
        return tuple(done.values())


def _made(line: Line) -> tuple[str, ...]:
    match line:
        case Let() | Contract():
            return (line.name,)
        case Store() | Update() | Chain() | Sort() | Until():
            return ()
        case Group() | Listed():
            return tuple(result.name for result in line.results)


def _used(line: Line) -> tuple[str, ...]:
    """The names of variables and axes that a line uses."""
    if isinstance(line, Group):
        return tuple(result.value for result in line.results)
    if isinstance(line, Listed):
        return (line.first, line.following, *(result.value for result in line.results))
    return line.index.names if isinstance(line, Until) else used_names(line)
