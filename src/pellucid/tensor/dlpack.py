"""How do two libraries share an array's memory? By DLPack: a capsule is lent, and consumed once.

The capsules are NumPy's, which keep what they lend alive and let go of it without Python if need
be. NumPy knows no bfloat16, so that crosses as 16 plain bits and its type is put right in the
capsule itself. (https://dmlc.github.io/dlpack, version 1)
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import bfloat16
from pellucid.core.error import DeviceError, ExchangeError
from pellucid.core.source import at_line, user_source

VERSION: Final = (1, 0)
"""The version from which on a capsule can say that its memory is read-only."""

CPU: Final = (1, 0)
HOSTS: Final = {1: "CPU", 3: "CUDA host", 11: "ROCm host", 13: "CUDA managed"}
"""Kinds of devices whose memory the processor can read."""

_UINT, _BFLOAT = 1, 4


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


def lend(
    array: NDArray[Any], *, stream: Any, max_version: Any, dl_device: Any, copy: bool | None
) -> Any:
    """A capsule of a read-only array's memory, marked as read-only.

    A consumer that knows no such mark (no `max_version` of 1 or more) gets a copy, as does one that
    asks for it. Raises ExchangeError where it cannot be as asked.
    """
    if stream is not None:
        raise _refused(f"the processor has no streams, expected None, got {stream!r}")
    if dl_device is not None and tuple(map(int, dl_device)) != CPU:
        raise _refused(f"a Tensor is on device {CPU}, the CPU, not on {tuple(dl_device)}")
    marked = max_version is not None and max_version[0] >= VERSION[0]
    if copy is False and not marked:
        raise _refused(
            f"the memory is read-only, which versions below {VERSION} cannot say\n"
            "  let it be copied: copy=None, or np.array(x)"
        )
    bits = array.view(np.uint16) if array.dtype == bfloat16.numpy else array
    if marked:
        capsule: Any = bits.__dlpack__(max_version=VERSION, copy=copy or None)
    else:
        capsule = bits.copy().__dlpack__()
    if bits is not array:
        _held(capsule).code = _BFLOAT
    return capsule


def borrow(owner: Any) -> NDArray[Any]:
    """A NumPy array over the memory of anything with `__dlpack__`; the array keeps it alive.

    Raises ExchangeError for what is no such thing, was consumed before or has no dtype in NumPy,
    and DeviceError for memory that is not the processor's.
    """
    if not hasattr(owner, "__dlpack__"):
        raise _refused(
            f"expected an array with __dlpack__, got {type(owner).__name__}\n"
            "  give the array itself, not its capsule: a capsule can be consumed only once"
        )
    kind = int(owner.__dlpack_device__()[0])
    if kind not in HOSTS:
        raise DeviceError(
            f"from_dlpack: the memory is on a device of kind {kind}, not the processor's"
            f"{at_line(user_source())}\n  move it to the CPU first"
        )
    capsule = _capsule_of(owner)
    tensor = _held(capsule)
    narrow = (tensor.code, tensor.bits, tensor.lanes) == (_BFLOAT, 16, 1)
    if narrow:
        tensor.code = _UINT
    try:
        array = np.from_dlpack(_Passed(capsule, (kind, 0)))
    except RuntimeError as error:
        raise _refused(f"NumPy cannot read it: {error}") from None
    return array.view(bfloat16.numpy) if narrow else array


class _Passed:
    """A capsule on its way to NumPy."""

    def __init__(self, capsule: Any, device: tuple[int, int]) -> None:
        self.capsule, self.device = capsule, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def _capsule_of(owner: Any) -> Any:
    try:
        return owner.__dlpack__(max_version=VERSION)
    except TypeError:
        # Older producers take no such argument.
        return owner.__dlpack__()


def _held(capsule: Any) -> _Tensor:
    """The description that a capsule points to; raises ExchangeError if it was consumed."""
    names = {b"dltensor": _Tensor, b"dltensor_versioned": _Versioned}
    for name, struct in names.items():
        if _is_capsule(capsule, name):
            found: Any = struct.from_address(_pointer(capsule, name))
            return found.tensor if isinstance(found, _Versioned) else found
    raise _refused("expected a fresh capsule, got one that was consumed before, or none at all")


_is_capsule: Any = ctypes.pythonapi.PyCapsule_IsValid
_is_capsule.argtypes, _is_capsule.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_int
_pointer: Any = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.argtypes, _pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p


def _refused(why: str) -> ExchangeError:
    return ExchangeError(f"dlpack: {why}{at_line(user_source())}")
