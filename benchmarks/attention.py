"""How fast is scaled-dot-product attention, forward and backward?

Operands are (batch, heads, length, size). torch has its scaled_dot_product_attention, and jax its
dot_product_attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import cores, jax_forward, torch_compiled
from pellucid import nn


@dataclass(frozen=True)
class Shape:
    """The sizes of an attention; `shared` heads of keys and values."""

    batch: int
    heads: int
    shared: int
    length: int
    size: int
    causal: bool

    def __str__(self) -> str:
        heads = f"{self.heads} heads" + (f" on {self.shared}" if self.shared < self.heads else "")
        causal = ", causal" if self.causal else ""
        return f"{self.batch} x {heads}, length {self.length}, size {self.size}{causal}"


FULL = (
    Shape(4, 4, 4, 256, 64, causal=True),
    Shape(8, 12, 12, 128, 32, causal=False),
    Shape(1, 12, 12, 1024, 64, causal=False),
    Shape(1, 8, 2, 1024, 64, causal=True),
    Shape(1, 4, 4, 4096, 64, causal=True),
)
TINY = (Shape(1, 4, 2, 5, 3, causal=True),)


def cases(tiny: bool) -> tuple[Case, ...]:
    """Each shape, forward alone and with the way back."""
    shapes = TINY if tiny else FULL
    return tuple(case_of(shape, back) for shape in shapes for back in (False, True))


def case_of(s: Shape, back: bool) -> Case:
    what = "forward and backward" if back else "forward"
    return Case(
        f"attention {s}, {what}",
        f"attention, {s}, {what}",
        lambda given: in_pellucid(s, back),
        {
            "torch eager": lambda: in_torch(s, back),
            "torch.compile": lambda: in_torch(s, back, compiled=True),
            "jax.jit": lambda: in_jax(s, back),
        },
    )


@cache
def operands(s: Shape) -> tuple[np.ndarray, ...]:
    """Query, key, value, and what comes back."""
    rng = np.random.default_rng(0)
    heads = (s.heads, s.shared, s.shared, s.heads)
    return tuple(rng.standard_normal((s.batch, n, s.length, s.size), np.float32) for n in heads)


def in_pellucid(s: Shape, back: bool) -> Work:
    def attend(q: Any, k: Any, v: Any) -> Any:
        return nn.attention(q, k, v, causal=s.causal)

    def both(q: Any, k: Any, v: Any, g: Any) -> Any:
        y, pull = pe.vjp(attend, q, k, v)
        return y, *pull(g)

    given = tuple(map(pe.asarray, operands(s)))
    return Work(pe.jit(both), given) if back else Work(pe.jit(attend), given[:3])


def in_torch(s: Shape, back: bool, compiled: bool = False) -> Call:
    import torch

    torch.set_num_threads(cores())
    *inputs, g = (torch.from_numpy(one) for one in operands(s))

    def attend(q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=s.causal, enable_gqa=s.shared < s.heads
        )

    made = torch_compiled(attend) if compiled else attend

    def forward() -> Sequence[Any]:
        with torch.no_grad():
            return [made(*inputs)]

    def both() -> Sequence[Any]:
        y = made(*inputs)
        return y.detach(), *torch.autograd.grad(y, inputs, g)

    for one in inputs:
        one.requires_grad_(back)
    return both if back else forward


def in_jax(s: Shape, back: bool) -> Call:
    import jax

    def attend(q: Any, k: Any, v: Any) -> Any:
        turned = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        return jax.nn.dot_product_attention(*turned, is_causal=s.causal).transpose(0, 2, 1, 3)

    def both(q: Any, k: Any, v: Any, g: Any) -> Any:
        y, pull = jax.vjp(attend, q, k, v)
        return y, *pull(g)

    given = operands(s)
    return jax_forward(both, *given) if back else jax_forward(attend, *given[:3])
