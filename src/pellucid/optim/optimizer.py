"""What do all optimizers share? Which Parameters they change, their slots, and what a step is.

A step reads and consumes `p.grad`. The learning rate and the step count are Variables, so changing
them changes nothing that was compiled; a schedule is asked for the rate inside each step. Slots are
made at the first step, beside each Parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from pellucid.core.dtype import DType, float32
from pellucid.core.error import StateError
from pellucid.core.source import at_line, user_source
from pellucid.optim.schedules import Schedule
from pellucid.tensor.cells import cells_of
from pellucid.tensor.context import no_grad, outside_traces
from pellucid.tensor.creation import zeros
from pellucid.tensor.state import Buffer, Parameter, Variable, as_tensor, note_step
from pellucid.tensor.stateful import Stateful
from pellucid.tensor.tensor import Operand, Tensor


class Optimizer(Stateful):
    """The base of optimizers: subclasses define `update`.

    `target` is a Module (whose Parameters may not exist yet), a Parameter, or an iterable of them.
    `learning_rate` is a number, a Variable that is shared, or a schedule: a function of the steps
    already made, asked at each step; the cell `learning_rate` then shows the latest rate.
    `lr` is accepted for `learning_rate`.
    """

    def __init__(
        self,
        target: Any,
        learning_rate: float | Variable | Schedule,
        lr: float | Variable | Schedule | None = None,
    ) -> None:
        rate = learning_rate if lr is None else lr
        self.schedule: Schedule | None = None
        if callable(rate):
            self.schedule = rate
            with outside_traces():
                rate = float(as_tensor(rate(0)))
        if not isinstance(rate, Variable) and not rate >= 0:
            raise StateError(f"{type(self).__name__}: expected a rate of at least 0, got {rate}")
        self.target = _checked(type(self).__name__, target)
        if not isinstance(rate, Variable):
            # A float also where it was written as 1: it may be set to 0.5 later.
            rate = Buffer(float(rate), name="learning_rate")
        self.__dict__["learning_rate"] = rate
        self.step_count = Buffer(0, name="step_count")
        self.slots: dict[str, dict[Parameter, Buffer]] = {}

    @property
    def learning_rate(self) -> Variable:
        """The rate, in a Variable: setting it, also to a number, changes nothing compiled.

        With a schedule, setting it raises StateError: the next step would not heed it.
        """
        return self.__dict__["learning_rate"]

    @learning_rate.setter
    def learning_rate(self, rate: Operand) -> None:
        if self.schedule is not None:
            raise StateError(
                f"{type(self).__name__}: the rate follows a schedule{at_line(user_source())}\n"
                "  set `schedule`, to None or to another one"
            )
        self.learning_rate.assign(rate)

    def parameters(self) -> list[Parameter]:
        """The Parameters that exist by now, in the order of the target."""
        return list(self.named_parameters().values())

    def named_parameters(self) -> dict[str, Parameter]:
        """The Parameters that exist by now, by their path in the target."""
        cells = cells_of(self.target)
        return {path: cell for path, cell in cells.items() if isinstance(cell, Parameter)}

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
            if self.schedule is not None:
                self.learning_rate.assign(self.schedule(self.step_count.value))
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

    def variables(self) -> dict[str, Variable]:
        """The optimizer's own cells by a path that is the same in another process.

        A slot is called by its name and the path of its Parameter in the target: `mean/0.kernel`.
        """
        own = {name: part for name, part in vars(self).items() if name not in ("target", "slots")}
        found = cells_of(own)
        paths = {cell: path for path, cell in self.named_parameters().items()}
        for name, slots in self.slots.items():
            found |= {f"{name}/{paths[p]}": slot for p, slot in slots.items() if p in paths}
        return found

    def slot(self, name: str, parameter: Parameter) -> Buffer:
        """A cell beside a Parameter, of its shape and starting at zero; at least float32."""
        if name not in self.slots:
            self.slots[name] = {}
        slots = self.slots[name]
        found = slots.get(parameter)
        if found is None:
            with outside_traces():
                first = zeros(parameter.shape, dtype=working_dtype(parameter))
                found = slots[parameter] = Buffer(first, name=f"{name} of {parameter.name}")
        return found


def working_dtype(parameter: Parameter | Tensor) -> DType:
    """The dtype in which a Parameter is updated: small floats would lose small steps."""
    return parameter.dtype if parameter.dtype.bits >= 32 else float32


def _checked(name: str, target: Any) -> Any:
    """What is to be optimized; raises StateError where there can be no Parameters in it."""
    if isinstance(target, Stateful | Variable):
        return target
    if not isinstance(target, Iterable) or isinstance(target, str):
        raise StateError(f"{name}: expected a Module or Parameters, got {target!r}")
    found = list(cast("Iterable[Any]", target))
    if not found:
        raise StateError(
            f"{name}: there are no Parameters{at_line(user_source())}\n  pass the model itself: "
            "its Parameters may be made later, at the first call"
        )
    return found
