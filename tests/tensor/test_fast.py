"""Does `jit(fast=True)` change rounding where it may, there alone, and the same way every time?"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.engines.llvm import cache
from pellucid.ir.graph import walk
from pellucid.passes import recognise_attention
from tests import spellings_of_attention as spelled

Arrays = tuple[pe.Tensor, ...]


def thirds(x: pe.Tensor) -> pe.Tensor:
    return pe.sum(x / 3.0 + x / 7.0, axis=0)


def numbers() -> pe.Tensor:
    return pe.asarray(np.random.default_rng(0).normal(size=(300, 70)).astype(np.float32))


def bits(x: pe.Tensor) -> bytes:
    return np.asarray(x).tobytes()


def test_without_fast_nothing_is_rewritten_and_no_bit_changes() -> None:
    x = numbers()
    exact = pe.jit(thirds)
    assert bits(exact(x)) == bits(thirds(x))
    assert exact.compile(x).rewrites == ()


def test_with_fast_rounding_changes_and_is_accounted_for() -> None:
    x = numbers()
    fast = pe.jit(thirds, fast=True)
    assert bits(fast(x)) != bits(thirds(x))
    np.testing.assert_allclose(fast(x), thirds(x), rtol=1e-4, atol=1e-5)
    (rewrite,) = fast.compile(x).rewrites
    assert (rewrite.name, rewrite.times) == ("divide_by_numbers", 2)


@pytest.mark.parametrize("fast", ["yes", 1, None])
def test_fast_is_true_or_false(fast: Any) -> None:
    with pytest.raises(pe.ConfigError, match=r"jit: expected fast=True or fast=False, got fast="):
        pe.jit(thirds, fast=fast)


def test_it_is_a_decorator_with_and_without_options() -> None:
    @pe.jit(fast=True)
    def third(x: pe.Tensor) -> pe.Tensor:
        return x / 3.0

    assert third.compile(numbers()).rewrites
    assert bits(third(numbers())) == bits(pe.jit(lambda x: x / 3.0, fast=True)(numbers()))


def test_a_function_that_is_called_in_another_follows_that_one() -> None:
    x = numbers()
    inner = pe.jit(thirds, fast=True)
    assert bits(pe.jit(lambda x: inner(x) + 0.0)(x)) == bits(thirds(x) + 0.0)


def test_results_are_those_of_any_number_of_threads() -> None:
    x, before = numbers(), pe.get_threads()
    fast = pe.jit(thirds, fast=True)
    found: set[bytes] = set()
    try:
        for threads in (1, 2, 3, 5):
            pe.set_threads(threads)
            found.add(bits(fast(x)))
    finally:
        pe.set_threads(before)
    assert len(found) == 1


def test_programs_with_and_without_are_two_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_caches", {})
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(tmp_path / "kernels"))
    x = numbers()
    for _ in range(2):
        # The second time both are linked from the cache.
        assert bits(pe.jit(thirds)(x)) == bits(thirds(x))
        fast = pe.jit(thirds, fast=True)
        assert bits(fast(x)) != bits(thirds(x))
        assert fast.compile(x).rewrites


def test_tuning_keeps_the_bits_of_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_caches", {})
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(tmp_path / "kernels"))
    x, fast = numbers(), pe.jit(thirds, fast=True)
    before = bits(fast(x))
    pe.tune(fast, x, seconds=0.1)
    assert bits(fast(x)) == before


# Attention, however few its scores.


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognise_attention, "LEAST_SCORES", 0)


def operands(rows: int = 12, dtype: Any = np.float32) -> Arrays:
    draws = np.random.default_rng(0)
    shapes = (2, 4, rows, 16), (2, 4, rows, 16), (2, 4, rows, 8)
    return tuple(pe.asarray(draws.normal(size=shape).astype(dtype)) for shape in shapes)


def loss(*arrays: pe.Tensor) -> pe.Tensor:
    return pe.sum(pe.sin(spelled.by_places(*arrays) * 3.0))


def ops_of(compiled: Any) -> Counter[str]:
    return Counter(node.op.name for node in walk(compiled.executable.graph))


def errors(function: Any) -> list[float]:
    """How far float32 is from float64, by default and with fast; the largest of all results."""
    exact = [np.asarray(x) for x in pe.jit(function)(*operands(60, np.float64))]
    found: list[float] = []
    for fast in (False, True):
        results = pe.jit(function, fast=fast)(*operands(60))
        pairs = zip(results, exact, strict=True)
        found.append(max(float(np.max(abs(np.asarray(x) - y))) for x, y in pairs))
    return found


def test_a_recognised_attention_is_as_accurate_as_it_was() -> None:
    for function in (lambda *xs: [spelled.by_places(*xs)], pe.grad(loss, argnums=(0, 1, 2))):
        exact, fast = errors(function)
        assert 0.0 < fast <= 1.5 * exact


def test_the_derivative_of_a_function_is_that_of_the_op() -> None:
    gradient = pe.jit(pe.grad(loss, argnums=(0, 1, 2)), fast=True)
    compiled = gradient.compile(*operands())
    assert [one.name for one in compiled.rewrites] == ["recognise_attention"]
    ops = ops_of(compiled)
    assert (ops["attention"], ops["attention_gradient"], ops["exp"]) == (1, 1, 0)


def test_second_derivatives_are_those_of_what_was_written() -> None:
    def second(*arrays: pe.Tensor) -> pe.Tensor:
        return pe.grad(lambda q: pe.sum(pe.square(pe.grad(loss)(q, *arrays[1:]))))(arrays[0])

    found, wanted = (pe.jit(second, fast=fast)(*operands()) for fast in (True, False))
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3)


class Looking(nn.Module):
    """A layer that spells its attention, with a mask made where it is used."""

    def __init__(self) -> None:
        self.query, self.key, self.value = nn.Dense(16), nn.Dense(16), nn.Dense(8)

    def forward(self, x: pe.Tensor, dropped: bool = False) -> pe.Tensor:
        scores = self.query(x) @ pe.matrix_transpose(self.key(x)) / 4.0
        hidden = pe.triu(pe.full(scores.shape[-2:], -math.inf), k=1)
        weights = nn.softmax(scores + hidden)
        return (pe.stop_gradient(weights) if dropped else weights) @ self.value(x)


def taught(fast: bool, dropped: bool = False) -> tuple[Any, list[bytes], list[Any]]:
    """A compiled step, and the state of the model and its losses after some."""
    pe.random.seed(0)
    model = nn.Sequential([Looking()])
    optimizer = optim.SGD(model, learning_rate=0.1)
    x = pe.asarray(np.random.default_rng(1).normal(size=(3, 10, 6)).astype(np.float32))

    @pe.jit(fast=fast)
    def step(x: pe.Tensor) -> pe.Tensor:
        value = pe.mean(pe.square(model.layers[0](x, dropped) - 1.0))
        value.backward()
        optimizer.step()
        return value

    losses = [step(x) for _ in range(4)]
    state = [np.asarray(one.value) for one in model.parameters()]
    return step.compile(x), [one.tobytes() for one in state], [*losses, *state]


def test_backward_goes_through_the_op() -> None:
    compiled, _, fast = taught(fast=True)
    ops = ops_of(compiled)
    assert (ops["attention"], ops["attention_gradient"], ops["exp"]) == (1, 1, 0)
    names = {one.name: one.times for one in compiled.rewrites}
    assert names["recognise_attention in backward"] == names["recognise_attention"] == 1
    for one, other in zip(fast, taught(fast=False)[2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_where_it_was_stopped() -> None:
    compiled, _, fast = taught(fast=True, dropped=True)
    assert ops_of(compiled)["attention_gradient"] == 0
    for one, other in zip(fast, taught(fast=False, dropped=True)[2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_fast_training_is_the_same_for_any_number_of_threads() -> None:
    before, found = pe.get_threads(), set[tuple[bytes, ...]]()
    try:
        for threads in (1, 2, 3, 5):
            pe.set_threads(threads)
            found.add(tuple(taught(fast=True)[1]))
    finally:
        pe.set_threads(before)
    assert len(found) == 1


def test_a_mask_from_outside_is_seen_to_be_one() -> None:
    mask = pe.asarray(np.tril(np.ones((12, 12), bool)))
    function = pe.jit(lambda q, k, v: spelled.by_added_mask(q, k, v, mask), fast=True)
    compiled = function.compile(*operands())
    assert [one.times for one in compiled.rewrites] == [1]
    np.testing.assert_allclose(
        function(*operands()), spelled.by_added_mask(*operands(), mask), rtol=1e-4, atol=1e-5
    )
