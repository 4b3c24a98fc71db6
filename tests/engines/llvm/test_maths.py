"""Elementary functions: within their stated ulp, right at special values, equal in any width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.engines.llvm import maths
from pellucid.engines.llvm.jit import assembly
from pellucid.engines.llvm.target import AVX2, AVX512, ISAS, SSE2, Isa, host_isa
from tests.engines.llvm.running import elementwise_text, run

NAMES = ("exp", "expm1", "log", "log1p", "tanh")
# Largest errors in ulp: what the docstrings of maths.py say.
BOUND = {"exp": 1.0, "expm1": 1.2, "log": 1.0, "log1p": 1.0, "tanh": 1.5}
HERE = tuple(isa for isa in ISAS if isa.vector_bits <= host_isa().vector_bits)
EDGES = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 2.0, 20.0, -20.0, 1e-20, -1e-20]


def samples(name: str, dtype: type[np.floating], count: int) -> NDArray[Any]:
    """Inputs over the whole range, dense where the function is delicate, and edges."""
    random = np.random.default_rng(7)
    info = np.finfo(dtype)
    top = float(np.log(info.max))
    near, wide = random.uniform(-2, 2, count), random.uniform(-1.2 * top, 1.1 * top, count)
    tiny = 10.0 ** random.uniform(np.log10(info.smallest_subnormal), 0, count)
    huge = 10.0 ** random.uniform(0, np.log10(info.max), count)
    mine = {"log": (tiny, huge, abs(near)), "log1p": (tiny, -tiny, huge, abs(near))}
    parts = mine.get(name, (near, wide, tiny, -tiny, near / 10))
    edges = [*EDGES, info.max, -info.max, info.tiny, info.smallest_subnormal, top, -top]
    x = np.concatenate([*parts, edges]).astype(dtype)
    return np.resize(x, x.size // 16 * 16 + 16)


def distance(got: float, true: mpmath.mpf, info: np.finfo) -> float:
    """Distance in units of the last place; infinite where a special value is wrong."""
    if mpmath.isnan(true):
        return 0.0 if np.isnan(got) else np.inf
    if abs(true) >= mpmath.mpf(2) ** info.maxexp:
        return 0.0 if got == np.inf * mpmath.sign(true) else np.inf
    if not np.isfinite(got):
        return np.inf
    least = int(info.minexp)
    exponent = least if true == 0 else max(int(mpmath.floor(mpmath.log(abs(true), 2))), least)
    return float(abs(mpmath.mpf(got) - true) / mpmath.mpf(2) ** (exponent - info.nmant))


def true_value(name: str, x: float) -> mpmath.mpf:
    if name in ("log", "log1p"):
        pole = 0.0 if name == "log" else -1.0
        if x == pole:
            return mpmath.mpf("-inf")
        if x < pole:
            return mpmath.mpf("nan")
    return getattr(mpmath, name)(mpmath.mpf(x))


def body(name: str) -> Callable[..., Any]:
    return getattr(maths, name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_are_within_their_ulp(name: str, dtype: type[np.floating]) -> None:
    x = samples(name, dtype, 250)
    with mpmath.workprec(140):
        true = [true_value(name, float(value)) for value in x]
    for isa in {isa.bit_class: isa for isa in HERE}.values():
        got = run(body(name), isa, x)
        with mpmath.workprec(140):
            far = [distance(float(g), t, np.finfo(dtype)) for g, t in zip(got, true, strict=True)]
        worst = int(np.argmax(far))
        assert far[worst] <= BOUND[name], f"{isa.name}: {name}({x[worst]!r}) = {got[worst]!r}"


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64_on_a_dense_sample(name: str) -> None:
    bits = np.arange(0, 1 << 32, 8191 * 4, dtype=np.uint64).astype(np.uint32)
    x = np.resize(bits, bits.size // 16 * 16).view(np.float32)
    with np.errstate(all="ignore"):
        true = getattr(np, name)(x.astype(np.float64))
        nearest = true.astype(np.float32)
    for isa in HERE:
        got = run(body(name), isa, x)
        finite = np.isfinite(nearest)
        assert ((got == nearest) | finite | (np.isnan(got) & np.isnan(nearest))).all()
        exponent = np.maximum(np.frexp(true[finite])[1], -125)
        ulps = np.abs(got[finite] - true[finite]) * np.ldexp(1.0, 24 - exponent)
        assert ulps.max() <= BOUND[name]


@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_sign_of_zero_is_kept(name: str, dtype: type[np.floating]) -> None:
    zeros = np.array([0.0, -0.0] * 4, dtype)
    for isa in HERE:
        assert np.signbit(run(body(name), isa, zeros)).tolist() == [False, True] * 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_bits_are_the_same_in_every_width(name: str, dtype: Any, isa: Isa) -> None:
    x = samples(name, dtype, 64)
    unsigned = f"u{np.dtype(dtype).itemsize}"
    by_width = [run(body(name), isa, x, lanes=lanes).view(unsigned) for lanes in (1, 2, 8, 16)]
    assert all((bits == by_width[0]).all() for bits in by_width)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_no_library_function_is_called(isa: Isa) -> None:
    for name in NAMES:
        for dtype in (np.float32, np.float64):
            text = elementwise_text(body(name), isa, dtype, dtype, isa.lanes(32))
            assert "call" not in assembly(text, isa)


def test_multiply_add_is_fused_by_bit_class_alone() -> None:
    def emitted(isa: Isa) -> str:
        return assembly(elementwise_text(maths.exp, isa, np.float32, np.float32, 8), isa)

    assert "vfmadd" in emitted(AVX2)
    assert "vfmadd" in emitted(AVX512)
    assert "fmadd" not in emitted(SSE2)
