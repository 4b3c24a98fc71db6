"""What are models made of? Modules that hold Parameters: layers, activations, losses."""

from __future__ import annotations

from typing import NoReturn

from pellucid.nn import functional, initializers, losses
from pellucid.nn.activations import identity, log_softmax, relu, sigmoid, silu, softmax, tanh
from pellucid.nn.convolutions import (
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from pellucid.nn.layers import Dense, Dropout, Flatten, Sequential
from pellucid.nn.module import Module, merge, split

__all__ = [
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "Dropout",
    "Flatten",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "Module",
    "Sequential",
    "functional",
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
