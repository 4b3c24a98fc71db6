"""Do products take the dtype they are asked for, from exact products of narrow operands?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.engines.llvm.target import host_isa

Product = Callable[[pe.Tensor, pe.Tensor], pe.Tensor]

PRODUCTS: dict[str, Callable[..., pe.Tensor]] = {
    "matmul": pe.matmul,
    "tensordot": lambda x, w, dtype: pe.tensordot(x, w, axes=1, dtype=dtype),
    "vecdot": lambda x, w, dtype: pe.vecdot(x[:, None], w.mT[None], dtype=dtype),
}
INTEGERS = [("int8", "int32"), ("int16", "int32"), ("uint8", "int32"), ("uint8", "uint32")]


def integers(dtype: str, shape: tuple[int, ...], seed: int) -> pe.Tensor:
    info = np.iinfo(dtype)
    generator = np.random.default_rng(seed)
    return pe.asarray(generator.integers(info.min, info.max, shape, dtype, endpoint=True))


def normal(dtype: str, shape: tuple[int, ...], seed: int) -> pe.Tensor:
    return pe.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def assert_same(found: pe.Tensor, wanted: Any) -> None:
    wanted = np.asarray(wanted)
    assert (found.dtype.name, found.shape) == (wanted.dtype.name, wanted.shape)
    assert np.asarray(found).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize(("own", "wide"), INTEGERS)
def test_integers_are_multiplied_in_the_dtype_asked_for(name: str, own: str, wide: str) -> None:
    x, w = integers(own, (7, 90), 0), integers(own, (90, 11), 1)
    wanted = np.matmul(np.asarray(x), np.asarray(w), dtype=wide)
    run: Product = lambda x, w: PRODUCTS[name](x, w, dtype=wide)  # noqa: E731
    assert_same(run(x, w), wanted)
    assert_same(pe.jit(run)(x, w), wanted)


def test_a_turned_product_keeps_its_dtype() -> None:
    x, w = integers("int8", (90, 7), 0), integers("int8", (11, 90), 1)

    def product(x: pe.Tensor, w: pe.Tensor) -> pe.Tensor:
        return pe.matmul(x.mT, w.mT, dtype="int32").mT

    wanted = np.matmul(np.asarray(x).T, np.asarray(w).T, dtype=np.int32).T
    assert_same(pe.jit(product)(x, w), np.ascontiguousarray(wanted))


@pytest.mark.parametrize("own", ["bfloat16", "float16"])
def test_sums_of_16_bit_floats_are_those_of_the_operands_in_float32(own: str) -> None:
    x, w = normal(own, (5, 700), 0), normal(own, (700, 33), 1)
    if own == "bfloat16" and host_isa().pairs_bfloat16:
        # Summed in an order of its own: of whole numbers, every order gives the sum.
        x, w = pe.round(x * 16), pe.round(w * 16)
    wanted = x.astype("float32") @ w.astype("float32")
    kept = pe.matmul(x, w, dtype="float32")
    assert_same(kept, wanted)
    assert_same(pe.jit(lambda x, w: pe.matmul(x, w, dtype="float32"))(x, w), wanted)
    assert_same(x @ w, wanted.astype(own))


@pytest.mark.parametrize(("own", "wide"), [("float32", "float64"), ("int8", "float32")])
def test_any_other_dtype_is_that_of_the_operands_first(own: str, wide: str) -> None:
    x, w = pe.asarray([[1, 2]], dtype=own), pe.asarray([[3], [4]], dtype=own)
    assert_same(pe.matmul(x, w, dtype=wide), x.astype(wide) @ w.astype(wide))


def test_a_dtype_that_does_not_hold_the_operands_is_refused() -> None:
    x = pe.ones((2, 2))
    with pytest.raises(pe.OpTypeError, match=r"matmul: expected a dtype that holds every float32"):
        pe.matmul(x, x, dtype="int32")
    with pytest.raises(pe.OpTypeError, match=r"astype\('bfloat16'\)"):
        pe.matmul(x, x, dtype="bfloat16")


@pytest.mark.parametrize("own", ["bfloat16", "float16"])
def test_the_derivative_is_computed_with_all_digits_and_rounded_once(own: str) -> None:
    x, w, g = normal(own, (4, 60), 0), normal(own, (60, 9), 1), normal("float32", (4, 9), 2)

    def loss(x: pe.Tensor, w: pe.Tensor) -> pe.Tensor:
        return pe.sum(pe.matmul(x, w, dtype="float32") * g)

    left, right = pe.grad(loss, argnums=(0, 1))(x, w)
    assert_same(left, (g @ w.astype("float32").T).astype(own))
    assert_same(right, (x.astype("float32").T @ g).astype(own))


def test_batches_of_one_operand_and_of_both() -> None:
    x, w = integers("int8", (3, 5, 40), 0), integers("int8", (3, 40, 6), 1)

    def product(x: pe.Tensor, w: pe.Tensor) -> pe.Tensor:
        return pe.matmul(x, w, dtype="int32")

    wanted = np.matmul(np.asarray(x), np.asarray(w), dtype=np.int32)
    assert_same(pe.vmap(product)(x, w), wanted)
    one = pe.vmap(product, in_axes=(None, 0))(x[0], w)
    assert_same(one, np.matmul(np.asarray(x)[:1], np.asarray(w), dtype=np.int32))


def test_scale_bias_and_relu_of_an_int8_layer_give_the_same_bits_fused() -> None:
    x, w = integers("int8", (50, 300), 0), integers("int8", (300, 70), 1)
    scale, bias = normal("float32", (70,), 2), normal("float32", (70,), 3)

    def layer(x: pe.Tensor, w: pe.Tensor) -> pe.Tensor:
        sums = pe.matmul(x, w, dtype="int32").astype("float32")
        return pe.maximum(sums * scale + bias, 0.0)

    assert_same(pe.jit(layer)(x, w), layer(x, w))
