"""What did each pass do to the graph? Read from the stages, each compared with the one before."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from pellucid.core.error import ParseError
from pellucid.ir.graph import Graph, count_ops
from pellucid.ir.record import Record, Stage
from pellucid.ir.text import parse_graph
from pellucid.ops import lookup

# A pass's stage begins so, and its graph follows.
_HEADING = re.compile(r"\w+: \d+ nodes? -> \d+\n")


@dataclass(frozen=True)
class Change:
    """What one pass did: nodes before and after, and how many of each op went and came.

    The nodes of sub-graphs count, so that joining nodes into a kernel is no loss.
    """

    name: str
    nodes_before: int
    nodes_after: int
    gone: tuple[tuple[str, int], ...]
    come: tuple[tuple[str, int], ...]
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether any op went or came."""
        return bool(self.gone or self.come)

    def __str__(self) -> str:
        parts = [f"{self.name}: {self.nodes_before} nodes -> {self.nodes_after}"]
        parts += [f"-{count} {op}" for op, count in self.gone]
        parts += [f"+{count} {op}" for op, count in self.come]
        return "  ".join(parts)


def changes(record: Record) -> tuple[Change, ...]:
    """What each recorded pass did, in order, where the graph it was given was recorded too.

    >>> import pellucid as pe
    >>> with pe.recording() as record:
    ...     made = pe.jit(lambda x: x * 1.0 + x * 1.0).compile(pe.zeros((3,)))
    >>> print(changes(record)[1])
    simplify: 5 nodes -> 3  -2 mul
    """
    found: list[Change] = []
    before: Graph | None = None
    for stage in record.stages:
        if stage.name == "trace":
            before = graph_of(stage)
        elif _is_pass(stage):
            after = graph_of(stage)
            if before is not None:
                found.append(_change(stage, before, after))
            before = after
    return tuple(found)


def graph_of(stage: Stage) -> Graph:
    """The graph in a stage's text. Raises ParseError where there is none."""
    heading = _HEADING.match(stage.text)
    text = stage.text[heading.end() :] if heading else stage.text
    if not text.startswith("graph("):
        raise ParseError(f"the stage {stage.name!r} holds no graph, it begins {text[:30]!r}")
    return parse_graph(text, lookup)


def _is_pass(stage: Stage) -> bool:
    # By its maker first: an engine's texts take long to make, and none of them is a graph.
    return stage.made_by.startswith("passes/") and _HEADING.match(stage.text) is not None


def _change(stage: Stage, before: Graph, after: Graph) -> Change:
    old, new = Counter(count_ops(before)), Counter(count_ops(after))
    return Change(
        name=stage.name,
        nodes_before=old.total(),
        nodes_after=new.total(),
        gone=_by_size(old - new),
        come=_by_size(new - old),
        seconds=stage.seconds,
    )


def _by_size(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
