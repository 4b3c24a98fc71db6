"""Which updates meet at a place, in their order? A list a place, and the sum along it.

list_updates(*indices, sizes)         for each place the number of the first update that names it,
                                      then for each update that of the next one at its place
sum_lists(updates, lists, sizes, rank)   result[place] = 0 + the updates on its list, in order

Updates are numbered in row-major order of the indices' shape S, the first `rank` axes of `updates`;
END ends a list. A place that no update names has none, and an update whose index is out of range is
on none. So, bit for bit,

    scatter(zeros, updates, *indices, axes=(0, ..), mode="add")
      = sum_lists(updates, list_updates(*indices, sizes=the indexed sizes), ..)

where each place is found by itself: what reads it element by element needs no zeros and no whole
in memory. A pass makes these two after all transforms (`passes/listed.py`).
"""

from __future__ import annotations

from itertools import product as every
from typing import Any, Final

import numpy as np

from pellucid.core.dtype import INTEGERS, NUMERIC, int32
from pellucid.core.error import OpShapeError, OpTypeError
from pellucid.core.shape import Shape, product, shape_text
from pellucid.ir.graph import TensorType
from pellucid.ops.define import (
    Array,
    Cost,
    NoBatch,
    NoDerivative,
    define,
    moved_bytes,
    require_dtype,
)

END: Final = -1
"""What ends a list."""

_LATE = "a pass makes it from a scatter, after all transforms"


def _list_infer(*indices: TensorType, sizes: Shape) -> TensorType:
    if not indices or len(indices) != len(sizes):
        raise OpTypeError(f"list_updates: expected an index for each of the sizes {tuple(sizes)}")
    for index in indices:
        require_dtype("list_updates", index, INTEGERS)
        if index.shape != indices[0].shape:
            shapes = f"{shape_text(indices[0].shape)} and {shape_text(index.shape)}"
            raise OpShapeError(f"list_updates: the shapes of the indices differ, {shapes}")
    return TensorType(int32, (product(tuple(sizes)) + product(indices[0].shape),))


def _list_reference(*indices: Array, sizes: tuple[int, ...]) -> Array:
    first, following = np.full(sizes, END), np.full(indices[0].size, END)
    flat = [index.reshape(-1) for index in indices]
    # From the last: each then stands before those that are listed already.
    for number in reversed(range(following.size)):
        place = tuple(int(index[number]) for index in flat)
        if all(0 <= at < size for at, size in zip(place, sizes, strict=True)):
            following[number], first[place] = first[place], number
    return np.concatenate([first.reshape(-1), following]).astype(np.int32)


list_updates = define(
    "list_updates",
    infer=_list_infer,
    reference=_list_reference,
    derivative=NoDerivative("numbers of updates are whole numbers"),
    batch=NoBatch(_LATE),
    on=INTEGERS,
    what="for each place the first update there, for each update the next one",
)


def _sum_infer(updates: TensorType, lists: TensorType, *, sizes: Shape, rank: int) -> TensorType:
    require_dtype("sum_lists", updates, NUMERIC)
    require_dtype("sum_lists", lists, (int32,))
    count = product(tuple(sizes)) + product(updates.shape[:rank])
    if lists.shape != (count,) or rank > updates.rank:
        raise OpShapeError(
            f"sum_lists: expected lists of shape ({count},) for places of {tuple(sizes)} and the "
            f"first {rank} axes of {updates.message()}, got {lists.message()}"
        )
    return TensorType(updates.dtype, (*sizes, *updates.shape[rank:]))


def _sum_reference(updates: Array, lists: Array, *, sizes: tuple[int, ...], rank: int) -> Array:
    result = np.zeros((*sizes, *updates.shape[rank:]), updates.dtype)
    places = int(np.prod(sizes, dtype=np.int64))
    first, following = lists[:places].reshape(sizes), lists[places:]
    rows = updates.reshape(following.size, *updates.shape[rank:])
    for place in every(*map(range, sizes)):
        number = int(first[place])
        while number != END:
            result[place] = result[place] + rows[number]
            number = int(following[number])
    return result


def _sum_cost(
    operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any
) -> Cost:
    return Cost(product(operands[0].shape), moved_bytes(operands) + moved_bytes(results))


sum_lists = define(
    "sum_lists",
    infer=_sum_infer,
    reference=_sum_reference,
    derivative=NoDerivative(_LATE),
    batch=NoBatch(_LATE),
    cost=_sum_cost,
    kind="lists",
    on=NUMERIC,
    what="for each place the sum of the updates on its list",
)
