"""How fast is a whole training step of an LSTM?

256 units on 256 features, 64 steps, 32 sequences; the last output is pulled to a target by the mean
of squares, Adam at 1e-3. The gates stand as torch has them: input, forget, candidate, output.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import Weights, adam_update, jax_adam, jax_step, mlx_step, torch_step
from pellucid import nn, optim


@dataclass(frozen=True)
class Sizes:
    """Of the sequences and the layer."""

    batch: int
    steps: int
    features: int
    units: int


FULL, TINY = Sizes(32, 64, 256, 256), Sizes(2, 3, 4, 5)
RATE = 1e-3


def cases(tiny: bool) -> tuple[Case, ...]:
    """The one size."""
    s = TINY if tiny else FULL
    return (
        Case(
            "lstm step",
            f"LSTM training step, {s.units} units, {s.batch} x {s.steps} x {s.features}",
            lambda given: in_pellucid(s, given),
            {
                "torch eager": lambda: in_torch(s),
                "torch.compile": lambda: in_torch(s, compiled=True),
                "jax.jit": lambda: in_jax(s),
                "mlx": lambda: in_mlx(s),
            },
            checks=5,
            model=True,
        ),
    )


@cache
def problem(s: Sizes) -> tuple[Weights, np.ndarray, np.ndarray]:
    """Weights, sequences and targets."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * s.units**-0.5).astype(np.float32)

    weights = {
        "cell.kernel": drawn(s.features, 4 * s.units),
        "cell.recurrent_kernel": drawn(s.units, 4 * s.units),
        "cell.bias": drawn(4 * s.units),
    }
    return weights, drawn(s.batch, s.steps, s.features), drawn(s.batch, s.units)


def in_pellucid(s: Sizes, given: bool) -> Work:
    weights, x, y = problem(s)
    model = nn.LSTM(s.units)
    adam = optim.Adam(model, learning_rate=RATE)

    @pe.jit
    def step(x: Any, y: Any) -> Any:
        loss = nn.losses.mse(model(x), y)
        loss.backward()
        adam.step()
        return loss

    if given:
        model(pe.zeros((1, 1, s.features)))
        for path, parameter in model.named_parameters().items():
            parameter.assign(weights[path])
    return Work(step, (pe.asarray(x), pe.asarray(y)))


def in_torch(s: Sizes, compiled: bool = False) -> Call:
    import torch

    weights, x, y = problem(s)
    model = torch.nn.LSTM(s.features, s.units, batch_first=True)
    with torch.no_grad():
        model.weight_ih_l0.copy_(torch.from_numpy(weights["cell.kernel"].T.copy()))
        model.weight_hh_l0.copy_(torch.from_numpy(weights["cell.recurrent_kernel"].T.copy()))
        model.bias_ih_l0.copy_(torch.from_numpy(weights["cell.bias"]))
        model.bias_hh_l0.zero_()
    # The second bias says the same as the first, and is left as it is.
    model.bias_hh_l0.requires_grad_(False)
    learned = [one for one in model.parameters() if one.requires_grad]
    adam = torch.optim.Adam(learned, lr=RATE, fused=True)
    sequences, target = torch.from_numpy(x), torch.from_numpy(y)

    def loss_of() -> Any:
        return torch.nn.functional.mse_loss(model(sequences)[0][:, -1], target)

    return torch_step(loss_of, adam, compiled)


def in_jax(s: Sizes) -> Call:
    import jax
    import jax.numpy as jnp

    def loss_of(held: Any, x: Any, y: Any) -> Any:
        projected = x @ held["cell.kernel"] + held["cell.bias"]

        def advance(state: Any, one: Any) -> Any:
            hidden, memory = state
            gates = jnp.split(one + hidden @ held["cell.recurrent_kernel"], 4, axis=-1)
            entering, kept, shown = (jax.nn.sigmoid(gates[number]) for number in (0, 1, 3))
            memory = kept * memory + entering * jnp.tanh(gates[2])
            return (shown * jnp.tanh(memory), memory), None

        zeros = jnp.zeros((s.batch, s.units), jnp.float32)
        (hidden, _), _ = jax.lax.scan(advance, (zeros, zeros), projected.swapaxes(0, 1))
        return jnp.mean((hidden - y) ** 2)

    return jax_step(loss_of, jax_adam(RATE), 2, *problem(s))


def in_mlx(s: Sizes) -> Call:
    import mlx.core as mx

    def loss_of(held: Any, x: Any, y: Any) -> Any:
        projected = x @ held["cell.kernel"] + held["cell.bias"]
        hidden = memory = mx.zeros((s.batch, s.units))
        for at in range(s.steps):
            inputs = projected[:, at] + hidden @ held["cell.recurrent_kernel"]
            gates = mx.split(inputs, 4, axis=-1)
            entering, kept, shown = (mx.sigmoid(gates[number]) for number in (0, 1, 3))
            memory = kept * memory + entering * mx.tanh(gates[2])
            hidden = shown * mx.tanh(memory)
        return mx.mean((hidden - y) ** 2)

    return mlx_step(loss_of, adam_update(mx.sqrt, RATE), 2, *problem(s))
