"""What are models made of? Modules that hold Parameters; activations, losses, initialisers."""

from pellucid.nn import initializers, losses
from pellucid.nn.activations import (
    elu,
    gelu,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    identity,
    leaky_relu,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from pellucid.nn.attention import Embedding, MultiHeadAttention, attention
from pellucid.nn.layers import Dense, Dropout, Flatten, Sequential
from pellucid.nn.module import Module, merge, split
from pellucid.nn.norms import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pellucid.nn.state import load_weights, save_weights
from pellucid.nn.summary import Summary, summary

__all__ = [
    "BatchNorm",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "LayerNorm",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "Sequential",
    "Summary",
    "attention",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "identity",
    "initializers",
    "leaky_relu",
    "load_weights",
    "log_softmax",
    "losses",
    "merge",
    "mish",
    "relu",
    "relu6",
    "save_weights",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "split",
    "summary",
    "tanh",
]
