"""Do optimizers follow their formulas, in every dtype, and tell bad settings?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim

GRADIENTS = [np.array([0.5, -2.0]), np.array([0.1, 0.3]), np.array([-1.0, 4.0])]
START = np.array([1.0, -1.0])


def run(make: Any, dtype: str = "float64") -> np.ndarray[Any, Any]:
    """Where a Parameter ends after the gradients above."""
    p = pe.Parameter(START, dtype=dtype)
    opt = make(p)
    for gradient in GRADIENTS:
        (p * pe.asarray(gradient, dtype=dtype)).sum().backward()
        opt.step()
    return np.asarray(p).astype(np.float64)


def test_sgd_is_its_formula():
    expected = START - 0.1 * sum(GRADIENTS)
    np.testing.assert_allclose(run(lambda p: optim.SGD(p, 0.1)), expected, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_its_formula(nesterov: bool):
    p, v = START.copy(), np.zeros(2)
    for g in GRADIENTS:
        g = g + 0.01 * p
        v = 0.9 * v + g
        p = p - 0.1 * (g + 0.9 * v if nesterov else v)
    found = run(lambda q: optim.SGD(q, 0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01))
    np.testing.assert_allclose(found, p, rtol=1e-6)


def adam() -> np.ndarray[Any, Any]:
    p, m, v = START.copy(), np.zeros(2), np.zeros(2)
    for t, g in enumerate(GRADIENTS, 1):
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        p = p - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
    return p


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float64", 1e-6), ("float32", 1e-5), ("bfloat16", 0.02), ("float16", 2e-3)],
)
def test_adam_is_its_formula_in_every_dtype(dtype: str, tolerance: float):
    found = run(lambda p: optim.Adam(p, 0.1, betas=(0.8, 0.95)), dtype)
    np.testing.assert_allclose(found, adam(), rtol=tolerance)


def test_adam_with_a_zero_gradient_moves_nothing_in_a_small_dtype():
    p = pe.Parameter([1.0, 2.0], dtype="float16")
    opt = optim.Adam(p, 0.1)
    (p * pe.zeros((2,), dtype="float16")).sum().backward()
    opt.step()
    assert p.tolist() == [1.0, 2.0]
    assert opt.slots["mean"][p].dtype is pe.float32


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_the_rate_is_accepted_as_lr(make: Any):
    assert float(make(pe.Parameter(1.0), lr=0.25).learning_rate) == 0.25


def test_the_rate_can_be_set_to_a_number():
    p = pe.Parameter(1.0)
    opt = optim.SGD(p, 1.0)
    step = pe.jit(lambda: ((p * 1.0).backward(), opt.step())[1])
    step()
    opt.learning_rate = 0.5
    step()
    assert isinstance(opt.learning_rate, pe.Variable)
    assert float(p) == -0.5
    assert not step.why


def test_a_rate_that_is_a_variable_is_shared():
    rate = pe.Variable(0.5)
    a, b = pe.Parameter(1.0), pe.Parameter(1.0)
    first, second = optim.SGD(a, rate), optim.SGD(b, lr=rate)
    rate.assign(0.25)
    for p, opt in ((a, first), (b, second)):
        (p * 1.0).backward()
        opt.step()
    assert (float(a), float(b)) == (0.75, 0.75)


def test_targets_of_every_kind():
    w, v = pe.Parameter(1.0), pe.Parameter(2.0)
    for target in ([w, v], (w, v), iter([w, v]), {"a": w, "b": v}.values()):
        assert optim.SGD(target).parameters() == [w, v]
    assert optim.SGD(w).parameters() == [w]
    model = nn.Dense(1)
    model(pe.ones((1, 1)))
    assert optim.SGD(model.parameters()).parameters() == model.parameters()
    assert len(optim.SGD([model, w]).parameters()) == 3


def test_parameters_given_before_they_exist_are_an_error_with_the_way_out():
    with pytest.raises(pe.StateError, match=r"there are no Parameters(.|\n)*pass the model itself"):
        optim.Adam(nn.Dense(1).parameters())


@pytest.mark.parametrize("target", [3, "model", None])
def test_what_cannot_be_optimized_is_an_error(target: Any):
    with pytest.raises(pe.StateError, match="expected a Module or Parameters"):
        optim.SGD(target)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, -1.0), "expected a rate of at least 0, got -1.0"),
        (lambda p: optim.SGD(p, float("nan")), "expected a rate of at least 0, got nan"),
        (lambda p: optim.SGD(p, momentum=1.0), "expected a momentum from 0 to below 1"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), "expected betas from 0 to below 1"),
    ],
)
def test_bad_settings_are_errors(make: Any, message: str):
    with pytest.raises(pe.StateError, match=message):
        make(pe.Parameter(1.0))


def test_zero_grad_drops_gradients():
    p = pe.Parameter(1.0)
    opt = optim.SGD(p)
    (p * 1.0).backward()
    opt.zero_grad()
    assert p.grad is None


def test_a_step_changes_only_what_has_a_gradient():
    p, q = pe.Parameter(1.0), pe.Parameter(1.0)
    opt = optim.SGD([p, q], 1.0)
    (p * 1.0).backward()
    opt.step()
    assert (float(p), float(q)) == (0.0, 1.0)


def test_a_frozen_parameter_stays():
    p, q = pe.Parameter(1.0), pe.Parameter(1.0)
    q.trainable = False
    opt = optim.Adam([p, q], 0.1)
    (p * q).backward()
    opt.step()
    assert float(q) == 1.0
    assert q not in opt.slots["mean"]


def test_an_optimizer_without_update_is_an_error():
    class Empty(optim.Optimizer):
        pass

    p = pe.Parameter(1.0)
    (p * 1.0).backward()
    with pytest.raises(pe.StateError, match="Empty has no `update`"):
        Empty(p, 0.1).step()
