"""What may be done with a Variable by hand?"""

from __future__ import annotations

import numpy as np
import pytest

import pellucid as pe


def test_a_variable_holds_and_takes_values():
    v = pe.Variable([1.0, 2.0], name="v")
    assert (v.name, v.shape, v.dtype, v.ndim, v.size) == ("v", (2,), pe.float32, 1, 2)
    v.assign([3.0, 4.0])
    assert v.tolist() == [3.0, 4.0]
    v.assign(5.0 * v)
    assert v.value.tolist() == [15.0, 20.0]
    assert len(v) == 2


def test_a_value_taken_out_does_not_follow():
    v = pe.Variable([1.0])
    held, array = v.value, v.numpy()
    v.assign([2.0])
    assert held.tolist() == array.tolist() == [1.0]


def test_assigning_casts_to_the_cells_dtype():
    v = pe.Variable([1, 2])
    v.assign(pe.asarray([1.9, -1.9]))
    assert v.dtype is pe.int64
    assert v.tolist() == [1, -1]
    w = pe.Variable(1.0, dtype="float64")
    w.assign(0.1)
    assert w.item() == 0.1


def test_augmented_assignment_changes_the_cell():
    v = alias = pe.Variable(8.0)
    v += 2.0
    v *= 3.0
    v -= 6.0
    v /= 4.0
    assert v is alias
    assert float(v) == 6.0


def test_a_variable_is_no_longer_than_its_numbers():
    scalar = pe.Variable(3)
    assert int(scalar) == 3
    assert bool(scalar)
    assert f"{pe.Variable(1.5):.2f}" == "1.50"
    assert list(range(5))[scalar] == 3
    with pytest.raises(TypeError, match="no length"):
        len(scalar)


def test_a_variable_becomes_an_array():
    v = pe.Variable([1.0, 2.0])
    np.testing.assert_array_equal(np.asarray(v), [1.0, 2.0])
    assert np.asarray(v, dtype=np.float64).dtype == np.float64
    assert pe.asarray(v).tolist() == [1.0, 2.0]


def test_a_variable_may_start_from_a_tensor_an_array_or_a_variable():
    t = pe.asarray([1.0, 2.0])
    for start in (t, np.array([1.0, 2.0], np.float32), pe.Variable(t), [1.0, 2.0]):
        v = pe.Variable(start)
        v += 1.0
        assert v.tolist() == [2.0, 3.0]
    assert t.tolist() == [1.0, 2.0]
    stretched = pe.Variable(pe.broadcast_to(t, (2, 2)).T)
    assert stretched.tolist() == [[1.0, 1.0], [2.0, 2.0]]


def test_variables_are_told_apart_by_identity():
    a, b = pe.Variable(1.0), pe.Variable(1.0)
    assert {a: "a", b: "b"}[b] == "b"
    assert bool(a == b)
    assert a in [a]


def test_variables_made_on_one_engine_work_on_the_other():
    with pe.device("reference"):
        v = pe.Variable([1.0, 2.0])
    with pe.device("cpu"):
        v += 1.0
        assert (v * 2.0).tolist() == [4.0, 6.0]
