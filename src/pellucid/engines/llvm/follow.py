"""How are values added along a list? In registers, from link to link.

All lanes and copies of a vector follow one list: their sums are chains beside each other. Where a
list is empty, a test is all that is done.
"""

from __future__ import annotations

from collections.abc import Callable

from pellucid.engines.llvm.elementwise import combine, literal, rounded
from pellucid.engines.llvm.scope import Scope
from pellucid.engines.llvm.types import Value
from pellucid.engines.loops.ir import Follow, Statement

Run = Callable[[Scope, tuple[Statement, ...]], None]
"""What emits statements in a scope."""


def emit_follow(scope: Scope, follow: Follow, run: Run) -> None:
    """Add up along a list and give the sums their names."""
    f, name = scope.f, follow.axis.name
    lanes, copies = (scope.vector.lanes, scope.vector.copies) if scope.vector else (1, 1)
    starts: list[Value] = []
    for result in follow.results:
        zero = literal(0.0 if result.dtype.is_floating else 0, result.dtype)
        starts += [f.splat(zero, zero.type.with_lanes(lanes))] * copies
    (first,) = scope.values[follow.first]
    assert first.type.lanes == 1, "all lanes of a vector follow one list"
    with f.links(first, starts, name) as link:
        inner = scope.inside(name, link.index)
        run(inner, follow.body)
        sums: list[Value] = []
        for at, result in enumerate(follow.results):
            before = link.accs[at * copies : (at + 1) * copies]
            each = zip(before, inner.spread(result.value), strict=True)
            dtype = result.dtype
            sums += [rounded(f, combine(f, result.kind, dtype, *pair), dtype) for pair in each]
        (following,) = inner.values[follow.following]
        link.next(following, *sums)
    for at, result in enumerate(follow.results):
        scope.values[result.name] = link.results[at * copies : (at + 1) * copies]
        scope.dtypes[result.name] = result.dtype
