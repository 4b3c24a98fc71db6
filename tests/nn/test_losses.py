"""Do losses give their formulas, and gradients that can be used?"""

from __future__ import annotations

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn

SCORES = np.random.default_rng(0).normal(size=(4, 3))
LABELS = np.array([0, 2, 1, 1])


def by_hand(scores: np.ndarray, labels: np.ndarray) -> float:
    likely = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return float(-likely[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_cross_entropy_is_the_mean_negative_log_likelihood(dtype: str):
    found = nn.losses.cross_entropy(SCORES, pe.asarray(LABELS.astype(dtype)))
    assert found.shape == ()
    assert float(found) == pytest.approx(by_hand(SCORES, LABELS), rel=1e-12)


def test_cross_entropy_takes_probabilities():
    found = nn.losses.cross_entropy(SCORES, np.eye(3)[LABELS])
    assert float(found) == pytest.approx(by_hand(SCORES, LABELS), rel=1e-12)


def test_cross_entropy_over_several_batch_axes():
    found = nn.losses.cross_entropy(SCORES.reshape(2, 2, 3), LABELS.reshape(2, 2))
    assert float(found) == pytest.approx(by_hand(SCORES, LABELS), rel=1e-12)


def test_the_gradient_of_cross_entropy_is_softmax_minus_the_label():
    found = pe.grad(lambda s: nn.losses.cross_entropy(s, LABELS))(SCORES)
    raised = np.exp(SCORES)
    expected = (raised / raised.sum(-1, keepdims=True) - np.eye(3)[LABELS]) / 4
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-15)


def test_large_scores_do_not_overflow():
    scores = pe.asarray([[1e4, -1e4], [-1e30, 1e30]])
    assert float(nn.losses.cross_entropy(scores, pe.asarray([0, 1]))) == 0.0
    assert float(nn.losses.cross_entropy(scores, pe.asarray([1, 1]))) == 1e4


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_label_that_is_no_class_is_an_error_and_in_compiled_code_nan(label: int):
    labels = pe.asarray([0, 1, label, 2])
    with pytest.raises(
        pe.OpIndexError, match=rf"label {label} at \[2\] is out of range: exp.* 0 to 2"
    ):
        nn.losses.cross_entropy(SCORES, labels)
    assert np.isnan(float(pe.jit(nn.losses.cross_entropy)(SCORES, labels)))


def test_labels_beyond_a_small_dtype_are_judged_rightly():
    scores = np.zeros((1, 300))
    for label in (0, 255):
        found = nn.losses.cross_entropy(scores, pe.asarray(np.array([label], np.uint8)))
        assert float(found) == pytest.approx(np.log(300.0))


def test_scores_without_a_class_axis_are_an_error():
    with pytest.raises(pe.OpShapeError, match="expected a class axis"):
        nn.losses.cross_entropy(pe.asarray(1.0), pe.asarray(0))


def test_mse_is_the_mean_square():
    assert float(nn.losses.mse([1.0, 2.0, 5.0], [1.0, 4.0, 1.0])) == pytest.approx(20 / 3)
    with pytest.raises(pe.OpShapeError, match=r"mse: the shapes differ, \(2,\) and \(2, 1\)"):
        nn.losses.mse(pe.ones((2,)), pe.ones((2, 1)))
