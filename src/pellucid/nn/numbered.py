"""Which whole numbers name a class, or a row of a table? Those from 0 up to a count.

An eager program has its numbers at hand, and one that is out of range is an error there. A compiled
one has not; what such a number leads to is made NaN, which no mean and no gradient hides.
"""

from __future__ import annotations

import math

import numpy as np

from pellucid.core.error import OpIndexError
from pellucid.core.source import at_line, user_source
from pellucid.tensor.arithmetic import less, less_equal, logical_and, where
from pellucid.tensor.shaping import expand_dims
from pellucid.tensor.tensor import Tensor


def nan_where_out_of_range(found: Tensor, numbers: Tensor, count: int) -> Tensor:
    """`found`, one thing (...) for each of the `numbers`, with NaN where that is no number.

    Numbers that are known were checked by `require_in_range`: then it is `found` itself.
    """
    if not numbers.is_traced:
        return found
    valid = logical_and(less_equal(0, numbers), less(numbers, count))
    for _ in range(found.ndim - numbers.ndim):
        valid = expand_dims(valid, axis=-1)
    return where(valid, found, math.nan)


def require_in_range(what: str, numbers: Tensor, count: int, way_out: str) -> None:
    """Raise OpIndexError where a number that is known is not from 0 to count - 1."""
    if numbers.is_traced:
        return
    array = numbers.numpy()
    if not array.size or (array.min() >= 0 and array.max() < count):
        return
    wrong = np.argwhere((array < 0) | (array >= count))
    place = ", ".join(map(str, wrong[0]))
    raise OpIndexError(
        f"{what} {array[tuple(wrong[0])]} at [{place}] is out of range: expected 0 to {count - 1}; "
        f"{len(wrong):,} of {array.size:,} are out of range{at_line(user_source())}\n  {way_out}"
    )
