"""Do layers compute what they say, in their dtype, with shapes found at the first call?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn


@pytest.fixture(autouse=True)
def _seeded() -> None:
    pe.random.seed(0)


def test_dense_is_a_product_a_bias_and_an_activation():
    layer = nn.Dense(3, activation="tanh", bias_initializer="ones")
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    found = layer(x)
    expected = np.tanh(x @ np.asarray(layer.kernel) + 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_dense_without_a_bias():
    layer = nn.Dense(3, use_bias=False)
    layer(pe.ones((2, 4)))
    assert layer.bias is None
    assert [p.shape for p in layer.parameters()] == [(4, 3)]


def test_dense_over_one_vector_and_over_no_rows():
    layer = nn.Dense(3)
    assert layer(pe.ones((4,))).shape == (3,)
    assert layer(pe.ones((0, 4))).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dense_casts_to_its_own_dtype(dtype: str):
    layer = nn.Dense(3, dtype=dtype)
    for given in ("float64", "float32", "float16", "int32"):
        assert layer(pe.ones((2, 4), dtype=given)).dtype.name == dtype
    assert layer.kernel is not None
    assert layer.kernel.dtype.name == dtype


def test_dense_needs_a_unit_and_a_feature_axis():
    with pytest.raises(pe.StateError, match="expected at least 1 unit, got 0"):
        nn.Dense(0)
    with pytest.raises(pe.OpShapeError, match="expected a feature axis"):
        nn.Dense(2)(pe.asarray(1.0))


def test_unknown_names_are_errors_that_list_the_known_ones():
    with pytest.raises(
        pe.StateError, match="no activation is called 'rule'; there are linear, relu"
    ):
        nn.Dense(1, activation="rule")
    with pytest.raises(pe.StateError, match="no initializer is called 'he'; there are zeros"):
        nn.Dense(1, kernel_initializer="he")


def test_functions_serve_as_activation_and_initializer():
    layer = nn.Dense(
        2,
        activation=lambda x: x * 10.0,
        kernel_initializer=lambda shape, fan_in, fan_out, dtype: pe.full(
            shape, fan_in, dtype=dtype
        ),
    )
    assert layer(pe.ones((1, 3))).tolist() == [[90.0, 90.0]]


INITIALIZERS = {
    "glorot_uniform": lambda i, o: 2.0 / (i + o),
    "he_uniform": lambda i, o: 2.0 / i,
    "he_normal": lambda i, o: 2.0 / i,
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_have_the_stated_variance(name: str):
    layer = nn.Dense(200, kernel_initializer=name)
    layer(pe.ones((1, 300)))
    values = np.asarray(layer.kernel).astype(np.float64)
    assert values.mean() == pytest.approx(0.0, abs=1e-3)
    assert values.var() == pytest.approx(INITIALIZERS[name](300, 200), rel=0.03)


def test_dropout_zeroes_and_scales_while_training():
    x = np.asarray(nn.Dropout(0.25)(pe.ones((100, 100))))
    assert set(np.unique(x)) == {np.float32(0.0), np.float32(1.0) / np.float32(0.75)}
    assert (x == 0).mean() == pytest.approx(0.25, abs=0.02)


def test_dropout_does_nothing_in_evaluation_or_at_rate_zero():
    x = pe.ones((5,))
    assert nn.Dropout(0.5).eval()(x) is x
    assert nn.Dropout(0.0)(x) is x


def test_dropout_of_a_kept_element_passes_the_gradient():
    layer = nn.Dropout(0.5)
    w = pe.Parameter(np.ones(50, np.float32))
    y = layer(w)
    y.sum().backward()
    np.testing.assert_array_equal(w.grad, np.asarray(y))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_bad_rate_is_an_error(rate: float):
    with pytest.raises(pe.StateError, match="expected a rate from 0 to below 1"):
        nn.Dropout(rate)


def test_flatten_keeps_the_batch_axis():
    assert nn.Flatten()(pe.ones((2, 3, 4))).shape == (2, 12)
    assert nn.Flatten()(pe.ones((0, 3, 4))).shape == (0, 12)
    assert nn.Flatten()(pe.ones((5,))).shape == (5, 1)


def test_sequential_takes_a_list_or_the_layers():
    for model in (nn.Sequential([nn.relu, nn.Flatten()]), nn.Sequential(nn.relu, nn.Flatten())):
        assert model(pe.asarray([[-1.0, 2.0]])).tolist() == [[0.0, 2.0]]
        assert len(model) == 2
        assert list(model) == [model[0], model[1]]
    assert nn.Sequential()(3.0) == 3.0


def test_a_layer_can_be_added_by_either_name():
    model = nn.Sequential()
    model.add(nn.relu)
    model.append(nn.tanh)
    assert len(model) == 2


def test_what_is_no_layer_is_an_error():
    with pytest.raises(
        pe.StateError, match=r"expected layers or functions, got 3(.|\n)*nn\.Sequential"
    ):
        nn.Sequential([nn.Dense(1), 3])
    with pytest.raises(pe.StateError, match="expected layers or functions"):
        nn.Sequential().append("relu")


def softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


ACTIVATIONS = {
    "relu": (nn.relu, lambda x: np.maximum(x, 0)),
    "tanh": (nn.tanh, np.tanh),
    "sigmoid": (nn.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "silu": (nn.silu, lambda x: x / (1 + np.exp(-x))),
    "identity": (nn.identity, lambda x: x),
    "softmax": (nn.softmax, softmax),
    "log_softmax": (nn.log_softmax, lambda x: np.log(softmax(x))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas(name: str):
    function, formula = ACTIVATIONS[name]
    x = np.random.default_rng(0).normal(size=(3, 5)) * 3
    np.testing.assert_allclose(function(pe.asarray(x)), formula(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "log_softmax", "silu", "tanh"])
def test_activations_do_not_overflow(name: str):
    x = pe.asarray([[1000.0, -1000.0, 0.0]])
    assert np.isfinite(np.asarray(ACTIVATIONS[name][0](x))).all()


def test_relu_keeps_nan_and_has_no_gradient_at_zero():
    assert np.isnan(np.asarray(nn.relu(pe.asarray([np.nan])))).all()
    assert pe.grad(lambda x: nn.relu(x).sum())(pe.asarray([-1.0, 0.0, 2.0])).tolist() == [
        0.0,
        0.0,
        1.0,
    ]


def test_softmax_over_another_axis():
    x = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(nn.softmax(pe.asarray(x), axis=0), softmax(x.T).T, rtol=1e-12)
