"""Which rewrites change rounding? They run only where `fast=True` asked for it, and are counted.

    FAST = (FastPass(divide_by_numbers, went("div"), "..."), ...)

Each is a pass like any other, but keeps the meaning only up to the error it states. The result
still depends on the graph, its inputs and the class of instruction set alone: on no thread and no
schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pellucid.ir.graph import Graph, Value, count_ops

Count = Callable[[Graph, Graph], int]
"""How often a pass rewrote something, from the graphs before and after it."""

Values = dict[Value, Value]
"""What each value of a graph is in another one."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a pass that changes rounding did to a program: how many `times`, and to which `error`.

    >>> print(Rewrite("divide_by_numbers", 2, "1.5 ulp for each quotient"))
    divide_by_numbers x 2: 1.5 ulp for each quotient
    """

    name: str
    times: int
    error: str

    def __str__(self) -> str:
        return f"{self.name} x {self.times}: {self.error}"


@dataclass(frozen=True, slots=True)
class FastPass:
    """A pass that changes rounding, how its rewrites are counted, and the error it states.

    Where it may come before a derivative is taken, `early` is the pass that also gives what each
    value became. `keep` is the pass where it makes something of steady values alone that is worth
    keeping: it is told which are steady, and gives also what to keep.
    """

    run: Callable[[Graph], Graph]
    count: Count
    error: str
    early: Callable[[Graph], tuple[Graph, Values]] | None = None
    keep: Callable[[Graph, Callable[[Value], bool]], tuple[Graph, frozenset[Value]]] | None = None

    @property
    def name(self) -> str:
        """The name of the pass."""
        return self.run.__name__

    def rewrite(self, graph: Graph) -> tuple[Graph, Rewrite]:
        """The graph after the pass, and what the pass did."""
        after = self.run(graph)
        return after, Rewrite(self.name, self.count(graph, after), self.error)


def came(op: str) -> Count:
    """Count by the nodes of an op that are there only afterwards."""
    return lambda before, after: count_ops(after).get(op, 0) - count_ops(before).get(op, 0)


def went(op: str) -> Count:
    """Count by the nodes of an op that are there only before."""
    return lambda before, after: came(op)(after, before)


def merged(rewrites: tuple[Rewrite, ...]) -> tuple[Rewrite, ...]:
    """Those that took place, each name once, with the sum of its times."""
    times: dict[str, int] = {}
    for one in rewrites:
        times[one.name] = times.get(one.name, 0) + one.times
    errors = {one.name: one.error for one in rewrites}
    return tuple(Rewrite(name, n, errors[name]) for name, n in times.items() if n)
