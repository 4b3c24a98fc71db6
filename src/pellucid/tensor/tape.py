"""How does `backward` know what was computed? Each Tensor leads to its op and operands.

The tape is a graph that has not been written down yet. `backward` writes it, asks the reverse
transform for the graph of its gradient, evaluates that on the values at hand, and adds the results
to the Parameters' `grad`. Recorded on a trace, the same happens with traced values, so a training
step becomes one graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.source import Source
from pellucid.ir.graph import Attrs
from pellucid.ops.define import Op

if TYPE_CHECKING:
    from pellucid.tensor.tensor import Tensor


class TapeNode:
    """One op that was applied: what it was, what went in, and what came out (without its tape)."""

    __slots__ = ("attrs", "freed", "op", "operands", "result", "source")

    def __init__(
        self,
        op: Op,
        attrs: Attrs,
        operands: tuple[Tensor, ...],
        result: Tensor,
        source: Source | None = None,
    ) -> None:
        self.op = op
        self.attrs = attrs
        self.operands = operands
        self.result = result
        self.source = source
        self.freed = False

    def free(self) -> None:
        """Let go of everything; a later `backward` through here is an error."""
        self.freed = True
        self.operands = ()
