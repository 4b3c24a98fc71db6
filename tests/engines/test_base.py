"""Layouts are one object each, views keep memory alive, engines are found by name."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

from pellucid.core.dtype import DTYPES, DType, bfloat16, float32
from pellucid.core.error import DeviceError, OpShapeError, UnsupportedOpError
from pellucid.core.shape import sym
from pellucid.core.source import Source
from pellucid.engines import engine_names, find_engine
from pellucid.engines.base import (
    ALIGNMENT,
    MOST_BYTES,
    Layout,
    Storage,
    array_at,
    dense_strides,
    layout,
    unsupported,
)
from pellucid.ir.graph import TensorType


def test_layout_of_a_type_is_one_object() -> None:
    type = TensorType(float32, (2, 3))
    assert layout(type) is layout(TensorType(float32, (2, 3)), (3, 1))
    assert layout(type) is not layout(type, (1, 2))


def test_layout_is_one_object_for_threads_that_ask_at_once() -> None:
    found: list[Layout] = []
    start = threading.Barrier(4)

    def ask() -> None:
        start.wait()
        found.append(layout(TensorType(float32, (7, 11, 13))))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize(
    ("shape", "strides"), [((), ()), ((5,), (1,)), ((2, 3, 4), (12, 4, 1)), ((2, 0, 3), (3, 3, 1))]
)
def test_dense_strides_are_row_major(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    assert dense_strides(shape) == strides
    assert layout(TensorType(float32, shape)).dense


def test_bytes_are_counted_without_overflow() -> None:
    assert layout(TensorType(float32, (1 << 20, 1 << 20))).nbytes == 1 << 42
    with pytest.raises(MemoryError, match=r"float32\[4294967296, 4294967296\] is larger"):
        layout(TensorType(float32, (1 << 32, 1 << 32)))
    assert MOST_BYTES < 1 << 63


def test_unknown_size_has_no_layout() -> None:
    with pytest.raises(OpShapeError, match=r"a tensor in memory needs known sizes, got \(n,\)"):
        layout(TensorType(float32, (sym("n"),)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_array_at_an_address_is_the_memory_itself(dtype: DType) -> None:
    held = np.arange(6).astype(dtype.numpy)
    array = array_at(held.ctypes.data, layout(TensorType(dtype, (3, 2)), (1, 3)), held)
    assert array.dtype == held.dtype
    assert array.tolist() == held.reshape(2, 3).T.tolist()
    array[0, 0] = 1
    assert held[0] == 1


def test_view_is_read_only_and_keeps_its_storage() -> None:
    owner = np.arange(4, dtype=np.float32)
    storage = Storage(owner.ctypes.data, owner.nbytes, owner)
    view = storage.view(layout(TensorType(float32, (4,))), storage.address)
    gone = weakref.ref(storage)
    del storage, owner
    gc.collect()
    assert gone() is not None
    assert view.tolist() == [0, 1, 2, 3]
    assert not view.flags.writeable
    del view
    gc.collect()
    assert gone() is None


def test_view_of_sixteen_bit_floats_has_their_dtype() -> None:
    owner = np.ones(2, bfloat16.numpy)
    storage = Storage(owner.ctypes.data, owner.nbytes, owner)
    view = storage.view(layout(TensorType(bfloat16, (2,))), storage.address)
    assert view.dtype == bfloat16.numpy
    assert not view.flags.writeable


@pytest.mark.parametrize("name", engine_names())
def test_every_engine_allocates_aligned_memory(name: str) -> None:
    for nbytes in (0, 1, 100, 10_000):
        block = find_engine(name).allocate(nbytes)
        assert block.address % ALIGNMENT == 0
        assert block.nbytes >= nbytes


def test_engines_are_found_once_and_by_name() -> None:
    assert engine_names()[0] == "cpu"
    assert find_engine("cpu") is find_engine("cpu")
    assert find_engine("reference").name == "reference"


def test_unknown_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(DeviceError, match="no engine is called 'tpu'; there are cpu, reference"):
        find_engine("tpu")


def test_refusal_says_engine_op_reason_line_and_way_out() -> None:
    error = unsupported("cpu", "sort", "it has no rule for it", Source("model.py", 3))
    assert isinstance(error, UnsupportedOpError)
    assert str(error).splitlines() == [
        "sort: the engine 'cpu' cannot run it, it has no rule for it",
        "  at model.py:3",
        "  run it elsewhere with `with pellucid.device('reference'):`",
    ]
