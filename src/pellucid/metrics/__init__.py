"""How good is a model, in numbers that people read? Accuracies, and tables of what is mixed up."""

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
