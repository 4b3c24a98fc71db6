"""How good is a model, in numbers that people read? Accuracies, and tables of what is mixed up."""

from pellucid.metrics.classification import (
    METRICS,
    Metric,
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
    "Metric",
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "find_metric",
    "top_k_accuracy",
]
