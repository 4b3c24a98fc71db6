"""What are models made of? Modules that hold Parameters; activations, losses, initialisers."""

from __future__ import annotations

from typing import NoReturn

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
from pellucid.nn.embedding import Embedding
from pellucid.nn.layers import Dense, Dropout, Flatten, Sequential
from pellucid.nn.module import Module, merge, split
from pellucid.nn.norms import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pellucid.nn.recurrent import GRU, LSTM
from pellucid.nn.recurrent_cells import GRUCell, LSTMCell
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
    "GroupNorm",
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

_REWRITES = {
    "BCEWithLogitsLoss": "nn.losses.binary_cross_entropy(logits, targets)",
    "CrossEntropyLoss": "nn.losses.cross_entropy(logits, labels)",
    "GELU": "nn.gelu",
    "HuberLoss": "nn.losses.huber(predictions, targets)",
    "KLDivLoss": "nn.losses.kl_divergence(logits, targets)",
    "L1Loss": "nn.losses.mae(predictions, targets)",
    "LayerNormalization": "nn.LayerNorm()",
    "Linear": "nn.Dense(units); the number of features is found at the first call",
    "MSELoss": "nn.losses.mse(predictions, targets)",
    "MultiheadAttention": "nn.MultiHeadAttention(heads)",
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
