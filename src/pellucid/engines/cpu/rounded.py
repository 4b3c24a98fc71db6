"""How does one op run at once that reads its operands in another precision? After copies of them.

The compiled program is the same by the pass `precision`: the op without it, over rounded operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from pellucid.core.dtype import DType, float32
from pellucid.engines.base import Layout
from pellucid.ops.define import Op, lookup
from pellucid.ops.precision import unread


class EagerLaunch(Protocol):
    """A single op made ready, as `engines.base.Launch` says."""

    @property
    def result(self) -> Layout:
        """The layout of the result, which is dense."""
        ...

    def __call__(self, *addresses: int) -> None:
        """Run: the operands' addresses, then the result's."""
        ...


Launcher = Callable[[Op, Mapping[str, Any], tuple[Layout, ...]], EagerLaunch]


def is_to_round(attrs: Mapping[str, Any], operands: tuple[Layout, ...]) -> bool:
    """Whether an op reads operands otherwise than they are."""
    return "precision" in attrs and any(operand.dtype is float32 for operand in operands)


def rounded(
    op: Op, attrs: Mapping[str, Any], operands: tuple[Layout, ...], launcher: Launcher
) -> EagerLaunch:
    """The launch of an op with a `precision`, made of the launches of casts and of the plain op."""
    precision: DType = attrs["precision"]
    copies: dict[int, EagerLaunch] = {}
    layouts = list(operands)
    for at, operand in enumerate(operands):
        if operand.dtype is float32:
            copies[at] = launcher(lookup("cast"), {"dtype": precision}, (operand,))
            layouts[at] = copies[at].result
    return _Rounded(copies, launcher(op, unread(op, attrs), tuple(layouts)))


class _Rounded:
    """An op some of whose operands are first copied."""

    __slots__ = ("_copies", "_rest", "result")

    def __init__(self, copies: dict[int, EagerLaunch], rest: EagerLaunch) -> None:
        self.result, self._copies, self._rest = rest.result, tuple(copies.items()), rest

    def __call__(self, *addresses: int) -> None:
        read, held = list(addresses), list[np.ndarray[Any, Any]]()
        for at, copy in self._copies:
            held.append(np.empty(copy.result.nbytes, np.uint8))
            copy(read[at], held[-1].ctypes.data)
            read[at] = held[-1].ctypes.data
        self._rest(*read)
