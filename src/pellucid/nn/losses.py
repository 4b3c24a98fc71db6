"""How wrong is a prediction? Scalars to be made small, averaged over the batch."""

from __future__ import annotations

import math

from pellucid.core.dtype import int64
from pellucid.core.error import OpShapeError, OpTypeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn.activations import log_softmax
from pellucid.tensor import arithmetic as pe
from pellucid.tensor.reducing import mean, places
from pellucid.tensor.reducing import sum as sum_over
from pellucid.tensor.shaping import broadcast_to, expand_dims
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


def cross_entropy(logits: Operand, labels: Operand) -> Tensor:
    """The mean of -log softmax(logits) at the labels; takes logits, not probabilities.

    `logits` has shape (..., classes); `labels` are integers of shape (...), or probabilities of the
    same shape as the logits. An integer label that is no class makes the loss NaN. Raises
    OpShapeError and OpTypeError where the two do not fit.

    >>> print(f"{cross_entropy([[0.0, 0.0]], as_tensor([1])):.4f}")
    0.6931
    """
    scores, target = pe.floating(as_tensor(logits)), as_tensor(labels)
    if scores.ndim == 0:
        raise OpShapeError(f"cross_entropy: expected a class axis{at_line(user_source())}")
    likely = log_softmax(scores)
    if target.dtype.is_floating:
        return pe.negative(mean(sum_over(pe.multiply(likely, _probable(scores, target)), axis=-1)))
    if target.dtype.kind == "bool" or target.shape != scores.shape[:-1]:
        raise OpShapeError(
            f"cross_entropy: expected integer labels of shape {shape_text(scores.shape[:-1])} or "
            f"probabilities of shape {shape_text(scores.shape)}, got {target.layout.type}"
            f"{at_line(user_source())}"
        )
    return pe.negative(mean(_picked(likely, target)))


def mse(predictions: Operand, targets: Operand) -> Tensor:
    """The mean of the squared differences. Raises OpShapeError where the shapes differ.

    >>> print(mse([1.0, 2.0], [1.0, 4.0]))
    2.0
    """
    found, wanted = as_tensor(predictions), as_tensor(targets)
    if found.shape != wanted.shape:
        raise OpShapeError(
            f"mse: the shapes differ, {shape_text(found.shape)} and {shape_text(wanted.shape)}"
            f"{at_line(user_source())}"
        )
    return mean(pe.square(pe.subtract(found, wanted)))


def _probable(scores: Tensor, target: Tensor) -> Tensor:
    if target.shape != scores.shape:
        raise OpTypeError(
            "cross_entropy: floating labels are probabilities of shape "
            f"{shape_text(scores.shape)}, got {target.layout.type}{at_line(user_source())}\n"
            "  did you mean labels.astype('int64') ?"
        )
    return pe.astype(target, scores.dtype)


def _picked(likely: Tensor, labels: Tensor) -> Tensor:
    """The log-likelihood at each label, NaN where the label is no class."""
    shape, classes = likely.shape, likely.shape[-1]
    # A small dtype may not count as far as there are classes.
    labels = pe.astype(labels, int64)
    wide = broadcast_to(expand_dims(labels, axis=-1), shape)
    hit = pe.equal(wide, places(shape, likely.ndim - 1))
    found = sum_over(pe.where(hit, likely, 0.0), axis=-1)
    valid = pe.logical_and(pe.less_equal(0, labels), pe.less(labels, classes))
    return pe.where(valid, found, math.nan)
