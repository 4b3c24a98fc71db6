"""How good is a model, in numbers that people read? Accuracies, and tables of what is mixed up."""

from __future__ import annotations

from typing import NoReturn

from pellucid.core.spelling import unknown_name as _unknown_name
from pellucid.metrics.classification import (
    METRICS,
    accuracy,
    binary_accuracy,
    confusion_matrix,
    find_metric,
    top_k_accuracy,
)
from pellucid.metrics.mean import Mean

__all__ = [
    "METRICS",
    "Mean",
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "find_metric",
    "top_k_accuracy",
]

_REWRITES = {
    "Accuracy": "metrics.accuracy",
    "BinaryAccuracy": "metrics.binary_accuracy",
    "CategoricalAccuracy": "metrics.accuracy",
    "SparseCategoricalAccuracy": "metrics.accuracy",
    "TopKCategoricalAccuracy": "metrics.top_k_accuracy(k)",
}


def __getattr__(name: str) -> NoReturn:
    raise _unknown_name("pellucid.metrics", name, _REWRITES)
