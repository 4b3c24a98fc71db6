"""Graph to graph where the meaning changes: forward mode, reverse mode, a batch axis.

Each transform takes what another gives, itself included, so derivatives have any order.
"""

from __future__ import annotations

from pellucid.transforms.batch import batch
from pellucid.transforms.jvp import jvp, push_forward
from pellucid.transforms.vjp import gradient_graph, pull_back, vjp

__all__ = ["batch", "gradient_graph", "jvp", "pull_back", "push_forward", "vjp"]
