"""What does the tour train? A small network on real handwriting, by one compiled step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pellucid as pe
from pellucid import nn, optim
from pellucid.tensor.jit import Jit


def cnn() -> nn.Module:
    """Images (n, 8, 8, 1) to a score for each digit (n, 10)."""
    return nn.Sequential(
        [
            nn.Conv2D(16, 3, padding="same", activation="relu"),
            nn.Conv2D(32, 3, padding="same", activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(64, activation="relu"),
            nn.Dense(10),
        ]
    )


def mlp() -> nn.Module:
    """Images (n, 8, 8, 1) to a score for each digit (n, 10), no pixel near another."""
    return nn.Sequential([nn.Flatten(), nn.Dense(128, activation="relu"), nn.Dense(10)])


def teaching(model: nn.Module, steps: int) -> Jit:
    """A step that teaches the model one batch, and gives the loss."""
    adam = optim.Adam(model, learning_rate=optim.schedules.Cosine(3e-3, steps))

    @pe.jit  # take it away and the same code runs eagerly, line by line
    def step(x: pe.Tensor, y: pe.Tensor) -> pe.Tensor:
        loss = nn.losses.cross_entropy(model(x), y, label_smoothing=0.1)
        loss.backward()
        adam.step()
        return loss

    return step


MODELS: Final[dict[str, Callable[[], nn.Module]]] = {"cnn": cnn, "mlp": mlp}
"""The models by name; the first is the default."""
