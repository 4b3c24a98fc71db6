"""What are models made of? Modules that hold Parameters, layers, activations, initialisers, losses."""

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
