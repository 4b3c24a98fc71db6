"""What do graphs look like that nobody wrote? Seeded random ones over all ops, with operands.

They have shared values, several outputs, sizes 0, 1, odd and more than a lane block, constants at
which laws apply, and numbers that stay tame. The same seed gives the same graph everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import DType, bool_, float32, uint32, uint64
from pellucid.core.shape import Shape
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops import REGISTRY, index, parts
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import cast, select
from pellucid.ops.movement import (
    CONSTANT_BYTES,
    broadcast,
    constant_array,
    full,
    iota,
    reshape,
    transpose,
)
from pellucid.ops.random import random_bits

SIZES = (1, 2, 3, 4, 5, 8, 17, 65, 130)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -0.25)

Arrays = tuple[NDArray[Any], ...]


def random_graph(
    seed: int,
    dtypes: Sequence[DType] = (float32,),
    size: int = 20,
    elements: int = 2000,
    empty: bool = True,
) -> tuple[Graph, Arrays]:
    """A graph of about `size` nodes over values of these dtypes, and operands for it.

    No value has more than `elements` elements; with `empty` a size may be 0.
    """
    with building() as builder:
        grower = _Grower(seed, tuple(dtypes), elements, empty)
        arrays: list[NDArray[Any]] = []
        for _ in range(grower.integer(2, 5)):
            dtype, shape = grower.choice(dtypes), grower.shape()
            grower.values.append(builder.input(TensorType(dtype, shape)))
            arrays.append(sample(grower.rng, dtype, shape))
        while len(builder.nodes) < size:
            grower.grow()
        return builder.graph(grower.outputs()), tuple(arrays)


def sample(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """Tame numbers of a dtype: normal ones with a few exact zeros, small whole ones."""
    if dtype is bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_integer:
        return rng.integers(0 if dtype.kind == "uint" else -20, 20, shape).astype(dtype.numpy)
    normal = np.where(
        rng.random(shape) < 0.05, rng.choice([0.0, -0.0, 1.0]), rng.normal(size=shape)
    )
    return np.asarray(normal).astype(dtype.numpy)


def same_bits(lhs: NDArray[Any], rhs: NDArray[Any]) -> bool:
    """Whether two arrays agree in dtype, shape and every bit; any NaN equals any other."""
    if lhs.dtype != rhs.dtype or lhs.shape != rhs.shape:
        return False
    floats = lhs.dtype.kind not in "biu"
    lhs_nan, rhs_nan = (x != x if floats else np.zeros(x.shape, bool) for x in (lhs, rhs))
    bits = [np.ascontiguousarray(x).reshape(-1).view(f"u{x.dtype.itemsize}") for x in (lhs, rhs)]
    equal = (bits[0] == bits[1]).reshape(lhs.shape) | (lhs_nan & rhs_nan)
    return bool(equal.all())


class _Grower:
    """The open builder's values so far, and the ways to add one more."""

    def __init__(self, seed: int, dtypes: tuple[DType, ...], elements: int, empty: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtypes, self.elements, self.empty = dtypes, elements, empty
        self.values: list[Value] = []
        self.makers: tuple[Callable[[], Value | None], ...] = (
            *([self.elementwise] * 10),
            *(self.compare, self.choose, self.convert, self.constant, self.count, self.draw),
            *(self.spread, self.spread, self.turn, self.turn, self.shape_anew, self.shape_anew),
            *(self.reduce, self.reduce, self.reduce, self.contract, self.contract, self.contract),
            *(self.cut, self.cut, self.turn_over, self.extend, self.join, self.look_up, self.put),
        )

    def grow(self) -> None:
        made = self.choice(self.makers)()
        if made is not None:
            self.values.append(made)

    def outputs(self) -> list[Value]:
        """What nothing uses (the last few), and any other value; one may stand twice."""
        used = {operand for value in self.values if value.node for operand in value.node.operands}
        unused = [value for value in self.values if value not in used]
        return [*unused[-6:], self.choice(self.values), self.choice(self.values)]

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def choice(self, items: Sequence[Any]) -> Any:
        return items[self.integer(0, len(items))]

    def shape(self) -> tuple[int, ...]:
        shape: list[int] = []
        for _ in range(self.integer(0, 4)):
            size = 0 if self.empty and self.rng.random() < 0.03 else self.choice(SIZES)
            if int(np.prod([*shape, size])) <= self.elements:
                shape.append(size)
        return tuple(shape)

    def any(self, *kinds: str) -> Value | None:
        """A recent value of one of these kinds of dtype (of every kind where none is named)."""
        fitting = [v for v in self.values if not kinds or v.dtype.kind in kinds]
        return self.choice(fitting[-12:]) if fitting else None

    def like(self, x: Value) -> Value:
        """Another value of x's type, found or made."""
        same = [v for v in self.values if v.type == x.type]
        if same and self.rng.random() < 0.7:
            return self.choice(same)
        return self.number(x.dtype, x.shape)

    def number(self, dtype: DType, shape: Shape) -> Value:
        number = self.choice(NUMBERS)
        if dtype is bool_:
            return full(shape, number != 0, dtype)
        return full(shape, number if dtype.is_floating else abs(int(number)), dtype)

    def elementwise(self) -> Value | None:
        x = self.any("float", "int", "uint")
        if x is None:
            return None
        names = ["add", "sub", "mul", "maximum", "minimum", "neg", "abs"]
        if x.dtype.is_floating:
            names += ["add", "mul", "tanh", "tanh", "exp", "log", "sqrt", "div", "stop_gradient"]
        else:
            names += ["bit_and", "bit_or", "bit_xor", "shift_right"]
        name = self.choice(names)
        unary = name in ("neg", "abs", "tanh", "exp", "log", "sqrt", "stop_gradient")
        return REGISTRY[name](x) if unary else REGISTRY[name](x, self.like(x))

    def compare(self) -> Value | None:
        x = self.any("float", "int", "uint")
        name = self.choice(["equal", "not_equal", "less", "less_equal"])
        return None if x is None else REGISTRY[name](x, self.like(x))

    def choose(self) -> Value | None:
        pred = self.any("bool")
        if pred is None:
            return None
        if self.rng.random() < 0.5:
            pred = REGISTRY[self.choice(["logical_and", "logical_or"])](pred, self.like(pred))
        if self.rng.random() < 0.3:
            pred = REGISTRY["logical_not"](pred)
        fitting = [v for v in self.values if v.shape == pred.shape and v.dtype is not bool_]
        if not fitting:
            return pred
        x = self.choice(fitting)
        return select(pred, x, self.like(x))

    def convert(self) -> Value | None:
        x = self.any()
        return None if x is None else cast(x, dtype=self.choice(self.dtypes))

    def constant(self) -> Value:
        dtype, shape = self.choice(self.dtypes), self.shape()
        if int(np.prod(shape)) * dtype.bytes <= CONSTANT_BYTES and self.rng.random() < 0.5:
            return constant_array(sample(self.rng, dtype, shape))
        return self.number(dtype, shape)

    def count(self) -> Value | None:
        dtype, shape = self.choice(self.dtypes), self.shape()
        if not shape or dtype is bool_:
            return None
        return iota(dtype=dtype, shape=shape, axis=self.integer(0, len(shape)))

    def draw(self) -> Value:
        seed, number = (full((), self.integer(0, 2**60), uint64) for _ in range(2))
        bits = random_bits(seed, number, shape=self.shape())
        dtype = self.choice(self.dtypes)
        by = full(bits.shape, 25, uint32)
        return cast(REGISTRY["shift_right"](bits, by), dtype=dtype)

    def spread(self) -> Value | None:
        x = self.any()
        if x is None:
            return None
        shape, axes = list[Any](), list[int]()
        for size in x.shape:
            if self.rng.random() < 0.4:
                shape.append(self.choice(SIZES[:5]))
            axes.append(len(shape))
            shape.append(self.choice(SIZES) if size == 1 else size)
        if self.rng.random() < 0.4:
            shape.append(self.choice(SIZES[:5]))
        if int(np.prod(shape)) > self.elements or len(shape) > 6:
            return None
        return broadcast(x, shape=tuple(shape), axes=tuple(axes))

    def turn(self) -> Value | None:
        x = self.any()
        if x is None:
            return None
        return transpose(x, permutation=tuple(map(int, self.rng.permutation(x.tensor.rank))))

    def shape_anew(self) -> Value | None:
        x = self.any()
        if x is None:
            return None
        sizes: list[Any] = list(x.shape)
        if self.rng.random() < 0.4:
            sizes.insert(self.integer(0, len(sizes) + 1), 1)
        elif len(sizes) > 1:
            at = self.integer(0, len(sizes) - 1)
            sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
        elif sizes and sizes[0] and sizes[0] % 2 == 0:
            sizes = [sizes[0] // 2, 2]
        return reshape(x, shape=tuple(sizes)) if len(sizes) <= 6 else None

    def cut(self) -> Value | None:
        """A slice of a value."""
        x = self.any()
        if x is None or not all(x.shape):
            return None
        start = tuple(self.integer(0, size) for size in x.shape)
        pairs = zip(start, x.shape, strict=True)
        stop = tuple(self.integer(low + 1, size + 1) for low, size in pairs)
        return parts.slice(x, start=start, stop=stop, strides=[self.integer(1, 3) for _ in start])

    def turn_over(self) -> Value | None:
        x = self.any()
        if x is None:
            return None
        axes = tuple(axis for axis in range(x.tensor.rank) if self.rng.random() < 0.5)
        return parts.reverse(x, axes=axes)

    def extend(self) -> Value | None:
        """A value with something around its elements, or with less of them."""
        x = self.any("float")
        if x is None or int(np.prod(x.shape)) > self.elements // 16:
            return None
        low, high = ([self.integer(-1, 3) if n > 2 else 1 for n in x.shape] for _ in range(2))
        between = [self.integer(0, 2) for _ in x.shape]
        return parts.pad(x, value="-0.5", low=low, high=high, interior=between)

    def join(self) -> Value | None:
        x = self.any()
        if x is None or not x.shape or int(np.prod(x.shape)) > self.elements // 3:
            return None
        axis = self.integer(0, x.tensor.rank)
        return parts.concatenate(x, self.like(x), x, axis=axis)

    def indices(self, x: Value, axis: int, shape: tuple[int, ...]) -> Value:
        """Places along an axis, some of them out of range, some named twice."""
        numbers = self.rng.integers(-1, int(x.shape[axis]) + 1, shape)
        return constant_array(numbers.astype(np.int64))

    def look_up(self) -> Value | None:
        x = self.any()
        if x is None or not x.shape or int(np.prod(x.shape)) > self.elements // 9:
            return None
        axes = tuple(axis for axis in range(x.tensor.rank) if self.rng.random() < 0.6) or (0,)
        shape = self.choice([(), (3,), (2, 4)])
        return index.gather(x, *(self.indices(x, axis, shape) for axis in axes), axes=axes)

    def put(self) -> Value | None:
        x = self.any("float", "int", "uint")
        if x is None or not x.shape or int(np.prod(x.shape)) > self.elements // 9:
            return None
        axis, shape = self.integer(0, x.tensor.rank), self.choice([(), (3,), (2, 4)])
        rest = tuple(n for a, n in enumerate(x.shape) if a != axis)
        updates = self.number(x.dtype, (*shape, *rest))
        mode = self.choice(index.MODES)
        places = self.indices(x, axis, shape)
        return index.scatter(x, updates, places, axes=(axis,), mode=mode)

    def reduce(self) -> Value | None:
        x = self.any("float", "int", "uint")
        if x is None:
            return None
        axes = tuple(axis for axis in range(x.tensor.rank) if self.rng.random() < 0.5)
        name = self.choice(["sum", "sum", "max", "min", "prod"])
        if name in ("max", "min") and any(x.shape[axis] == 0 for axis in axes):
            return None
        return REGISTRY[name](x, axes=axes)

    def contract(self) -> Value | None:
        """A product of two values over an axis that they share, or of one with its own axes."""
        lhs = self.any("float", "int", "uint")
        if lhs is None or not lhs.shape:
            return None
        axis = self.integer(0, lhs.tensor.rank)
        partners = [
            (value, other)
            for value in self.values
            for other, size in enumerate(value.shape)
            if value.dtype is lhs.dtype and size == lhs.shape[axis]
        ]
        rhs, other = self.choice(partners)
        batched = lhs.tensor.rank > 1 and self.rng.random() < 0.3 and rhs is lhs and axis == other
        pair = ((axis,), (other,))
        rest = next((a for a in range(lhs.tensor.rank) if a != axis), None) if batched else None
        batch = ((), ()) if rest is None else ((rest,), (rest,))
        result = dot_general.result_types((lhs.type, rhs.type), {"contract": pair, "batch": batch})[
            0
        ]
        if int(np.prod(result.shape)) > self.elements or result.rank > 6:
            return None
        return dot_general(lhs, rhs, contract=pair, batch=batch)
