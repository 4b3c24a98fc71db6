"""With which numbers does a Parameter start? Functions of (shape, fan_in, fan_out, dtype)."""

from __future__ import annotations

import math
from collections.abc import Callable

from pellucid.core.dtype import DType
from pellucid.core.error import StateError
from pellucid.tensor import creation, random
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
}


def find_initializer(spec: str | Initializer) -> Initializer:
    """The initialiser of this name, or the function itself."""
    if callable(spec):
        return spec
    if spec not in INITIALIZERS:
        raise StateError(f"no initializer is called {spec!r}; there are {', '.join(INITIALIZERS)}")
    return INITIALIZERS[spec]
