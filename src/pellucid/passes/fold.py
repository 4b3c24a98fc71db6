"""What can be computed now? An op on small constants, where every engine would give the same bits.

Folded are the ops whose result IEEE 754 or integer arithmetic fixes to the last bit: moving
elements, + - * / sqrt, comparing, selecting, bit operations and casts of one rounding. Not folded
are exp, log, tanh (each engine has its own last bit), sum, max and dot_general (their order is the
engine's to keep), maximum and minimum (of 0.0 and -0.0 either may come) and what gives a NaN.

After `fold` no such op has constants for all its operands, unless its result is larger than a
constant may be.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from pellucid.core.dtype import DType, bfloat16, float16
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.define import Array, Op, lookup
from pellucid.ops.movement import CONSTANT_BYTES, constant, constant_array, full
from pellucid.passes.stage import staged

MOVEMENT = frozenset(("broadcast", "reshape", "transpose", "slice", "reverse"))
ARITHMETIC = frozenset(("add", "sub", "mul", "div", "neg", "abs", "sqrt", "select", "cast"))
COMPARISON = frozenset(("equal", "not_equal", "less", "less_equal"))
LOGIC = frozenset(
    ("logical_and", "logical_or", "logical_not", "bit_and", "bit_or", "bit_xor", "shift_right")
)
EXACT = ARITHMETIC | COMPARISON | LOGIC


@staged
def fold(graph: Graph) -> Graph:
    """Compute what depends on small constants alone.

    %0 = constant() [value='3.0']  %1 = constant() [value='4.0']  %2 = add(%0, %1)
      ->  %2 = constant() [value='7.0']
    """
    return rewrite_nodes(graph, _rule)


def _rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if not operands or any(not _is_constant(value) for value in operands):
        return None
    if node.op.name in MOVEMENT:
        return _move(node, operands[0])
    if node.op.name in EXACT and _rounds_once(node, operands):
        return _compute(node, operands)
    return None


def _is_constant(value: Value) -> bool:
    return value.node is not None and value.node.op is constant


def _is_uniform(value: Value) -> bool:
    return value.node is not None and isinstance(value.node.attr("value"), str)


def _array(value: Value, scalar: bool = False) -> Array:
    """A constant's numbers; with `scalar` the one number that it is made of."""
    assert value.node is not None, "a constant has a node"
    shape = () if scalar else value.shape
    return constant.evaluate(dtype=value.dtype, shape=shape, value=value.node.attr("value"))[0]


def _move(node: Node, operand: Value) -> tuple[Value, ...] | None:
    (type,) = cast(tuple[TensorType], node.types)
    if _is_uniform(operand):
        assert operand.node is not None, "a constant has a node"
        text = operand.node.attr("value")
        return (constant(dtype=type.dtype, shape=type.shape, value=text),)
    size = type.size
    if not isinstance(size, int) or size * type.dtype.bytes > CONSTANT_BYTES:
        return None
    return (constant_array(lookup(node.op.name).evaluate(_array(operand), **dict(node.attrs))[0]),)


def _compute(node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...] | None:
    (type,) = cast(tuple[TensorType], node.types)
    uniform = all(map(_is_uniform, operands))
    arrays = [_array(value, scalar=uniform) for value in operands]
    found = _exactly(lookup(node.op.name), arrays, dict(node.attrs), type.dtype)
    if type.dtype.is_floating and np.isnan(found).any():
        return None
    if uniform:
        number = float(found) if type.dtype.is_floating else found.item()
        return (full(type.shape, number, type.dtype),)
    return (constant_array(found),) if found.nbytes <= CONSTANT_BYTES else None


def _exactly(op: Op, arrays: list[Array], attrs: dict[str, Any], dtype: DType) -> Array:
    """The reference in the precision of the bit contract: 16-bit floats in float32."""
    wide = [a.astype(np.float32) if a.dtype.itemsize == 2 and _floats(a) else a for a in arrays]
    with np.errstate(all="ignore"):
        return np.asarray(op.reference(*wide, **attrs)).astype(dtype.numpy, copy=False)


def _floats(array: Array) -> bool:
    return array.dtype in (float16.numpy, bfloat16.numpy)


def _rounds_once(node: Node, operands: tuple[Value, ...]) -> bool:
    """Whether a cast goes to its dtype in one rounding: to 16 bits not from a wide number."""
    if node.op.name != "cast" or node.attr("dtype") not in (float16, bfloat16):
        return True
    source = operands[0].dtype
    return source.bits <= (32 if source.is_floating else 16)
