"""What do all optimizers share? Which Parameters they change, their slots, and what a step is.

A step reads and consumes `p.grad`. The learning rate and the step count are Variables, so changing
them changes nothing that was compiled; slots are made at the first step, beside each Parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pellucid.core.error import StateError
from pellucid.core.source import at_line, user_source
from pellucid.tensor.cells import cells_of
from pellucid.tensor.context import no_grad, outside_traces
from pellucid.tensor.creation import zeros
from pellucid.tensor.state import Buffer, Parameter, Variable, note_step
from pellucid.tensor.stateful import Stateful
from pellucid.tensor.tensor import Tensor


class Optimizer(Stateful):
    """The base of optimizers: subclasses define `update`.

    `target` is a Module (whose Parameters may not exist yet), a Parameter, or an iterable of them.
    `lr` is accepted for `learning_rate`.
    """

    def __init__(self, target: Any, learning_rate: float, lr: float | None = None) -> None:
        rate = learning_rate if lr is None else lr
        if not isinstance(rate, Variable) and not rate >= 0:
            raise StateError(f"{type(self).__name__}: expected a rate of at least 0, got {rate}")
        if isinstance(target, Iterable) and not isinstance(target, Stateful | Variable):
            target = list(target)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        self.target = target
        self.learning_rate = Buffer(float(rate), name="learning_rate")
        self.step_count = Buffer(0, name="step_count")
        self.slots: dict[str, dict[Parameter, Buffer]] = {}

    def parameters(self) -> list[Parameter]:
        """The Parameters that exist by now, in the order of the target."""
        return [cell for cell in cells_of(self.target).values() if isinstance(cell, Parameter)]

    def step(self) -> None:
        """Change every Parameter that has a gradient, and consume the gradients.

        Raises StateError where there is none at all.
        """
        pairs = [(p, g) for p in self.parameters() if (g := p.grad) is not None]
        if not pairs:
            raise StateError(
                f"{type(self).__name__}.step: no Parameter has a gradient{at_line(user_source())}\n"
                "  call loss.backward() first"
            )
        with no_grad():
            self.step_count.assign(self.step_count + 1)
            self.update(pairs)
            for parameter, _ in pairs:
                parameter.grad = None
        note_step()

    def update(self, pairs: list[tuple[Parameter, Tensor]]) -> None:
        """Assign to each Parameter; subclasses define it."""
        raise StateError(f"{type(self).__name__} has no `update`: define it in the class")

    def zero_grad(self) -> None:
        """Drop all gradients now. Not needed in a usual loop: `step` consumes them."""
        for parameter in self.parameters():
            parameter.grad = None

    def slot(self, name: str, parameter: Parameter) -> Buffer:
        """A cell beside a Parameter, of its type and starting at zero."""
        if name not in self.slots:
            self.slots[name] = {}
        slots = self.slots[name]
        if parameter not in slots:
            with outside_traces():
                first = zeros(parameter.shape, dtype=parameter.dtype)
                slots[parameter] = Buffer(first, name=f"{name} of {parameter.name}")
        return slots[parameter]
