"""The order of a sum, as the bit contract states it, in slow and obvious NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LANES, CHUNK, CHAIN = 64, 8192, 256


def ordered_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """The sum of `x` over `axes` in x's dtype (float32 for 16-bit floats), one addition a time."""
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind != "i" else x
    gone = [axis for axis in axes if x.shape[axis] != 1]
    kept = [axis for axis in range(x.ndim) if axis not in gone and x.shape[axis] != 1]
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    if not gone:
        return x.reshape(shape)
    moved = wide.transpose(*gone, *kept, *(a for a in range(x.ndim) if x.shape[a] == 1))
    with np.errstate(all="ignore"):
        if max(gone) > max(kept, default=-1):
            columns = x.shape[gone[-1]]
            total = _lanes(moved.reshape(-1, columns, *(x.shape[a] for a in kept)))
        else:
            total = _chain(moved.reshape(-1, *(x.shape[a] for a in kept)))
        return total.reshape(shape).astype(x.dtype)


def _lanes(x: Array) -> Array:
    """x is (rows, columns, ...)."""
    rows, columns = x.shape[:2]
    if rows * columns <= CHUNK:
        return _one_chunk(x)
    if columns >= CHUNK:
        pieces = [
            x[row : row + 1, at : at + CHUNK]
            for row in range(rows)
            for at in range(0, columns, CHUNK)
        ]
    else:
        step = CHUNK // columns
        pieces = [x[at : at + step] for at in range(0, rows, step)]
    partials = np.stack([_one_chunk(piece) for piece in pieces])
    return _one_chunk(partials[None])


def _one_chunk(x: Array) -> Array:
    lanes = _start(x, (LANES, *x.shape[2:]))
    for row in x:
        for first in range(0, len(row), LANES):
            block = row[first : first + LANES]
            lanes[: len(block)] += block
    half = LANES // 2
    while half:
        lanes[:half] += lanes[half : 2 * half]
        half //= 2
    return lanes[0]


def _chain(x: Array) -> Array:
    """x is (elements, ...)."""
    total: Array | None = None
    for first in range(0, len(x), CHAIN):
        partial = _start(x, x.shape[1:])
        for element in x[first : first + CHAIN]:
            partial = partial + element
        total = partial if total is None else total + partial
    assert total is not None, "an empty sum has no order"
    return total


def _start(x: Array, shape: tuple[int, ...]) -> Array:
    return np.full(shape, -0.0 if x.dtype.kind == "f" else 0, x.dtype)
