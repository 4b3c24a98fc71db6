"""Are products of bfloat16 summed in pairs as page 0002 of docs/design says, whatever the cut?"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pellucid as pe
from pellucid.core.dtype import bfloat16
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.product import define_product
from pellucid.engines.llvm.target import AVX512, AVX512_BF16, AVX512_VNNI, Isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.tile_choice import choose_tiling
from tests.engines.llvm.test_product import (
    HOST,
    SHAPES,
    fma_to_odd,
    laid_out,
    multiply,
    multiply_generic,
    random,
    same,
    spec_of,
)

Array = NDArray[Any]
LEAST = 2.0**-126
"""The smallest normal number of float32, and of bfloat16."""

needs_pairs = pytest.mark.skipif(
    not HOST.pairs_bfloat16, reason="this machine, or PELLUCID_ISA, has no AVX512-BF16"
)


def flushed(array: Array) -> Array:
    """Zeros of the same sign for numbers too small to be normal."""
    return np.where(np.abs(array) < LEAST, np.copysign(np.float32(0), array), array)


def step(lhs: Array, rhs: Array, addend: Array) -> Array:
    """One multiply-add of the instruction: as `fma`, but what is subnormal is zero.

    A result is subnormal if it is less than the smallest normal number when rounded to 24 bits.
    """
    total = fma_to_odd(flushed(lhs), flushed(rhs), flushed(addend))
    # Scaled up, all 24 bits are kept.
    small = np.abs((total * 2.0**100).astype(np.float32)) < LEAST * 2.0**100
    result = total.astype(np.float32)
    return np.where(small, np.copysign(np.float32(0), result), result)


def in_pairs(lhs: Array, rhs: Array) -> Array:
    """The sums of page 0002: of each pair of k's the second product first, then the first."""
    x, y = (array.astype(np.float32) for array in (lhs, rhs))
    depth = x.shape[-1]
    size = max(8, ceil(ceil(depth / max(1, ceil(depth / 512))) / 8) * 8)
    total: Any = None
    for start in range(0, max(depth, 1), size):
        acc = np.zeros((x.shape[-2], y.shape[-1]), np.float32)
        for k in range(start, min(depth, start + size), 2):
            for at in (k + 1, k):
                if at < depth:
                    acc = step(x[:, at, None], y[None, at], acc)
                else:
                    acc = step(np.float32(0), np.float32(0), acc)
        total = acc if total is None else total + acc
    return total.astype(bfloat16.numpy)


@needs_pairs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_result_is_the_chain_of_pairs(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    lhs, rhs = (random(s, seed=s[0]).astype(bfloat16.numpy) for s in ((m, k), (k, n)))
    wanted = in_pairs(lhs, rhs)
    for layouts in ("NN", "TN", "NT", "SS"):
        x, y = laid_out(lhs, layouts[0]), laid_out(rhs, layouts[1])
        same(multiply(x, y), wanted)
        same(multiply_generic(x, y), wanted)


@needs_pairs
def test_numbers_far_apart_show_the_order() -> None:
    rng = np.random.default_rng(0)
    lhs, rhs = (
        (rng.standard_normal(s) * 2.0 ** rng.integers(-12, 12, s)).astype(bfloat16.numpy)
        for s in ((20, 37), (37, 40))
    )
    same(multiply(lhs, rhs), in_pairs(lhs, rhs))


@needs_pairs
def test_what_is_subnormal_is_zero() -> None:
    rows = 2.0 ** np.arange(-80, -40)[:, None]
    lhs = (random((40, 36)) * rows).astype(bfloat16.numpy)
    rhs = (random((36, 40), seed=1) * 2.0**-63).astype(bfloat16.numpy)
    # Operands that are subnormal themselves, and factors that would make normal products of them.
    lhs[:, 3], rhs[3] = 2.0**-130, 2.0**100
    found = multiply(lhs, rhs)
    same(found, in_pairs(lhs, rhs))
    assert (found == 0).any()
    assert (found != 0).any()


@needs_pairs
def test_what_rounds_to_a_normal_number_is_kept() -> None:
    # 2^-126 less 2^-150, 2^-151 and 3 * 2^-152: the first and the last have 24 bits below 2^-126.
    lhs = np.array([[-(2.0**-75), 2.0**-63]], bfloat16.numpy)
    rhs = np.array([[2.0**-75, 2.0**-76, 1.5 * 2.0**-76]], bfloat16.numpy)
    rhs = np.concatenate([rhs, np.full((1, 3), 2.0**-63, bfloat16.numpy)])
    np.testing.assert_array_equal(multiply(lhs, rhs)[0], [0, LEAST, 0])


@needs_pairs
@pytest.mark.parametrize("vector_bits", [128, 256, 512])
def test_width_of_vectors_changes_no_bit(vector_bits: int) -> None:
    isa = replace(AVX512, features=HOST.features, vector_bits=vector_bits)
    lhs, rhs = (random(s, seed=s[0]).astype(bfloat16.numpy) for s in ((13, 523), (523, 41)))
    same(multiply(lhs, rhs, isa), multiply(lhs, rhs))


@pytest.mark.parametrize("depth", [44, 603])
def test_products_lane_by_lane_have_the_bits_of_each_alone(depth: int) -> None:
    x, w = (random((depth, 50), seed=seed).astype(bfloat16.numpy) for seed in (0, 1))
    columns = zip(x.T, w.T, strict=True)
    each = [np.asarray(pe.asarray(left) @ pe.asarray(right)) for left, right in columns]

    def product(x: pe.Tensor, w: pe.Tensor) -> pe.Tensor:
        return pe.vecdot(x, w, axis=0)

    for run in (product, pe.jit(product)):
        same(np.asarray(run(pe.asarray(x), pe.asarray(w))), np.stack(each))


def test_short_lines_have_the_bits_of_one_long_one() -> None:
    lines, w = (random(s, seed=s[0]).astype(bfloat16.numpy) for s in ((6, 5, 33), (33, 40)))
    wanted = np.asarray(pe.asarray(lines.reshape(30, 33)) @ pe.asarray(w)).reshape(6, 5, 40)
    apart = pe.asarray(np.ascontiguousarray(lines.swapaxes(0, 1)))

    def product(x: pe.Tensor, w: pe.Tensor) -> pe.Tensor:
        return pe.moveaxis(x, 0, 1) @ w

    for run in (product, pe.jit(product)):
        same(np.asarray(run(apart, pe.asarray(w))), wanted)


@pytest.mark.parametrize(("isa", "pairs"), [(AVX512_BF16, True), (AVX512_VNNI, False)], ids=str)
def test_the_set_decides(isa: Isa, pairs: bool) -> None:
    lhs, rhs = np.zeros((28, 512), bfloat16.numpy), np.zeros((512, 64), bfloat16.numpy)
    spec = spec_of(lhs, rhs, np.zeros((28, 64), bfloat16.numpy))
    module = Module(isa)
    define_product(module, "product", spec, choose_tiling(spec, isa))
    assert ("vdpbf16ps" in jit.assembly(module.text(), isa)) == pairs
