"""What are models made of? Modules that hold Parameters; activations, losses, initialisers."""

from __future__ import annotations

from typing import NoReturn

from pellucid.core.spelling import unknown_name as _unknown_name
from pellucid.nn import functional, initializers, losses
from pellucid.nn.activations import (
    elu,
    gelu,
    gelu_tanh,
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
from pellucid.nn.attention import MultiHeadAttention, attention
from pellucid.nn.convolutions import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
)
from pellucid.nn.embedding import Embedding
from pellucid.nn.kv_cache import KVCache
from pellucid.nn.layers import Dense, Dropout, Flatten, Sequential
from pellucid.nn.module import Module, merge, split
from pellucid.nn.norms import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pellucid.nn.pooling import (
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from pellucid.nn.recurrent import GRU, LSTM
from pellucid.nn.recurrent_cells import GRUCell, LSTMCell
from pellucid.nn.spellings import LAYERS as _LAYERS
from pellucid.nn.state import load_weights, save_weights
from pellucid.nn.summary import Summary, summary

__all__ = [
    "GRU",
    "LSTM",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNorm",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "KVCache",
    "LSTMCell",
    "LayerNorm",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "Sequential",
    "Summary",
    "attention",
    "elu",
    "functional",
    "gelu",
    "gelu_tanh",
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


def __getattr__(name: str) -> NoReturn:
    raise _unknown_name("pellucid.nn", name, _LAYERS)
