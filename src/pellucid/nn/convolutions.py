"""Which layers look at windows? Convolutions and transposed ones, in 1 to 3 dimensions.

Inputs are (batch, spatial axes, channels); `data_format="channels_first"` moves the channels. See
`nn.functional` for strides, padding and dilation.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pellucid.core.dtype import as_dtype, float32
from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn import functional
from pellucid.nn.activations import Activation, find_activation
from pellucid.nn.functional import Numbers, PaddingLike
from pellucid.nn.initializers import Initializer, find_initializer
from pellucid.nn.module import Module, new_parameter
from pellucid.tensor.arithmetic import add, astype
from pellucid.tensor.precision import handed_on
from pellucid.tensor.shaping import reshape
from pellucid.tensor.state import Parameter, as_tensor
from pellucid.tensor.tensor import Operand, Tensor


class Windowed(Module):
    """A layer over inputs with `rank` spatial axes."""

    rank: ClassVar[int]
    data_format: str

    def checked(self, x: Operand) -> Tensor:
        """x as a Tensor of the layer's rank; raises OpShapeError."""
        tensor = as_tensor(x)
        if tensor.ndim != self.rank + 2:
            axes = "batch, channels and" if self.channel_axis == 1 else "batch, channels last and"
            raise OpShapeError(
                f"{type(self).__name__}: expected {axes} {self.rank} spatial axes, "
                f"got {shape_text(tensor.shape)}{at_line(user_source())}"
            )
        return tensor

    @property
    def channel_axis(self) -> int:
        """Where the channels are."""
        return 1 if self.data_format == "channels_first" else self.rank + 1


class _Convolution(Windowed):
    """The parameters that convolutions and transposed ones have.

    `kernel` (window axes, channels / groups, filters) and `bias` (filters,) are made at the first
    call. Raises OpShapeError where a later input has another number of channels.
    """

    transposed: ClassVar[bool] = False

    def __init__(
        self,
        filters: int,
        kernel_size: Numbers,
        strides: Numbers = 1,
        padding: PaddingLike = "valid",
        activation: str | Activation | None = None,
        *,
        dilation: Numbers = 1,
        groups: int = 1,
        use_bias: bool = True,
        data_format: str = "channels_last",
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        dtype: Any = float32,
    ) -> None:
        name = type(self).__name__
        if filters < 1 or groups < 1 or filters % groups:
            raise StateError(f"{name}: {filters} filters are not {groups} equal groups")
        if data_format not in functional.FORMATS:
            raise StateError(f"{name}: no data_format is called {data_format!r}")
        self.filters = filters
        self.kernel_size = functional.numbers("kernel_size", kernel_size, self.rank)
        self.strides = functional.numbers("strides", strides, self.rank)
        self.dilation = functional.numbers("dilation", dilation, self.rank)
        self.padding = padding
        self.groups = groups
        self.activation = find_activation(activation)
        self.use_bias = use_bias
        self.data_format = data_format
        self.kernel_initializer = find_initializer(kernel_initializer)
        self.bias_initializer = find_initializer(bias_initializer)
        self.dtype = as_dtype(dtype)
        self.kernel: Parameter | None = None
        self.bias: Parameter | None = None

    def build(self, channels: int) -> None:
        """Make the Parameters for inputs with this many channels."""
        if channels % self.groups:
            raise OpShapeError(
                f"{type(self).__name__}: {channels} channels are not {self.groups} equal groups"
                f"{at_line(user_source())}"
            )
        seen, places = channels // self.groups, math.prod(self.kernel_size)
        fans = (seen * places, self.filters // self.groups * places)
        shape = (*self.kernel_size, seen, self.filters)
        self.kernel = new_parameter("kernel", shape, self.kernel_initializer, fans, self.dtype)
        if self.use_bias:
            one = (self.filters,)
            self.bias = new_parameter("bias", one, self.bias_initializer, fans, self.dtype)

    def forward(self, x: Operand) -> Tensor:
        """x to (batch, spatial axes, filters), in the layer's data format."""
        tensor = self.checked(x)
        channels = tensor.shape[self.channel_axis]
        if self.kernel is None:
            self.build(channels)
        assert self.kernel is not None, "build made it"
        if channels != self.kernel.shape[-2] * self.groups:
            raise OpShapeError(
                f"{type(self).__name__}: expected {self.kernel.shape[-2] * self.groups} channels, "
                f"got {shape_text(tensor.shape)}{at_line(user_source())}"
            )
        compute = functional.conv_transpose if self.transposed else functional.conv
        found = compute(
            astype(tensor, self.dtype),
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            data_format=self.data_format,
        )
        if self.bias is None:
            return self.activation(handed_on(found))
        after = self.rank + 1 - self.channel_axis
        bias = reshape(self.bias, (self.filters, *(1,) * after)) if after else self.bias
        return self.activation(handed_on(add(found, bias)))


class Conv1D(_Convolution):
    """A convolution over sequences (batch, steps, channels).

    >>> from pellucid import zeros
    >>> Conv1D(4, 3)(zeros((2, 10, 3))).shape
    (2, 8, 4)
    """

    rank = 1


class Conv2D(_Convolution):
    """A convolution over images (batch, height, width, channels).

    >>> from pellucid import zeros
    >>> Conv2D(32, 3, padding="same", activation="relu")(zeros((2, 28, 28, 1))).shape
    (2, 28, 28, 32)
    """

    rank = 2


class Conv3D(_Convolution):
    """A convolution over volumes (batch, depth, height, width, channels)."""

    rank = 3


class Conv1DTranspose(_Convolution):
    """The transpose of a convolution over sequences: strides make them longer."""

    rank = 1
    transposed = True


class Conv2DTranspose(_Convolution):
    """The transpose of a convolution over images: strides make them larger.

    >>> from pellucid import zeros
    >>> Conv2DTranspose(8, 3, strides=2, padding="same")(zeros((2, 7, 7, 4))).shape
    (2, 14, 14, 8)
    """

    rank = 2
    transposed = True


class Conv3DTranspose(_Convolution):
    """The transpose of a convolution over volumes: strides make them larger."""

    rank = 3
    transposed = True
