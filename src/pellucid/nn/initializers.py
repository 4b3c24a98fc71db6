"""With which numbers does a Parameter start? Functions of (shape, fan_in, fan_out, dtype)."""

from __future__ import annotations

import math
from collections.abc import Callable

from pellucid.core.dtype import DType, float64
from pellucid.core.error import StateError
from pellucid.tensor import creation, random
from pellucid.tensor.arithmetic import (
    absolute,
    astype,
    divide,
    maximum,
    multiply,
    sqrt,
    square,
    subtract,
)
from pellucid.tensor.products import matmul
from pellucid.tensor.reducing import max as reduced_max
from pellucid.tensor.reducing import sum as reduced_sum
from pellucid.tensor.shaping import permute_dims, reshape
from pellucid.tensor.tensor import Tensor

Initializer = Callable[[tuple[int, ...], int, int, DType], Tensor]


def zeros(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """All 0."""
    return creation.zeros(shape, dtype=dtype)


def ones(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """All 1."""
    return creation.ones(shape, dtype=dtype)


def glorot_uniform(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, AISTATS 2010)."""
    limit = math.sqrt(6.0 / max(fan_in + fan_out, 1))
    return random.uniform(shape, -limit, limit, dtype=dtype)


def glorot_normal(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, AISTATS 2010)."""
    return random.normal(shape, 0.0, math.sqrt(2.0 / max(fan_in + fan_out, 1)), dtype=dtype)


def lecun_uniform(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """Uniform with variance 1 / fan_in (LeCun et al., "Efficient BackProp", 1998)."""
    limit = math.sqrt(3.0 / max(fan_in, 1))
    return random.uniform(shape, -limit, limit, dtype=dtype)


def lecun_normal(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """Normal with variance 1 / fan_in (LeCun et al., 1998; for selu)."""
    return random.normal(shape, 0.0, math.sqrt(1.0 / max(fan_in, 1)), dtype=dtype)


def truncated_normal(std: float = 0.02) -> Initializer:
    """Normal about 0, but nothing beyond two of its `std`, as language models start.

    >>> from pellucid import float32
    >>> drawn = truncated_normal(0.5)((100,), 1, 1, float32)
    >>> bool((drawn * drawn).max() <= 1.0)
    True
    """
    if not std > 0:
        raise StateError(f"truncated_normal: expected a std above 0, got {std}")

    def draw(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
        return random.truncated_normal(shape, 0.0, std, dtype=dtype)

    return draw


def constant(value: float) -> Initializer:
    """All of one value."""

    def fill(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
        return creation.full(shape, value, dtype=dtype)

    return fill


def he_uniform(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """Uniform with variance 2 / fan_in, for relu (He et al., ICCV 2015)."""
    limit = math.sqrt(6.0 / max(fan_in, 1))
    return random.uniform(shape, -limit, limit, dtype=dtype)


def he_normal(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """Normal with variance 2 / fan_in, for relu (He et al., ICCV 2015)."""
    return random.normal(shape, 0.0, math.sqrt(2.0 / max(fan_in, 1)), dtype=dtype)


def orthogonal(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DType) -> Tensor:
    """Orthonormal columns, or rows where these are fewer, uniform among all such matrices.

    A product with it keeps lengths, and so do many one after the other (Saxe et al., ICLR 2014).
    All axes but the last are one.

    >>> from pellucid import float32
    >>> q = orthogonal((2, 2), 2, 2, float32)
    >>> print(abs((q @ q.T).numpy().round(5)))
    [[1. 0.]
     [0. 1.]]
    """
    columns = shape[-1] if shape else 1
    rows = math.prod(shape) // max(columns, 1)
    drawn = random.normal((min(rows, columns), max(rows, columns)), dtype=float64)
    found = _nearest_orthogonal(drawn)
    turned = found if rows < columns else permute_dims(found, (1, 0))
    return astype(reshape(turned, shape), dtype)


def _nearest_orthogonal(x: Tensor) -> Tensor:
    """The rows of x made orthonormal, by Newton's iteration for the polar factor (Higham, 1986).

        x <- 3/2 x - 1/2 (x x^T) x        each singular value s goes to 1 by (3 s - s**3) / 2

    Of normal draws this factor is uniform. It takes products alone, whose bits are the same on any
    number of threads; a library's QR has no such promise.
    """
    one = creation.eye(x.shape[0], dtype=x.dtype)
    x = divide(x, maximum(sqrt(reduced_sum(square(x))), 1e-300))
    # 60 steps raise a value by 1.5**60, more than what normal draws ever need.
    for _ in range(60):
        power = matmul(x, permute_dims(x, (1, 0)))
        far = float(reduced_max(absolute(subtract(power, one)))) if x.size else 0.0
        x = subtract(multiply(x, 1.5), multiply(matmul(power, x), 0.5))
        # The distance is squared by each step: from here the last one leaves rounding alone.
        if far < 1e-8:
            break
    return x


INITIALIZERS: dict[str, Initializer] = {
    "zeros": zeros,
    "ones": ones,
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "truncated_normal": truncated_normal(),
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "orthogonal": orthogonal,
}


def find_initializer(spec: str | Initializer) -> Initializer:
    """The initialiser of this name, or the function itself."""
    if callable(spec):
        return spec
    if spec not in INITIALIZERS:
        raise StateError(f"no initializer is called {spec!r}; there are {', '.join(INITIALIZERS)}")
    return INITIALIZERS[spec]
