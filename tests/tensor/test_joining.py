"""Do the functions that join, cut and repeat agree with NumPy's, eager and compiled?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe

X = np.arange(60, dtype=np.float32).reshape(3, 4, 5) - 7

PAIRS: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
    (lambda t: pe.concat([t, t * 2], axis=-1), lambda x: np.concatenate([x, x * 2], -1)),
    (lambda t: pe.concat([t, t], axis=None), lambda x: np.concatenate([x, x], None)),
    (lambda t: pe.stack([t, t * 2, t], axis=-1), lambda x: np.stack([x, x * 2, x], -1)),
    (lambda t: pe.unstack(t, axis=1)[2], lambda x: x[:, 2]),
    (lambda t: pe.split(t, 2, axis=1)[1], lambda x: np.split(x, 2, 1)[1]),
    (lambda t: pe.split(t, [1, 4], axis=2)[1], lambda x: np.split(x, [1, 4], 2)[1]),
    (lambda t: pe.flip(t), lambda x: np.flip(x)),
    (lambda t: pe.flip(t, axis=(0, 2)), lambda x: np.flip(x, (0, 2))),
    (lambda t: pe.roll(t, 7), lambda x: np.roll(x, 7)),
    (lambda t: pe.roll(t, (1, -2), axis=(0, 2)), lambda x: np.roll(x, (1, -2), (0, 2))),
    (lambda t: pe.pad(t, 1), lambda x: np.pad(x, 1)),
    (
        lambda t: pe.pad(t, ((1, 0), (0, 2), (1, 1)), constant_values=2),
        lambda x: np.pad(x, ((1, 0), (0, 2), (1, 1)), constant_values=2),
    ),
    (lambda t: pe.tile(t, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3))),
    (lambda t: pe.tile(t, (2, 1, 1, 1)), lambda x: np.tile(x, (2, 1, 1, 1))),
    (lambda t: pe.tile(t, 2), lambda x: np.tile(x, 2)),
    (lambda t: pe.repeat(t, 2, axis=1), lambda x: np.repeat(x, 2, 1)),
    (lambda t: pe.repeat(t, [0, 1, 2, 1], axis=1), lambda x: np.repeat(x, [0, 1, 2, 1], 1)),
    (lambda t: pe.repeat(t, 3), lambda x: np.repeat(x, 3)),
]


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_it_is_numpys_eager_and_compiled(number: int):
    function, wanted = PAIRS[number]
    assert np.array_equal(np.asarray(function(pe.asarray(X))), wanted(X))
    assert np.array_equal(np.asarray(pe.jit(function)(pe.asarray(X))), wanted(X))


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_its_gradient_is_the_same_compiled_and_counts_every_copy(number: int):
    function, wanted = PAIRS[number]
    slope = pe.grad(lambda t: pe.sum(function(t)))
    eager = np.asarray(slope(pe.asarray(X)))
    constants = float(np.sum(wanted(X)) - np.sum(eager * X))
    # Linear in x, but for the constant that a pad puts in.
    assert constants == pytest.approx(float(np.sum(wanted(np.zeros_like(X)))), abs=1e-2)
    assert np.array_equal(np.asarray(pe.jit(slope)(pe.asarray(X))), eager)


def test_joined_dtypes_meet():
    assert pe.concat([pe.asarray([1]), pe.asarray([0.5])]).dtype is pe.float32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda t: pe.concat([]), "concat: expected at least one array"),
        (lambda t: pe.concat([t, t[0]]), "concat: sizes beside axis 0 differ"),
        (lambda t: pe.concat([t, t[:, 1:]]), "concat: sizes beside axis 0 differ"),
        (lambda t: pe.stack([t, t[1:]]), "stack: the shapes differ"),
        (lambda t: pe.split(t, 5, axis=1), "split: an axis of size 4 has no 5 equal parts"),
        (lambda t: pe.pad(t, -1), "pad: expected numbers from 0"),
        (lambda t: pe.pad(t, (1, 2, 3)), "pad: expected numbers from 0"),
        (lambda t: pe.repeat(t, [1], axis=1), "repeat: expected 4 numbers"),
        (lambda t: pe.roll(t, (1, 2), axis=0), "roll: expected a shift for each axis"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: Callable[[pe.Tensor], Any], message: str):
    with pytest.raises(pe.OpShapeError, match=message):
        wrong(pe.asarray(X))


@pytest.mark.parametrize("count", [511, 512, 513, 1500])
def test_any_number_of_arrays_are_joined(count: int):
    single = [pe.asarray(np.full(2, number, np.float32)) for number in range(count)]
    wanted = np.repeat(np.arange(count, dtype=np.float32), 2)
    assert np.array_equal(np.asarray(pe.concat(single)), wanted)
    assert np.array_equal(np.asarray(pe.stack(single)), wanted.reshape(count, 2))
