"""What is a Tensor to Python and to NumPy? Conversions, memory shared or not, errors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import pellucid as pe


def test_python_numbers_get_the_default_dtypes():
    assert pe.asarray(1.5).dtype is pe.float32
    assert pe.asarray([1, 2]).dtype is pe.int64
    assert pe.asarray([True]).dtype is pe.bool
    assert pe.asarray([[1.0, 2.0]]).dtype is pe.float32


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int8", "uint64", "bool"])
def test_arrays_keep_their_dtype(name: str):
    assert pe.asarray(np.zeros(2, name)).dtype.name == name


def test_bfloat16_arrays_come_and_go():
    x = pe.asarray([1.5, 2.5]).astype("bfloat16")
    again = pe.asarray(np.asarray(x))
    assert again.dtype is pe.bfloat16
    assert again.astype("float32").tolist() == [1.5, 2.5]


def test_a_dtype_can_be_asked_for():
    assert pe.asarray([1, 2], dtype=pe.float16).tolist() == [1.0, 2.0]
    assert pe.asarray(np.array([1.7]), dtype="int32").tolist() == [1]
    assert pe.asarray(3, dtype=float).dtype is pe.float32
    for exact in (pe.asarray(0.1, dtype="float64"), pe.Parameter([0.1], dtype="float64")):
        assert exact.item() == 0.1


def test_writable_memory_is_copied():
    array = np.zeros(2)
    t = pe.asarray(array)
    array[0] = 5.0
    assert t.tolist() == [0.0, 0.0]


def test_read_only_memory_is_shared():
    array = np.arange(4.0)
    array.flags.writeable = False
    assert np.shares_memory(np.asarray(pe.asarray(array)), array)


def test_a_read_only_view_of_writable_memory_is_copied():
    array = np.arange(4.0)
    view = array[:2]
    view.flags.writeable = False
    assert not np.shares_memory(np.asarray(pe.asarray(view)), array)


def test_copy_false_borrows_writable_memory():
    array = np.zeros(2)
    t = pe.asarray(array, copy=False)
    array[0] = 5.0
    assert t.tolist() == [5.0, 0.0]


def test_copy_false_is_refused_where_a_copy_is_needed():
    for source in ([1.0], 2.0, np.zeros(4)[::-1], np.zeros(2, ">f8")):
        with pytest.raises(ValueError, match="copy=False"):
            pe.asarray(source, copy=False)
    with pytest.raises(ValueError, match="copy=False"):
        pe.asarray(np.zeros(2), dtype="float32", copy=False)


def test_copy_true_copies():
    array = np.arange(4.0)
    array.flags.writeable = False
    t = pe.asarray(array)
    assert not np.shares_memory(np.asarray(pe.asarray(array, copy=True)), array)
    assert not np.shares_memory(np.asarray(pe.asarray(t, copy=True)), np.asarray(t))
    assert pe.asarray(t) is t


def test_a_variable_that_starts_from_borrowed_memory_has_its_own():
    array = np.zeros(2, np.float32)
    v = pe.Variable(pe.asarray(array, copy=False))
    w = pe.Variable([1.0, 1.0])
    w.assign(pe.asarray(array, copy=False))
    array[:] = 9.0
    assert v.tolist() == w.tolist() == [0.0, 0.0]


def test_strided_memory_is_read_where_it_is():
    array = np.arange(24.0).reshape(4, 6)
    view = array[::2, 1::3]
    t = pe.asarray(view, copy=False)
    assert np.shares_memory(np.asarray(t), array)
    np.testing.assert_array_equal(t + 1.0, view + 1.0)
    np.testing.assert_array_equal(pe.asarray(array[::-1, ::-2]), array[::-1, ::-2])


def test_an_array_of_a_tensor_is_a_read_only_view():
    t = pe.asarray([1.0, 2.0])
    view = np.asarray(t)
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 3.0
    assert np.shares_memory(view, t.numpy())
    assert np.array(t).flags.writeable
    assert np.asarray(t, dtype=np.float64).dtype == np.float64


def test_numpys_functions_take_tensors():
    t = pe.asarray([[1.0, 2.0], [3.0, 5.0]])
    assert float(np.sum(t)) == 11.0
    assert np.max(t, axis=0).tolist() == [3.0, 5.0]
    assert np.mean(t, axis=1, keepdims=True).shape == (2, 1)
    assert np.argmax(t, axis=1).tolist() == [1, 1]
    assert np.transpose(t).tolist() == [[1.0, 3.0], [2.0, 5.0]]
    assert np.squeeze(np.reshape(t, (1, 4))).shape == (4,)
    assert np.concatenate([t, t]).shape == (4, 2)
    with pytest.raises(TypeError, match="no `out`"):
        np.sum(t, out=np.zeros(()))


def test_an_array_keeps_the_memory_alive():
    view = np.asarray(pe.asarray(np.arange(1000.0)) + 1.0)
    for _ in range(20):
        _ = pe.zeros((1000,), dtype="float64") + 7.0
    np.testing.assert_array_equal(view, np.arange(1000.0) + 1.0)


def test_copies_of_a_tensor_in_containers():
    t = pe.asarray([1.0, 2.0])
    assert copy.copy(t) is t
    assert copy.deepcopy([t])[0] is t


def test_what_cannot_be_an_array_is_a_named_error():
    for bad in ("text", [1.0, "x"], [[1.0], [1.0, 2.0]], object(), np.array([1j]), {"a": 1}):
        with pytest.raises(pe.OpTypeError, match="asarray"):
            pe.asarray(bad)
    with pytest.raises(pe.OpTypeError, match="asarray"):
        pe.asarray(np.array(["2020-01-01"], "datetime64[D]"))


def test_numbers_that_do_not_fit_are_a_named_error():
    with pytest.raises(pe.OpTypeError, match="300 does not fit in uint8"):
        _ = pe.asarray([1], dtype="uint8") + 300
    with pytest.raises(pe.OpTypeError, match="-1 does not fit in uint8"):
        pe.full((2,), -1, dtype="uint8")
    with pytest.raises(pe.OpTypeError, match="asarray"):
        pe.asarray(2**70)


def test_scalars_become_python_numbers():
    assert float(pe.asarray(1.5)) == 1.5
    assert int(pe.asarray([[7]])) == 7
    assert bool(pe.asarray(True)) is True
    assert pe.asarray(2).item() == 2
    assert [10, 20, 30][pe.asarray(1)] == 20
    assert f"{pe.asarray(2.0):.3f}" == "2.000"
    with pytest.raises(TypeError, match="only an integer tensor can be an index"):
        _ = [1, 2][pe.asarray(1.0)]


@pytest.mark.parametrize("convert", [bool, float, int, lambda x: x.item()])
def test_several_elements_are_no_number(convert: Any):
    with pytest.raises(ValueError, match=r"2 elements is ambiguous.*pe.any"):
        convert(pe.asarray([1.0, 2.0]))


def test_length_is_the_first_size():
    assert len(pe.zeros((3, 2))) == 3
    with pytest.raises(TypeError, match="no length"):
        len(pe.asarray(1.0))


def test_attributes():
    t = pe.zeros((2, 3), dtype="float16")
    assert (t.shape, t.ndim, t.size, t.dtype, t.device) == ((2, 3), 2, 6, pe.float16, "cpu")
    assert not t.is_traced
    assert pe.asarray(1.0).size == 1


def test_text_shows_the_numbers():
    assert repr(pe.asarray([1.0, 2.5])) == "Tensor([1. , 2.5], dtype=float32)"
    assert str(pe.asarray([1, 2])) == "[1 2]"
    assert repr(pe.Parameter([1.0])) == "Parameter([1.], dtype=float32)"


def test_text_of_a_traced_tensor_shows_its_type():
    seen: list[str] = []
    v = pe.Variable(1.0)
    pe.jit(lambda x: (seen.append(f"{x} {v!r}"), x)[1])(pe.zeros((2, 3)))
    assert seen == ["Tensor(traced float32[2, 3]) Variable(traced float32[])"]


def test_tensors_are_dict_keys_by_identity():
    a, b = pe.asarray(1.0), pe.asarray(1.0)
    assert {a: 1, b: 2}[a] == 1


def test_items_cannot_be_assigned():
    t = pe.zeros((2,))
    with pytest.raises(TypeError, match=r"never changes.*pe.where"):
        t[0] = 1.0  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("name", "rewrite"),
    [
        ("permute", "pe.permute_dims(x, axes)"),
        ("view", "x.reshape(shape)"),
        ("unsqueeze", "pe.expand_dims(x, axis=axis)"),
        ("grad", "p.grad of a pe.Parameter p"),
        ("clone", "x itself"),
    ],
)
def test_names_of_other_frameworks_show_the_rewrite(name: str, rewrite: str):
    with pytest.raises(AttributeError) as caught:
        getattr(pe.zeros((2,)), name)
    assert f"write {rewrite}" in str(caught.value)
    assert not hasattr(pe.zeros((2,)), name)


def test_an_unknown_name_is_a_plain_attribute_error():
    with pytest.raises(AttributeError, match="a Tensor has no attribute 'nonsense'"):
        _ = pe.zeros((2,)).nonsense


def test_requires_grad_cannot_be_set_and_it_says_what_to_do():
    t = pe.zeros((2,))
    with pytest.raises(pe.StateError, match=r"pe.Parameter\(x\)"):
        t.requires_grad = True
    with pytest.raises(AttributeError):
        t.shape = (1, 2)  # pyright: ignore[reportAttributeAccessIssue]


def test_names_of_other_frameworks_in_the_package_show_the_rewrite():
    for name, rewrite in (("array", "asarray"), ("relu", "nn.relu"), ("manual_seed", "seed")):
        with pytest.raises(AttributeError, match=rewrite):
            getattr(pe, name)
