"""Where do Tensors come from? NumPy arrays, nested lists, and functions that fill a shape."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from pellucid.core.dtype import DType, as_dtype, float32, int64
from pellucid.core.error import DeviceError, ExchangeError, OpShapeError, OpTypeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import dense_layout
from pellucid.tensor.arithmetic import (
    add,
    astype,
    constant,
    equal,
    less_equal,
    multiply,
    subtract,
    where,
)
from pellucid.tensor.context import context
from pellucid.tensor.dispatch import dense
from pellucid.tensor.dlpack import borrow
from pellucid.tensor.memory import (
    borrow_array,
    can_borrow,
    copy_array,
    host_array,
    is_array,
    is_constant,
    repeat_array,
)
from pellucid.tensor.reducing import places
from pellucid.tensor.shaping import broadcast_to, expand_dims, reshape
from pellucid.tensor.state import Variable
from pellucid.tensor.tensor import Tensor


def asarray(obj: Any, /, *, dtype: Any = None, copy: bool | None = None) -> Tensor:
    """A Tensor of an array, a nested list, a number, a Variable or a Tensor.

    Writable NumPy memory is copied and read-only memory shared; `copy=False` borrows the memory
    (whoever writes to it then changes what the Tensor shows) and raises ValueError where that is
    impossible. Python floats become float32 and ints int64; NumPy arrays keep their dtype.

    >>> asarray([[1.0, 2.0], [3.0, 4.0]])
    Tensor([[1., 2.],
            [3., 4.]], dtype=float32)
    """
    if isinstance(obj, Variable):
        obj = obj.value
    target = None if dtype is None else as_dtype(dtype)
    if isinstance(obj, Tensor):
        if copy is False and target not in (None, obj.dtype):
            raise _needs_copy("asarray", f"to become {target} it is copied, it is {obj.dtype}")
        if copy and obj._storage is not None:
            return copy_array(obj.numpy(), target)
        return obj if target is None else astype(obj, target)
    array = host_array(obj, target)
    if copy is not False and not is_array(obj):
        return copy_array(array, target)
    fits = can_borrow(array) and (target is None or as_dtype(array.dtype) is target)
    if copy is False and array.size and not (fits and is_array(obj)):
        raise _needs_copy("asarray", _why_copied(array, target, is_array(obj)))
    if fits and (copy is False or (copy is None and is_constant(array))):
        return borrow_array(array, borrowed=copy is False)
    return copy_array(array, target)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """Another library's array, its memory borrowed: who writes to it changes what is shown here.

    Copied where kernels cannot read the memory as it lies (backwards, or unaligned), and where
    `copy` is true; with `copy=False` that is an error. Raises ExchangeError, which is a
    BufferError, and DeviceError for memory that is not the processor's.

    >>> numbers = np.zeros(3)
    >>> shown = from_dlpack(numbers)
    >>> numbers[1] = 5.0
    >>> print(shown)
    [0. 5. 0.]
    """
    if device not in (None, "cpu"):
        raise DeviceError(
            f"from_dlpack: expected the device 'cpu', got {device!r}{at_line(user_source())}"
        )
    array = host_array(borrow(x))
    fits = can_borrow(array)
    if copy is False and array.size and not fits:
        why = _why_copied(array, None, True)
        raise ExchangeError(f"from_dlpack: copy=False, but {why}{at_line(user_source())}")
    return borrow_array(array, borrowed=True) if fits and not copy else copy_array(array)


def full(shape: Any, fill_value: bool | int | float, *, dtype: Any = None) -> Tensor:
    """One number everywhere; its dtype is the number's default one where none is given.

    >>> print(full((2,), 7))
    [7 7]
    """
    return _filled(
        fill_value, as_dtype(type(fill_value) if dtype is None else dtype), _sizes(shape)
    )


def zeros(shape: Any, *, dtype: Any = None) -> Tensor:
    """Zeros; float32 where no dtype is given."""
    return _filled(0, as_dtype(float32 if dtype is None else dtype), _sizes(shape))


def ones(shape: Any, *, dtype: Any = None) -> Tensor:
    """Ones; float32 where no dtype is given."""
    return _filled(1, as_dtype(float32 if dtype is None else dtype), _sizes(shape))


def empty(shape: Any, *, dtype: Any = None) -> Tensor:
    """A tensor to be looked at for its shape and dtype alone; its numbers are zeros."""
    return zeros(shape, dtype=dtype)


def empty_like(x: Tensor | Variable, /, *, dtype: Any = None) -> Tensor:
    """As `empty`, in x's shape and dtype."""
    return zeros_like(x, dtype=dtype)


def zeros_like(x: Tensor | Variable, /, *, dtype: Any = None) -> Tensor:
    """Zeros of x's shape and dtype."""
    return _filled(0, x.dtype if dtype is None else as_dtype(dtype), x.shape)


def ones_like(x: Tensor | Variable, /, *, dtype: Any = None) -> Tensor:
    """Ones of x's shape and dtype."""
    return _filled(1, x.dtype if dtype is None else as_dtype(dtype), x.shape)


def full_like(x: Tensor | Variable, /, fill_value: float, *, dtype: Any = None) -> Tensor:
    """One number everywhere, in x's shape and dtype."""
    return _filled(fill_value, x.dtype if dtype is None else as_dtype(dtype), x.shape)


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None
) -> Tensor:
    """Numbers from `start` (0 if only one is given) up to but without `stop`.

    >>> print(arange(2, 8, 2))
    [2 4 6]
    """
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise OpTypeError(f"arange: the step is 0{at_line(user_source())}")
    whole = all(isinstance(one, int) for one in (start, stop, step))
    target = as_dtype((int64 if whole else float32) if dtype is None else dtype)
    count = max(0, math.ceil((stop - start) / step))
    steps = places((count,), 0, target)
    return add(multiply(steps, step), start) if (start, step) != (0, 1) else steps


def linspace(start: float, stop: float, /, num: int, *, dtype: Any = None) -> Tensor:
    """`num` numbers from `start` to `stop`, both included, evenly spaced.

    >>> print(linspace(0, 1, 5))
    [0.   0.25 0.5  0.75 1.  ]
    """
    if num < 0:
        raise OpShapeError(
            f"linspace: expected at least 0 numbers, got {num}{at_line(user_source())}"
        )
    values = np.linspace(start, stop, num)
    return copy_array(values, as_dtype(float32 if dtype is None else dtype))


def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """The matrices in the last two axes, with zeros above diagonal k."""
    tensor, distance = _from_diagonal("tril", x)
    return where(less_equal(distance, k), tensor, zeros_like(tensor))


def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The matrices in the last two axes, with zeros below diagonal k."""
    tensor, distance = _from_diagonal("triu", x)
    return where(less_equal(k, distance), tensor, zeros_like(tensor))


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None) -> Tensor:
    """Ones on diagonal k, zeros elsewhere.

    >>> print(eye(2))
    [[1. 0.]
     [0. 1.]]
    """
    shape = (n_rows, n_rows if n_cols is None else n_cols)
    same = equal(add(places(shape, 0), k), places(shape, 1))
    return astype(same, float32 if dtype is None else dtype)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """The coordinates of a grid over these vectors, each repeated to the shape of the grid.

    With "xy" the first two axes are exchanged, as for pictures; with "ij" they are in order.

    >>> [grid.tolist() for grid in meshgrid(asarray([1, 2]), asarray([5, 6, 7]), indexing="ij")]
    [[[1, 1, 1], [2, 2, 2]], [[5, 6, 7], [5, 6, 7]]]
    """
    if indexing not in ("xy", "ij"):
        raise OpTypeError(
            f"meshgrid: expected indexing 'xy' or 'ij', got {indexing!r}{at_line(user_source())}"
        )
    vectors = [asarray(one) for one in arrays]
    order = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        order[:2] = [1, 0]
    shape = tuple(vectors[index].size for index in order)
    # Vector i runs along axis order[i]: the exchange is its own inverse.
    columns = [
        reshape(vector, tuple(-1 if axis == order[i] else 1 for axis in range(len(vectors))))
        for i, vector in enumerate(vectors)
    ]
    return tuple(broadcast_to(column, shape) for column in columns)


def one_hot(labels: Any, classes: int, /, *, dtype: Any = None) -> Tensor:
    """A new last axis with 1 at each label and 0 elsewhere; a label out of range gives all zeros.

    >>> print(one_hot(asarray([0, 2]), 3))
    [[1. 0. 0.]
     [0. 0. 1.]]
    """
    # A small dtype may not count as far as there are classes.
    column = expand_dims(astype(asarray(labels), int64), axis=-1)
    shape = (*column.shape[:-1], classes)
    hits = equal(broadcast_to(column, shape), places(shape, len(shape) - 1))
    return astype(hits, float32 if dtype is None else dtype)


def _needs_copy(name: str, why: str) -> ValueError:
    return ValueError(f"{name}: copy=False, but {why}{at_line(user_source())}")


def _why_copied(array: np.ndarray[Any, Any], target: DType | None, is_array: bool) -> str:
    """Why an array's memory cannot be borrowed, as the end of a sentence."""
    if not is_array:
        return "a list or a number has no memory to borrow"
    if target is not None and as_dtype(array.dtype) is not target:
        return f"to become {target} it is copied, it is {array.dtype}"
    if not (array.dtype.isnative and array.flags.aligned):
        return "its elements are not aligned, or have their bytes in another order"
    return f"kernels cannot read its strides of {array.strides} bytes"


MUCH: Final = 1 << 20
"""From so many bytes on, memory is filled by a kernel, on several threads."""


def _filled(value: Any, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """One number everywhere, in memory of the size of the result."""
    if context.trace is not None or min(shape, default=0) < 0:
        # The op refuses such a shape, and names it.
        return dense(constant(value, dtype, shape))
    single, place = constant(value, dtype), dense_layout(dtype, shape)
    if place.nbytes < MUCH:
        # A kernel would be made ready for each shape.
        return repeat_array(single.numpy(), place)
    flat = dense(constant(value, dtype, (math.prod(shape),)))
    return Tensor(place, flat._storage, flat._address)


def _from_diagonal(name: str, x: Any) -> tuple[Tensor, Tensor]:
    """A tensor, and how far right of the diagonal each element of its matrices lies."""
    tensor = asarray(x)
    if tensor.ndim < 2:
        raise OpShapeError(
            f"{name}: expected at least 2 axes, got {shape_text(tensor.shape)}"
            f"{at_line(user_source())}"
        )
    shape = tensor.shape[-2:]
    return tensor, subtract(places(shape, 1), places(shape, 0))


def _sizes(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)
