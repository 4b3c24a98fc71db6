"""Do schedules give the rates of their formulas, inside the compiled step, without new traces?"""

from __future__ import annotations

import math

import numpy as np
import pytest

import pellucid as pe
from pellucid import optim
from pellucid.optim.schedules import Constant, Cosine, StepDecay, WarmUp
from tests.tensor.training import counting_traces

FORMULAS = {
    "constant": (Constant(0.3), lambda t: 0.3),
    "step": (StepDecay(0.4, every=3, factor=0.25), lambda t: 0.4 * 0.25 ** (t // 3)),
    "cosine": (
        Cosine(0.5, steps=7, final=0.1),
        lambda t: 0.1 + 0.4 * (1 + math.cos(math.pi * min(t / 7, 1))) / 2,
    ),
    "warm-up": (
        WarmUp(3, Cosine(1.0, steps=5)),
        lambda t: min((t + 1) / 3, 1) * (1 + math.cos(math.pi * min(max(t - 3, 0) / 5, 1))) / 2,
    ),
    "function": (lambda step: 1.0 / (step + 1), lambda t: 1 / (t + 1)),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_each_step_has_the_rate_of_the_formula(name: str, compiled: bool):
    schedule, formula = FORMULAS[name]
    w = pe.Parameter(0.0)
    opt = optim.SGD(w, learning_rate=schedule)

    def step() -> pe.Tensor:
        loss = w * 1.0
        loss.backward()
        opt.step()
        return loss

    run = pe.jit(step) if compiled else step
    before, rates = 0.0, []
    for _ in range(10):
        run()
        rates.append(float(opt.learning_rate))
        assert float(w) == pytest.approx(before - rates[-1], abs=1e-6)
        before = float(w)
    np.testing.assert_allclose(rates, [formula(t) for t in range(10)], rtol=1e-6, atol=1e-12)


def test_a_schedule_causes_no_new_trace():
    w = pe.Parameter(1.0)
    opt = optim.Adam(w, learning_rate=WarmUp(2, Cosine(0.1, steps=50)))

    @pe.jit
    def step() -> pe.Tensor:
        loss = w * w
        loss.backward()
        opt.step()
        return loss

    step()
    step()
    with counting_traces(step) as reasons:
        for _ in range(5):
            step()
    assert not reasons


def test_a_cosine_agrees_with_the_library_function_in_float64():
    steps = np.arange(0, 1001)
    found = np.asarray(Cosine(1.0, steps=1000)(pe.asarray(steps)))
    np.testing.assert_allclose(found, (1 + np.cos(np.pi * steps / 1000)) / 2, atol=3e-16)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(-1.0),
        lambda: StepDecay(0.1, every=0),
        lambda: StepDecay(0.1, every=1, factor=0.0),
        lambda: Cosine(0.1, steps=0),
        lambda: Cosine(math.nan, steps=1),
        lambda: WarmUp(0, Constant(0.1)),
    ],
)
def test_what_is_no_schedule_is_refused(make: object):
    with pytest.raises(pe.StateError, match="expected"):
        make()  # type: ignore[operator]
