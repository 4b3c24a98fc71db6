"""Do first values have the spread that was promised?"""

from __future__ import annotations

import math

import numpy as np
import pytest

import pellucid as pe
from pellucid.nn.initializers import (
    INITIALIZERS,
    constant,
    find_initializer,
    orthogonal,
    truncated_normal,
)

VARIANCES = {
    "zeros": 0.0,
    "ones": 0.0,
    "glorot_uniform": 2 / 500,
    "glorot_normal": 2 / 500,
    "lecun_uniform": 1 / 200,
    "lecun_normal": 1 / 200,
    "he_uniform": 2 / 200,
    "he_normal": 2 / 200,
    "truncated_normal": (0.02 * 0.87962566) ** 2,
    "orthogonal": 1 / 300,
}


def test_every_named_initializer_has_its_variance():
    assert set(VARIANCES) == set(INITIALIZERS)


@pytest.mark.parametrize("name", VARIANCES)
def test_the_variance_is_the_one_promised(name: str):
    pe.random.seed(0)
    drawn = np.asarray(find_initializer(name)((200, 300), 200, 300, pe.float32))
    assert drawn.var() == pytest.approx(VARIANCES[name], rel=0.03)
    if name != "ones":
        assert abs(drawn.mean()) < 4 * math.sqrt(VARIANCES[name] / drawn.size) + 1e-12


def test_a_truncated_normal_stays_within_two_deviations():
    pe.random.seed(0)
    drawn = np.asarray(truncated_normal(0.5)((100_000,), 1, 1, pe.float32))
    assert abs(drawn).max() <= 1.0
    assert abs(drawn).max() > 0.999


@pytest.mark.parametrize("dtype", [pe.bfloat16, pe.float64])
def test_the_dtype_is_the_one_asked_for(dtype: pe.DType):
    assert truncated_normal()((3,), 1, 1, dtype).dtype is dtype
    assert constant(0.5)((3,), 1, 1, dtype).dtype is dtype


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (2, 3, 4), (4,), (1, 1), (0, 3)])
def test_an_orthogonal_matrix_is_one_over_all_axes_but_the_last(shape: tuple[int, ...]):
    drawn = np.asarray(orthogonal(shape, 1, 1, pe.float64))
    assert drawn.shape == shape
    matrix = drawn.reshape(-1, shape[-1])
    short = matrix if len(matrix) < shape[-1] else matrix.T
    np.testing.assert_allclose(short @ short.T, np.eye(len(short)), atol=1e-14)


def test_an_orthogonal_matrix_has_the_same_bits_on_any_number_of_threads():
    def drawn(threads: int) -> bytes:
        pe.random.seed(3)
        pe.set_threads(threads)
        return np.asarray(orthogonal((40, 40), 1, 1, pe.float32)).tobytes()

    before = pe.get_threads()
    try:
        assert drawn(1) == drawn(3)
    finally:
        pe.set_threads(before)


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(pe.StateError, match="std above 0"):
        truncated_normal(0.0)
