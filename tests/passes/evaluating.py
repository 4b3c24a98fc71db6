"""What does the bit contract say of one op? The reference in the precision that engines use.

A card's `evaluate` takes narrow floats through float64; engines compute float32 as it is and 16-bit
floats in float32. A law or a folding must keep the bits of the latter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import DType, integer_range
from pellucid.ir.graph import Graph, TensorType
from pellucid.ops import lookup

Arrays = tuple[NDArray[Any], ...]


def evaluate_as_engines_do(graph: Graph, arrays: Arrays) -> Arrays:
    """Node by node, every result rounded to its dtype."""
    env = dict(zip(graph.inputs, arrays, strict=True))
    for node, results in zip(graph.nodes, graph.results, strict=True):
        with np.errstate(all="ignore"):
            operands = [widened(env[value]) for value in node.operands]
            found = lookup(node.op.name).reference(*operands, **dict(node.attrs))
            (type,) = node.types
            assert isinstance(type, TensorType)
            env[results[0]] = np.asarray(found).astype(type.dtype.numpy)
    return tuple(env[value] for value in graph.outputs)


def widened(array: NDArray[Any]) -> NDArray[Any]:
    """16-bit floats as float32, everything else as it is."""
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def special(dtype: DType) -> NDArray[Any]:
    """The numbers at which laws break: zeros, infinities, NaN, the least and the greatest."""
    if dtype.kind == "bool":
        return np.array([True, False])
    if dtype.is_integer:
        low, high = integer_range(dtype)
        return np.array([0, 1, 2, 3, 7, high, high - 1, low, low + 1], dtype.numpy)
    least = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149}
    most = {"float16": 65504.0, "bfloat16": 3.3895e38, "float32": 3.4028e38}
    tiny, huge = least.get(dtype.name, 5e-324), most.get(dtype.name, 1.79e308)
    numbers = [0.0, 1.0, 2.0, 0.1, 3.7, np.inf, tiny, 3 * tiny, huge, 1 / 3, 1e-3]
    random = np.random.default_rng(0).normal(size=6)
    with np.errstate(over="ignore"):
        return np.array([*numbers, *(-np.array(numbers)), np.nan, *random]).astype(dtype.numpy)


def any_numbers(dtype: DType, count: int, seed: int) -> NDArray[Any]:
    """Random bits read as numbers of the dtype: of every size, NaN and infinities among them."""
    raw = np.random.default_rng(seed).integers(0, 256, (count, dtype.bytes), np.uint8)
    if dtype.kind == "bool":
        return raw[:, 0] < 128
    found = raw.view(dtype.numpy)[:, 0]
    with np.errstate(invalid="ignore"):
        # Only quiet NaNs: NumPy warns at every touch of the others.
        return np.where(found != found, np.asarray(np.nan).astype(dtype.numpy), found)


def pairs(dtype: DType) -> Arrays:
    """Every special number with every other: two columns."""
    numbers = special(dtype)
    return np.repeat(numbers, len(numbers)), np.tile(numbers, len(numbers))
