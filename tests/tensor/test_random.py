"""Are random numbers reproducible, independent of what else is drawn, and rightly distributed?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.tensor.random import Generator
from tests.tensor.training import assert_same_bits

MANY = (200, 500)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    pe.random.seed(0)


def test_a_seed_makes_a_program_reproducible():
    def draw() -> list[Any]:
        return [np.array(pe.random.normal((3,))), np.array(pe.random.integers(0, 9, (4,)))]

    first = draw()
    again = draw()
    pe.random.seed(0)
    for found, expected in zip(draw(), first, strict=True):
        assert_same_bits(found, expected)
    assert not np.array_equal(first[0], again[0])


def test_another_seed_gives_other_numbers():
    first = np.array(pe.random.bits((8,)))
    pe.random.seed(1)
    assert not np.array_equal(first, np.asarray(pe.random.bits((8,))))


def test_dropping_a_draw_shifts_no_other():
    def last(use: bool) -> Any:
        pe.random.seed(0)

        def run() -> pe.Tensor:
            noise = pe.random.normal((100,))
            kept = pe.random.uniform((3,))
            return kept + noise.sum() * 0.0 if use else kept

        return np.array(pe.jit(run)())

    assert_same_bits(last(True), last(False))


def test_a_draws_size_shifts_no_other():
    def second(size: int) -> Any:
        pe.random.seed(0)
        pe.random.normal((size,))
        return np.array(pe.random.uniform((3,)))

    assert_same_bits(second(1), second(1000))


def test_a_longer_draw_begins_with_the_shorter_one():
    short = np.array(pe.random.bits((5,)))
    pe.random.seed(0)
    assert_same_bits(np.array(pe.random.bits((50,)))[:5], short)


def test_generators_are_independent_and_equal_by_seed():
    one, same, other = Generator(7), Generator(7), Generator(8)
    first = np.array(one.uniform((4,)))
    pe.random.uniform((9,))
    assert_same_bits(same.uniform((4,)), first)
    assert not np.array_equal(other.uniform((4,)), first)
    assert int(one.draws) == 1


def test_eager_and_compiled_draws_come_in_one_order():
    def run() -> tuple[pe.Tensor, ...]:
        return pe.random.uniform((2,)), pe.random.bits((3,)), pe.random.bernoulli(0.5, (4,))

    eager = [np.array(x) for _ in range(3) for x in run()]
    pe.random.seed(0)
    compiled = pe.jit(run)
    found = [np.array(x) for _ in range(3) for x in compiled()]
    for left, right in zip(found, eager, strict=True):
        assert_same_bits(left, right)
    assert len(compiled.entries) == 1
    assert not compiled.why


@pytest.mark.parametrize("kind", ["whole", "training"])
def test_layers_that_draw_lazily_draw_in_eagers_order(kind: str):
    x = pe.ones((4, 3))

    def run(compiled: bool) -> list[Any]:
        pe.random.seed(9)
        model = nn.Sequential([nn.Dense(5), nn.Dropout(0.4), nn.Dense(2), nn.Dropout(0.4)])
        model.train(kind == "training")
        call = pe.jit(lambda x: model(x)) if compiled else model
        found = [np.array(call(x)) for _ in range(3)]
        return [*found, np.array(pe.random.bits((2,))), *map(np.array, model.parameters())]

    for left, right in zip(run(True), run(False), strict=True):
        assert_same_bits(left, right)


def test_dropout_differs_from_call_to_call_under_jit():
    model = nn.Dropout(0.5)
    run = pe.jit(lambda x: model(x))
    x = pe.ones((64,))
    assert not np.array_equal(run(x), run(x))


def test_a_generator_of_ones_own_under_jit():
    own, same = Generator(3), Generator(3)
    run = pe.jit(lambda: own.uniform((4,)))
    for _ in range(3):
        assert_same_bits(run(), same.uniform((4,)))
    assert int(own.draws) == 3


def test_seeding_inside_a_traced_function_is_an_error():
    with pytest.raises(pe.RandomError, match="outside the traced function"):
        pe.jit(lambda: pe.random.seed(1))()


def test_seeding_after_compiling_takes_effect():
    run = pe.jit(lambda: pe.random.uniform((3,)))
    first = np.array(run())
    run()
    pe.random.seed(0)
    assert_same_bits(run(), first)
    assert not run.why


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_bad_seed_is_an_error(seed: int):
    with pytest.raises(pe.RandomError, match="from 0 to 2\\*\\*64 - 1"):
        pe.random.seed(seed)
    with pytest.raises(TypeError):
        pe.random.seed(1.5)  # pyright: ignore[reportArgumentType]


def test_a_large_seed_is_told_from_its_low_word():
    pe.random.seed(2**40 + 5)
    first = np.array(pe.random.bits((4,)))
    pe.random.seed(5)
    assert not np.array_equal(first, np.asarray(pe.random.bits((4,))))


def test_the_bits_are_philox():
    # Known answer of the Philox 4x32-10 reference: key 0, counter 0.
    found = np.asarray(pe.random.bits((4,)))
    assert [f"{word:08x}" for word in found] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


DRAWS = {
    "bits": lambda: pe.random.bits((5, 3)),
    "integers": lambda: pe.random.integers(-5, 100, (33,)),
    "uniform": lambda: pe.random.uniform((17,), -2.0, 3.0),
    "uniform float64": lambda: pe.random.uniform((17,), dtype="float64"),
    "uniform float16": lambda: pe.random.uniform((17,), dtype="float16"),
    "bernoulli": lambda: pe.random.bernoulli(0.3, (65,)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_exact_draws_are_the_same_on_every_engine(name: str):
    found: list[Any] = []
    for engine in pe.devices():
        with pe.device(engine):
            pe.random.seed(12)
            found += [np.array(DRAWS[name]()), np.array(pe.jit(DRAWS[name])())]
    for index in (2, 3):
        assert_same_bits(found[index], found[index - 2])


def test_normal_draws_on_every_engine_agree_within_rounding():
    found: list[Any] = []
    for engine in pe.devices():
        with pe.device(engine):
            pe.random.seed(12)
            found.append(np.array(pe.random.normal((1000,))))
    np.testing.assert_allclose(found[0], found[1], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["normal", "truncated_normal"])
def test_many_normal_draws_are_made_in_pieces_to_the_same_bits(name: str):
    shape = (3, 91_000)
    eager = getattr(Generator(5), name)(shape)
    assert eager.shape == shape
    compiled = Generator(5)
    found = pe.jit(lambda: getattr(compiled, name)(shape))()
    assert_same_bits(np.asarray(eager), np.asarray(found))


def test_uniform_draws_have_the_moments_and_the_range():
    x = np.asarray(pe.random.uniform(MANY, -1.0, 3.0)).astype(np.float64)
    assert x.min() >= -1.0
    assert x.max() < 3.0
    assert x.mean() == pytest.approx(1.0, abs=0.02)
    assert x.var() == pytest.approx(16 / 12, rel=0.02)
    counts, _ = np.histogram(x, 16, (-1.0, 3.0))
    assert np.abs(counts / x.size - 1 / 16).max() < 0.004


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_uniform_draws_in_any_floating_dtype(dtype: str):
    x = pe.random.uniform((2000,), dtype=dtype)
    assert x.dtype.name == dtype
    values = np.asarray(x).astype(np.float64)
    assert values.min() >= 0.0
    assert values.max() <= 1.0
    assert values.mean() == pytest.approx(0.5, abs=0.03)


def test_float64_draws_have_53_bits():
    x = np.asarray(pe.random.uniform((1000,), dtype="float64"))
    assert np.array_equal(x * 2.0**53, np.round(x * 2.0**53))
    assert not np.array_equal(x * 2.0**32, np.round(x * 2.0**32))


def test_normal_draws_have_the_moments():
    x = np.asarray(pe.random.normal(MANY, 2.0, 3.0)).astype(np.float64)
    z = (x - 2.0) / 3.0
    assert z.mean() == pytest.approx(0.0, abs=0.015)
    assert z.var() == pytest.approx(1.0, abs=0.02)
    assert (z**3).mean() == pytest.approx(0.0, abs=0.04)
    assert (z**4).mean() == pytest.approx(3.0, abs=0.1)
    assert (np.abs(z) > 1.959964).mean() == pytest.approx(0.05, abs=0.004)
    assert np.isfinite(z).all()


def test_whole_numbers_have_the_range_and_no_bias():
    x = np.asarray(pe.random.integers(-3, 4, MANY))
    assert set(np.unique(x)) == set(range(-3, 4))
    counts = np.bincount((x + 3).ravel()) / x.size
    assert np.abs(counts - 1 / 7).max() < 0.005
    assert pe.random.integers(0, 2**32, (3,)).dtype is pe.int64
    assert np.asarray(pe.random.integers(5, 6, (9,))).tolist() == [5] * 9
    assert pe.random.integers(0, 9, (3,), dtype="uint8").dtype is pe.uint8


@pytest.mark.parametrize(("low", "high"), [(3, 3), (5, 2), (0, 2**32 + 1)])
def test_an_empty_or_too_wide_range_is_an_error(low: int, high: int):
    with pytest.raises(pe.RandomError, match="integers: expected 1 to 2\\*\\*32 numbers"):
        pe.random.integers(low, high, (2,))


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_coin_throws_have_the_probability(probability: float):
    x = np.asarray(pe.random.bernoulli(probability, MANY))
    assert x.dtype == np.bool_
    assert x.mean() == pytest.approx(probability, abs=0.01)


def test_bounds_may_be_tensors():
    low = pe.asarray([[0.0], [10.0]])
    x = np.asarray(pe.random.uniform((2, 100), low, low + 1.0))
    assert x[0].max() < 1.0 <= 10.0 <= x[1].min()


def test_a_whole_dtype_is_an_error():
    with pytest.raises(pe.RandomError, match="expected a floating dtype, got int32"):
        pe.random.uniform((2,), dtype="int32")


def test_odd_shapes():
    assert pe.random.normal().shape == ()
    assert pe.random.uniform(3).shape == (3,)
    assert pe.random.bits((0, 4)).shape == (0, 4)
    assert pe.random.uniform((2, 0), dtype="float64").shape == (2, 0)
