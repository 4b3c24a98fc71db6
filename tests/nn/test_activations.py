"""Do activations have the values of their formulas, in float64, and the derivatives?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.nn.activations import ACTIVATIONS
from tests.nn.differences import assert_gradient_is_the_difference

# Away from the corners at 0, 1, 3 and 6.
POINTS = np.array([-40.0, -7.0, -3.5, -2.0, -0.7, -0.01, 0.02, 0.6, 1.5, 3.3, 6.5, 41.0])


def sigmoid(x: Any) -> Any:
    """The usual form, right where exp does not overflow."""
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: Any) -> Any:
    """The clipped line."""
    return np.clip(x / 6 + 0.5, 0, 1)


def softplus(x: Any) -> Any:
    """By NumPy's log1p."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


FORMULAS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "gelu": lambda x: x * np.array([math.erfc(-one / math.sqrt(2)) for one in x]) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": lambda x: x * hard_sigmoid(x),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "linear": lambda x: x,
    "softmax": lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
    "log_softmax": lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum()),
}


def test_every_named_activation_has_its_formula():
    assert set(FORMULAS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_has_the_values_of_its_formula(name: str):
    found = np.asarray(ACTIVATIONS[name](pe.asarray(POINTS)))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, FORMULAS[name](POINTS), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_derivative_is_the_difference(name: str):
    assert_gradient_is_the_difference(ACTIVATIONS[name], POINTS)


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"softmax", "log_softmax"}))
def test_large_numbers_overflow_nowhere_and_nan_stays(name: str):
    x = np.array([-3e38, -200.0, 200.0, np.nan], np.float32)
    found = np.asarray(ACTIVATIONS[name](pe.asarray(x)))
    if name not in ("gelu_tanh", "mish", "silu", "swish"):
        assert np.isfinite(found[:3]).all()
    assert np.isfinite(found[1:3]).all()
    assert np.isnan(found[3])
    assert found.dtype == np.float32


@pytest.mark.parametrize("name", ["elu", "softplus"])
def test_numbers_near_zero_keep_their_digits(name: str):
    # exp(x) - 1 and log(1 + exp(x)) would round to multiples of the last place of 1.
    x = np.array([-1e-7, -3e-9, -20.0, -80.0], np.float32)
    found = np.asarray(ACTIVATIONS[name](pe.asarray(x)))
    np.testing.assert_allclose(found, FORMULAS[name](x.astype(np.float64)), rtol=3e-7)


def test_slopes_are_chosen():
    assert float(nn.leaky_relu(-1.0, slope=0.3)) == pytest.approx(-0.3)
    assert float(nn.elu(-50.0, alpha=2.0)) == pytest.approx(-2.0)


def test_a_layer_takes_them_by_name():
    out = nn.Dense(3, activation="gelu", bias_initializer="ones")(pe.zeros((2, 4)))
    np.testing.assert_allclose(np.asarray(out), 0.8413447, rtol=1e-6)
