"""Do first values have the spread that was promised?"""

from __future__ import annotations

import math

import numpy as np
import pytest

import pellucid as pe
from pellucid.nn.initializers import INITIALIZERS, constant, find_initializer, truncated_normal

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


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(pe.StateError, match="std above 0"):
        truncated_normal(0.0)
