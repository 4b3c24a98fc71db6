"""How wrong is a prediction? Scalars to be made small, averaged over the batch.

Each raises DataError where the batch is empty: its mean would be NaN, and so what learns from it.
"""

from __future__ import annotations

from typing import NoReturn

from pellucid.core.dtype import int64
from pellucid.core.error import DataError, OpShapeError, OpTypeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.core.spelling import unknown_name
from pellucid.nn.activations import log_softmax, softplus
from pellucid.nn.numbered import nan_where_out_of_range, require_in_range
from pellucid.nn.spellings import LOSSES
from pellucid.tensor import arithmetic as pe
from pellucid.tensor.reducing import mean, places
from pellucid.tensor.reducing import sum as sum_over
from pellucid.tensor.rehearsed import rehearsed
from pellucid.tensor.shaping import broadcast_to, expand_dims
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


def cross_entropy(logits: Operand, labels: Operand, *, label_smoothing: float = 0.0) -> Tensor:
    """The mean of -log softmax(logits) at the labels; takes logits, not probabilities.

    `logits` has shape (..., classes); `labels` are integers of shape (...), or probabilities of the
    same shape as the logits. An integer label that is no class is an OpIndexError; where labels are
    not known, in a compiled function, it makes the loss NaN. Smoothing by s takes 1 - s of the
    labels and spreads s evenly over the classes (Szegedy et al., CVPR 2016). Raises OpShapeError
    and OpTypeError where the two do not fit.

    >>> print(f"{cross_entropy([[0.0, 0.0]], as_tensor([1])):.4f}")
    0.6931
    """
    scores, target = pe.floating(as_tensor(logits)), as_tensor(labels)
    if scores.ndim == 0:
        raise OpShapeError(f"cross_entropy: expected a class axis{at_line(user_source())}")
    likely = log_softmax(scores)
    if target.dtype.is_floating:
        found = sum_over(pe.multiply(likely, _probable(scores, target)), axis=-1)
    else:
        _require_labels(scores, target)
        # A small dtype may not count as far as there are classes.
        target = pe.astype(target, int64)
        way_out = "does the last layer have one unit for each class?"
        require_in_range("cross_entropy: the label", target, scores.shape[-1], way_out)
        found = _picked(likely, target)
        found = nan_where_out_of_range(found, target, scores.shape[-1])
    if label_smoothing:
        if not 0.0 < label_smoothing <= 1.0:
            raise StateError(
                f"cross_entropy: expected a label_smoothing from 0 to 1, got {label_smoothing}"
            )
        even = mean(likely, axis=-1)
        found = pe.add(
            pe.multiply(found, 1.0 - label_smoothing), pe.multiply(even, label_smoothing)
        )
    return pe.negative(_averaged("cross_entropy", found))


def binary_cross_entropy(logits: Operand, targets: Operand) -> Tensor:
    """The mean of -t log(p) - (1 - t) log(1 - p) with p = sigmoid(logits); takes logits.

    Computed as softplus(x) - t x, which cannot overflow. `targets` are 0 and 1, bool, or
    probabilities, of the shape of the logits. Raises OpShapeError where the shapes differ.

    >>> print(f"{binary_cross_entropy([0.0, 3.0], [1.0, 1.0]):.4f}")
    0.3709
    """
    scores, target = _pair("binary_cross_entropy", logits, targets)
    each = pe.subtract(softplus(scores), pe.multiply(target, scores))
    return _averaged("binary_cross_entropy", each)


def mse(predictions: Operand, targets: Operand) -> Tensor:
    """The mean of the squared differences. Raises OpShapeError where the shapes differ.

    >>> print(mse([1.0, 2.0], [1.0, 4.0]))
    2.0
    """
    return _averaged("mse", pe.square(pe.subtract(*_pair("mse", predictions, targets))))


def mae(predictions: Operand, targets: Operand) -> Tensor:
    """The mean of the absolute differences. Raises OpShapeError where the shapes differ.

    >>> print(mae([1.0, 2.0], [1.0, 4.0]))
    1.0
    """
    return _averaged("mae", pe.absolute(pe.subtract(*_pair("mae", predictions, targets))))


def huber(predictions: Operand, targets: Operand, *, delta: float = 1.0) -> Tensor:
    """The mean of d**2 / 2 where |d| <= delta, else of delta * (|d| - delta / 2) (Huber, 1964).

    Raises OpShapeError where the shapes differ.

    >>> print(huber([0.5, 3.0], [0.0, 0.0]))
    1.3125
    """
    if not delta > 0:
        raise StateError(f"huber: expected a delta above 0, got {delta}")
    distance = pe.subtract(*_pair("huber", predictions, targets))
    far = pe.absolute(distance)
    curve = pe.multiply(pe.square(distance), 0.5)
    line = pe.multiply(pe.subtract(far, delta / 2), delta)
    return _averaged("huber", pe.where(pe.less_equal(far, delta), curve, line))


def kl_divergence(logits: Operand, targets: Operand) -> Tensor:
    """The mean over the batch of sum t * (log t - log softmax(logits)); takes logits.

    How far softmax(logits) is from the probabilities `targets` of the same shape, (..., classes);
    where t is 0 nothing is added. Raises OpShapeError where the shapes differ.

    >>> print(f"{kl_divergence([[0.0, 0.0]], [[1.0, 0.0]]):.4f}")
    0.6931
    """
    scores, target = _pair("kl_divergence", logits, targets)
    if scores.ndim == 0:
        raise OpShapeError(f"kl_divergence: expected a class axis{at_line(user_source())}")
    none = pe.less_equal(target, 0.0)
    surprise = pe.multiply(target, pe.log(pe.where(none, 1.0, target)))
    each = pe.subtract(surprise, pe.multiply(target, log_softmax(scores)))
    return _averaged("kl_divergence", sum_over(each, axis=-1))


def _averaged(name: str, each: Tensor) -> Tensor:
    """The mean over the batch; raises DataError where there is nothing in it."""
    if not each.size:
        raise DataError(
            f"{name}: the batch is empty, and nothing has no mean{at_line(user_source())}\n"
            "  leave out batches without rows"
        )
    return mean(each)


def _pair(name: str, predictions: Operand, targets: Operand) -> tuple[Tensor, Tensor]:
    """Both as Tensors of the predictions' floating dtype: the data never widens the model."""
    found, wanted = pe.floating(as_tensor(predictions)), as_tensor(targets)
    if found.shape != wanted.shape:
        raise OpShapeError(
            f"{name}: the shapes differ, {shape_text(found.shape)} and {shape_text(wanted.shape)}"
            f"{at_line(user_source())}"
        )
    return found, pe.astype(wanted, found.dtype)


def _require_labels(scores: Tensor, target: Tensor) -> None:
    if target.dtype.kind == "bool" or target.shape != scores.shape[:-1]:
        raise OpShapeError(
            f"cross_entropy: expected integer labels of shape {shape_text(scores.shape[:-1])} or "
            f"probabilities of shape {shape_text(scores.shape)}, got {target.layout.type}"
            f"{at_line(user_source())}"
        )


def _probable(scores: Tensor, target: Tensor) -> Tensor:
    if target.shape != scores.shape:
        raise OpTypeError(
            "cross_entropy: floating labels are probabilities of shape "
            f"{shape_text(scores.shape)}, got {target.layout.type}{at_line(user_source())}\n"
            "  did you mean labels.astype('int64') ?"
        )
    return pe.astype(target, scores.dtype)


@rehearsed
def _picked(likely: Tensor, labels: Tensor) -> Tensor:
    """The log-likelihood at each label."""
    wide = broadcast_to(expand_dims(labels, axis=-1), likely.shape)
    hit = pe.equal(wide, places(likely.shape, likely.ndim - 1))
    return sum_over(pe.where(hit, likely, 0.0), axis=-1)


def __getattr__(name: str) -> NoReturn:
    raise unknown_name("pellucid.nn.losses", name, LOSSES)
