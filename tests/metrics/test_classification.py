"""Do metrics count right, also where scores tie, and refuse what does not fit?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import metrics

RNG = np.random.default_rng(3)
SCORES = RNG.integers(0, 5, (50, 8)).astype(np.float32)  # whole numbers, so that many tie
LABELS = RNG.integers(0, 8, 50)


def ranked(k: int) -> float:
    """The share of labels among the k best scores, by a stable sort."""
    best = np.argsort(-SCORES, axis=1, kind="stable")[:, :k]
    return float((best == LABELS[:, None]).any(axis=1).mean())


def test_accuracy_counts_the_first_of_equal_scores():
    assert float(metrics.accuracy(SCORES, LABELS)) == pytest.approx(ranked(1))


@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_top_k_is_what_sorting_gives(k: int):
    assert float(metrics.top_k_accuracy(k)(SCORES, LABELS)) == pytest.approx(ranked(k))


def test_labels_may_be_probabilities():
    chances = np.eye(8)[LABELS]
    assert float(metrics.accuracy(SCORES, chances)) == pytest.approx(ranked(1))


def test_metrics_can_be_compiled():
    found = pe.jit(metrics.top_k_accuracy(3))(SCORES, LABELS)
    assert float(found) == float(metrics.top_k_accuracy(3)(SCORES, LABELS))


def test_binary_accuracy_takes_logits_and_bools():
    found = metrics.binary_accuracy([2.0, -2.0, 1.0], np.array([True, True, True]))
    assert float(found) == pytest.approx(2 / 3)


def test_the_confusion_matrix_counts_each_pair():
    table = metrics.confusion_matrix(SCORES, LABELS, 8)
    assert table.sum() == 50
    assert np.trace(table) / 50 == pytest.approx(ranked(1))
    assert table[LABELS[0], SCORES[0].argmax()] >= 1


def test_a_mean_weighs_batches_by_their_rows():
    mean = metrics.Mean()
    assert np.isnan(mean.value)
    for batch in (SCORES[:32], SCORES[32:]):
        mean.add(float(batch.mean()), len(batch))
    assert mean.value == pytest.approx(SCORES.mean())


def test_what_does_not_fit_is_named():
    with pytest.raises(pe.OpShapeError, match="accuracy: expected scores"):
        metrics.accuracy(SCORES, LABELS[:3])
    with pytest.raises(pe.OpShapeError, match="binary_accuracy: the shapes differ"):
        metrics.binary_accuracy([1.0], [1.0, 0.0])
    with pytest.raises(pe.StateError, match="each label from 0 to 6, got 0 to 7"):
        metrics.confusion_matrix(LABELS % 3, LABELS, 7)
    with pytest.raises(pe.OpShapeError, match="confusion_matrix"):
        metrics.confusion_matrix(SCORES, LABELS[:3], 8)
    with pytest.raises(pe.StateError, match="at least 1"):
        metrics.top_k_accuracy(0)
    with pytest.raises(pe.StateError, match="no metric is called 'acuracy'; there are accuracy"):
        metrics.find_metric("acuracy")


@pytest.mark.parametrize(
    "metric", [metrics.accuracy, metrics.binary_accuracy, metrics.top_k_accuracy(2)]
)
def test_an_empty_batch_has_no_accuracy(metric: Any):
    shape = (0,) if metric is metrics.binary_accuracy else (0, 3)
    with pytest.raises(pe.DataError, match="accuracy: the batch is empty"):
        metric(pe.zeros(shape), pe.zeros((0,), dtype="int64"))
