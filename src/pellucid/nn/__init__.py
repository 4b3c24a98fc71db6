"""What are models made of? Modules that hold Parameters: layers, activations, losses."""

from __future__ import annotations

from typing import NoReturn

from pellucid.nn import initializers, losses
from pellucid.nn.activations import identity, log_softmax, relu, sigmoid, silu, softmax, tanh
from pellucid.nn.layers import Dense, Dropout, Flatten, Sequential
from pellucid.nn.module import Module, merge, split

__all__ = [
    "Dense",
    "Dropout",
    "Flatten",
    "Module",
    "Sequential",
    "identity",
    "initializers",
    "log_softmax",
    "losses",
    "merge",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "split",
    "tanh",
]

_REWRITES = {
    "CrossEntropyLoss": "nn.losses.cross_entropy(logits, labels)",
    "Linear": "nn.Dense(units); the number of features is found at the first call",
    "MSELoss": "nn.losses.mse(predictions, targets)",
    "Parameter": "pe.Parameter(value)",
    "ReLU": "nn.relu, or activation='relu' in nn.Dense",
    "Sigmoid": "nn.sigmoid",
    "Softmax": "nn.softmax",
    "Tanh": "nn.tanh",
    "functional": "nn.relu, nn.softmax and the others, which are in nn itself",
}


def __getattr__(name: str) -> NoReturn:
    hint = f"; write {_REWRITES[name]}" if name in _REWRITES else ""
    raise AttributeError(f"module 'pellucid.nn' has no attribute {name!r}{hint}")
