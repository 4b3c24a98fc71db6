"""Which layers make a picture smaller? Poolings, over windows or over all places.

Inputs are (batch, spatial axes, channels); `data_format="channels_first"` moves the channels.
"""

from __future__ import annotations

from typing import ClassVar

from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn import functional
from pellucid.nn.convolutions import Windowed
from pellucid.nn.functional import Numbers, PaddingLike
from pellucid.nn.module import Module
from pellucid.tensor.reducing import max as maximum_over
from pellucid.tensor.reducing import mean
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


class _Pooling(Windowed):
    """Windows of `pool_size`, each `strides` (the pool size, if not given) after the last."""

    mean: ClassVar[bool] = False

    def __init__(
        self,
        pool_size: Numbers = 2,
        strides: Numbers | None = None,
        padding: PaddingLike = "valid",
        *,
        data_format: str = "channels_last",
    ) -> None:
        if data_format not in functional.FORMATS:
            raise StateError(f"{type(self).__name__}: no data_format is called {data_format!r}")
        self.pool_size = functional.numbers("pool_size", pool_size, self.rank)
        given = self.pool_size if strides is None else strides
        self.strides = functional.numbers("strides", given, self.rank)
        self.padding = padding
        self.data_format = data_format

    def forward(self, x: Operand) -> Tensor:
        """x to the same with fewer places."""
        pool = functional.avg_pool if self.mean else functional.max_pool
        return pool(
            self.checked(x),
            self.pool_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
        )


class MaxPool1D(_Pooling):
    """The largest element of each window over sequences (batch, steps, channels)."""

    rank = 1


class MaxPool2D(_Pooling):
    """The largest element of each window over images (batch, height, width, channels).

    >>> from pellucid import zeros
    >>> MaxPool2D(2)(zeros((1, 24, 24, 3))).shape
    (1, 12, 12, 3)
    """

    rank = 2


class MaxPool3D(_Pooling):
    """The largest element of each window over volumes."""

    rank = 3


class AvgPool1D(_Pooling):
    """The mean of each window over sequences (batch, steps, channels), padding left out."""

    rank = 1
    mean = True


class AvgPool2D(_Pooling):
    """The mean of each window over images (batch, height, width, channels), padding left out."""

    rank = 2
    mean = True


class AvgPool3D(_Pooling):
    """The mean of each window over volumes, padding left out."""

    rank = 3
    mean = True


class _GlobalPooling(Module):
    """One number for each channel, whatever the number of spatial axes."""

    def __init__(self, *, data_format: str = "channels_last") -> None:
        if data_format not in functional.FORMATS:
            raise StateError(f"{type(self).__name__}: no data_format is called {data_format!r}")
        self.data_format = data_format

    def spatial(self, x: Tensor) -> tuple[int, ...]:
        """The axes that go; raises OpShapeError where there is none."""
        if x.ndim < 3:
            raise OpShapeError(
                f"{type(self).__name__}: expected (batch, spatial axes, channels), got "
                f"{shape_text(x.shape)}{at_line(user_source())}"
            )
        first = 2 if self.data_format == "channels_first" else 1
        return tuple(range(first, first + x.ndim - 2))


class GlobalAvgPool(_GlobalPooling):
    """The mean of each channel over all places: (batch, places, channels) to (batch, channels).

    >>> from pellucid import ones
    >>> GlobalAvgPool()(ones((2, 7, 7, 3))).shape
    (2, 3)
    """

    def forward(self, x: Operand) -> Tensor:
        """x of shape (batch, spatial axes, channels) to (batch, channels)."""
        tensor = as_tensor(x)
        return mean(tensor, axis=self.spatial(tensor))


class GlobalMaxPool(_GlobalPooling):
    """The largest element of each channel: (batch, places, channels) to (batch, channels).

    Equal ones share the gradient.
    """

    def forward(self, x: Operand) -> Tensor:
        """x of shape (batch, spatial axes, channels) to (batch, channels)."""
        tensor = as_tensor(x)
        return maximum_over(tensor, axis=self.spatial(tensor))
