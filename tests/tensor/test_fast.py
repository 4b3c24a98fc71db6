"""Does `jit(fast=True)` change rounding where it may, there alone, and the same way every time?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pellucid as pe
from pellucid.engines.llvm import cache


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
