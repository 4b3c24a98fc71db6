"""How does `backward` come through a compiled call? The call is evaluated again, with a tape.

That happens only if `backward` is asked for outside the compiled function; a training step that
calls it inside pays nothing.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence

from pellucid.core.error import StateError
from pellucid.core.source import at_line, user_source
from pellucid.tensor.binding import Binding
from pellucid.tensor.cell import clock
from pellucid.tensor.context import keeping_tape
from pellucid.tensor.dispatch import evaluate
from pellucid.tensor.tensor import Tensor


class DeferredCall:
    """A compiled call that `backward` may come through: enough to evaluate it again."""

    def __init__(self, name: str, binding: Binding, arguments: Sequence[Tensor]) -> None:
        self.name = name
        self.binding = binding
        self.arguments = tuple(arguments)
        self.writes = clock.writes
        self.outputs: list[Tensor] | None = None

    def results(self) -> list[Tensor]:
        """The results with a tape; raises StateError where a cell changed since the call."""
        if self.outputs is None:
            self.outputs = self._evaluated()
        return self.outputs

    def _evaluated(self) -> list[Tensor]:
        binding = self.binding
        changed = any(cell.is_written_since(self.writes) for _, cell in binding.cells)
        if changed or binding.assigned:
            raise StateError(
                f"backward: Variables changed since the compiled call of {self.name}"
                f"{at_line(user_source())}\n  call backward inside the compiled function, or "
                "before they change"
            )
        tensors = dict(zip(binding.arguments, self.arguments, strict=True)) | dict(binding.tensors)
        for slot, cell in binding.cells:
            tensors[slot] = cell.take(cell if cell._trainable else None)
        inputs = [tensors[number] for number in range(len(binding.graph.inputs))]
        with keeping_tape(True):
            return evaluate(binding.graph, inputs)


class DeferredResult:
    """One result of a compiled call, as a tape."""

    __slots__ = ("call", "index")

    def __init__(self, call: DeferredCall, index: int) -> None:
        self.call, self.index = call, index

    def resolve(self) -> object:
        """The tape node or Parameter behind the result; None where there is none."""
        return self.call.results()[self.index]._tape
