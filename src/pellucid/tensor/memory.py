"""How do NumPy arrays and Python numbers become Tensors? Copied, or borrowed where that is safe."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import DTYPES, DType, as_dtype
from pellucid.core.error import OpTypeError, PellucidError
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import Layout, Storage, array_at, dense_layout, dense_strides, layout
from pellucid.ir.graph import TensorType
from pellucid.ops.elementwise import cast
from pellucid.tensor.context import current_engine
from pellucid.tensor.dlpack import borrow
from pellucid.tensor.tensor import Tensor

FEW: Final = 4096
"""Up to so many bytes are copied twice, in their order: that takes less than an array over them."""

NAMES = tuple(dtype.name for dtype in DTYPES)


def host_array(value: Any, dtype: DType | None = None) -> NDArray[Any]:
    """Anything array-like as a NumPy array of a dtype that pellucid has; raises OpTypeError.

    Python floats become float32 and ints int64: the default dtypes. Where a `dtype` is wanted,
    floats stay as they are: the caller rounds them once.
    """
    try:
        array: NDArray[Any] = _as_array(value)
    except PellucidError:
        raise  # a traced value among them: its own message says more
    except (ValueError, TypeError, OverflowError) as error:
        where = at_line(user_source())
        raise OpTypeError(f"asarray: cannot make a tensor of this: {error}{where}") from None
    if dtype is None and array.dtype == np.float64 and not is_array(value):
        array = array.astype(np.float32)
    try:
        as_dtype(array.dtype)
    except OpTypeError:
        raise OpTypeError(
            f"asarray: there is no dtype for NumPy's {array.dtype}{at_line(user_source())}\n"
            f"  there are {', '.join(NAMES)}"
        ) from None
    return array


def copy_array(array: NDArray[Any], dtype: DType | None = None) -> Tensor:
    """A Tensor with memory of its own, of the array's dtype or another one."""
    own = as_dtype(array.dtype)
    if dtype is not None and dtype is not own:
        # As the op casts, which says what becomes of numbers out of range.
        with np.errstate(all="ignore"):
            (array,) = cast.evaluate(array, dtype=dtype)
    place = dense_layout(dtype or own, array.shape)
    storage = current_engine().allocate(place.nbytes)
    if place.nbytes <= FEW and array.dtype.isnative:
        ctypes.memmove(storage.address, array.tobytes(), place.nbytes)
    else:
        np.copyto(array_at(storage.address, place, storage), array)
    return Tensor(place, storage, storage.address)


def repeat_array(number: NDArray[Any], place: Layout) -> Tensor:
    """A Tensor with memory of its own in which each element is this number."""
    storage = current_engine().allocate(place.nbytes)
    array_at(storage.address, place, storage)[...] = number
    return Tensor(place, storage, storage.address)


def borrow_array(array: NDArray[Any], borrowed: bool) -> Tensor:
    """A Tensor over the array's own memory, which it keeps alive."""
    bytes = array.dtype.itemsize
    # Along an axis of one element a stride says nothing: others' may be anything.
    strides = tuple(
        own if size == 1 else stride // bytes
        for size, stride, own in zip(
            array.shape, array.strides, dense_strides(array.shape), strict=True
        )
    )
    place = layout(TensorType(as_dtype(array.dtype), array.shape), strides)
    address = array.ctypes.data
    return Tensor(place, Storage(address, array.nbytes, array, borrowed), address)


def can_borrow(array: NDArray[Any]) -> bool:
    """Whether the array's memory has a layout that kernels read as it is.

    An array without elements has no memory to share.
    """
    bytes = array.dtype.itemsize
    return (
        array.dtype.isnative
        and array.flags.aligned
        and array.ctypes.data != 0
        and all(
            size == 1 or (stride >= 0 and stride % bytes == 0)
            for size, stride in zip(array.shape, array.strides, strict=True)
        )
    )


def is_array(value: Any) -> bool:
    """Whether it has memory to borrow: a NumPy array, or another library's."""
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__")


def is_constant(array: NDArray[Any]) -> bool:
    """Whether nobody can write to the array's memory through NumPy."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes)


def _as_array(value: Any) -> NDArray[Any]:
    if hasattr(value, "__dlpack__"):
        try:
            return np.asarray(value) if hasattr(value, "__array__") else borrow(value)
        except TypeError:
            # Its dtype is none of NumPy's own: bfloat16 comes this way.
            return borrow(value)
    return np.asarray(value)
