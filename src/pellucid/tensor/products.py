"""What multiplies matrices? matmul, tensordot, vecdot and outer, all by one op."""

from __future__ import annotations

from pellucid.core.error import OpShapeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.ops.contract import dot_general
from pellucid.tensor.arithmetic import broadcast_shapes, same_dtype, stretched
from pellucid.tensor.dispatch import apply, shapes_error
from pellucid.tensor.shaping import axis_of, reshape
from pellucid.tensor.tensor import Operand, Tensor

Axes = tuple[int, ...]


def matmul(x1: Operand, x2: Operand, /) -> Tensor:
    """The matrix product over the last axis of x1 and the second last of x2 (or its only one).

    Axes before the last two are batches and broadcast. Raises OpShapeError where the inner sizes
    differ.

    >>> from pellucid.tensor.state import as_tensor
    >>> print(matmul(as_tensor([[1.0, 2.0]]), as_tensor([[3.0], [4.0]])))
    [[11.]]
    """
    lhs, rhs = same_dtype(x1, x2)
    if lhs.ndim == 0 or rhs.ndim == 0:
        raise shapes_error("matmul", f"expected at least one axis, got {_shapes(lhs, rhs)}")
    inner = max(rhs.ndim - 2, 0)
    if lhs.shape[-1] != rhs.shape[inner]:
        raise _inner_error(lhs, rhs, inner)
    if rhs.ndim <= 2:
        # Rows of any number of axes: (a, b, k) @ (k, n) is one product of a*b rows.
        return dot(lhs, rhs, (lhs.ndim - 1,), (inner,))
    return _batched(lhs, rhs)


def tensordot(x1: Operand, x2: Operand, /, *, axes: int | tuple[Axes, Axes] = 2) -> Tensor:
    """The sum of products over the last `axes` of x1 and the first of x2, or over pairs of axes."""
    lhs, rhs = same_dtype(x1, x2)
    if isinstance(axes, int):
        if axes > min(lhs.ndim, rhs.ndim):
            raise shapes_error("tensordot", f"{axes} axes are too many for {_shapes(lhs, rhs)}")
        pair = (tuple(range(lhs.ndim - axes, lhs.ndim)), tuple(range(axes)))
    else:
        pair = (
            tuple(axis_of("tensordot", axis, lhs.ndim) for axis in axes[0]),
            tuple(axis_of("tensordot", axis, rhs.ndim) for axis in axes[1]),
        )
    return dot(lhs, rhs, *pair)


def vecdot(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Tensor:
    """The scalar products along one axis, the others broadcast."""
    lhs, rhs = same_dtype(x1, x2)
    shape = broadcast_shapes("vecdot", lhs.shape, rhs.shape)
    lhs, rhs = stretched(lhs, shape), stretched(rhs, shape)
    place = axis_of("vecdot", axis, len(shape))
    others = tuple(one for one in range(len(shape)) if one != place)
    return dot(lhs, rhs, (place,), (place,), (others, others))


def outer(x1: Operand, x2: Operand, /) -> Tensor:
    """Every element of x1 times every element of x2, both flat."""
    lhs, rhs = same_dtype(x1, x2)
    return dot(reshape(lhs, (lhs.size,)), reshape(rhs, (rhs.size,)), (), ())


def dot(
    lhs: Tensor, rhs: Tensor, left: Axes, right: Axes, batch: tuple[Axes, Axes] = ((), ())
) -> Tensor:
    """`dot_general` over pairs of axes of tensors of one dtype."""
    return apply(dot_general, (lhs, rhs), (("batch", batch), ("contract", (left, right))))


def _batched(lhs: Tensor, rhs: Tensor) -> Tensor:
    if lhs.ndim == 1:
        product = _batched(reshape(lhs, (1, lhs.size)), rhs)
        return reshape(product, (*product.shape[:-2], product.shape[-1]))
    outer = broadcast_shapes("matmul", lhs.shape[:-2], rhs.shape[:-2])
    lhs = stretched(lhs, (*outer, *lhs.shape[-2:]))
    rhs = stretched(rhs, (*outer, *rhs.shape[-2:]))
    batches = tuple(range(len(outer)))
    rank = len(outer)
    return dot(lhs, rhs, (rank + 1,), (rank,), (batches, batches))


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
