"""What can be said: every op's card. Importing this package fills the registry."""

from __future__ import annotations

from pellucid.ops import (
    attention,
    bits,
    contract,
    control,
    convolution,
    elementary,
    elementwise,
    index,
    lists,
    movement,
    parts,
    random,
    reduce,
    reduce_window,
    rounding,
    sort,
    special,
    spread,
)
from pellucid.ops.define import REGISTRY, Op, lookup

__all__ = [
    "REGISTRY",
    "Op",
    "attention",
    "bits",
    "contract",
    "control",
    "convolution",
    "elementary",
    "elementwise",
    "index",
    "lists",
    "lookup",
    "movement",
    "parts",
    "random",
    "reduce",
    "reduce_window",
    "rounding",
    "sort",
    "special",
    "spread",
]
