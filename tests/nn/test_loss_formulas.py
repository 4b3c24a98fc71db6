"""Do the losses have the values of their formulas, and stay float32 whatever the data is?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.nn.differences import assert_gradient_is_the_difference

losses = nn.losses
RNG = np.random.default_rng(2)
LOGITS = RNG.normal(size=(4, 3)) * 3
LABELS = np.array([0, 2, 1, 1])
CHANCES = RNG.dirichlet(np.ones(3), 4)
BITS = RNG.integers(0, 2, (4, 3)).astype(float)


def log_softmax(x: Any) -> Any:
    """The direct form."""
    return np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))


def huber(d: Any, delta: float) -> Any:
    """Huber's two pieces."""
    return np.where(abs(d) <= delta, d * d / 2, delta * (abs(d) - delta / 2))


P = 1 / (1 + np.exp(-LOGITS))
CASES: dict[str, tuple[Any, Any]] = {
    "labels": (
        lambda x: losses.cross_entropy(x, LABELS),
        -log_softmax(LOGITS)[range(4), LABELS].mean(),
    ),
    "smoothed": (
        lambda x: losses.cross_entropy(x, LABELS, label_smoothing=0.2),
        -(0.8 * log_softmax(LOGITS)[range(4), LABELS] + 0.2 * log_softmax(LOGITS).mean(-1)).mean(),
    ),
    "smoothed probabilities": (
        lambda x: losses.cross_entropy(x, CHANCES, label_smoothing=0.2),
        -((0.8 * CHANCES + 0.2 / 3) * log_softmax(LOGITS)).sum(-1).mean(),
    ),
    "binary": (
        lambda x: losses.binary_cross_entropy(x, BITS),
        -(BITS * np.log(P) + (1 - BITS) * np.log(1 - P)).mean(),
    ),
    "mse": (lambda x: losses.mse(x, CHANCES), ((LOGITS - CHANCES) ** 2).mean()),
    "mae": (lambda x: losses.mae(x, CHANCES), abs(LOGITS - CHANCES).mean()),
    "huber": (
        lambda x: losses.huber(x, CHANCES, delta=0.7),
        huber(LOGITS - CHANCES, 0.7).mean(),
    ),
    "kl": (
        lambda x: losses.kl_divergence(x, CHANCES),
        (CHANCES * (np.log(CHANCES) - log_softmax(LOGITS))).sum(-1).mean(),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_has_the_value_of_its_formula(name: str):
    loss, expected = CASES[name]
    assert float(loss(pe.asarray(LOGITS))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_derivative_is_the_difference(name: str):
    assert_gradient_is_the_difference(CASES[name][0], LOGITS)


@pytest.mark.parametrize("name", CASES)
def test_float64_targets_do_not_widen_a_float32_loss(name: str):
    assert CASES[name][0](pe.asarray(LOGITS.astype(np.float32))).dtype is pe.float32


def test_far_logits_overflow_nowhere():
    logits = pe.asarray(np.array([-1e30, 1e30, 200.0], np.float32))
    assert float(losses.binary_cross_entropy(logits, [0.0, 1.0, 1.0])) == 0.0
    gradient = pe.grad(lambda x: losses.binary_cross_entropy(x, [1.0, 0.0, 0.0]))(logits)
    np.testing.assert_allclose(np.asarray(gradient), np.array([-1.0, 1.0, 1.0]) / 3, rtol=1e-6)


def test_bools_are_binary_targets():
    found = losses.binary_cross_entropy(pe.asarray([0.3, -0.2]), np.array([True, False]))
    expected = losses.binary_cross_entropy(pe.asarray([0.3, -0.2]), [1.0, 0.0])
    assert float(found) == float(expected)


def test_a_probability_of_zero_adds_nothing_to_the_divergence():
    target = np.array([[1.0, 0.0]])
    loss = lambda x: losses.kl_divergence(x, target)  # noqa: E731
    assert float(loss(pe.asarray([[2.0, 2.0]]))) == pytest.approx(np.log(2))
    assert_gradient_is_the_difference(loss, [[0.3, -1.0]])


@pytest.mark.parametrize("name", ["binary_cross_entropy", "mse", "mae", "huber", "kl_divergence"])
def test_shapes_that_differ_are_refused(name: str):
    with pytest.raises(pe.OpShapeError, match=rf"{name}: the shapes differ, \(2, 3\) and \(2,\)"):
        getattr(losses, name)(pe.zeros((2, 3)), pe.zeros((2,)))


def test_settings_out_of_range_are_refused():
    with pytest.raises(pe.StateError, match="label_smoothing"):
        losses.cross_entropy(pe.zeros((1, 2)), [0], label_smoothing=1.5)
    with pytest.raises(pe.StateError, match="delta"):
        losses.huber([1.0], [1.0], delta=0.0)


@pytest.mark.peer
def test_torch_s_losses_and_their_gradients_are_the_same():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    chances, bits, labels = map(torch.from_numpy, (CHANCES, BITS, LABELS))
    theirs = {
        "labels": lambda x: f.cross_entropy(x, labels),
        "smoothed": lambda x: f.cross_entropy(x, labels, label_smoothing=0.2),
        "smoothed probabilities": lambda x: f.cross_entropy(x, chances, label_smoothing=0.2),
        "binary": lambda x: f.binary_cross_entropy_with_logits(x, bits),
        "mse": lambda x: f.mse_loss(x, chances),
        "mae": lambda x: f.l1_loss(x, chances),
        "huber": lambda x: f.huber_loss(x, chances, delta=0.7),
        "kl": lambda x: f.kl_div(f.log_softmax(x, -1), chances, reduction="batchmean"),
    }
    assert set(theirs) == set(CASES)
    for name, loss in theirs.items():
        x = torch.tensor(LOGITS, requires_grad=True)
        expected = loss(x)
        expected.backward()
        found, gradient = pe.value_and_grad(CASES[name][0])(pe.asarray(LOGITS))
        assert float(found) == pytest.approx(expected.item(), rel=1e-12), name
        np.testing.assert_allclose(np.asarray(gradient), x.grad.numpy(), rtol=1e-9, atol=1e-14)
