"""How often is a classifier right, and what does it take for what?

The accuracies are functions of (scores, labels) to a scalar Tensor, so that a compiled step can
compute them; the confusion matrix is a NumPy table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import float32, int64
from pellucid.core.error import DataError, OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.tensor import arithmetic as pe
from pellucid.tensor.reducing import argmax, mean, places
from pellucid.tensor.reducing import sum as sum_over
from pellucid.tensor.shaping import broadcast_to, expand_dims
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor

Metric = Callable[[Any, Any], Tensor]


def accuracy(scores: Operand, labels: Operand) -> Tensor:
    """The share of rows whose largest score is at the label; the first one where scores tie.

    `scores` (..., classes) are logits or probabilities; `labels` are integers (...), or
    probabilities of the shape of the scores, of which the largest counts. Raises OpShapeError.

    >>> print(accuracy([[0.1, 0.9], [0.8, 0.2]], as_tensor([1, 1])))
    0.5
    """
    found, wanted = _classes("accuracy", scores, labels)
    return _share("accuracy", pe.equal(argmax(found, axis=-1), wanted))


def top_k_accuracy(k: int) -> Metric:
    """The share of rows whose label is among the `k` largest scores, as a function like `accuracy`.

    Of equal scores the first ones are taken, so that `top_k_accuracy(1)` is `accuracy`.

    >>> print(top_k_accuracy(2)([[0.1, 0.5, 0.4]], as_tensor([2])))
    1.0
    """
    if k < 1:
        raise StateError(f"top_k_accuracy: expected k of at least 1, got {k}")

    def metric(scores: Operand, labels: Operand) -> Tensor:
        found, wanted = _classes("top_k_accuracy", scores, labels)
        classes = places(found.shape, found.ndim - 1)
        label = broadcast_to(expand_dims(wanted, axis=-1), found.shape)
        chosen = pe.where(pe.equal(classes, label), found, 0.0)
        own = broadcast_to(sum_over(chosen, axis=-1, keepdims=True), found.shape)
        tied = pe.logical_and(pe.equal(found, own), pe.less(classes, label))
        ahead = sum_over(pe.logical_or(pe.less(own, found), tied), axis=-1)
        return _share("top_k_accuracy", pe.less(ahead, k))

    metric.__name__ = f"top_{k}_accuracy"
    return metric


def binary_accuracy(logits: Operand, targets: Operand) -> Tensor:
    """The share of elements where the logit is above 0 just when the target is above 1/2.

    >>> print(binary_accuracy([2.0, -1.0, 3.0, -0.5], [1.0, 0.0, 0.0, 0.0]))
    0.75
    """
    found, wanted = as_tensor(logits), as_tensor(targets)
    if found.shape != wanted.shape:
        raise OpShapeError(
            f"binary_accuracy: the shapes differ, {shape_text(found.shape)} and "
            f"{shape_text(wanted.shape)}{at_line(user_source())}"
        )
    hits = pe.equal(pe.less(0.0, found), pe.less(0.5, pe.astype(wanted, float32)))
    return _share("binary_accuracy", hits)


def confusion_matrix(scores: Any, labels: Any, classes: int) -> NDArray[np.int64]:
    """How often each label (row) was taken for each class (column), on the host.

    `scores` are (rows, classes), or the predicted classes (rows,) as integers. Raises OpShapeError
    where the lengths differ, StateError on a class out of range.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    found, wanted = np.asarray(scores), np.asarray(labels)
    if found.ndim == 2:
        found = found.argmax(axis=-1)
    if found.shape != wanted.shape or found.ndim != 1:
        raise OpShapeError(
            f"confusion_matrix: expected (rows,) of both, got {shape_text(found.shape)} and "
            f"{shape_text(wanted.shape)}{at_line(user_source())}"
        )
    for name, values in (("class", found), ("label", wanted)):
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise StateError(
                f"confusion_matrix: expected each {name} from 0 to {classes - 1}, got "
                f"{values.min()} to {values.max()}"
            )
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (wanted, found), 1)
    return table


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "binary_accuracy": binary_accuracy,
    "top_5_accuracy": top_k_accuracy(5),
}


def find_metric(spec: str | Metric) -> tuple[str, Metric]:
    """The metric of this name, or the function itself, and what it is called."""
    if callable(spec):
        return getattr(spec, "__name__", type(spec).__name__), spec
    if spec not in METRICS:
        raise StateError(f"no metric is called {spec!r}; there are {', '.join(METRICS)}")
    return spec, METRICS[spec]


def _classes(name: str, scores: Operand, labels: Operand) -> tuple[Tensor, Tensor]:
    """The scores, and the label of each row as int64."""
    found, wanted = as_tensor(scores), as_tensor(labels)
    if found.ndim and wanted.dtype.is_floating and wanted.shape == found.shape:
        return found, argmax(wanted, axis=-1)
    if found.ndim == 0 or wanted.shape != found.shape[:-1]:
        raise OpShapeError(
            f"{name}: expected scores (..., classes) and labels (...), got "
            f"{shape_text(found.shape)} and {shape_text(wanted.shape)}{at_line(user_source())}"
        )
    return found, pe.astype(wanted, int64)


def _share(name: str, hits: Tensor) -> Tensor:
    if not hits.size:
        raise DataError(f"{name}: the batch is empty, it has no share{at_line(user_source())}")
    return mean(pe.astype(hits, float32))
