"""Which values are in memory at the same time? Those of the arena, each as a bar over the kernels.

Two values whose bars do not overlap may lie at one offset: that is what the plan is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pellucid.core.shape import product
from pellucid.explain.abridge import clip
from pellucid.explain.profile import short_count
from pellucid.ir.graph import Graph, TensorType, Value

BAR: Final = 35
"""How many characters stand for all kernels, at most."""

# A value of the plan that lies in the arena: its number and its offset.
_PLACE: Final = re.compile(r"(?m)^  %(\d+): .* at arena\+(\d+)$")

_LINE: Final = "{:>5} {:21} {:>5} {:>9}  {}"


@dataclass(frozen=True)
class Lifetime:
    """A value of the arena: its number and type, where it lies, its first and its last node."""

    number: int
    type: TensorType
    offset: int
    first: int
    last: int

    @property
    def bytes(self) -> int:
        """The size of the value."""
        size = product(self.type.shape)
        assert isinstance(size, int), "sizes are known where memory is planned"
        return size * self.type.dtype.bytes


def lifetimes(plan: str, graph: Graph) -> tuple[Lifetime, ...]:
    """The values that a memory plan, by its text, puts into the arena, in the order of making.

    >>> import pellucid as pe
    >>> from pellucid.explain import graph_of
    >>> with pe.device("cpu"), pe.recording() as record:
    ...     made = pe.jit(lambda x: pe.sum(pe.exp(x)) + pe.sum(x @ x)).compile(pe.ones((8, 8)))
    >>> (plan,), graph = record.named("memory"), graph_of(record.named("fuse")[-1])
    >>> [(str(one.type), one.first, one.last) for one in lifetimes(plan.text, graph)]
    [('float32[]', 0, 2), ('float32[8, 8]', 1, 2)]
    """
    born = {value: at for at, made in enumerate(graph.results) for value in made}
    dead = _last_uses(graph, born)
    values = {number: value for value, number in graph.numbering.items()}
    places = ((values[int(n)], int(n), int(offset)) for n, offset in _PLACE.findall(plan))
    found = [Lifetime(n, v.tensor, at, born[v], dead[v]) for v, n, at in places]
    return tuple(sorted(found, key=lambda one: (one.first, one.number)))


def chart(found: tuple[Lifetime, ...], kernels: int, rows: int) -> str:
    """A table of so many of the largest values; the bar says at which of the kernels each lives."""
    largest = sorted(found, key=lambda one: (-one.bytes, one.first))[:rows]
    shown = [one for one in found if one in largest]
    head = _LINE.format("value", "type", "bytes", "offset", "alive, kernel by kernel")
    lines = [
        _LINE.format(
            f"%{one.number}",
            clip(str(one.type), 21),
            short_count(one.bytes),
            f"{one.offset:,}",
            _bar(one, kernels),
        )
        for one in shown
    ]
    rest = [one for one in found if one not in largest]
    if rest:
        total = short_count(sum(one.bytes for one in rest))
        lines.append(_LINE.format("…", f"{len(rest)} smaller ones", total, "", "").rstrip())
    return "\n".join([head, *lines])


def _bar(one: Lifetime, kernels: int) -> str:
    length = min(kernels, BAR)
    first, last = (at * length // kernels for at in (one.first, one.last))
    return "·" * first + "█" * (last - first + 1) + "·" * (length - last - 1)


def _last_uses(graph: Graph, born: Mapping[Value, int]) -> dict[Value, int]:
    last = dict(born)
    for at, node in enumerate(graph.nodes):
        last.update((value, at) for value in node.operands if value in born)
    # What is a result too is copied out when everything is done.
    last.update((value, len(graph.nodes) - 1) for value in graph.outputs if value in born)
    return last
