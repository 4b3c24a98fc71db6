"""Which functions are transformed in these tests? Small graphs, each written in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import float64
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, div, exp, log, maximum, mul, sub, tanh
from pellucid.ops.movement import broadcast, full_like, reshape, transpose
from pellucid.ops.reduce import max_, restore_axes, sum_

Arrays = tuple[NDArray[Any], ...]


def trace(function: Callable[..., Value | Sequence[Value]], *types: TensorType) -> Graph:
    """The graph of a function of values."""
    with building() as builder:
        made = function(*(builder.input(type) for type in types))
        return builder.graph([made] if isinstance(made, Value) else made)


def matrix(*shape: int) -> TensorType:
    """A float64 type."""
    return TensorType(float64, shape)


def arrays_for(graph: Graph, seed: int = 0) -> Arrays:
    """Normal numbers for every input of a float64 graph."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(map(int, value.shape)) for value in graph.inputs]  # type: ignore[arg-type]
    return tuple(np.asarray(rng.normal(size=shape)) for shape in shapes)


def product(x: Value, y: Value) -> Value:
    """x @ y."""
    return dot_general(x, y, contract=((1,), (0,)), batch=((), ()))


def network(x: Value, w1: Value, b: Value, w2: Value) -> Value:
    """Two layers and the mean of squares: shared values, both sides of a product, a broadcast."""
    h = product(x, w1)
    h = tanh(add(h, broadcast(b, shape=h.shape, axes=(1,))))
    y = product(h, w2)
    count = full_like(y, 8.0)
    return sum_(div(mul(y, y), count), axes=(0, 1))


def log_softmax(x: Value) -> Value:
    """Through max, exp, sum and log, with what is subtracted used twice."""
    shifted = sub(x, restore_axes(max_(x, axes=(1,)), x, (1,)))
    total = log(sum_(exp(shifted), axes=(1,)))
    return sub(shifted, restore_axes(total, x, (1,)))


def rectified(x: Value, y: Value) -> Value:
    """A product with one operand turned and a rectifier."""
    turned = transpose(reshape(y, shape=(4, 3)), permutation=(1, 0))
    h = product(x, transpose(turned, permutation=(1, 0)))
    return maximum(h, full_like(h, 0.0))


NETWORK = (matrix(2, 3), matrix(3, 4), matrix(4), matrix(4, 4))
FUNCTIONS: dict[str, Graph] = {
    "network": trace(network, *NETWORK),
    "log_softmax": trace(log_softmax, matrix(3, 5)),
    "rectified": trace(rectified, matrix(2, 4), matrix(2, 6)),
    "square_twice": trace(lambda x: mul(mul(x, x), mul(x, x)), matrix(4)),
    "two_outputs": trace(lambda x, y: [exp(x), mul(x, y), x], matrix(3), matrix(3)),
}
