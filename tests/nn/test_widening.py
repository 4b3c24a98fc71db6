"""Does a float64 array, which is what NumPy makes, leave a float32 model in float32?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 2))
MODELS: dict[str, Any] = {
    "dense": lambda: [nn.Flatten(), nn.Dense(3, activation="gelu")],
    "convolution": lambda: [nn.Conv2D(4, 3), nn.MaxPool2D(2), nn.GlobalAvgPool()],
    "transposed": lambda: [nn.Conv2DTranspose(3, 2), nn.GlobalMaxPool()],
    "after what has no dtype": lambda: [
        nn.AvgPool2D(2),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Dense(3),
    ],
    "batch norm": lambda: [nn.BatchNorm(), nn.GlobalAvgPool()],
    "layer norm": lambda: [nn.LayerNorm(), nn.GlobalAvgPool()],
    "group norm": lambda: [nn.GroupNorm(2), nn.GlobalAvgPool()],
    "rms norm": lambda: [nn.RMSNorm(), nn.GlobalAvgPool()],
    "attention": lambda: [lambda x: x.reshape(4, 16, 8), nn.MultiHeadAttention(2), nn.Flatten()],
    "lstm": lambda: [lambda x: x.reshape(4, 4, 32), nn.LSTM(3)],
    "gru": lambda: [lambda x: x.reshape(4, 4, 32), nn.GRU(3, bidirectional=True)],
}
OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda model: optim.SGD(model, np.float64(0.1), momentum=0.9),
    "adamw": lambda model: optim.AdamW(model, optim.schedules.Cosine(0.1, steps=9)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_output_loss_gradients_and_slots_stay_float32(name: str, compiled: bool):
    model = nn.Sequential(MODELS[name]())
    opt = OPTIMIZERS["adamw" if compiled else "sgd"](model)

    def step(x: Any, y: Any) -> Any:
        out = model(x)
        loss = nn.losses.mse(out, y)
        loss.backward()
        gradients = [p.grad for p in model.parameters()]
        opt.step()
        return out, loss, gradients

    width = np.asarray(model(IMAGES)).shape[-1]
    out, loss, gradients = (pe.jit(step) if compiled else step)(IMAGES, np.ones((4, width)))
    assert {t.dtype.name for t in (out, loss, *gradients)} == {"float32"}
    assert {cell.dtype.name for cell in model.variables().values()} == {"float32"}
    slots = [slot for slots in opt.slots.values() for slot in slots.values()]
    assert {slot.dtype.name for slot in slots} == {"float32"}
    assert len(slots) >= len(gradients)
