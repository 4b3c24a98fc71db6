"""What are models made of? Modules that hold Parameters, layers, activations, initialisers, losses."""

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
