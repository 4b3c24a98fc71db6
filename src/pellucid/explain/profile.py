"""Where does the time of a compiled graph go? To its kernels: each with what it took and did.

    with pe.recording(timed=True) as record:
        step(x, y)
    print(*profiles(record))

The times are measured while the graph runs as it always does. What a kernel computes and moves is
what the cards of its ops state: every operand read once, every result written once, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Final

from pellucid.explain.abridge import clip
from pellucid.explain.kernels import KernelSummary, kernel_nodes, summary_of
from pellucid.ir.graph import Node
from pellucid.ir.record import Record, Run
from pellucid.ops.define import Op

WIDTH: Final = 80
"""How wide the table of a profile is, unless told otherwise."""

FLOPS_PER_BYTE: Final = 8
"""How many flops weigh as much as a byte, where the larger kernels are told from the smaller."""


@dataclass(frozen=True)
class KernelTime:
    """What one kernel took: the median of its `seconds` over all runs, in how many `launches`.

    `flops` are what it computes, `bytes` what it has to read and write. `number` is its place among
    the kernels of the graph; a copy that the memory plan needed has none.
    """

    number: int | None
    kernel: KernelSummary
    launches: int
    seconds: float
    flops: int
    bytes: int

    @property
    def flops_per_second(self) -> float:
        """The floating operations that it did each second."""
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """The bytes that it read and wrote each second, caches included."""
        return self.bytes / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """The kernels of one compiled graph in the order in which they run; its text is a table."""

    kernels: tuple[KernelTime, ...]
    runs: int

    @property
    def seconds(self) -> float:
        """What all kernels take together."""
        return sum(kernel.seconds for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """What all kernels compute together."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        """What all kernels have to read and write together."""
        return sum(kernel.bytes for kernel in self.kernels)

    def __str__(self) -> str:
        return self.table(len(self.kernels))

    def table(self, rows: int, width: int = WIDTH) -> str:
        """The table; beyond so many kernels the smaller ones, by their cards, share a line."""
        name = min(max(width - _NUMBERS, _NARROWEST), _WIDEST)
        largest = sorted(range(len(self.kernels)), key=lambda n: _weight(self.kernels[n]))
        small = set(largest[: max(len(largest) - rows, 0)])
        lines = [
            self._row(name, "" if one.number is None else str(one.number), one.kernel.work, [one])
            for n, one in enumerate(self.kernels)
            if n not in small
        ]
        if small:
            rest = [self.kernels[n] for n in small]
            lines.append(self._row(name, "…", f"{len(rest)} smaller ones", rest))
        head = _LINE.format("#", _fit("kernel", name), *_TITLES)
        return "\n".join([head, *lines, self._row(name, "", "all", self.kernels)])

    def _row(self, width: int, number: str, name: str, kernels: Sequence[KernelTime]) -> str:
        seconds = sum(one.seconds for one in kernels)
        flops = sum(one.flops for one in kernels)
        bytes = sum(one.bytes for one in kernels)
        return _LINE.format(
            number,
            _fit(name, width),
            f"{seconds * 1e6:.1f}",
            f"{100 * seconds / self.seconds:.1f}%" if self.seconds else "",
            short_count(flops),
            short_count(bytes),
            f"{flops * 1e-9 / seconds:.1f}" if flops and seconds else "",
            f"{bytes * 1e-9 / seconds:.1f}" if bytes and seconds else "",
        )


def profiles(record: Record) -> tuple[Profile, ...]:
    """A profile for each compiled graph that ran during a timed recording, in the order of running.

    >>> import pellucid as pe
    >>> double = pe.jit(lambda x: pe.exp(x) + x)
    >>> with pe.device("cpu"), pe.recording(timed=True) as record:
    ...     found = [double(pe.ones((1000,))) for _ in range(3)]
    >>> (profile,) = profiles(record)
    >>> (kernel,) = profile.kernels
    >>> profile.runs, str(kernel.kernel), kernel.flops, kernel.bytes
    (3, 'loop: exp add -> float32[1000]', 2000, 8000)
    """
    alike: dict[tuple[Node, ...], list[Run]] = {}
    for run in record.runs:
        # Nodes are compared by identity: equal programs that were compiled apart stay apart.
        alike.setdefault(tuple(step.node for step in run.steps), []).append(run)
    return tuple(_profile(runs) for runs in alike.values())


def short_count(count: float) -> str:
    """A number in at most five characters.

    >>> [short_count(n) for n in (0, 640, 8192, 18_874_368, 3.2e9)]
    ['0', '640', '8.19k', '18.9M', '3.2G']
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"


def cost_of(node: Node) -> tuple[int, int]:
    """The flops and the bytes that the card of a node's op states."""
    assert isinstance(node.op, Op), "a graph that runs consists of ops"
    operands = tuple(value.tensor for value in node.operands)
    cost = node.op.cost(operands, node.types, **dict(node.attrs))
    assert isinstance(cost.flops, int), "sizes are known where a graph runs"
    assert isinstance(cost.bytes, int), "sizes are known where a graph runs"
    return cost.flops, cost.bytes


def _weight(kernel: KernelTime) -> int:
    return kernel.flops + FLOPS_PER_BYTE * kernel.bytes


def _copy_of(node: Node) -> KernelSummary:
    return KernelSummary("copy", (("copy", 1),), node.types)


def _fit(name: str, width: int) -> str:
    return clip(name, width).ljust(width)


_LINE: Final = "{:>2}  {}  {:>7} {:>6}  {:>5} {:>5}  {:>7} {:>5}"
_TITLES: Final = ("µs", "share", "flop", "byte", "Gflop/s", "GB/s")
_NUMBERS: Final = len(_LINE.format("", "", *_TITLES))
_NARROWEST, _WIDEST = 12, 48


def _profile(runs: Sequence[Run]) -> Profile:
    numbers = {node: number for number, node in enumerate(kernel_nodes(runs[0].graph))}
    kernels: list[KernelTime] = []
    at = 0
    for node, group in groupby(step.node for step in runs[0].steps):
        count = len(list(group))
        times = [sum(step.seconds for step in run.steps[at : at + count]) for run in runs]
        flops, bytes = cost_of(node)
        number = numbers.get(node)
        summary = summary_of(node) if number is not None else _copy_of(node)
        kernels.append(KernelTime(number, summary, count, median(times), flops, bytes))
        at += count
    return Profile(tuple(kernels), len(runs))
