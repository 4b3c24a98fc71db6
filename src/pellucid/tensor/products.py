"""What multiplies matrices? matmul, tensordot, vecdot and outer, all by one op."""

from __future__ import annotations

from typing import Any

from pellucid.core.dtype import DType, as_dtype, promote
from pellucid.core.error import OpShapeError, OpTypeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.ops.contract import WIDER, dot_general
from pellucid.tensor.arithmetic import astype, broadcast_shapes, same_dtype, stretched
from pellucid.tensor.dispatch import apply, shapes_error
from pellucid.tensor.precision import reading
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.shaping import axis_of, reshape
from pellucid.tensor.tensor import Operand, Tensor

Axes = tuple[int, ...]


@rehearsed
def matmul(x1: Operand, x2: Operand, /, *, dtype: Any = None) -> Tensor:
    """The matrix product over the last axis of x1 and the second last of x2 (or its only one).

    Axes before the last two are batches and broadcast. `dtype` is that of the result and, as in
    NumPy, of the numbers it is computed with: float32 keeps the digits of a bfloat16 product's
    sums, int32 those of an int8 product's, and no wider copy of an operand is made. Raises
    OpShapeError where the inner sizes differ, OpTypeError where the operands would not fit `dtype`.

    >>> from pellucid.tensor.state import as_tensor
    >>> print(matmul(as_tensor([[1.0, 2.0]]), as_tensor([[3.0], [4.0]])))
    [[11.]]
    >>> many = as_tensor([[100, 100]]).astype("int8")
    >>> print(matmul(many, many.T, dtype="int32"), matmul(many, many.T))
    [[20000]] [[32]]
    """
    lhs, rhs, result = _computed_in("matmul", x1, x2, dtype)
    if lhs.ndim == 0 or rhs.ndim == 0:
        raise shapes_error("matmul", f"expected at least one axis, got {_shapes(lhs, rhs)}")
    inner = max(rhs.ndim - 2, 0)
    if lhs.shape[-1] != rhs.shape[inner]:
        raise _inner_error(lhs, rhs, inner)
    if rhs.ndim <= 2:
        # Rows of any number of axes: (a, b, k) @ (k, n) is one product of a*b rows.
        return dot(lhs, rhs, (lhs.ndim - 1,), (inner,), dtype=result)
    return _batched(lhs, rhs, result)


def tensordot(
    x1: Operand,
    x2: Operand,
    /,
    *,
    axes: int | tuple[Axes, Axes] = 2,
    dtype: Any = None,
) -> Tensor:
    """The sum of products over the last `axes` of x1 and the first of x2, or over pairs of axes.

    `dtype` as in `matmul`.
    """
    lhs, rhs, result = _computed_in("tensordot", x1, x2, dtype)
    if isinstance(axes, int):
        if axes > min(lhs.ndim, rhs.ndim):
            raise shapes_error("tensordot", f"{axes} axes are too many for {_shapes(lhs, rhs)}")
        pair = (tuple(range(lhs.ndim - axes, lhs.ndim)), tuple(range(axes)))
    else:
        pair = (
            tuple(axis_of("tensordot", axis, lhs.ndim) for axis in axes[0]),
            tuple(axis_of("tensordot", axis, rhs.ndim) for axis in axes[1]),
        )
    return dot(lhs, rhs, *pair, dtype=result)


@rehearsed
def vecdot(x1: Operand, x2: Operand, /, *, axis: int = -1, dtype: Any = None) -> Tensor:
    """The scalar products along one axis, the others broadcast; `dtype` as in `matmul`."""
    lhs, rhs, result = _computed_in("vecdot", x1, x2, dtype)
    shape = broadcast_shapes("vecdot", lhs.shape, rhs.shape)
    lhs, rhs = stretched(lhs, shape), stretched(rhs, shape)
    place = axis_of("vecdot", axis, len(shape))
    others = tuple(one for one in range(len(shape)) if one != place)
    return dot(lhs, rhs, (place,), (place,), (others, others), result)


@rehearsed
def outer(x1: Operand, x2: Operand, /) -> Tensor:
    """Every element of x1 times every element of x2, both flat."""
    lhs, rhs = same_dtype(x1, x2)
    return dot(reshape(lhs, (lhs.size,)), reshape(rhs, (rhs.size,)), (), ())


def dot(
    lhs: Tensor,
    rhs: Tensor,
    left: Axes,
    right: Axes,
    batch: tuple[Axes, Axes] = ((), ()),
    dtype: DType | None = None,
) -> Tensor:
    """`dot_general` over pairs of axes of tensors of one dtype; `dtype`: the result's, if asked.

    What is asked for is kept to: then no scope decides in which precision operands are read.
    """
    further = reading(lhs.dtype) if dtype is None else ()
    if dtype is not None and dtype is not lhs.dtype:
        further = (("dtype", dtype),)
    return apply(dot_general, (lhs, rhs), (("batch", batch), ("contract", (left, right)), *further))


def _computed_in(
    name: str, x1: Operand, x2: Operand, spec: Any
) -> tuple[Tensor, Tensor, DType | None]:
    """Two operands in one dtype, and that of the result where one is asked for."""
    lhs, rhs = same_dtype(x1, x2)
    if spec is None:
        return lhs, rhs, None
    dtype = as_dtype(spec)
    if dtype is lhs.dtype or dtype in WIDER.get(lhs.dtype, ()):
        return lhs, rhs, dtype
    if promote(lhs.dtype, dtype) is not dtype:
        raise OpTypeError(
            f"{name}: expected a dtype that holds every {lhs.dtype}, got {dtype}"
            f"{at_line(user_source())}\n  did you mean  {name}(x, w).astype({str(dtype)!r}) ?"
        )
    return astype(lhs, dtype), astype(rhs, dtype), dtype


def _batched(lhs: Tensor, rhs: Tensor, dtype: DType | None) -> Tensor:
    if lhs.ndim == 1:
        product = _batched(reshape(lhs, (1, lhs.size)), rhs, dtype)
        return reshape(product, (*product.shape[:-2], product.shape[-1]))
    outer = broadcast_shapes("matmul", lhs.shape[:-2], rhs.shape[:-2])
    lhs = stretched(lhs, (*outer, *lhs.shape[-2:]))
    rhs = stretched(rhs, (*outer, *rhs.shape[-2:]))
    batches = tuple(range(len(outer)))
    rank = len(outer)
    return dot(lhs, rhs, (rank + 1,), (rank,), (batches, batches), dtype)


def _inner_error(lhs: Tensor, rhs: Tensor, inner: int) -> OpShapeError:
    hint = ""
    if rhs.ndim >= 2 and lhs.shape[-1] == rhs.shape[-1]:
        hint = "\n  did you mean  x @ w.mT ?" if rhs.ndim > 2 else "\n  did you mean  x @ w.T ?"
    elif lhs.ndim == 2 and lhs.shape[0] == rhs.shape[inner]:
        hint = "\n  did you mean  x.T @ w ?"
    return OpShapeError(
        f"dot_general: contract axes {lhs.ndim - 1} and {inner} differ, {lhs.shape[-1]} != "
        f"{rhs.shape[inner]} ({_shapes(lhs, rhs)}){at_line(user_source())}{hint}"
    )


def _shapes(lhs: Tensor, rhs: Tensor) -> str:
    return f"lhs {shape_text(lhs.shape)}, rhs {shape_text(rhs.shape)}"
