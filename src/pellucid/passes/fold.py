"""What can be computed now? An op on small constants, where every engine would give the same bits.

Which ops those are is read off the cards. Whole numbers and truths are the same everywhere.
Floating numbers are if they are only moved, or if the card of an elementwise op states half a unit
in the last place: IEEE 754 then fixes the last bit. Not folded are elementary functions (each
engine has its own last bit), sums and products of floats (their order is the engine's to keep), a
maximum that is a zero (of 0.0 and -0.0 either may come), and what a NaN goes into or comes out of.

Before: any graph that checks. After: no such op has constants for all its operands, unless it has
more numbers than a constant may have. Every node that is left is as it was.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from pellucid.core.dtype import DType, as_dtype, bfloat16, float16
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.define import Array, Op, lookup
from pellucid.ops.elementwise import cast as cast_op
from pellucid.ops.elementwise import maximum, minimum
from pellucid.ops.movement import CONSTANT_BYTES, constant, constant_array, full
from pellucid.passes.stage import staged

MOVING = ("movement", "gather")
"""The kinds of op whose result is made of the elements of the operands."""


@staged
def fold(graph: Graph) -> Graph:
    """Compute what depends on small constants alone.

    %0 = constant() [value='3.0']  %1 = constant() [value='4.0']  %2 = add(%0, %1)
      ->  %2 = constant() [value='7.0']
    """
    return rewrite_nodes(graph, _rule)


def _rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if not operands or len(node.types) != 1 or not all(map(_is_constant, operands)):
        return None
    if not is_exact(node):
        return None
    op, uniform = lookup(node.op.name), all(map(_is_uniform, operands))
    if uniform and op.kind == "movement":
        return _moved_number(node, operands[0])
    return _compute(node, operands, uniform and op.kind == "elementwise")


def is_exact(node: Node) -> bool:
    """Whether every engine gives this node the same bits, NaN and the sign of zeros apart."""
    op, (type, *_) = lookup(node.op.name), cast(tuple[TensorType, ...], node.types)
    if op.kind == "control" or not _rounds_once(node):
        return False
    if not type.dtype.is_floating or op.kind in MOVING:
        return True
    return op.kind == "elementwise" and op.ulps(type.dtype, dict(node.attrs)) <= 0.5


def _is_constant(value: Value) -> bool:
    return value.node is not None and value.node.op is constant


def _is_uniform(value: Value) -> bool:
    return value.node is not None and isinstance(value.node.attr("value"), str)


def _array(value: Value, scalar: bool = False) -> Array:
    """A constant's numbers; with `scalar` the one number that it is made of."""
    assert value.node is not None, "a constant has a node"
    shape = () if scalar else value.shape
    return constant.evaluate(dtype=value.dtype, shape=shape, value=value.node.attr("value"))[0]


def _moved_number(node: Node, operand: Value) -> tuple[Value, ...]:
    (type,) = cast(tuple[TensorType], node.types)
    assert operand.node is not None, "a constant has a node"
    return (constant(dtype=type.dtype, shape=type.shape, value=operand.node.attr("value")),)


def _compute(node: Node, operands: tuple[Value, ...], uniform: bool) -> tuple[Value, ...] | None:
    (type,) = cast(tuple[TensorType], node.types)
    if not uniform and not all(map(_is_small, (type, *(value.tensor for value in operands)))):
        return None
    op, arrays = lookup(node.op.name), [_array(value, scalar=uniform) for value in operands]
    found = _exactly(op, arrays, dict(node.attrs), type.dtype)
    if any(map(_has_nan, (*arrays, found))) or _is_doubtful(op, found):
        return None
    if uniform:
        number = float(found) if type.dtype.is_floating else found.item()
        return (full(type.shape, number, type.dtype),)
    return (constant_array(found),)


def _is_small(type: TensorType) -> bool:
    return isinstance(type.size, int) and type.size * type.dtype.bytes <= CONSTANT_BYTES


def _has_nan(array: Array) -> bool:
    return as_dtype(array.dtype).is_floating and bool(np.isnan(array).any())


def _is_doubtful(op: Op, found: Array) -> bool:
    return op in (maximum, minimum) and as_dtype(found.dtype).is_floating and not found.all()


def _exactly(op: Op, arrays: list[Array], attrs: dict[str, Any], dtype: DType) -> Array:
    """The reference in the precision of the bit contract: 16-bit floats in float32."""
    if op.kind != "elementwise":
        return op.evaluate(*arrays, **attrs)[0]
    wide = [a.astype(np.float32) if _is_narrow(a) and not op.own_dtype else a for a in arrays]
    with np.errstate(all="ignore"):
        return np.asarray(op.reference(*wide, **attrs)).astype(dtype.numpy, copy=False)


def _is_narrow(array: Array) -> bool:
    return array.dtype in (float16.numpy, bfloat16.numpy)


def _rounds_once(node: Node) -> bool:
    """Whether a cast goes to its dtype in one rounding: to 16 bits not from a wide number."""
    if node.op is not cast_op or node.attr("dtype") not in (float16, bfloat16):
        return True
    source = node.operands[0].dtype
    return source.bits <= (32 if source.is_floating else 16)
