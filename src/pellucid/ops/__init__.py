"""What can be said: every op's card. Importing this package fills the registry."""

from __future__ import annotations

from pellucid.ops import (
    contract,
    control,
    elementwise,
    index,
    movement,
    parts,
    random,
    reduce,
    sort,
)
from pellucid.ops.define import REGISTRY, Op, lookup

__all__ = [
    "REGISTRY",
    "Op",
    "contract",
    "control",
    "elementwise",
    "index",
    "lookup",
    "movement",
    "parts",
    "random",
    "reduce",
    "sort",
]
