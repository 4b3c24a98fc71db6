"""Are boxes at computed places read and written, and only they?"""

from __future__ import annotations

import numpy as np
import pytest

import pellucid as pe


def test_boxes_are_numpys_slices():
    x = np.arange(12.0).reshape(3, 4)
    found = pe.dynamic_slice(x, [1, pe.asarray(2)], [2, 2])
    np.testing.assert_array_equal(np.asarray(found), x[1:3, 2:4])
    put = x.copy()
    put[2:3, 1:3] = [[7, 8]]
    found = pe.dynamic_update_slice(x, [[7, 8]], [2, 1])
    np.testing.assert_array_equal(np.asarray(found), put)


def test_a_start_outside_moves_the_box_inside():
    x = np.arange(5)
    assert np.asarray(pe.dynamic_slice(x, [4], [3])).tolist() == [2, 3, 4]
    assert np.asarray(pe.dynamic_update_slice(x, [9, 9], [-1])).tolist() == [9, 9, 2, 3, 4]


def test_bad_boxes_are_named():
    with pytest.raises(pe.OpShapeError, match="expected as many axes"):
        pe.dynamic_update_slice(np.zeros((2, 2)), np.zeros(2), [0, 0])
    with pytest.raises(pe.OpShapeError, match="whole numbers as starts"):
        pe.dynamic_slice(np.zeros(3), [0.5], [1])
    with pytest.raises(pe.OpAxisError, match="expected 1 starts"):
        pe.dynamic_slice(np.zeros(3), [0, 0], [1])
    with pytest.raises(pe.OpShapeError, match="box that fits"):
        pe.dynamic_slice(np.zeros(3), [0], [4])


def test_a_variable_is_changed_in_place_and_what_somebody_holds_is_not():
    cell = pe.Variable(pe.zeros((1 << 10, 4)))

    @pe.jit
    def put(row: pe.Tensor, at: pe.Tensor) -> None:
        cell.assign(pe.dynamic_update_slice(cell.value, row, [at, 0]))

    wanted = np.zeros((1 << 10, 4), np.float32)
    for at in (0, 5, 1023):
        held = cell.value if at == 5 else None
        row = np.full((1, 4), at + 1.0, np.float32)
        put(row, at)
        if held is not None:
            np.testing.assert_array_equal(np.asarray(held), wanted)
        wanted[at] = row
        np.testing.assert_array_equal(np.asarray(cell.value), wanted)
    need = put.memory(np.zeros((1, 4), np.float32), 3)
    assert need.arena < 1 << 10


def test_what_is_written_over_is_not_copied():
    """A table that only this step makes is changed where it lies."""

    @pe.jit
    def step(x: pe.Tensor, at: pe.Tensor) -> pe.Tensor:
        put = pe.dynamic_update_slice(pe.exp(x), pe.ones((1, 64)), [at, 0])
        return pe.sum(put, axis=1)

    x = pe.ones((4096, 64))
    found = np.asarray(step(x, pe.asarray(7)))
    wanted = np.full(4096, 64 * np.e, np.float32)
    wanted[7] = 64.0
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert step.memory(x, pe.asarray(7)).arena < 1.5 * 4096 * 64 * 4
