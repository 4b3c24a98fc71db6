"""How does `backward` know what was computed? Each Tensor leads to its op and operands.

The tape is a graph that has not been written down yet. `backward` writes it, asks the reverse
transform for the graph of its gradient, evaluates that on the values at hand, and adds the results
to the Parameters' `grad`. Recorded on a trace, the same happens with traced values, so a training
step becomes one graph.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from pellucid.core.source import Source
from pellucid.ir.graph import Attrs, TensorType
from pellucid.ops.define import Op
from pellucid.tensor.tensor import Tensor


class TapeNode:
    """One op that was applied: what it was, what went in, and what came out (without its tape)."""

    __slots__ = (
        "_address",
        "_layout",
        "_storage",
        "_trace",
        "_value",
        "attrs",
        "freed",
        "op",
        "operands",
        "source",
    )

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
        self.source = source
        self.freed = False
        # The result leads here: held as it is, it would go round in a circle.
        self._layout, self._storage, self._address = (
            result._layout,
            result._storage,
            result._address,
        )
        self._value, self._trace = result._value, result._trace

    @property
    def type(self) -> TensorType:
        """The type of what came out."""
        return self._layout.type

    @property
    def result(self) -> Tensor:
        """What came out."""
        return Tensor(self._layout, self._storage, self._address, self._value, self._trace)

    def free(self) -> None:
        """Let go of everything; a later `backward` through here is an error."""
        self.freed = True
        self.operands = ()
