"""How does a layer remember? A recurrent cell takes one step: (x_t, state) to (output, state).

What a cell does with x_t alone is a product, `project`, which a layer does for all steps at once;
`advance` is what is left for each step: the product with the state, and the gates.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypedDict, Unpack

from pellucid.core.dtype import as_dtype, float32
from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn.activations import Activation, find_activation
from pellucid.nn.initializers import Initializer, find_initializer, ones
from pellucid.nn.module import Module, new_parameter
from pellucid.tensor.arithmetic import add, astype, multiply, subtract
from pellucid.tensor.creation import zeros
from pellucid.tensor.joining import concat, split
from pellucid.tensor.products import matmul
from pellucid.tensor.state import Parameter, as_tensor
from pellucid.tensor.tensor import Operand, Tensor

State = Any
"""A Tensor (batch, units), or a tuple of them."""


class CellOptions(TypedDict, total=False):
    """The settings that all cells have."""

    activation: str | Activation
    recurrent_activation: str | Activation
    use_bias: bool
    kernel_initializer: str | Initializer
    recurrent_initializer: str | Initializer
    bias_initializer: str | Initializer
    dtype: Any


class Cell(Module):
    """What LSTMCell and GRUCell share: Parameters side by side, one block of units for each gate.

    `kernel` (features, gates * units), `recurrent_kernel` (units, gates * units) and `bias` (gates
    * units,) are made at the first call, each block drawn for itself.
    """

    gates: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        units: int,
        activation: str | Activation = "tanh",
        recurrent_activation: str | Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        recurrent_initializer: str | Initializer = "orthogonal",
        bias_initializer: str | Initializer = "zeros",
        dtype: Any = float32,
    ) -> None:
        if units < 1:
            raise StateError(f"{type(self).__name__}: expected at least 1 unit, got {units}")
        self.units = units
        self.activation = find_activation(activation)
        self.recurrent_activation = find_activation(recurrent_activation)
        self.use_bias = use_bias
        self.kernel_initializer = find_initializer(kernel_initializer)
        self.recurrent_initializer = find_initializer(recurrent_initializer)
        self.bias_initializer = find_initializer(bias_initializer)
        self.dtype = as_dtype(dtype)
        self.kernel: Parameter | None = None
        self.recurrent_kernel: Parameter | None = None
        self.bias: Parameter | None = None

    def build(self, features: int) -> None:
        """Make the Parameters for inputs with this many features."""
        inputs = [self.kernel_initializer] * len(self.gates)
        states = [self.recurrent_initializer] * len(self.gates)
        self.kernel = self._blocks("kernel", (features, self.units), inputs)
        self.recurrent_kernel = self._blocks("recurrent_kernel", (self.units, self.units), states)
        if self.use_bias:
            self.bias = self._blocks("bias", (self.units,), self.bias_initializers())

    def bias_initializers(self) -> list[Initializer]:
        """How the bias of each gate starts."""
        return [self.bias_initializer] * len(self.gates)

    def forward(self, x: Operand, state: State = None) -> tuple[Tensor, State]:
        """One step: x (batch, features) and the state to the output (batch, units) and the next."""
        tensor = as_tensor(x)
        if tensor.ndim != 2:
            raise OpShapeError(
                f"{type(self).__name__}: expected (batch, features), got "
                f"{shape_text(tensor.shape)}{at_line(user_source())}"
            )
        return self.advance(self.project(tensor), self.begin(tensor.shape[0], state))

    def project(self, x: Tensor) -> Tensor:
        """x @ kernel + bias: all that a step needs of x (..., features)."""
        if self.kernel is None:
            self.build(x.shape[-1])
        assert self.kernel is not None, "build made it"
        if x.shape[-1] != self.kernel.shape[0]:
            raise OpShapeError(
                f"{type(self).__name__}: expected {self.kernel.shape[0]} features, got "
                f"{shape_text(x.shape)}{at_line(user_source())}"
            )
        product = matmul(astype(x, self.dtype), self.kernel)
        return product if self.bias is None else add(product, self.bias)

    def begin(self, batch: int, state: State = None) -> State:
        """The state before the first step, zeros if none is given; subclasses define it."""
        raise StateError(f"{type(self).__name__} has no `begin`: define it in the class")

    def advance(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """A step from what `project` gave for it to the output and the state after it; so, too."""
        raise StateError(f"{type(self).__name__} has no `advance`: define it in the class")

    def first(self, name: str, batch: int, given: Operand | None) -> Tensor:
        """One Tensor (batch, units) of the first state."""
        shape = (batch, self.units)
        if given is None:
            return zeros(shape, dtype=self.dtype)
        tensor = as_tensor(given)
        if tensor.shape != shape:
            raise OpShapeError(
                f"{type(self).__name__}: expected the {name} state as {shape_text(shape)}, got "
                f"{shape_text(tensor.shape)}{at_line(user_source())}"
            )
        return astype(tensor, self.dtype)

    def _blocks(self, name: str, shape: tuple[int, ...], each: list[Initializer]) -> Parameter:
        """A Parameter of one block for each gate, along the last axis."""
        fans = (shape[0], self.units)

        def side_by_side(whole: Any, fan_in: int, fan_out: int, dtype: Any) -> Tensor:
            return concat([make(shape, fan_in, fan_out, dtype) for make in each], axis=-1)

        whole = (*shape[:-1], len(each) * self.units)
        return new_parameter(name, whole, side_by_side, fans, self.dtype)


class LSTMCell(Cell):
    """One step of a long short-term memory (Hochreiter and Schmidhuber, 1997; Gers et al., 2000).

        i, f, g, o = split(x @ kernel + h @ recurrent_kernel + bias, 4)
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    The gates stand in this order: input, forget, candidate, output. The state is (h, c). With
    `unit_forget_bias` the forget gate's bias starts at 1 (Jozefowicz et al., ICML 2015).

    >>> from pellucid import zeros
    >>> y, (h, c) = LSTMCell(4)(zeros((2, 3)))
    >>> y.shape, c.shape
    ((2, 4), (2, 4))
    """

    gates = ("input", "forget", "candidate", "output")

    def __init__(
        self, units: int, *, unit_forget_bias: bool = True, **options: Unpack[CellOptions]
    ) -> None:
        super().__init__(units, **options)
        self.unit_forget_bias = unit_forget_bias

    def bias_initializers(self) -> list[Initializer]:
        """How the bias of each gate starts."""
        each = [self.bias_initializer] * len(self.gates)
        if self.unit_forget_bias:
            each[self.gates.index("forget")] = ones
        return each

    def begin(self, batch: int, state: State = None) -> State:
        """(h, c) before the first step."""
        hidden, memory = pair_of("LSTM: expected the state as a pair (h, c)", state)
        return self.first("hidden", batch, hidden), self.first("memory", batch, memory)

    def advance(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """A step from what `project` gave for it to the output and the state after it."""
        hidden, memory = state
        assert self.recurrent_kernel is not None, "project made it"
        sums = add(projected, matmul(hidden, self.recurrent_kernel))
        entering, kept, candidate, shown = split(sums, 4, axis=-1)
        gate, curve = self.recurrent_activation, self.activation
        memory = add(multiply(gate(kept), memory), multiply(gate(entering), curve(candidate)))
        hidden = multiply(gate(shown), curve(memory))
        return hidden, (hidden, memory)


class GRUCell(Cell):
    """One step of a gated recurrent unit (Cho et al., EMNLP 2014).

        r, z = split(sigmoid(x @ kernel + h @ recurrent_kernel + bias)), its first two thirds
        n = tanh(x @ kernel_n + bias_n + r * (h @ recurrent_kernel_n + recurrent_bias))
        h' = z * h + (1 - z) * n

    The gates stand in this order: reset, update, candidate. The state is h. So it is with
    `reset_after`, which other frameworks compute by default; without it the reset gate acts before
    the product, as in the paper: n = tanh(x @ kernel_n + bias_n + (r * h) @ recurrent_kernel_n),
    and there is no `recurrent_bias` (units,).

    >>> from pellucid import zeros
    >>> y, h = GRUCell(4)(zeros((2, 3)))
    >>> y.shape, h.shape
    ((2, 4), (2, 4))
    """

    gates = ("reset", "update", "candidate")

    def __init__(
        self, units: int, *, reset_after: bool = True, **options: Unpack[CellOptions]
    ) -> None:
        super().__init__(units, **options)
        self.reset_after = reset_after
        self.recurrent_bias: Parameter | None = None

    def build(self, features: int) -> None:
        """Make the Parameters for inputs with this many features."""
        super().build(features)
        if self.use_bias and self.reset_after:
            each = [self.bias_initializer]
            self.recurrent_bias = self._blocks("recurrent_bias", (self.units,), each)

    def begin(self, batch: int, state: State = None) -> State:
        """The state h before the first step."""
        return self.first("hidden", batch, state)

    def advance(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """A step from what `project` gave for it to the output and the state after it."""
        assert self.recurrent_kernel is not None, "project made it"
        units, gate = self.units, self.recurrent_activation
        both, own = split(projected, [2 * units], axis=-1)
        if self.reset_after:
            moved = matmul(state, self.recurrent_kernel)
            moved_both, moved_own = split(moved, [2 * units], axis=-1)
            reset, update = split(gate(add(both, moved_both)), 2, axis=-1)
            if self.recurrent_bias is not None:
                moved_own = add(moved_own, self.recurrent_bias)
            candidate = self.activation(add(own, multiply(reset, moved_own)))
        else:
            for_both, for_own = split(self.recurrent_kernel, [2 * units], axis=-1)
            reset, update = split(gate(add(both, matmul(state, for_both))), 2, axis=-1)
            candidate = self.activation(add(own, matmul(multiply(reset, state), for_own)))
        hidden = add(multiply(update, state), multiply(subtract(1.0, update), candidate))
        return hidden, hidden


def pair_of(expected: str, state: State) -> tuple[Any, Any]:
    """Both parts of a state, None where there is none."""
    if state is None:
        return None, None
    match state:
        case [first, second]:
            return first, second
        case _:
            kind = type(state).__name__
            raise OpShapeError(f"{expected}, got {kind}{at_line(user_source())}")
