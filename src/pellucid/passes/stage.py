"""What does every pass leave behind? A stage under its own name, and a graph that was checked.

    @staged
    def dce(graph: Graph) -> Graph: ...

A stage's text says how many nodes went in and came out, then prints the graph; it is made only
while somebody records. `PELLUCID_CHECK=1` checks the graph before and after each pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from pellucid.core.config import setting
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, count_ops
from pellucid.ir.record import add_stage
from pellucid.ir.text import print_graph

P = ParamSpec("P")
Pass = Callable[Concatenate[Graph, P], Graph]


def staged(function: Pass[P]) -> Pass[P]:
    """Make a function from graph to graph a pass: timed, recorded and, when asked, checked."""
    name = function.__name__

    @wraps(function)
    def run(graph: Graph, *args: P.args, **kwargs: P.kwargs) -> Graph:
        checking = setting("CHECK") == "1"
        if checking:
            check(graph, f"before {name}")
        start = time.perf_counter()
        found = function(graph, *args, **kwargs)
        seconds = time.perf_counter() - start
        if checking:
            check(found, f"after {name}")
        add_stage(name, lambda: _text(name, graph, found), f"passes/{name}", seconds)
        return found

    return run


def _text(name: str, before: Graph, after: Graph) -> str:
    nodes = [sum(count_ops(graph).values()) for graph in (before, after)]
    return f"{name}: {nodes[0]} nodes -> {nodes[1]}\n{print_graph(after)}"
