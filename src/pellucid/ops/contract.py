"""What multiplies and sums? `dot_general`: pairs of axes are contracted, pairs are batched.

    dot_general(lhs, rhs, contract=((lhs axes), (rhs axes)), batch=((lhs axes), (rhs axes)))

The result's axes are the batch axes, then the free ones of lhs, then those of rhs. Every output
is one chain of fused multiply-adds in increasing k (row-major over the contracted axes in the
order given), in chunks that depend on k's size alone.

The chain of narrow operands is one of wider numbers (`WIDER`): products are exact. The result is
rounded (integers: wrapped) once to the operands' dtype, or with `dtype` left as wide as it is: what
the product of the operands, cast to that dtype, would be. Where a machine has an instruction for
products of bfloat16, their float32 sums are taken two k's at a time (page 0002 of docs/design).

With `precision=bfloat16` float32 operands are first rounded to it: what the product of the operands
cast to bfloat16 would be with `dtype=float32`, and so are the products of its derivative.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pellucid.core.dtype import (
    NUMERIC,
    DType,
    bfloat16,
    float16,
    float32,
    int8,
    int16,
    int32,
    uint8,
    uint16,
    uint32,
)
from pellucid.core.error import OpAxisError, OpShapeError, OpTypeError
from pellucid.core.shape import Axes, product, shape_text
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.define import Array, Cost, Multilinear, define, moved_bytes, require_dtype
from pellucid.ops.elementwise import cast
from pellucid.ops.movement import inverse, transpose
from pellucid.ops.precision import as_read, require_precision

Pair = tuple[Axes, Axes]

WIDER: dict[DType, tuple[DType, ...]] = {
    float16: (float32,),
    bfloat16: (float32,),
    int8: (int32,),
    int16: (int32,),
    uint8: (int32, uint32),
    uint16: (int32, uint32),
}
"""The dtypes, wider than the operands', that the result of `dot_general` may have."""


def free_axes(rank: int, contract: Axes, batch: Axes) -> Axes:
    """The axes of an operand that are neither contracted nor batched, in order."""
    return tuple(axis for axis in range(rank) if axis not in contract and axis not in batch)


def _dot_infer(
    lhs: TensorType,
    rhs: TensorType,
    *,
    contract: Pair,
    batch: Pair,
    dtype: DType | None = None,
    precision: DType | None = None,
) -> TensorType:
    for type in (lhs, rhs):
        require_dtype("dot_general", type, NUMERIC)
    if lhs.dtype != rhs.dtype:
        raise OpTypeError(f"dot_general: operand dtypes differ, {lhs.dtype} and {rhs.dtype}")
    require_wider("dot_general", lhs.dtype, dtype)
    require_precision("dot_general", lhs.dtype, precision)
    for side, type in enumerate((lhs, rhs)):
        _require_distinct((*contract[side], *batch[side]), type)
    for role, (left, right) in (("contract", contract), ("batch", batch)):
        _require_same_sizes(role, left, right, lhs, rhs)
    shape = [lhs.shape[axis] for axis in batch[0]]
    shape += [lhs.shape[axis] for axis in free_axes(lhs.rank, contract[0], batch[0])]
    shape += [rhs.shape[axis] for axis in free_axes(rhs.rank, contract[1], batch[1])]
    return TensorType(lhs.dtype if dtype is None else dtype, tuple(shape))


def require_wider(name: str, own: DType, dtype: DType | None) -> None:
    """Raise OpTypeError unless a contraction of operands of `own` can give a result of `dtype`."""
    wider = WIDER.get(own, ())
    if dtype is None or dtype is own or dtype in wider:
        return
    names = " or ".join(str(one) for one in (own, *wider))
    raise OpTypeError(
        f"{name}: expected a result of dtype {names} from operands of {own}, got {dtype}; "
        f"cast the operands to {dtype} first"
    )


def _require_distinct(axes: Axes, type: TensorType) -> None:
    if len(set(axes)) != len(axes) or not all(0 <= axis < type.rank for axis in axes):
        raise OpAxisError(f"dot_general: axes {axes} do not suit {type.message()}")


def _require_same_sizes(
    role: str, left: Axes, right: Axes, lhs: TensorType, rhs: TensorType
) -> None:
    shapes = f"(lhs {shape_text(lhs.shape)}, rhs {shape_text(rhs.shape)})"
    if len(left) != len(right):
        raise OpAxisError(f"dot_general: {len(left)} and {len(right)} {role} axes {shapes}")
    for a, b in zip(left, right, strict=True):
        if lhs.shape[a] != rhs.shape[b]:
            sizes = f"{lhs.shape[a]} != {rhs.shape[b]}"
            raise OpShapeError(f"dot_general: {role} axes {a} and {b} differ, {sizes} {shapes}")


def _dot_reference(
    lhs: Array,
    rhs: Array,
    *,
    contract: Pair,
    batch: Pair,
    dtype: DType | None = None,
    precision: DType | None = None,
) -> Array:
    lhs, rhs = as_read(lhs, precision), as_read(rhs, precision)
    if dtype is not None and dtype.is_integer:
        lhs, rhs = lhs.astype(dtype.numpy), rhs.astype(dtype.numpy)
    free = [free_axes(x.ndim, contract[i], batch[i]) for i, x in enumerate((lhs, rhs))]
    # Row-major with the contracted axes last: the order of additions is that of k, however the
    # axes of the operands lie.
    rows = [
        np.asarray(x.transpose(*batch[i], *free[i], *contract[i]), order="C").reshape(
            *(
                math.prod(x.shape[axis] for axis in axes)
                for axes in (batch[i], free[i], contract[i])
            )
        )
        for i, x in enumerate((lhs, rhs))
    ]
    shape = [lhs.shape[axis] for axis in (*batch[0], *free[0])]
    shape += [rhs.shape[axis] for axis in free[1]]
    return np.einsum("bmk,bnk->bmn", *rows).reshape(shape)


def _to_lhs(g: Value, lhs: Value, rhs: Value, **attrs: Any) -> Value:
    return _share(g, lhs, rhs, 0, **attrs)


def _to_rhs(g: Value, lhs: Value, rhs: Value, **attrs: Any) -> Value:
    return _share(g, rhs, lhs, 1, **attrs)


def _share(
    g: Value,
    mine: Value,
    other: Value,
    side: int,
    *,
    contract: Pair,
    batch: Pair,
    dtype: DType | None = None,
    precision: DType | None = None,
) -> Value:
    """Contract the cotangent with the other operand, then put the axes in this operand's order."""
    if other.dtype != g.dtype:
        # The cotangent has the digits of the sums: keep them until this operand's share is known.
        other = cast(other, dtype=g.dtype)
    my_free = free_axes(mine.tensor.rank, contract[side], batch[side])
    its_free = free_axes(other.tensor.rank, contract[1 - side], batch[1 - side])
    batches = tuple(range(len(batch[0])))
    start = len(batches) + (len(my_free) if side == 0 else 0)
    g_other = tuple(range(start, start + len(its_free)))
    read = {} if precision is None else {"precision": precision}
    # The operand whose rows stay rows goes first, so that no result needs a transposed copy.
    if side == 0:
        out = dot_general(
            g, other, contract=(g_other, its_free), batch=(batches, batch[1]), **read
        )  # fmt: skip
        its_rest = tuple(sorted(contract[1]))
        rest = tuple(contract[0][contract[1].index(axis)] for axis in its_rest)
        have = (*batch[0], *my_free, *rest)
    else:
        out = dot_general(
            other, g, contract=(its_free, g_other), batch=(batch[0], batches), **read
        )  # fmt: skip
        its_rest = tuple(sorted(contract[0]))
        rest = tuple(contract[1][contract[0].index(axis)] for axis in its_rest)
        have = (*batch[1], *rest, *my_free)
    if out.dtype != mine.dtype:
        out = cast(out, dtype=mine.dtype)
    permutation = inverse(have)
    return (
        out if permutation == tuple(range(len(have))) else transpose(out, permutation=permutation)
    )


def _dot_batch(
    operands: tuple[Value, ...],
    mapped: tuple[bool, ...],
    *,
    contract: Pair,
    batch: Pair,
    **others: DType,
) -> Value:
    lhs, rhs = operands
    pairs = [_moved(contract, mapped), _moved(batch, mapped)]
    if all(mapped):
        both = ((0, *pairs[1][0]), (0, *pairs[1][1]))
        return dot_general(lhs, rhs, contract=pairs[0], batch=both, **others)
    out = dot_general(lhs, rhs, contract=pairs[0], batch=pairs[1], **others)
    # The mapped axis is the first free axis of its operand; it goes to the front.
    at = len(batch[0])
    if mapped[1]:
        at += len(free_axes(lhs.tensor.rank, pairs[0][0], pairs[1][0]))
    rest = (axis for axis in range(out.tensor.rank) if axis != at)
    return transpose(out, permutation=(at, *rest)) if at else out


def _moved(pair: Pair, mapped: tuple[bool, ...]) -> Pair:
    left, right = (
        tuple(axis + 1 for axis in axes) if m else axes
        for axes, m in zip(pair, mapped, strict=True)
    )
    return left, right


def _dot_cost(
    operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any
) -> Cost:
    lhs = operands[0]
    contracted: Axes = attrs["contract"][0]
    depth = product(lhs.shape[axis] for axis in contracted)
    moved = moved_bytes(operands) + moved_bytes(results)
    return Cost(2 * depth * product(results[0].shape), moved)


dot_general = define(
    "dot_general",
    infer=_dot_infer,
    reference=_dot_reference,
    derivative=Multilinear((_to_lhs, _to_rhs)),
    batch=_dot_batch,
    cost=_dot_cost,
    kind="contract",
    on=NUMERIC,
    what="sums of products over pairs of axes",
)
