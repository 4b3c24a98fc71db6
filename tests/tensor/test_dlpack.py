"""Is memory shared with other libraries just when it should be, and does it live long enough?"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import DTYPES, DType, bool_
from pellucid.engines.cpu.storage import live_bytes

VERSIONED = {"max_version": (1, 0)}
READ_ONLY, COPIED = 1, 2


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 1, 3)], ids=str)
def test_every_dtype_and_shape_goes_out_and_comes_back(dtype: DType, shape: tuple[int, ...]):
    given = numbers(dtype, shape)
    back = pe.from_dlpack(given)
    assert (back.dtype, back.shape) == (dtype, shape)
    assert_same(back, given)
    if given.size:
        assert address(back) == address(given)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d is not pe.bfloat16], ids=str)
def test_numpy_reads_the_very_memory_and_may_not_write(dtype: DType):
    given = numbers(dtype, (2, 3))
    lent = np.from_dlpack(given)
    assert (lent.dtype, lent.ctypes.data) == (dtype.numpy, address(given))
    assert not lent.flags.writeable
    assert_same(given, lent)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_view_of_a_tensor_can_be_made_writable(dtype: DType):
    view = np.asarray(numbers(dtype, (4,)))
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        view.flags.writeable = True


@pytest.mark.parametrize(
    "turned",
    [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[1:], lambda a: np.broadcast_to(a[0], (3, 4))],
    ids=["transposed", "stepped", "cut", "repeated"],
)
def test_strides_are_kept_and_nothing_is_copied(turned: Any):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    view = turned(array)
    shown = pe.from_dlpack(view)
    assert address(shown) == address(view)
    array += 100
    assert_same(shown, view)
    assert_same(shown + 1, view + 1)


def test_memory_that_kernels_cannot_read_is_copied_or_refused():
    array = np.arange(6, dtype=np.float32)
    backwards = array[::-1]
    copied = pe.from_dlpack(backwards)
    array[:] = 0
    assert copied.tolist() == [5, 4, 3, 2, 1, 0]
    unaligned = np.zeros(9, np.uint8)[1:].view(np.float32)
    for bad, why in ((backwards, r"strides of \(-4,\) bytes"), (unaligned, "not aligned")):
        with pytest.raises(pe.ExchangeError, match=rf"copy=False, but .*{why}(.|\n)*test_dlpack"):
            pe.from_dlpack(bad, copy=False)
        with pytest.raises(ValueError, match=rf"copy=False, but .*{why}(.|\n)*test_dlpack"):
            pe.asarray(bad, copy=False)


def test_a_copy_that_was_asked_for_shows_no_later_writes():
    array = np.zeros(3)
    copied = pe.from_dlpack(array, copy=True)
    array[0] = 1
    assert copied.tolist() == [0, 0, 0]


def test_writable_memory_is_copied_by_asarray_and_read_only_memory_shared():
    array = np.zeros(3)
    assert address(pe.asarray(array)) != address(array)
    fixed = np.zeros(3)
    fixed.flags.writeable = False
    assert address(pe.asarray(fixed)) == address(fixed)
    # A view that may not be written to says nothing of those who may.
    window = array[:]
    window.flags.writeable = False
    assert address(pe.asarray(window)) != address(array)
    assert address(pe.asarray(window, copy=False)) == address(array)


def test_asarray_without_a_copy_refuses_what_needs_one():
    x = pe.asarray([1.0, 2.0])
    for bad, options in (([1.0], {}), (2.0, {}), (x, {"dtype": "float64"})):
        with pytest.raises(ValueError, match=r"asarray: copy=False, but (.|\n)*test_dlpack.py"):
            pe.asarray(bad, copy=False, **options)
    with pytest.raises(ValueError, match="to become float64 it is copied, it is float32"):
        pe.asarray(np.zeros(2, np.float32), dtype="float64", copy=False)
    assert pe.asarray(x, dtype="float32", copy=False) is x
    assert pe.asarray(np.zeros((0, 3), np.float32), copy=False).shape == (0, 3)


@pytest.mark.parametrize("turned", [lambda a: a, lambda a: a.T], ids=["plain", "transposed"])
def test_borrowed_memory_is_never_a_constant_of_compiled_code(turned: Any):
    array = np.ones((2, 2), np.float32)
    for borrowed in (pe.from_dlpack(turned(array)), pe.asarray(turned(array), copy=False)):
        array[:] = 1
        add = pe.jit(lambda x, held=borrowed: x + held)
        closed = pe.jit(lambda x, held=[borrowed]: x + held[0] * 2.0)
        x = pe.zeros((2, 2))
        assert (float(add(x)[0, 1]), float(closed(x)[0, 1])) == (1.0, 2.0)
        array[:] = [[1, 7], [7, 1]]
        assert (float(add(x)[0, 1]), float(closed(x)[0, 1])) == (7.0, 14.0)


def test_a_capsule_says_that_its_memory_is_read_only():
    x = pe.asarray([1.0, 2.0])
    assert flags(x.__dlpack__(**VERSIONED)) & READ_ONLY
    copied = flags(x.__dlpack__(**VERSIONED, copy=True))
    assert copied & COPIED
    assert not copied & READ_ONLY
    assert x.__dlpack_device__() == (1, 0)


def test_a_consumer_that_knows_no_read_only_memory_gets_a_copy():
    class Old:
        """Asks as a library does that was written before version 1."""

        def __init__(self, tensor: pe.Tensor) -> None:
            self.tensor = tensor

        def __dlpack__(self, **options: Any) -> Any:
            return self.tensor.__dlpack__()

        def __dlpack_device__(self) -> Any:
            return self.tensor.__dlpack_device__()

    x = pe.asarray([1.0, 2.0])
    taken = np.from_dlpack(Old(x))
    assert taken.tolist() == [1.0, 2.0]
    assert taken.ctypes.data != address(x)
    with pytest.raises(pe.ExchangeError, match=r"read-only(.|\n)*copy=None"):
        x.__dlpack__(copy=False)


def test_what_a_producer_cannot_do_is_a_buffer_error():
    x = pe.asarray([1.0])
    for options, why in (({"stream": 1}, "streams"), ({"dl_device": (2, 0)}, r"not on \(2, 0\)")):
        with pytest.raises(BufferError, match=why):
            x.__dlpack__(**VERSIONED, **options)
    assert x.__dlpack__(**VERSIONED, dl_device=(1, 0), stream=None, copy=False) is not None


def test_a_capsule_is_consumed_once():
    class Same:
        """Gives one capsule again and again."""

        capsule = pe.asarray([1.0]).__dlpack__(**VERSIONED)

        def __dlpack__(self, **options: Any) -> Any:
            return self.capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    assert pe.from_dlpack(Same()).tolist() == [1.0]
    with pytest.raises(pe.ExchangeError, match="consumed before"):
        pe.from_dlpack(Same())
    with pytest.raises(pe.ExchangeError, match="give the array itself, not its capsule"):
        pe.from_dlpack(pe.asarray([1.0]).__dlpack__(**VERSIONED))


def test_producers_from_before_version_1_and_other_devices():
    class Before:
        """Takes no max_version."""

        def __dlpack__(self, stream: Any = None) -> Any:
            return np.arange(3.0).__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    class Elsewhere(Before):
        """An accelerator's."""

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)

    assert pe.from_dlpack(Before()).tolist() == [0.0, 1.0, 2.0]
    # No __array__: asarray finds it all the same, and copies what may be written.
    found = pe.asarray(Before())
    assert (found.dtype, found.tolist()) == (pe.float64, [0.0, 1.0, 2.0])
    with pytest.raises(pe.DeviceError, match=r"kind 2(.|\n)*move it to the CPU"):
        pe.from_dlpack(Elsewhere())
    with pytest.raises(pe.DeviceError, match="'cuda'"):
        pe.from_dlpack(Before(), device="cuda")
    with pytest.raises(pe.OpTypeError, match="complex128"):
        pe.from_dlpack(np.zeros(2, np.complex128))


def test_a_traced_tensor_has_nothing_to_lend():
    with pytest.raises(pe.TracedBoolError):
        pe.jit(lambda x: np.from_dlpack(x))(pe.zeros((2,)))


@pytest.mark.parametrize("consume", [False, True])
def test_memory_lives_as_long_as_the_capsule_or_what_consumed_it(consume: bool):
    gc.collect()
    before = live_bytes()
    x = pe.asarray(np.arange(1000.0))
    held = np.from_dlpack(x) if consume else x.__dlpack__(**VERSIONED)
    del x
    assert live_bytes() - before == 8192
    if consume:
        assert held[-1] == 999.0
    del held
    assert live_bytes() == before


@pytest.mark.parametrize("consume", [False, True])
def test_a_cell_is_not_written_in_place_while_a_capsule_lives(consume: bool):
    cell = pe.Variable(np.zeros(100, np.float32))
    step = pe.jit(lambda: cell.assign(cell + 1.0))
    step()
    step()
    held = cell.__dlpack__(**VERSIONED)
    if consume:
        held = np.from_dlpack(cell)
    step()
    lent = held if consume else array_of(held)
    assert (lent == 2.0).all()
    assert cell.numpy()[0] == 3.0


@pytest.mark.peer
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "uint" or d.bits == 8], ids=str)
def test_torch_sees_the_same_memory_both_ways(dtype: DType):
    torch = pytest.importorskip("torch")
    x = numbers(dtype, (2, 3))
    theirs = torch.from_dlpack(x)
    assert theirs.data_ptr() == address(x)
    assert f"{theirs.dtype}" == f"torch.{'bool' if dtype is bool_ else dtype.name}"
    assert_same(pe.from_dlpack(theirs), x)
    turned = theirs.clone().T
    ours = pe.from_dlpack(turned)
    assert address(ours) == turned.data_ptr()
    turned[0, 0] = 1
    assert_same(ours, pe.from_dlpack(turned))
    assert_same(pe.asarray(turned), ours)
    assert address(pe.asarray(turned)) != turned.data_ptr()
    empty = pe.from_dlpack(torch.zeros((0, 2), dtype=theirs.dtype))
    assert (empty.shape, empty.dtype) == ((0, 2), dtype)


@pytest.mark.peer
def test_jax_sees_the_same_numbers_both_ways():
    jax = pytest.importorskip("jax")
    for dtype in (pe.float32, pe.int32, pe.bfloat16, bool_):
        x = numbers(dtype, (2, 3))
        theirs = jax.dlpack.from_dlpack(x)
        assert theirs.dtype == dtype.numpy
        assert_same(pe.from_dlpack(theirs), x)
        assert_same(pe.asarray(theirs), x)


def numbers(dtype: DType, shape: tuple[int, ...]) -> pe.Tensor:
    """Some numbers of a dtype."""
    values = np.random.default_rng(0).integers(0, 2 if dtype is bool_ else 100, shape)
    return pe.asarray(np.asarray(values).astype(dtype.numpy))


def address(array: Any) -> int:
    return np.asarray(array).ctypes.data


def assert_same(found: Any, expected: Any) -> None:
    mine, right = np.asarray(found), np.asarray(expected)
    assert (mine.dtype, mine.shape) == (right.dtype, right.shape)
    assert mine.tobytes() == right.tobytes()


def flags(capsule: Any) -> int:
    """The flags of a versioned capsule: after the version, the manager and the deleter."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.argtypes, get.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p
    return ctypes.c_uint64.from_address(get(capsule, b"dltensor_versioned") + 24).value


def array_of(capsule: Any) -> Any:
    """What a capsule holds, through NumPy."""

    class Given:
        def __dlpack__(self, **options: Any) -> Any:
            return capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    return np.from_dlpack(Given())
