"""What can be said: every op's card. Importing this package fills the registry."""

from __future__ import annotations

from pellucid.ops import (
    contract,
    control,
    convolution,
    elementwise,
    index,
    movement,
    parts,
    random,
    reduce,
    reduce_window,
    sort,
)
from pellucid.ops.define import REGISTRY, Op, lookup

__all__ = [
    "REGISTRY",
    "Op",
    "contract",
    "control",
    "convolution",
    "elementwise",
    "index",
    "lookup",
    "movement",
    "parts",
    "random",
    "reduce",
    "reduce_window",
    "sort",
]
