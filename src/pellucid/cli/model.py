"""What does the tour train? A network of two layers on real handwriting, by one compiled step."""

from __future__ import annotations

import pellucid as pe
from pellucid import nn, optim
from pellucid.tensor.jit import Jit


def build() -> tuple[nn.Module, Jit]:
    """The model, and the step that teaches it one batch and gives the loss."""
    model = nn.Sequential([nn.Dense(128, activation="relu"), nn.Dense(10)])
    adam = optim.Adam(model, learning_rate=3e-3)

    @pe.jit  # take it away and the same code runs eagerly, line by line
    def step(images: pe.Tensor, labels: pe.Tensor) -> pe.Tensor:
        loss = nn.losses.cross_entropy(model(images), labels)
        loss.backward()
        adam.step()
        return loss

    return model, step
