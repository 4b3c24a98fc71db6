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
