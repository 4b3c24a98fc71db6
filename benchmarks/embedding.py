"""How fast is a training step of a table of words, most of which are not met?

1024 words, drawn evenly, are looked up, and a dense layer sorts each into 16 classes by
cross-entropy; SGD, or AdamW. The table is what there is to move. torch's gradient is dense
(`sparse=False`), as AdamW asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import jax_adam, jax_cross_entropy, jax_step, torch_step, torch_weights
from pellucid import nn, optim

Rule = Literal["SGD", "AdamW"]
RATE, DECAY = 1e-2, 0.01


@dataclass(frozen=True)
class Sizes:
    """The table, how many of its words are looked up, and the classes."""

    words: int
    width: int
    met: int = 1024
    classes: int = 16


FULL = Sizes(8192, 256), Sizes(50257, 768)
TINY = (Sizes(40, 16, 6, 3),)


def cases(tiny: bool) -> tuple[Case, ...]:
    """Each table with each optimizer."""
    rules: tuple[Rule, ...] = ("SGD", "AdamW")
    return tuple(case_of(s, rule) for s in (TINY if tiny else FULL) for rule in rules)


def case_of(s: Sizes, rule: Rule) -> Case:
    return Case(
        f"embedding {s.words}x{s.width} {rule}",
        f"{s.met} of {s.words} words of {s.width} numbers, training step, {rule}",
        lambda given: in_pellucid(s, rule, given),
        {
            "torch eager": lambda: in_torch(s, rule),
            "torch.compile": lambda: in_torch(s, rule, compiled=True),
            "jax.jit": lambda: in_jax(s, rule),
        },
        checks=5,
        model=True,
    )


@cache
def problem(s: Sizes) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """First weights, words and labels, drawn from one seed."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((s.words, s.width), dtype=np.float32),
        "kernel": rng.standard_normal((s.width, s.classes), dtype=np.float32) / s.width**0.5,
        "bias": np.zeros(s.classes, np.float32),
    }
    return weights, rng.integers(0, s.words, s.met), rng.integers(0, s.classes, s.met)


def in_pellucid(s: Sizes, rule: Rule, given: bool) -> Work:
    weights, words, labels = problem(s)
    embedding, dense = nn.Embedding(s.words, s.width), nn.Dense(s.classes)
    model = nn.Sequential([embedding, dense])
    optimizer = (
        optim.SGD(model, learning_rate=RATE)
        if rule == "SGD"
        else optim.AdamW(model, learning_rate=RATE, weight_decay=DECAY)
    )

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    if given:
        model(pe.asarray(words))
        embedding.table.assign(weights["table"])
        dense.kernel.assign(weights["kernel"])
        dense.bias.assign(weights["bias"])
    return Work(step, (pe.asarray(words), pe.asarray(labels)))


def in_torch(s: Sizes, rule: Rule, compiled: bool = False) -> Call:
    import torch
    from torch.nn import functional

    weights, words, labels = problem(s)
    held = torch_weights(weights, gradients=True)
    x, y = torch.from_numpy(words), torch.from_numpy(labels)

    def loss_of() -> Any:
        rows = functional.embedding(x, held["table"])
        return functional.cross_entropy(functional.linear(rows, held["kernel"], held["bias"]), y)

    each = list(held.values())
    optimizer = (
        torch.optim.SGD(each, lr=RATE, fused=True)
        if rule == "SGD"
        else torch.optim.AdamW(each, lr=RATE, weight_decay=DECAY, fused=True)
    )
    return torch_step(loss_of, optimizer, compiled)


def in_jax(s: Sizes, rule: Rule) -> Call:
    def loss_of(held: Any, x: Any, y: Any) -> Any:
        return jax_cross_entropy(held["table"][x] @ held["kernel"] + held["bias"], y)

    def descend(p: Any, gradient: Any, t: Any) -> tuple[Any, ...]:
        return (p - RATE * gradient,)

    if rule == "SGD":
        return jax_step(loss_of, descend, 0, *problem(s))
    return jax_step(loss_of, jax_adam(RATE, DECAY), 2, *problem(s))
