"""What is made small? A loss by its name or as a function, and what it is given: mostly logits.

Losses of probabilities take logits here. A model that ends in the softmax (or, for the binary loss,
the sigmoid) is asked for what it computes before that, and the history says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.core.error import StateError
from pellucid.metrics.classification import Metric, binary_accuracy, find_metric
from pellucid.nn import losses
from pellucid.nn.activations import sigmoid, softmax
from pellucid.nn.layers import Dense, Sequential
from pellucid.nn.module import Module
from pellucid.optim.adam import Adam, AdamW
from pellucid.optim.optimizer import Optimizer
from pellucid.optim.sgd import SGD
from pellucid.tensor.tensor import Tensor

Loss = Callable[[Any, Any], Tensor]
Function = Callable[[Any], Any]

LOSSES: dict[str, Loss] = {
    "cross_entropy": losses.cross_entropy,
    "binary_cross_entropy": losses.binary_cross_entropy,
    "kl_divergence": losses.kl_divergence,
    "mse": losses.mse,
    "mae": losses.mae,
    "huber": losses.huber,
    # As Keras spells them.
    "sparse_categorical_crossentropy": losses.cross_entropy,
    "categorical_crossentropy": losses.cross_entropy,
    "binary_crossentropy": losses.binary_cross_entropy,
    "mean_squared_error": losses.mse,
    "mean_absolute_error": losses.mae,
}

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
}

# Which activation at the end of a model a loss does without.
_UNDONE: dict[Loss, tuple[str, Function]] = {
    losses.cross_entropy: ("softmax", softmax),
    losses.kl_divergence: ("softmax", softmax),
    losses.binary_cross_entropy: ("sigmoid", sigmoid),
}


@dataclass(frozen=True)
class Objective:
    """`scores(x)` is what the model gives to the loss and to the metrics."""

    loss: Loss
    scores: Function
    metrics: tuple[tuple[str, Metric], ...]
    notes: tuple[str, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        """What each step measures, by name."""
        return "loss", *(name for name, _ in self.metrics)


def find_objective(model: Module, loss: str | Loss, metrics: Sequence[str | Metric]) -> Objective:
    """The loss, the metrics and what they are given; raises StateError on unknown names."""
    found = _find_loss(loss)
    named = tuple(_find_metric(one, found) for one in metrics)
    name, activation = _UNDONE.get(found, ("", None))
    if activation is None or not _ends_in(model, activation):
        return Objective(found, model, named, ())
    note = f"the model ends in {name}: the loss and the metrics are given its logits"
    return Objective(found, _before(model, activation), named, (note,))


def find_optimizer(
    spec: str | Optimizer | Callable[[Module], Optimizer], model: Module
) -> Optimizer:
    """The optimizer itself, a new one of this name, or what `spec(model)` gives.

    Raises StateError on unknown names.
    """
    if isinstance(spec, Optimizer):
        return spec
    make = OPTIMIZERS.get(spec.lower()) if isinstance(spec, str) else spec
    made = make(model) if callable(make) else None
    if not isinstance(made, Optimizer):
        raise StateError(
            f"no optimizer is called {spec!r}; there are {', '.join(OPTIMIZERS)}\n"
            "  or give one: optimizer=optim.SGD(model, 0.1, momentum=0.9)"
        )
    return made


def _find_loss(spec: str | Loss) -> Loss:
    if callable(spec):
        return spec
    if spec not in LOSSES:
        raise StateError(f"no loss is called {spec!r}; there are {', '.join(LOSSES)}")
    return LOSSES[spec]


def _find_metric(spec: str | Metric, loss: Loss) -> tuple[str, Metric]:
    # Yes-or-no targets have one logit each, not one for each class.
    if spec == "accuracy" and loss is losses.binary_cross_entropy:
        return "accuracy", binary_accuracy
    return find_metric(spec)


def _before(model: Module, activation: Function) -> Function:
    """What the model computes before its last activation; found anew at each call."""

    def scores(x: Any) -> Any:
        *inner, last = _in_a_row(model)
        for layer in inner:
            x = layer(x)
        return x if last is activation else last.scores(x)

    return scores


def _ends_in(model: Module, activation: Function) -> bool:
    layers = _in_a_row(model)
    if not layers:
        return False
    last = layers[-1]
    return last is activation or (type(last) is Dense and last.activation is activation)


def _in_a_row(model: Any) -> list[Any]:
    """The layers of a Sequential and of those in it; a model of another class is one layer."""
    if type(model) is not Sequential:
        return [model]
    return [part for layer in model for part in _in_a_row(layer)]
