"""Where is what is sought? Places in sorted numbers, places of what is not zero, distinct elements.

The shape of what `nonzero` and the `unique` functions give depends on the numbers, so they look at
them at once and have no place in a compiled function; nor have they a derivative.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from pellucid.core.dtype import int64
from pellucid.core.error import OpShapeError, TraceError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.tensor.arithmetic import astype, less, less_equal
from pellucid.tensor.context import context
from pellucid.tensor.indexing import take
from pellucid.tensor.memory import copy_array
from pellucid.tensor.reducing import sum
from pellucid.tensor.shaping import expand_dims
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


class UniqueAll(NamedTuple):
    """The distinct values, where each is first, which one each element is, and how many it has."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """The distinct values, and how many elements each has."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """The distinct values, and which one each element is."""

    values: Tensor
    inverse_indices: Tensor


def searchsorted(
    x1: Operand,
    x2: Operand,
    /,
    *,
    side: Literal["left", "right"] = "left",
    sorter: Operand | None = None,
) -> Tensor:
    """Before which place of the sorted vector x1 each element of x2 belongs, to keep it sorted.

    With "left" before equal elements, with "right" after them; `sorter` puts x1 in order. Every
    element is compared with all of x1: meant for short vectors.

    >>> print(searchsorted(as_tensor([1, 3, 3, 7]), as_tensor([0, 3, 9])))
    [0 1 4]
    """
    vector, sought = as_tensor(x1), as_tensor(x2)
    if vector.ndim != 1:
        raise OpShapeError(
            f"searchsorted: expected a vector, got {shape_text(vector.shape)}"
            f"{at_line(user_source())}"
        )
    ordered = vector if sorter is None else take(vector, sorter)
    column = expand_dims(sought, axis=-1)
    before = less(ordered, column) if side == "left" else less_equal(ordered, column)
    return sum(astype(before, int64), axis=-1)


def nonzero(x: Operand, /) -> tuple[Tensor, ...]:
    """The places of the elements that are not zero, in row-major order: an index for each axis.

    Raises TraceError in a compiled function, whose shapes cannot depend on numbers.

    >>> [place.tolist() for place in nonzero(as_tensor([[0, 5], [7, 0]]))]
    [[0, 1], [1, 0]]
    """
    tensor = _at_hand("nonzero", x)
    return tuple(_indices(places) for places in np.nonzero(tensor.numpy()))


def unique_values(x: Operand, /) -> Tensor:
    """The distinct elements in increasing order; every NaN is one of its own.

    >>> print(unique_values(as_tensor([3, 1, 3])))
    [1 3]
    """
    return copy_array(np.unique(_at_hand("unique_values", x).numpy(), equal_nan=False))


def unique_counts(x: Operand, /) -> UniqueCounts:
    """The distinct elements, and how often each occurs.

    >>> unique_counts(as_tensor([3, 1, 3])).counts.tolist()
    [1, 2]
    """
    found = _unique("unique_counts", x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Operand, /) -> UniqueInverse:
    """The distinct elements, and which of them each element is.

    >>> unique_inverse(as_tensor([3, 1, 3])).inverse_indices.tolist()
    [1, 0, 1]
    """
    found = _unique("unique_inverse", x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_all(x: Operand, /) -> UniqueAll:
    """The distinct elements, where each is first, which one each element is, and how often.

    >>> unique_all(as_tensor([3, 1, 3])).indices.tolist()
    [1, 0]
    """
    return _unique("unique_all", x)


def _unique(name: str, x: Operand) -> UniqueAll:
    array = _at_hand(name, x).numpy()
    found = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    values, first, inverse, counts = found
    shaped = np.reshape(inverse, array.shape)
    return UniqueAll(copy_array(values), _indices(first), _indices(shaped), _indices(counts))


def _indices(places: Any) -> Tensor:
    return copy_array(np.asarray(places), int64)


def _at_hand(name: str, x: Operand) -> Tensor:
    if context.trace is not None:
        raise TraceError(
            f"{name}: the shape of its result depends on the numbers, which a traced function does "
            f"not have{at_line(user_source())}\n  call it outside, or use pe.where with a mask"
        )
    return as_tensor(x)
