"""Where do random numbers come from? Generators: a seed and a count of draws, kept in Variables.

Each draw has a number of its own, so neither a draw that is dropped nor a draw's size shifts
another one. Bits, integers and uniforms are equal on every engine; normals go through log and sqrt
and are equal within an ISA class.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from pellucid.core.dtype import DType, as_dtype, float32, float64, int64, uint64
from pellucid.core.error import RandomError
from pellucid.ops.random import random_bits
from pellucid.tensor.arithmetic import (
    add,
    astype,
    constant,
    less,
    log,
    logical_right_shift,
    maximum,
    minimum,
    multiply,
    negative,
    sqrt,
    subtract,
    where,
)
from pellucid.tensor.context import context
from pellucid.tensor.creation import asarray
from pellucid.tensor.dispatch import apply
from pellucid.tensor.draws import take_number
from pellucid.tensor.joining import concat
from pellucid.tensor.reducing import sum as total
from pellucid.tensor.state import Buffer
from pellucid.tensor.stateful import Stateful
from pellucid.tensor.tensor import Operand, Tensor

Shape = int | tuple[int, ...]


def _checked(seed: int) -> int:
    number = operator.index(seed)
    if not 0 <= number < 2**64:
        raise RandomError(f"seed: expected a whole number from 0 to 2**64 - 1, got {number}")
    return number


class Generator(Stateful):
    """A source of random numbers; `seed` and `draws` are its state.

    >>> one, two = Generator(7), Generator(7)
    >>> bool((one.uniform((3,)) == two.uniform((3,))).min())
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self.key = Buffer(np.uint64(_checked(seed)), name="seed")
        self.draws = Buffer(np.uint64(0), name="draws")

    def seed(self, seed: int) -> None:
        """Start again: the same seed gives the same draws. Raises RandomError on a bad seed."""
        if context.outermost is not None:
            raise RandomError("seed: set it outside the traced function")
        self.key.assign(np.uint64(_checked(seed)))
        self.draws.assign(np.uint64(0))

    def bits(self, shape: Shape = ()) -> Tensor:
        """Random bits as uint32: Philox 4x32-10 under this seed and the draw's number."""
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        return apply(random_bits, self.next_draw(), (("shape", sizes),))

    def next_draw(self) -> tuple[Tensor, Tensor]:
        """The seed and the number of the next draw, for an op that draws by itself."""
        return self.key.value, take_number(self.draws)

    def uniform(
        self, shape: Shape = (), low: Operand = 0.0, high: Operand = 1.0, *, dtype: Any = float32
    ) -> Tensor:
        """Numbers evenly spread over [low, high), with 24 random bits each (53 for float64)."""
        target = _floating(dtype)
        unit = self._unit(shape, target)
        if isinstance(low, float | int) and isinstance(high, float | int):
            return unit if (low, high) == (0.0, 1.0) else add(multiply(unit, high - low), low)
        return add(multiply(unit, subtract(high, low)), low)

    def normal(
        self, shape: Shape = (), mean: Operand = 0.0, std: Operand = 1.0, *, dtype: Any = float32
    ) -> Tensor:
        """Normally distributed numbers, by the inverse error function of a uniform draw.

        The approximation is M. Giles, "Approximating the erfinv function" (GPU Computing Gems,
        2011), single precision; float64 draws have its precision.
        """
        target = _floating(dtype)
        found = astype(_by_pieces(_normal, self.bits(shape)), target)
        plain = isinstance(mean, float | int) and isinstance(std, float | int)
        if plain and (mean, std) == (0.0, 1.0):
            return found
        return add(multiply(found, std), mean)

    def truncated_normal(
        self, shape: Shape = (), mean: Operand = 0.0, std: Operand = 1.0, *, dtype: Any = float32
    ) -> Tensor:
        """Normally distributed numbers of which none is further than 2 `std` from `mean`.

        By the inverse of the distribution function, so that a draw takes one random number an
        element. Within the bounds the std of what comes out is 0.88 of the one given.
        """
        target = _floating(dtype)
        bounded = astype(_by_pieces(_truncated_normal, self.bits(shape)), target)
        return add(multiply(bounded, std), mean)

    def integers(self, low: int, high: int, shape: Shape = (), *, dtype: Any = int64) -> Tensor:
        """Whole numbers from `low` up to but without `high`, by the multiply-and-shift method.

        With 32 random bits each, the chances of two numbers differ by at most 1 in 2**32 / range.
        Raises RandomError on an empty range or one of more than 2**32 numbers.
        """
        if not 0 < high - low <= 2**32:
            raise RandomError(f"integers: expected 1 to 2**32 numbers from {low} up to {high}")
        scaled = multiply(astype(self.bits(shape), uint64), high - low)
        return add(astype(logical_right_shift(scaled, 32), dtype), low)

    def bernoulli(self, probability: Operand = 0.5, shape: Shape = ()) -> Tensor:
        """True with the given probability."""
        return less(self._unit(shape, float32), probability)

    def _unit(self, shape: Shape, dtype: DType) -> Tensor:
        if dtype is float64:
            sizes = (shape,) if isinstance(shape, int) else tuple(shape)
            pairs = self.bits((2, *sizes))
            return _joined(pairs, sizes)
        # The top 24 bits are just the float32 numbers k / 2**24.
        bits = logical_right_shift(self.bits(shape), 8)
        return astype(multiply(astype(bits, float32), 2.0**-24), dtype)


default_generator = Generator(0)
"""The generator of the functions below, and the one named global of the package."""


def seed(seed: int) -> None:
    """Make everything that draws from the default generator reproducible.

    >>> seed(0)
    >>> first = uniform((2,)).tolist()
    >>> seed(0)
    >>> uniform((2,)).tolist() == first
    True
    """
    default_generator.seed(seed)


def bits(shape: Shape = ()) -> Tensor:
    """As `Generator.bits`, from the default generator."""
    return default_generator.bits(shape)


def uniform(
    shape: Shape = (), low: Operand = 0.0, high: Operand = 1.0, *, dtype: Any = float32
) -> Tensor:
    """As `Generator.uniform`, from the default generator."""
    return default_generator.uniform(shape, low, high, dtype=dtype)


def normal(
    shape: Shape = (), mean: Operand = 0.0, std: Operand = 1.0, *, dtype: Any = float32
) -> Tensor:
    """As `Generator.normal`, from the default generator."""
    return default_generator.normal(shape, mean, std, dtype=dtype)


def truncated_normal(
    shape: Shape = (), mean: Operand = 0.0, std: Operand = 1.0, *, dtype: Any = float32
) -> Tensor:
    """As `Generator.truncated_normal`, from the default generator."""
    return default_generator.truncated_normal(shape, mean, std, dtype=dtype)


def integers(low: int, high: int, shape: Shape = (), *, dtype: Any = int64) -> Tensor:
    """As `Generator.integers`, from the default generator."""
    return default_generator.integers(low, high, shape, dtype=dtype)


def bernoulli(probability: Operand = 0.5, shape: Shape = ()) -> Tensor:
    """As `Generator.bernoulli`, from the default generator."""
    return default_generator.bernoulli(probability, shape)


def _floating(dtype: Any) -> DType:
    target = as_dtype(dtype)
    if not target.is_floating:
        raise RandomError(f"random: expected a floating dtype, got {target}")
    return target


def _joined(pairs: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Two words an element to 53 bits: 26 from the first, 27 from the second."""
    weights = np.array([2.0**-26, 2.0**-53]).reshape(2, *(1 for _ in sizes))
    shifts = np.array([6, 5], np.uint32).reshape(2, *(1 for _ in sizes))
    words = astype(logical_right_shift(pairs, asarray(shifts)), float64)
    return total(multiply(words, weights), axis=0)


_NEAR = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
         -0.00125372503, -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
_FAR = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
        -0.0076224613, 0.00943887047, 1.00167406, 2.83297682)  # fmt: skip


_PIECE = 1 << 17
"""Numbers of which all that is made on the way to them fits a second-level cache."""


def _by_pieces(function: Callable[[Tensor], Tensor], bits: Tensor) -> Tensor:
    """`function(bits)`, which looks at each number alone; many numbers piece by piece.

    A traced function needs no pieces: there nothing that is made on the way lies in memory.
    """
    count = math.prod(bits.shape)
    if context.trace is not None or count <= _PIECE:
        return function(bits)
    flat = bits.reshape((-1,))
    made = [function(flat[start : start + _PIECE]) for start in range(0, count, _PIECE)]
    return concat(made, axis=0).reshape(bits.shape)


def _normal(bits: Tensor) -> Tensor:
    return multiply(_erfinv(_centred(bits)), math.sqrt(2.0))


def _truncated_normal(bits: Tensor) -> Tensor:
    # Of all of a normal distribution, erf(sqrt(2)) lies within two standard deviations.
    inside = multiply(_centred(bits), math.erf(math.sqrt(2.0)))
    return minimum(maximum(multiply(_erfinv(inside), math.sqrt(2.0)), -2.0), 2.0)


def _centred(bits: Tensor) -> Tensor:
    """Numbers evenly spread over (-1, 1)."""
    # Halfway between neighbours of the grid: never -1 or 1, symmetric about 0.
    unit = multiply(add(astype(logical_right_shift(bits, 9), float32), 0.5), 2.0**-22)
    return subtract(unit, 1.0)


def _erfinv(x: Tensor) -> Tensor:
    w = negative(log(multiply(subtract(1.0, x), add(1.0, x))))
    near = _polynomial(_NEAR, subtract(w, 2.5))
    far = _polynomial(_FAR, subtract(sqrt(w), 3.0))
    return multiply(where(less(w, 5.0), near, far), x)


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    value = constant(coefficients[0], x.dtype, x.shape)
    for coefficient in coefficients[1:]:
        value = add(multiply(value, x), coefficient)
    return value
