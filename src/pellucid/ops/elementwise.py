"""What can be said element by element? Operands of one shape; each result element from its place.

Nothing broadcasts here: the tensor floor makes shapes and dtypes equal before it asks for an op.
"""

# A card gives its lambdas their types, which pyright cannot see through Callable[..., Value].
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pellucid.core.dtype import DTYPES, FLOATING, INTEGERS, NUMERIC, DType, as_dtype, bool_
from pellucid.core.error import OpShapeError, OpTypeError
from pellucid.core.shape import product, shape_text
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import (
    Accuracy,
    Array,
    Cost,
    Custom,
    Derivative,
    Multilinear,
    NoDerivative,
    One,
    Op,
    Partial,
    Pointwise,
    define,
    moved_bytes,
    require_dtype,
)
from pellucid.ops.movement import broadcast, full_like

BOOL = (bool_,)


def within(float32: float, float64: float) -> dict[str, float]:
    """The accuracy of a function, in ulp; a 16-bit float is rounded from its float32.

    >>> within(1.0, 2.0)["float16"]
    0.501
    """
    return {"float16": 0.501, "bfloat16": 0.501, "float32": float32, "float64": float64}


EXACT = {"float16": 0.5, "bfloat16": 0.5, "float32": 0.5, "float64": 0.5}


def elementwise(
    name: str,
    *,
    on: tuple[DType, ...],
    reference: Callable[..., Array],
    partials: tuple[Partial | One | None, ...] | None = None,
    why: str = "",
    arity: int = 0,
    result: DType | None = None,
    accuracy: Accuracy = EXACT,
    own_dtype: bool = False,
    near_zeros: float = 0.0,
    what: str = "",
) -> Op:
    """Define an op on operands of one shape and one dtype, which is the result's unless `result`.

    There are `arity` operands, or as many as `partials`; an op without a derivative says `why`.
    """
    derivative = Pointwise(partials) if partials is not None else NoDerivative(why)
    count = arity or (len(partials) if partials is not None else _arity(reference))

    def infer(*types: TensorType) -> TensorType:
        require_count(name, types, count)
        for type in types:
            require_dtype(name, type, on)
        require_equal(name, types)
        return TensorType(result or types[0].dtype, types[0].shape)

    return define_elementwise(
        name,
        infer,
        reference,
        derivative,
        accuracy,
        own_dtype=own_dtype,
        near_zeros=near_zeros,
        on=on,
        what=what,
    )


def define_elementwise(
    name: str,
    infer: Callable[..., TensorType],
    reference: Callable[..., Array],
    derivative: Derivative,
    accuracy: Accuracy,
    *,
    own_dtype: bool = False,
    near_zeros: float = 0.0,
    on: tuple[DType, ...] = DTYPES,
    what: str = "",
) -> Op:
    """Enter an elementwise card whose types follow a rule of its own."""

    def batch(operands: tuple[Value, ...], mapped: tuple[bool, ...], **attrs: Any) -> Value:
        size = next(v.shape[0] for v, m in zip(operands, mapped, strict=True) if m)
        full = [v if m else _repeat(v, size) for v, m in zip(operands, mapped, strict=True)]
        return op(*full, **attrs)

    op = define(
        name,
        infer=infer,
        reference=reference,
        derivative=derivative,
        batch=batch,
        cost=_elementwise_cost,
        accuracy=accuracy,
        kind="elementwise",
        own_dtype=own_dtype,
        near_zeros=near_zeros,
        on=on,
        what=what,
    )
    return op


def require_count(name: str, types: tuple[TensorType, ...], count: int) -> None:
    """Raise OpTypeError unless there are `count` operands."""
    if len(types) != count:
        raise OpTypeError(f"{name}: expected {count} operands, got {len(types)}")


def require_equal(name: str, types: tuple[TensorType, ...]) -> None:
    """Raise OpShapeError or OpTypeError unless all operands have one type."""
    for type in types[1:]:
        if type.shape != types[0].shape:
            shapes = f"{shape_text(types[0].shape)} and {shape_text(type.shape)}"
            raise OpShapeError(f"{name}: operand shapes differ, {shapes}")
        if type.dtype != types[0].dtype:
            raise OpTypeError(f"{name}: operand dtypes differ, {types[0].dtype} and {type.dtype}")


def _repeat(value: Value, size: Any) -> Value:
    axes = tuple(range(1, value.tensor.rank + 1))
    return broadcast(value, shape=(size, *value.shape), axes=axes)


def _arity(reference: Callable[..., Array]) -> int:
    return reference.nin if isinstance(reference, np.ufunc) else 1


def _elementwise_cost(
    operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any
) -> Cost:
    return Cost(product(results[0].shape), moved_bytes(operands) + moved_bytes(results))


def one_over(x: Value) -> Value:
    """1 / x."""
    return div(full_like(x, 1.0), x)


def _larger_partial(y: Value, a: Value, b: Value) -> Value:
    return _tie_partial(less(b, a), a, b)


def _smaller_partial(y: Value, a: Value, b: Value) -> Value:
    return _tie_partial(less(a, b), a, b)


def _tie_partial(wins: Value, a: Value, b: Value) -> Value:
    # Where both are equal each takes half, so that the pair's derivative is the average.
    half, one, zero = (full_like(a, number) for number in (0.5, 1.0, 0.0))
    return select(wins, one, select(equal(a, b), half, zero))


def _abs_partial(y: Value, x: Value) -> Value:
    zero = full_like(x, 0.0)
    positive = select(less(zero, x), full_like(x, 1.0), zero)
    return select(less(x, zero), full_like(x, -1.0), positive)


def _tanh_partial(y: Value, x: Value) -> Value:
    return sub(full_like(y, 1.0), mul(y, y))


add = elementwise("add", on=NUMERIC, reference=np.add, partials=(One(), One()), what="a + b")
sub = elementwise(
    "sub", on=NUMERIC, reference=np.subtract, partials=(One(), One(negative=True)), what="a - b"
)
mul = elementwise(
    "mul",
    on=NUMERIC,
    reference=np.multiply,
    partials=(lambda y, a, b: b, lambda y, a, b: a),
    what="a b",
)
div = elementwise(
    "div",
    on=FLOATING,
    reference=np.divide,
    partials=(lambda y, a, b: one_over(b), lambda y, a, b: neg(mul(y, one_over(b)))),
    what="a / b",
)
neg = elementwise(
    "neg", on=NUMERIC, reference=np.negative, partials=(One(negative=True),), what="-a"
)
abs_ = elementwise("abs", on=NUMERIC, reference=np.abs, partials=(_abs_partial,), what="|a|")
sqrt = elementwise(
    "sqrt",
    on=FLOATING,
    reference=np.sqrt,
    partials=(lambda y, x: div(full_like(y, 0.5), y),),
    what="the square root",
)
exp = elementwise(
    "exp",
    on=FLOATING,
    reference=np.exp,
    partials=(lambda y, x: y,),
    accuracy=within(1.0, 1.0),
    what="e to the power a",
)
log = elementwise(
    "log",
    on=FLOATING,
    reference=np.log,
    partials=(lambda y, x: one_over(x),),
    accuracy=within(1.0, 1.0),
    what="the natural logarithm",
)
tanh = elementwise(
    "tanh",
    on=FLOATING,
    reference=np.tanh,
    partials=(_tanh_partial,),
    accuracy=within(1.5, 1.5),
    what="the hyperbolic tangent",
)
maximum = elementwise(
    "maximum",
    on=NUMERIC,
    reference=np.maximum,
    partials=(_larger_partial, lambda y, a, b: _larger_partial(y, b, a)),
    what="the larger of a and b",
)
minimum = elementwise(
    "minimum",
    on=NUMERIC,
    reference=np.minimum,
    partials=(_smaller_partial, lambda y, a, b: _smaller_partial(y, b, a)),
    what="the smaller of a and b",
)

COMPARED = "a comparison is flat almost everywhere"
WHOLE = "it works on whole numbers and bits"

equal = elementwise(
    "equal", on=DTYPES, reference=np.equal, why=COMPARED, result=bool_, what="whether a = b"
)
not_equal = elementwise(
    "not_equal",
    on=DTYPES,
    reference=np.not_equal,
    why=COMPARED,
    result=bool_,
    what="whether a differs from b",
)
less = elementwise(
    "less", on=NUMERIC, reference=np.less, why=COMPARED, result=bool_, what="whether a < b"
)
less_equal = elementwise(
    "less_equal",
    on=NUMERIC,
    reference=np.less_equal,
    why=COMPARED,
    result=bool_,
    what="whether a <= b",
)
logical_and = elementwise(
    "logical_and", on=BOOL, reference=np.logical_and, why=WHOLE, what="a and b"
)
logical_or = elementwise("logical_or", on=BOOL, reference=np.logical_or, why=WHOLE, what="a or b")
logical_not = elementwise("logical_not", on=BOOL, reference=np.logical_not, why=WHOLE, what="not a")
bit_and = elementwise(
    "bit_and", on=INTEGERS, reference=np.bitwise_and, why=WHOLE, what="the bits in both"
)
bit_or = elementwise(
    "bit_or", on=INTEGERS, reference=np.bitwise_or, why=WHOLE, what="the bits in either"
)
bit_xor = elementwise(
    "bit_xor", on=INTEGERS, reference=np.bitwise_xor, why=WHOLE, what="the bits in one alone"
)


def _shift_reference(x: Array, by: Array) -> Array:
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    bits = unsigned.type(8 * x.dtype.itemsize)
    wide, count = x.view(unsigned), by.view(unsigned)
    inside = count < bits
    return ((wide >> (count % bits)) * inside).view(x.dtype)


shift_right = elementwise(
    "shift_right",
    on=INTEGERS,
    reference=_shift_reference,
    arity=2,
    why=WHOLE,
    what="a moved down by b bits, zeros from above",
)


def _select_infer(*types: TensorType) -> TensorType:
    require_count("select", types, 3)
    pred, on_true, on_false = types
    require_dtype("select", pred, BOOL)
    require_equal("select", (on_true, on_false))
    if pred.shape != on_true.shape:
        shapes = f"{shape_text(pred.shape)} and {shape_text(on_true.shape)}"
        raise OpShapeError(f"select: the shapes of the condition and a branch differ, {shapes}")
    return on_true


def _select_jvp(
    tangents: tuple[Value | None, ...], y: Value, operands: tuple[Value, ...], attrs: Any
) -> Value | None:
    _, on_true, on_false = tangents
    if on_true is None and on_false is None:
        return None
    zero = full_like(y, 0.0)
    return select(operands[0], on_true or zero, on_false or zero)


def _select_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: Any
) -> tuple[Value | None, ...]:
    zero = full_like(g, 0.0)
    return None, select(operands[0], g, zero), select(operands[0], zero, g)


select = define_elementwise(
    "select",
    _select_infer,
    np.where,
    Custom(_select_jvp, _select_vjp),
    EXACT,
    what="b where a holds, else c",
)


def _cast_infer(x: TensorType, *, dtype: DType) -> TensorType:
    return TensorType(as_dtype(dtype), x.shape)


def _cast_reference(x: Array, *, dtype: DType) -> Array:
    if dtype is bool_:
        return x != 0
    return saturate(x, dtype) if dtype.is_integer and x.dtype.kind == "f" else x.astype(dtype.numpy)


def saturate(x: Array, dtype: DType) -> Array:
    """Floating to integer: towards zero, clamped to the range, NaN to 0 (as on every engine)."""
    low, high = np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = np.where((whole > low) & (whole < high), whole, 0).astype(dtype.numpy)
    return np.where(whole >= high, high, np.where(whole <= low, low, inside)).astype(dtype.numpy)


cast = define_elementwise(
    "cast",
    _cast_infer,
    _cast_reference,
    Multilinear((lambda g, x, *, dtype: cast(g, dtype=x.dtype),)),
    EXACT,
    what="a as another dtype",
)


def _identity_infer(x: TensorType) -> TensorType:
    return x


stop_gradient = define_elementwise(
    "stop_gradient",
    _identity_infer,
    lambda x: x,
    Custom(lambda tangents, y, operands, attrs: None, lambda g, y, operands, attrs: (None,)),
    EXACT,
    what="a, through which no derivative goes",
)
