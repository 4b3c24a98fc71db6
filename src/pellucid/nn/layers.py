"""Which layers are there? Dense, Dropout, Flatten, and Sequential to put them in a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from pellucid.core.dtype import DType, as_dtype, float32
from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn.activations import Activation, find_activation
from pellucid.nn.initializers import Initializer, find_initializer
from pellucid.nn.module import Module, new_parameter
from pellucid.tensor import random
from pellucid.tensor.arithmetic import add, astype, divide, where
from pellucid.tensor.precision import handed_on
from pellucid.tensor.products import matmul
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.shaping import reshape
from pellucid.tensor.state import Parameter, as_tensor
from pellucid.tensor.tensor import Operand, Tensor


class Dense(Module):
    """activation(x @ kernel + bias), over the last axis.

    Input (..., features) of any floating dtype, which is cast to the layer's; output (..., units).
    `kernel` (features, units) and `bias` (units,) are made at the first call. Raises OpShapeError
    where a later input has another number of features.

    >>> from pellucid import zeros
    >>> Dense(3, activation="relu")(zeros((2, 5))).shape
    (2, 3)
    """

    def __init__(
        self,
        units: int,
        activation: str | Activation | None = None,
        *,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        dtype: Any = float32,
    ) -> None:
        if units < 1:
            raise StateError(f"Dense: expected at least 1 unit, got {units}")
        self.units = units
        self.activation = find_activation(activation)
        self.use_bias = use_bias
        self.kernel_initializer = find_initializer(kernel_initializer)
        self.bias_initializer = find_initializer(bias_initializer)
        self.dtype = as_dtype(dtype)
        self.kernel: Parameter | None = None
        self.bias: Parameter | None = None

    def build(self, features: int) -> None:
        """Make the Parameters for inputs with this many features."""
        fans = (features, self.units)
        self.kernel = new_parameter("kernel", fans, self.kernel_initializer, fans, self.dtype)
        if self.use_bias:
            shape = (self.units,)
            self.bias = new_parameter("bias", shape, self.bias_initializer, fans, self.dtype)

    def forward(self, x: Operand) -> Tensor:
        """x of shape (..., features) to (..., units)."""
        return self.activation(self.scores(x))

    def scores(self, x: Operand) -> Tensor:
        """x @ kernel + bias: what the activation is given; logits, if that is softmax."""
        tensor = as_tensor(x)
        if tensor.ndim == 0:
            raise OpShapeError(f"Dense: expected a feature axis{at_line(user_source())}")
        if self.kernel is None:
            self.build(tensor.shape[-1])
        assert self.kernel is not None, "build made it"
        if tensor.shape[-1] != self.kernel.shape[0]:
            raise OpShapeError(
                f"Dense: expected {self.kernel.shape[0]} features, got {shape_text(tensor.shape)}"
                f"{at_line(user_source())}"
            )
        return _affine(tensor, self.kernel, self.bias, self.dtype)


@rehearsed
def _affine(x: Tensor, kernel: Operand, bias: Operand | None, dtype: DType) -> Tensor:
    """x @ kernel + bias."""
    product = matmul(astype(x, dtype), kernel)
    return handed_on(product if bias is None else add(product, bias))


class Dropout(Module):
    """Sets each element to 0 with probability `rate` while training, and scales up the others.

    Srivastava et al., JMLR 2014. Draws from the default random generator.
    """

    def __init__(self, rate: float) -> None:
        if not 0.0 <= rate < 1.0:
            raise StateError(f"Dropout: expected a rate from 0 to below 1, got {rate}")
        self.rate = rate

    def forward(self, x: Operand) -> Tensor:
        """x of any shape to the same shape."""
        tensor = as_tensor(x)
        if not self.training or self.rate == 0.0:
            return tensor
        kept = random.bernoulli(1.0 - self.rate, tensor.shape)
        return where(kept, divide(tensor, 1.0 - self.rate), 0.0)


class Flatten(Module):
    """All axes but the first as one: (batch, ...) to (batch, features)."""

    def forward(self, x: Operand) -> Tensor:
        """x of shape (batch, ...) to (batch, features)."""
        tensor = as_tensor(x)
        if tensor.ndim == 0:
            raise OpShapeError(f"Flatten: expected a batch axis{at_line(user_source())}")
        rest = 1
        for size in tensor.shape[1:]:
            rest *= size
        return reshape(tensor, (tensor.shape[0], rest))


class Sequential(Module):
    """Layers one after the other; a plain function is a layer too.

    Takes a list of layers, or the layers themselves.

    >>> from pellucid import zeros
    >>> Sequential([Dense(4, activation="relu"), Dense(2)])(zeros((1, 3))).shape
    (1, 2)
    """

    def __init__(self, *layers: Any) -> None:
        single = len(layers) == 1 and isinstance(layers[0], list | tuple)
        given = cast("tuple[Any, ...]", layers[0]) if single else layers
        self.layers: list[Any] = list(given)
        for layer in self.layers:
            _require_layer(layer)

    def append(self, layer: Any) -> None:
        """Put a layer at the end; `add` is another name for it."""
        _require_layer(layer)
        self.layers.append(layer)

    add = append

    def forward(self, x: Any) -> Any:
        """x through every layer in turn."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Any:
        return self.layers[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)


def _require_layer(layer: object) -> None:
    if not callable(layer):
        raise StateError(
            f"Sequential: expected layers or functions, got {layer!r}; "
            "write nn.Sequential([nn.Dense(64), nn.Dense(10)])"
        )
