"""How fast is a whole training step of a ResNet-18?

Eight pictures of 112 x 112, 1000 classes, cross-entropy, SGD at 0.001 with momentum 0.9; the
running statistics of the batch norms follow, but for jax, where it would be no less work.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks import resnet18
from benchmarks.case import Call, Case, Work
from benchmarks.peers import (
    jax_cross_entropy,
    jax_step,
    momentum_update,
    torch_step,
    torch_weights,
)
from benchmarks.resnet18 import Sizes
from pellucid import nn, optim

FULL = Sizes(8, 112)
TINY = Sizes(4, 32, classes=4, thin=16)
RATE, MOMENTUM = 0.001, 0.9


def cases(tiny: bool) -> tuple[Case, ...]:
    """The one size."""
    s = TINY if tiny else FULL
    return (
        Case(
            "resnet18 step",
            f"ResNet-18 training step, {s.batch} of {s.side} x {s.side}",
            lambda given: in_pellucid(s, given),
            {
                "torch eager": lambda: in_torch(s),
                "torch channels_last": lambda: in_torch(s, channels_last=True),
                "torch.compile": lambda: in_torch(s, channels_last=True, compiled=True),
                "jax.jit": lambda: in_jax(s),
            },
            checks=3,
            tolerance=1e-3,
            model=True,
        ),
    )


@cache
def problem(s: Sizes) -> tuple[Any, np.ndarray, np.ndarray]:
    """Weights, pictures and labels."""
    weights, x = resnet18.problem(s)
    return weights, x, np.random.default_rng(2).integers(0, s.classes, s.batch)


def in_pellucid(s: Sizes, given: bool) -> Work:
    weights, x, y = problem(s)
    model = resnet18.ResNet18(s)
    sgd = optim.SGD(model, learning_rate=RATE, momentum=MOMENTUM)

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
        return loss

    if given:
        resnet18.give(model, weights, s)
    return Work(step, (pe.asarray(x), pe.asarray(y)))


def in_torch(s: Sizes, channels_last: bool = False, compiled: bool = False) -> Call:
    import torch
    from torch.nn import functional

    weights, x, y = problem(s)
    order = torch.channels_last if channels_last else torch.contiguous_format
    held = {
        path: one.contiguous(memory_format=order) if one.ndim == 4 else one
        for path, one in torch_weights(weights).items()
    }
    learned = [one for path, one in held.items() if not path.endswith(("mean", "variance"))]
    for one in learned:
        one.requires_grad_()
    pictures = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).contiguous(memory_format=order)
    labels = torch.from_numpy(y)
    sgd = torch.optim.SGD(learned, lr=RATE, momentum=MOMENTUM)

    def loss_of() -> Any:
        logits = resnet18.torch_resnet(held, pictures, s, training=True)
        return functional.cross_entropy(logits, labels)

    return torch_step(loss_of, sgd, compiled)


def in_jax(s: Sizes) -> Call:
    weights, x, y = problem(s)
    learned = {p: a for p, a in weights.items() if not p.endswith(("mean", "variance"))}

    def loss_of(held: Any, x: Any, y: Any) -> Any:
        return jax_cross_entropy(resnet18.jax_resnet(held, x, s, training=True), y)

    return jax_step(loss_of, momentum_update(RATE, MOMENTUM), 1, learned, x, y)
