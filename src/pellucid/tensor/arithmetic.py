"""What can be computed element by element? NumPy's functions, with broadcasting and promotion.

Before an op is asked for, operands get one dtype and one shape: a Python number is weak and takes
the tensor's dtype (NEP 50), an integer tensor beside a floating one takes the floating dtype.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.core.dtype import (
    DType,
    as_dtype,
    bool_,
    float32,
    promote,
    scalar_dtype,
)
from pellucid.core.error import OpError, OpTypeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import Layout
from pellucid.ops import elementwise as ops
from pellucid.ops import movement
from pellucid.ops.define import Op
from pellucid.tensor.context import context
from pellucid.tensor.dispatch import apply, binary_of, known_binary, shapes_error, unary
from pellucid.tensor.memory import copy_array
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.state import Variable, as_tensor
from pellucid.tensor.tensor import Operand, Tensor


def add(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 + x2, element by element."""
    return binary(ops.add, x1, x2)


def subtract(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 - x2, element by element."""
    return binary(ops.sub, x1, x2)


def multiply(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 * x2, element by element."""
    return binary(ops.mul, x1, x2)


def divide(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 / x2, element by element; integers are divided as float32.

    >>> print(divide(as_tensor([1, 2]), 4))
    [0.25 0.5 ]
    """
    if type(x1) is Tensor and x1._layout.dtype.kind == "float":
        return binary(ops.div, x1, x2)
    lhs, rhs = together(ops.div, x1, x2)
    return apply(ops.div, (floating(lhs), floating(rhs)))


def maximum(x1: Operand, x2: Operand, /) -> Tensor:
    """The larger of the two, NaN where one is NaN; where they tie each gets half the gradient."""
    return binary(ops.maximum, x1, x2)


def minimum(x1: Operand, x2: Operand, /) -> Tensor:
    """The smaller of the two, NaN where one is NaN; where they tie each gets half the gradient."""
    return binary(ops.minimum, x1, x2)


def equal(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 == x2, as bool."""
    return binary(ops.equal, x1, x2)


def not_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 != x2, as bool."""
    return binary(ops.not_equal, x1, x2)


def less(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 < x2, as bool."""
    return binary(ops.less, x1, x2)


def less_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 <= x2, as bool."""
    return binary(ops.less_equal, x1, x2)


def greater(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 > x2, as bool."""
    return binary(ops.less, x2, x1)


def greater_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 >= x2, as bool."""
    return binary(ops.less_equal, x2, x1)


def logical_and(x1: Operand, x2: Operand, /) -> Tensor:
    """Whether both are true."""
    return apply(ops.logical_and, _truths(x1, x2))


def logical_or(x1: Operand, x2: Operand, /) -> Tensor:
    """Whether one is true."""
    return apply(ops.logical_or, _truths(x1, x2))


def logical_xor(x1: Operand, x2: Operand, /) -> Tensor:
    """Whether just one is true."""
    return apply(ops.not_equal, _truths(x1, x2))


def logical_not(x: Operand, /) -> Tensor:
    """Whether x is false."""
    return apply(ops.logical_not, (astype(as_tensor(x), bool_),))


def bitwise_and(x1: Operand, x2: Operand, /) -> Tensor:
    """The bits set in both; for bool, whether both are true."""
    return _bitwise(ops.bit_and, ops.logical_and, x1, x2)


def bitwise_or(x1: Operand, x2: Operand, /) -> Tensor:
    """The bits set in one of them; for bool, whether one is true."""
    return _bitwise(ops.bit_or, ops.logical_or, x1, x2)


def bitwise_xor(x1: Operand, x2: Operand, /) -> Tensor:
    """The bits set in just one of them; for bool, whether they differ."""
    return _bitwise(ops.bit_xor, ops.not_equal, x1, x2)


def bitwise_invert(x: Operand, /) -> Tensor:
    """Every bit flipped; for bool, whether x is false."""
    tensor = as_tensor(x)
    if tensor.dtype is bool_:
        return apply(ops.logical_not, (tensor,))
    every = -1 if tensor.dtype.kind == "int" else 2**tensor.dtype.bits - 1
    return bitwise_xor(tensor, every)


def logical_right_shift(x1: Operand, x2: Operand, /) -> Tensor:
    """The bits of an integer moved down by x2 places, zeros coming in from above."""
    return binary(ops.shift_right, x1, x2)


def negative(x: Operand, /) -> Tensor:
    """-x."""
    return unary(ops.neg, as_tensor(x))


def positive(x: Operand, /) -> Tensor:
    """x itself."""
    return as_tensor(x)


def absolute(x: Operand, /) -> Tensor:
    """The distance from 0."""
    return unary(ops.abs_, as_tensor(x))


def reciprocal(x: Operand, /) -> Tensor:
    """1 / x."""
    return divide(1.0, x)


def exp(x: Operand, /) -> Tensor:
    """e to the power of x; float32 within 2 ulp, float64 within 4."""
    return unary(ops.exp, floating(as_tensor(x)))


def log(x: Operand, /) -> Tensor:
    """The natural logarithm; -inf at 0, NaN below."""
    return unary(ops.log, floating(as_tensor(x)))


def tanh(x: Operand, /) -> Tensor:
    """The hyperbolic tangent."""
    return unary(ops.tanh, floating(as_tensor(x)))


def sqrt(x: Operand, /) -> Tensor:
    """The square root, correctly rounded; NaN below 0."""
    return unary(ops.sqrt, floating(as_tensor(x)))


def square(x: Operand, /) -> Tensor:
    """x * x."""
    tensor = as_tensor(x)
    return apply(ops.mul, (tensor, tensor))


@rehearsed
def pow(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 to a whole power from -64 to 64, or to 0.5 or -0.5.

    A power is a product of squares. Raises OpTypeError for other exponents.

    >>> print(pow(as_tensor([1.0, 2.0, 3.0]), 3))
    [ 1.  8. 27.]
    """
    base = as_tensor(x1)
    if not isinstance(x2, int | float) or isinstance(x2, bool):
        raise OpTypeError(
            "pow: expected a Python number as the exponent, got "
            f"{type(x2).__name__}{at_line(user_source())}\n  write pe.exp(y * pe.log(x)) for x > 0"
        )
    if abs(x2) == 0.5:
        root = sqrt(base)
        return root if x2 > 0 else divide(1.0, root)
    if x2 != int(x2) or abs(x2) > 64:
        raise OpTypeError(
            f"pow: expected a whole exponent from -64 to 64 or ±0.5, got {x2}"
            f"{at_line(user_source())}\n  write pe.exp(y * pe.log(x)) for x > 0"
        )
    power = _whole_power(base, abs(int(x2)))
    return divide(1.0, power) if x2 < 0 else power


@rehearsed
def where(condition: Operand, x1: Operand, x2: Operand, /) -> Tensor:
    """x1 where the condition holds, else x2; all three are broadcast.

    >>> print(where(as_tensor([True, False]), 1.0, as_tensor([5.0, 6.0])))
    [1. 6.]
    """
    pred = astype(as_tensor(condition), bool_)
    lhs, rhs = same_dtype(x1, x2)
    shape = broadcast_shapes("where", pred.shape, lhs.shape, rhs.shape)
    return apply(ops.select, tuple(stretched(one, shape) for one in (pred, lhs, rhs)))


@rehearsed
def clip(x: Operand, /, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """x, but not below `min` nor above `max`."""
    tensor = as_tensor(x)
    tensor = tensor if min is None else maximum(tensor, min)
    return tensor if max is None else minimum(tensor, max)


def astype(x: Operand, dtype: Any, /) -> Tensor:
    """x in another dtype: floats are rounded to nearest, floats to integers go towards zero."""
    tensor, target = as_tensor(x), as_dtype(dtype)
    if tensor.dtype is target:
        return tensor
    return apply(ops.cast, (tensor,), (("dtype", target),))


def stop_gradient(x: Operand, /) -> Tensor:
    """x itself, through which no gradient flows."""
    return apply(ops.stop_gradient, (as_tensor(x),))


def binary(op: Op, x1: Operand, x2: Operand) -> Tensor:
    """An op of two operands brought to one dtype and shape."""
    if type(x1) is not Tensor:
        x1 = _beside_other(x1, x2)
    if type(x2) is not Tensor:
        x2 = _beside_other(x2, x1)
    if type(x1) is Tensor and type(x2) is Tensor:
        found = known_binary(op, x1, x2)
        if found is not None:
            return found
        if x1._layout is not x2._layout and (x1._tape is not None or x2._tape is not None):
            return _met(op, x1, x2)
        return binary_of(op, (x1, x2), together(op, x1, x2))
    return apply(op, together(op, x1, x2))


@rehearsed
def _met(op: Op, x1: Tensor, x2: Tensor) -> Tensor:
    """As `binary`, all that brings the operands together on the tape."""
    return apply(op, together(op, x1, x2))


def _beside_other(x: Operand, other: Operand) -> Operand:
    """A Variable's value, a number as a constant where it has the tensor's dtype; others as are."""
    if isinstance(x, Variable):
        return x.value
    if type(other) is Tensor:
        kind = other._layout.dtype.kind
        # Beside these a number takes the tensor's dtype (NEP 50).
        if (type(x) is int and kind in _NUMBERS) or (type(x) is float and kind == "float"):
            return _everywhere(x, other._layout)
    return x


_NUMBERS = frozenset(("float", "int", "uint"))


def together(op: Op, x1: Operand, x2: Operand) -> tuple[Tensor, Tensor]:
    """Two operands in one dtype and one shape."""
    lhs, rhs = same_dtype(x1, x2)
    if lhs.shape != rhs.shape:
        shape = broadcast_shapes(op.name, lhs.shape, rhs.shape)
        lhs, rhs = stretched(lhs, shape), stretched(rhs, shape)
    return lhs, rhs


def same_dtype(x1: Operand, x2: Operand) -> tuple[Tensor, Tensor]:
    """Two operands in one dtype; numbers are weak."""
    weak1, weak2 = _is_number(x1), _is_number(x2)
    if weak1 and weak2:
        x1, weak1 = _alone(x1), False
    if weak1:
        rhs, lhs = _beside(x2, x1)
        return lhs, rhs
    if weak2:
        return _beside(x1, x2)
    lhs, rhs = as_tensor(x1), as_tensor(x2)
    if lhs.dtype is rhs.dtype:
        return lhs, rhs
    try:
        dtype = promote(lhs.dtype, rhs.dtype)
    except OpError as error:
        raise OpTypeError(f"{error}{at_line(user_source())}") from None
    return astype(lhs, dtype), astype(rhs, dtype)


def _alone(number: Any) -> Tensor:
    return constant(number, scalar_dtype(number, None))


def _beside(array: Any, number: Any) -> tuple[Tensor, Tensor]:
    tensor = as_tensor(array)
    dtype = scalar_dtype(number, tensor.dtype)
    return astype(tensor, dtype), constant(number, dtype)


def constant(number: bool | int | float, dtype: DType, shape: tuple[int, ...] = ()) -> Tensor:
    """One number everywhere: memory when ops run at once, a constant in a trace.

    Raises OpTypeError where an integer dtype cannot hold the number.
    """
    if context.trace is not None:
        attrs = (("dtype", dtype), ("shape", shape), ("value", _literal(number, dtype)))
        return apply(movement.constant, (), attrs)
    # 0.0 and -0.0 are equal, and so are 1 and True.
    kind: object = type(number)
    key = (number or repr(number), kind, dtype, shape)
    found: Tensor | None = context.mode.constants.get(key)
    return _new_constant(number, dtype, shape, key) if found is None else found


def _everywhere(number: float, layout: Layout) -> Tensor:
    """As `constant`, beside a floating tensor of this layout."""
    key = (number or repr(number), layout)
    found: Tensor | None = context.mode.constants.get(key)
    if found is None:
        found = constant(number, layout.dtype, layout.shape)
        if context.trace is None:
            context.mode.constants[key] = found
    return found


CONSTANTS_KEPT = 4096


def _new_constant(number: Any, dtype: DType, shape: tuple[int, ...], key: object) -> Tensor:
    # As a graph's constant would have it, rounding included.
    value = movement.literal_number(_literal(number, dtype), dtype)
    with np.errstate(over="ignore"):
        single = copy_array(np.asarray(value).astype(dtype.numpy))
    made = stretched(single, shape)
    constants = context.mode.constants
    if len(constants) >= CONSTANTS_KEPT:
        constants.clear()
    constants[key] = made
    return made


def _literal(number: Any, dtype: DType) -> str:
    try:
        return movement.literal(number, dtype)
    except (OpError, OverflowError, ValueError) as error:
        raise OpTypeError(f"{error}{at_line(user_source())}") from None


def floating(tensor: Tensor) -> Tensor:
    """The tensor, as float32 if it was not floating."""
    return tensor if tensor.dtype.is_floating else astype(tensor, float32)


def broadcast_shapes(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which these meet by NumPy's rule; raises OpShapeError where they do not."""
    rank = max(len(shape) for shape in shapes)
    result = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, start=rank - len(shape)):
            if result[axis] == 1:
                result[axis] = size
            elif size not in (1, result[axis]):
                texts = " and ".join(shape_text(one) for one in shapes)
                raise shapes_error(
                    name, f"operand shapes {texts} do not broadcast, {result[axis]} != {size}"
                )
    return tuple(result)


def stretched(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor repeated to a shape to which it broadcasts."""
    if tensor.shape == shape:
        return tensor
    first = len(shape) - tensor.ndim
    axes = tuple(range(first, len(shape)))
    return apply(movement.broadcast, (tensor,), (("axes", axes), ("shape", shape)))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, bool)


def _truths(x1: Operand, x2: Operand) -> tuple[Tensor, Tensor]:
    lhs, rhs = astype(as_tensor(x1), bool_), astype(as_tensor(x2), bool_)
    shape = broadcast_shapes("logical", lhs.shape, rhs.shape)
    return stretched(lhs, shape), stretched(rhs, shape)


def _bitwise(op: Op, on_bool: Op, x1: Operand, x2: Operand) -> Tensor:
    lhs, rhs = together(op, x1, x2)
    return apply(on_bool if lhs.dtype is bool_ else op, (lhs, rhs))


def _whole_power(base: Tensor, exponent: int) -> Tensor:
    result: Tensor | None = None
    while exponent:
        if exponent & 1:
            result = base if result is None else apply(ops.mul, (result, base))
        exponent >>= 1
        base = apply(ops.mul, (base, base)) if exponent else base
    return constant(1, base.dtype, base.shape) if result is None else result
