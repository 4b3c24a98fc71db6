"""Are the constant operands of compiled products kept as the engine reads them, and up to date?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.tensor.compiled import Compiled

DTYPES = {"bfloat16": "float32", "int8": "int32", "int16": "int32", "float32": None}


def numbers(dtype: str, *shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    if dtype.startswith("int"):
        return pe.asarray(rng.integers(-90, 90, shape, dtype))
    return pe.asarray(rng.standard_normal(shape, np.float32)).astype(dtype)


def assert_same(found: Any, wanted: Any) -> None:
    assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()


def keeps(function: Any, *args: Any) -> bool:
    made: Compiled = function.compile(*args)
    return made.program.steady is not None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 8])
def test_products_have_the_bits_of_eager_ones(dtype: str, rows: int) -> None:
    x, weights = numbers(dtype, rows, 640), pe.Variable(numbers(dtype, 101, 640))

    def product(x: pe.Tensor) -> pe.Tensor:
        return pe.matmul(x, weights.T, dtype=DTYPES[dtype])

    with pe.device("cpu"):
        compiled = pe.jit(product)
        assert_same(compiled(x), product(x))
        weights.assign(weights[::-1])
        assert_same(compiled(x), product(x))


def test_a_matrix_by_a_vector() -> None:
    weights, x = pe.Variable(numbers("float32", 96, 64)), numbers("float32", 64)
    with pe.device("cpu"):
        compiled = pe.jit(lambda x: weights @ x)
        assert keeps(compiled, x)
        assert_same(compiled(x), weights @ x)


def test_the_weights_of_a_step_that_assigns_them_are_not_kept() -> None:
    weights, x = pe.Variable(numbers("float32", 96, 64)), numbers("float32", 4, 64)

    @pe.jit
    def step(x: pe.Tensor) -> pe.Tensor:
        result = x @ weights.T
        weights.assign(weights * 0.5)
        return result

    with pe.device("cpu"):
        assert not keeps(step, x)


def test_products_of_many_rows_pack_as_they_go() -> None:
    weights, x = pe.Variable(numbers("float32", 96, 64)), numbers("float32", 40, 64)
    with pe.device("cpu"):
        assert not keeps(pe.jit(lambda x: x @ weights.T), x)


def test_layers_that_answer_have_the_bits_of_eager_ones() -> None:
    pe.random.seed(0)
    layers = [
        nn.Dense(64, activation="relu", dtype="bfloat16"),
        nn.MultiHeadAttention(4, dtype="bfloat16"),
        nn.Dense(101, dtype="bfloat16"),
    ]
    model, x = nn.Sequential(layers).eval(), numbers("bfloat16", 2, 3, 64)
    wanted = model(x)
    with pe.device("cpu"):
        compiled = pe.jit(lambda x: model(x))
        assert_same(compiled(x), wanted)
        kernel = layers[0].kernel
        kernel.assign(-kernel)
        assert_same(compiled(x), model(x))
