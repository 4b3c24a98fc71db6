"""What can be said: every op's card. Importing this package fills the registry."""

from __future__ import annotations

from pellucid.ops import (
    contract,
    control,
    convolution,
    elementwise,
    movement,
    random,
    reduce,
    reduce_window,
)
from pellucid.ops.define import REGISTRY, Op, lookup

__all__ = [
    "REGISTRY",
    "Op",
    "contract",
    "control",
    "convolution",
    "elementwise",
    "lookup",
    "movement",
    "random",
    "reduce",
    "reduce_window",
]
