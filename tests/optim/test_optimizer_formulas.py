"""Do the optimizers follow their papers' formulas, written again in NumPy and float64?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import optim
from tests.tensor.training import assert_same_bits, data, numbers_of, small_model, training_step

Numbers = np.ndarray[Any, Any]
Step = Callable[[Numbers, Numbers], Numbers]
TARGET = np.array([1.0, -2.0, 3.0])


def sgd(rate: float, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0) -> Step:
    """Sutskever et al. 2013, in the form of PyTorch and Keras."""
    velocity = np.zeros(3)

    def step(p: Numbers, g: Numbers) -> Numbers:
        nonlocal velocity
        g = g + decay * p
        velocity = momentum * velocity + g
        return p - rate * (g + momentum * velocity if nesterov else velocity)

    return step


def adam(rate: float, decay: float = 0.0) -> Step:
    """Kingma and Ba 2015; the decay as in Loshchilov and Hutter 2019."""
    m, v, t = np.zeros(3), np.zeros(3), 0

    def step(p: Numbers, g: Numbers) -> Numbers:
        nonlocal m, v, t
        t += 1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p = p * (1 - rate * decay)
        return p - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return step


PAIRS: dict[str, tuple[Callable[[Any], optim.Optimizer], Callable[[], Step]]] = {
    "sgd": (lambda p: optim.SGD(p, 0.1), lambda: sgd(0.1)),
    "momentum": (lambda p: optim.SGD(p, 0.1, momentum=0.9), lambda: sgd(0.1, 0.9)),
    "nesterov": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        lambda: sgd(0.1, 0.9, True),
    ),
    "decay": (
        lambda p: optim.SGD(p, 0.1, momentum=0.5, weight_decay=0.2),
        lambda: sgd(0.1, 0.5, decay=0.2),
    ),
    "adam": (lambda p: optim.Adam(p, 0.1), lambda: adam(0.1)),
    "adamw": (lambda p: optim.AdamW(p, 0.1, weight_decay=0.3), lambda: adam(0.1, 0.3)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_ten_steps_follow_the_formula(name: str, compiled: bool):
    make, formula = PAIRS[name]
    p = pe.Parameter(np.zeros(3), dtype="float64")
    opt, by_hand = make(p), formula()

    def step() -> pe.Tensor:
        loss = pe.sum(pe.square(p - TARGET))
        loss.backward()
        opt.step()
        return loss

    run, expected = (pe.jit(step) if compiled else step), np.zeros(3)
    for _ in range(10):
        run()
        expected = by_hand(expected, 2 * (expected - TARGET))
    # The rate is a float32 cell: its rounding is the difference.
    np.testing.assert_allclose(np.asarray(p), expected, rtol=1e-6)


def test_adamw_without_decay_is_adam():
    x, y = data()
    models = small_model(), small_model()
    opts = optim.Adam(models[0], 0.01), optim.AdamW(models[1], 0.01, weight_decay=0.0)
    for model, opt in zip(models, opts, strict=True):
        pe.random.seed(3)
        step = pe.jit(training_step(model, opt))
        for _ in range(3):
            step(x, y)
    assert_same_bits(numbers_of(models[0]), numbers_of(models[1]))


def test_the_cells_of_an_optimizer_have_a_path_each():
    x, y = data()
    model = small_model()
    opt = optim.Adam(model)
    training_step(model, opt)(x, y)
    slots = {f"{s}/layers.{i}.{p}" for s in ("mean", "square") for i in (0, 1)
             for p in ("kernel", "bias")}  # fmt: skip
    own = {"learning_rate", "step_count", "powers.0", "powers.1"}
    assert set(opt.variables()) == slots | own


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, -0.1),
        lambda p: optim.SGD(p, 0.1, nesterov=True),
        lambda p: optim.SGD(p, 0.1, weight_decay=-1.0),
        lambda p: optim.SGD(p, 0.1, momentum=1.0),
        lambda p: optim.AdamW(p, 0.1, weight_decay=float("nan")),
        lambda p: optim.AdamW(p, 0.1, betas=(0.9, 1.0)),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any):
    with pytest.raises(pe.StateError):
        make(pe.Parameter(1.0))


@pytest.mark.peer
@pytest.mark.parametrize("name", PAIRS)
def test_torch_takes_the_same_ten_steps(name: str):
    torch = pytest.importorskip("torch")
    theirs: dict[str, Callable[[Any], Any]] = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1),
        "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        "decay": lambda p: torch.optim.SGD(p, 0.1, momentum=0.5, weight_decay=0.2),
        "adam": lambda p: torch.optim.Adam(p, 0.1),
        "adamw": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.3),
    }
    p, q = pe.Parameter(np.zeros(3), dtype="float64"), torch.zeros(3, dtype=torch.float64)
    q.requires_grad = True
    opt, other = PAIRS[name][0](p), theirs[name]([q])
    for _ in range(10):
        pe.sum(pe.square(p - TARGET)).backward()
        opt.step()
        other.zero_grad()
        ((q - torch.from_numpy(TARGET)) ** 2).sum().backward()
        other.step()
    np.testing.assert_allclose(np.asarray(p), q.detach().numpy(), rtol=1e-6)
