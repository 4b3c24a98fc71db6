"""What can be said: every op's card. Importing this package fills the registry."""

from __future__ import annotations

from pellucid.ops import (
    bits,
    contract,
    control,
    elementary,
    elementwise,
    movement,
    random,
    reduce,
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
    "elementary",
    "elementwise",
    "lookup",
    "movement",
    "random",
    "reduce",
    "rounding",
    "special",
]
