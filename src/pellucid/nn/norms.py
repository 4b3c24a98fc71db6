"""Which layers keep numbers in range? Norms: over features, over groups of them, over the batch.

Each subtracts a mean and divides by a standard deviation (RMSNorm only divides), and then scales
and shifts by Parameters. They differ in what the mean is taken over. Numbers narrower than float32
are widened for that and rounded at the end.
"""

from __future__ import annotations

from typing import Any

from pellucid.core.dtype import DType, as_dtype, float32
from pellucid.core.error import DataError, OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn.initializers import ones, zeros
from pellucid.nn.module import Module, new_parameter
from pellucid.tensor import creation
from pellucid.tensor.arithmetic import add, astype, multiply, square, subtract
from pellucid.tensor.context import no_grad, outside_traces
from pellucid.tensor.elementary import rsqrt
from pellucid.tensor.reducing import mean, var
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.shaping import axis_of, reshape
from pellucid.tensor.state import Buffer, Parameter, as_tensor
from pellucid.tensor.tensor import Operand, Tensor


class Norm(Module):
    """What the norms share: the Parameters `scale` and `bias` along one axis, made at first use."""

    least_rank = 2

    def __init__(self, axis: int, epsilon: float, use_bias: bool, dtype: Any) -> None:
        if not epsilon > 0:
            raise StateError(f"{type(self).__name__}: expected an epsilon above 0, got {epsilon}")
        self.axis = axis
        self.epsilon = epsilon
        self.use_bias = use_bias
        self.dtype = as_dtype(dtype)
        self.scale: Parameter | None = None
        self.bias: Parameter | None = None

    def build(self, features: int) -> None:
        """Make the Parameters for inputs with this many features."""
        shape, fans = (features,), (features, features)
        self.scale = new_parameter("scale", shape, ones, fans, self.dtype)
        if self.use_bias:
            self.bias = new_parameter("bias", shape, zeros, fans, self.dtype)

    def prepared(self, x: Operand) -> Tensor:
        """x in the dtype of the statistics, the Parameters made for it; raises OpShapeError."""
        tensor, name = as_tensor(x), type(self).__name__
        if tensor.ndim < self.least_rank:
            raise OpShapeError(
                f"{name}: expected at least {self.least_rank} axes, got {shape_text(tensor.shape)}"
                f"{at_line(user_source())}"
            )
        features = tensor.shape[axis_of(name, self.axis, tensor.ndim)]
        if self.scale is None:
            self.build(features)
        assert self.scale is not None, "build made it"
        if features != self.scale.shape[0]:
            raise OpShapeError(
                f"{name}: expected {self.scale.shape[0]} features, got {shape_text(tensor.shape)}"
                f"{at_line(user_source())}"
            )
        return astype(tensor, _wide(self.dtype))

    def finished(self, x: Tensor) -> Tensor:
        """x scaled and shifted along the axis, in the layer's dtype."""
        assert self.scale is not None, "prepared made it"
        return self.shifted(multiply(x, self.along(self.scale, x.ndim)))

    def shifted(self, x: Tensor) -> Tensor:
        """x shifted along the axis, in the layer's dtype."""
        return astype(x if self.bias is None else add(x, self.along(self.bias, x.ndim)), self.dtype)

    def along(self, vector: Operand, rank: int) -> Tensor:
        """One number for each feature, shaped to meet a tensor of `rank` axes."""
        place = axis_of(type(self).__name__, self.axis, rank)
        wide = astype(as_tensor(vector), _wide(self.dtype))
        return reshape(wide, tuple(wide.size if i == place else 1 for i in range(rank)))


class LayerNorm(Norm):
    """Each example by the mean and deviation of its own features (Ba et al., 2016).

        (x - mean) / sqrt(var + epsilon) * scale + bias        over the last axis

    >>> print(LayerNorm()(as_tensor([[1.0, 3.0]])).numpy().round(3))
    [[-1.  1.]]
    """

    least_rank = 1

    def __init__(
        self, *, epsilon: float = 1e-5, use_bias: bool = True, dtype: Any = float32
    ) -> None:
        super().__init__(-1, epsilon, use_bias, dtype)

    def forward(self, x: Operand) -> Tensor:
        """x of shape (..., features) to the same shape."""
        return self.finished(_standardised(self.prepared(x), (-1,), self.epsilon))


class RMSNorm(Norm):
    """Each example by the root of the mean square of its features (Zhang and Sennrich, 2019).

    x / sqrt(mean(x**2) + epsilon) * scale, over the last axis; no mean is taken off, and there is
    no bias.

    >>> print(RMSNorm()(as_tensor([[3.0, 3.0]])).numpy().round(3))
    [[1. 1.]]
    """

    least_rank = 1

    def __init__(self, *, epsilon: float = 1e-6, dtype: Any = float32) -> None:
        super().__init__(-1, epsilon, False, dtype)

    def forward(self, x: Operand) -> Tensor:
        """x of shape (..., features) to the same shape."""
        wide = self.prepared(x)
        power = mean(square(wide), axis=-1, keepdims=True)
        return self.finished(multiply(wide, rsqrt(add(power, self.epsilon))))


class GroupNorm(Norm):
    """Each example by the mean and deviation of groups of its channels (Wu and He, ECCV 2018).

    Input (batch, ...), with the channels along `axis`; they are cut into `groups` of neighbours,
    and the statistics go over all positions of a group. Raises OpShapeError where the groups do
    not divide the channels.

    >>> GroupNorm(2)(creation.ones((3, 4, 4, 6))).shape
    (3, 4, 4, 6)
    """

    def __init__(
        self,
        groups: int,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
        use_bias: bool = True,
        dtype: Any = float32,
    ) -> None:
        if groups < 1:
            raise StateError(f"GroupNorm: expected at least 1 group, got {groups}")
        super().__init__(axis, epsilon, use_bias, dtype)
        self.groups = groups

    def forward(self, x: Operand) -> Tensor:
        """x of shape (batch, ...) to the same shape."""
        wide = self.prepared(x)
        place = axis_of("GroupNorm", self.axis, wide.ndim)
        channels = wide.shape[place]
        if channels % self.groups:
            raise OpShapeError(
                f"GroupNorm: {self.groups} groups do not divide {channels} channels"
                f"{at_line(user_source())}"
            )
        before, after = wide.shape[:place], wide.shape[place + 1 :]
        grouped = reshape(wide, (*before, self.groups, channels // self.groups, *after))
        axes = tuple(axis for axis in range(1, grouped.ndim) if axis != place)
        standard = _standardised(grouped, axes, self.epsilon)
        return self.finished(reshape(standard, wide.shape))


class BatchNorm(Norm):
    """Each feature by its mean and deviation over the batch (Ioffe and Szegedy, ICML 2015).

    While training these are the batch's own, over every axis but `axis`, and the Buffers `mean` and
    `variance` follow them: b = momentum * b + (1 - momentum) * found. After `eval` the Buffers are
    used. The variance is the mean of the squares (divided by n), here and in the Buffer; momentum
    0.9 is what PyTorch calls 0.1.

    >>> norm = BatchNorm()
    >>> print(norm(as_tensor([[1.0], [3.0]])).numpy().round(3).tolist(), norm.mean)
    [[-1.0], [1.0]] Buffer([0.2], dtype=float32)
    """

    def __init__(
        self,
        *,
        axis: int = -1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        use_bias: bool = True,
        dtype: Any = float32,
    ) -> None:
        super().__init__(axis, epsilon, use_bias, dtype)
        if not 0.0 <= momentum <= 1.0:
            raise StateError(f"BatchNorm: expected a momentum from 0 to 1, got {momentum}")
        self.momentum = momentum
        self.mean: Buffer | None = None
        self.variance: Buffer | None = None

    def build(self, features: int) -> None:
        """Make the Parameters and the running statistics."""
        super().build(features)
        wide = _wide(self.dtype)
        with outside_traces():
            self.mean = Buffer(creation.zeros((features,), dtype=wide), name="mean")
            self.variance = Buffer(creation.ones((features,), dtype=wide), name="variance")

    def forward(self, x: Operand) -> Tensor:
        """x of shape (batch, ..., features) to the same shape."""
        wide = self.prepared(x)
        assert self.mean is not None, "prepared made both"
        assert self.variance is not None, "prepared made both"
        assert self.scale is not None, "prepared made it"
        if self.training:
            centred, variance = self._by_batch(wide, self.mean, self.variance)
        else:
            centred = subtract(wide, self.along(self.mean, wide.ndim))
            variance = self.along(self.variance, wide.ndim)
        # Both are one number a feature: elements are multiplied once, and on the way back one sum
        # serves both.
        factor = multiply(rsqrt(add(variance, self.epsilon)), self.along(self.scale, wide.ndim))
        return self.shifted(multiply(centred, factor))

    def _by_batch(
        self, wide: Tensor, running_mean: Buffer, running_variance: Buffer
    ) -> tuple[Tensor, Tensor]:
        """What the batch's mean leaves, and its variance, which the running ones follow."""
        place = axis_of("BatchNorm", self.axis, wide.ndim)
        axes = tuple(i for i in range(wide.ndim) if i != place)
        if not wide.size:
            raise DataError(
                f"BatchNorm: the batch {shape_text(wide.shape)} is empty, its mean would spoil the "
                f"running one{at_line(user_source())}\n  leave out batches without rows"
            )
        centre, centred, variance = _spread(wide, axes)
        with no_grad():
            for buffer, found in ((running_mean, centre), (running_variance, variance)):
                flat = reshape(found, buffer.shape)
                buffer.assign(buffer * self.momentum + flat * (1.0 - self.momentum))
        return centred, variance


def _wide(dtype: DType) -> DType:
    """The dtype of means and deviations: at least float32."""
    return float32 if dtype.bits < float32.bits else dtype


def _spread(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The mean, what is left without it, and the mean of its squares."""
    centre = mean(x, axis=axes, keepdims=True)
    return centre, subtract(x, centre), var(x, axis=axes, keepdims=True)


@rehearsed
def _standardised(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    _, centred, variance = _spread(x, axes)
    return multiply(centred, rsqrt(add(variance, epsilon)))
