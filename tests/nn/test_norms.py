"""Do norms do what their formulas say, train and evaluate as told, and keep their statistics?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from tests.nn.differences import assert_gradient_is_the_difference
from tests.tensor.training import assert_same_bits, numbers_of

X = np.random.default_rng(4).normal(size=(3, 2, 5, 6)) * 2 + 1


def standard(x: Any, axes: tuple[int, ...]) -> Any:
    """Mean 0 and variance 1 over some axes."""
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def grouped(x: Any, groups: int) -> Any:
    """GroupNorm, group by group."""
    parts = np.split(x, groups, axis=-1)
    return np.concatenate([standard(part, (1, 2, 3)) for part in parts], axis=-1)


FORMULAS: dict[str, tuple[Any, Any]] = {
    "layer": (lambda d: nn.LayerNorm(dtype=d), lambda x: standard(x, (-1,))),
    "rms": (
        lambda d: nn.RMSNorm(dtype=d),
        lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6),
    ),
    "group": (lambda d: nn.GroupNorm(3, dtype=d), lambda x: grouped(x, 3)),
    "group of channels first": (
        lambda d: nn.GroupNorm(2, axis=1, dtype=d),
        lambda x: np.moveaxis(grouped(np.moveaxis(x, 1, -1), 2), -1, 1),
    ),
    "batch": (lambda d: nn.BatchNorm(dtype=d), lambda x: standard(x, (0, 1, 2))),
    "batch of channels first": (
        lambda d: nn.BatchNorm(axis=1, dtype=d),
        lambda x: standard(x, (0, 2, 3)),
    ),
}


def with_own_numbers(norm: nn.Module) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | float]:
    """Give scale and bias numbers that tell features apart, and give them back."""
    found: dict[str, Any] = {"bias": 0.0}
    for path, cell in norm.named_parameters().items():
        cell.assign(np.linspace(0.5, 2.0, cell.size))
        found[path] = np.asarray(cell)
    return found["scale"], found["bias"]


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_a_norm_is_its_formula(name: str, compiled: bool):
    make, formula = FORMULAS[name]
    norm = make("float64")
    norm(X)
    scale, bias = with_own_numbers(norm)
    shape = (1, -1, 1, 1) if "first" in name else (-1,)
    run = pe.jit(lambda x: norm(x)) if compiled else norm
    shift = np.reshape(bias, shape) if np.ndim(bias) else bias
    expected = formula(X) * np.reshape(scale, shape) + shift
    np.testing.assert_allclose(np.asarray(run(X)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_derivative_is_the_difference(name: str):
    norm = FORMULAS[name][0]("float64")
    small = X[:2, :, :2, :]
    norm(small)
    with_own_numbers(norm)
    assert_gradient_is_the_difference(lambda x: norm(x), small, tolerance=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_norm_keeps_its_dtype_and_rounds_once(name: str, dtype: str):
    make, formula = FORMULAS[name]
    x = pe.asarray(X).astype(dtype)
    out = make(dtype)(x)
    assert out.dtype.name == dtype
    wide = np.asarray(x.astype("float64"))
    tolerance = {"bfloat16": 2**-8, "float16": 2**-11, "float32": 1e-5}[dtype]
    found = np.asarray(out.astype("float64"))
    np.testing.assert_allclose(found, formula(wide), rtol=tolerance, atol=1e-5)


def test_running_statistics_follow_the_batches():
    norm = nn.BatchNorm(momentum=0.75)
    mean, variance = np.zeros(6), np.ones(6)
    for shift in range(3):
        batch = (X + shift).astype(np.float32)
        norm(batch)
        mean = 0.75 * mean + 0.25 * batch.mean((0, 1, 2))
        variance = 0.75 * variance + 0.25 * batch.var((0, 1, 2))
    np.testing.assert_allclose(np.asarray(norm.mean), mean, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(norm.variance), variance, rtol=1e-5)


def test_evaluation_uses_the_running_statistics_and_keeps_them():
    norm = nn.BatchNorm(momentum=0.0)
    x = X.astype(np.float32)
    norm(x)
    norm.eval()
    before = numbers_of(norm)
    found = np.asarray(norm(x[:1]))
    expected = (x[:1] - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert_same_bits(numbers_of(norm), before)


def test_statistics_are_state_and_no_parameters():
    norm = nn.BatchNorm()
    norm(X)
    assert set(norm.named_parameters()) == {"scale", "bias"}
    assert set(norm.variables()) == {"scale", "bias", "mean", "variance"}


def test_a_training_run_with_batch_norm_has_the_same_bits_eager_and_compiled():
    def trained(compiled: bool) -> Any:
        pe.random.seed(2)
        model = nn.Sequential([nn.Dense(5), nn.BatchNorm(), nn.relu, nn.Dense(3)])
        opt = optim.SGD(model, 0.1)

        def step(x: Any, y: Any) -> pe.Tensor:
            loss = nn.losses.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        run = pe.jit(step) if compiled else step
        x, y = X.reshape(-1, 6).astype(np.float32), np.arange(30) % 3
        for _ in range(4):
            run(x, y)
        return numbers_of(model)

    assert_same_bits(trained(True), trained(False))


def test_compiled_code_follows_the_mode_as_eager_does():
    """Dropout and BatchNorm, trained and evaluated in turn by the same compiled functions."""

    def alternated(compiled: bool) -> tuple[Any, Any]:
        pe.random.seed(2)
        model = nn.Sequential([nn.Dense(5), nn.BatchNorm(), nn.Dropout(0.4), nn.Dense(3)])
        opt = optim.SGD(model, 0.1)

        def step(x: Any) -> pe.Tensor:
            out = model(x)
            pe.mean(pe.square(out)).backward()
            opt.step()
            return out

        def look(x: Any) -> pe.Tensor:
            return model(x)

        run, see = (pe.jit(step), pe.jit(look)) if compiled else (step, look)
        x, found = X.reshape(-1, 6)[:8].astype(np.float32), []
        for _ in range(2):
            found.append(np.asarray(run(x)))
            model.eval()
            before = numbers_of(model)
            found += [np.asarray(see(x)), np.asarray(see(x))]
            assert_same_bits(numbers_of(model), before)
            model.train()
        return found, numbers_of(model)

    found, numbers = alternated(True)
    others, other_numbers = alternated(False)
    for one, other in zip(found, others, strict=True):
        assert_same_bits(one, other)
    assert_same_bits(numbers, other_numbers)
    assert_same_bits(found[1], found[2])
    assert not np.array_equal(found[0], found[1])


def test_bad_input_is_named():
    norm = nn.LayerNorm()
    norm(pe.zeros((2, 4)))
    with pytest.raises(pe.OpShapeError, match="LayerNorm: expected 4 features"):
        norm(pe.zeros((2, 5)))
    with pytest.raises(pe.OpShapeError, match="BatchNorm: expected at least 2 axes"):
        nn.BatchNorm()(pe.zeros((4,)))
    with pytest.raises(pe.OpShapeError, match="4 groups do not divide 6 channels"):
        nn.GroupNorm(4)(pe.zeros((2, 6)))
    with pytest.raises(pe.StateError, match="epsilon"):
        nn.RMSNorm(epsilon=0.0)
    with pytest.raises(pe.StateError, match="momentum"):
        nn.BatchNorm(momentum=1.5)
    with pytest.raises(pe.StateError, match="group"):
        nn.GroupNorm(0)


def test_an_empty_batch_does_not_spoil_the_running_statistics():
    norm = nn.BatchNorm()
    norm(X)
    before = numbers_of(norm)
    for call in (norm, pe.jit(lambda x: norm(x))):
        with pytest.raises(pe.DataError, match=r"BatchNorm: the batch \(0, 2, 5, 6\) is empty"):
            call(X[:0])
    assert_same_bits(numbers_of(norm), before)
    assert norm.eval()(X[:0]).shape == (0, 2, 5, 6)
