"""What can be said: every op's card. Importing this package fills the registry."""

from __future__ import annotations

from pellucid.ops import (
    bits,
    contract,
    control,
    convolution,
    elementary,
    elementwise,
    movement,
    random,
    reduce,
    reduce_window,
    rounding,
    special,
)
from pellucid.ops.define import REGISTRY, Op, lookup

__all__ = [
    "REGISTRY",
    "Op",
    "bits",
    "contract",
    "control",
    "convolution",
    "elementary",
    "elementwise",
    "lookup",
    "movement",
    "random",
    "reduce",
    "reduce_window",
    "rounding",
    "special",
]
