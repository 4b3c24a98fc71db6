"""The functions of the maths files: within their ulp, right at the edges, equal in any width.

How many ulp that is each op's card says. The truth is mpmath's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import as_dtype
from pellucid.engines.llvm import maths_powers
from pellucid.engines.llvm.elementary import OF_ONE, OF_TWO
from pellucid.engines.llvm.jit import assembly
from pellucid.engines.llvm.maths_gamma import polygamma
from pellucid.engines.llvm.target import ISAS, Isa, host_isa
from pellucid.ops import REGISTRY
from tests.engines.llvm.running import elementwise_text, run, run_pair
from tests.graphs import same_bits

HERE = tuple(isa for isa in ISAS if isa.vector_bits <= host_isa().vector_bits)
CLASSES = tuple({isa.bit_class: isa for isa in HERE}.values())
INF = mpmath.mpf("inf")
Number = Any


@dataclass(frozen=True)
class Known:
    """A function's true values (None for NaN), and where it is tried densely.

    At `turns` the emitted code changes its way: the neighbours of these numbers are tried as well.
    """

    true: Callable[..., Number]
    near: tuple[float, float] = (-10, 10)
    turns: tuple[float, ...] = ()


def on(low: float, high: float, function: Callable[..., Number]) -> Callable[..., Number]:
    """The function between two bounds, NaN outside."""
    return lambda x: function(x) if low <= x <= high else None


def gamma_log(x: Number) -> Number:
    if abs(x) == INF or (x <= 0 and x == mpmath.floor(x)):
        return INF
    return mpmath.re(mpmath.loggamma(x)) if x > 0 else mpmath.log(abs(mpmath.gamma(x)))


def psi(order: int) -> Callable[[Number], Number]:
    def true(x: Number) -> Number:
        if x == INF:
            return INF if order == 0 else mpmath.mpf(0)
        if x == 0:
            return INF if order % 2 else -INF
        if x < 0 and (x == -INF or x == mpmath.floor(x)):
            return INF if order % 2 and x > -INF else None
        return mpmath.psi(order, x)

    return true


def far(function: Callable[..., Number], below: Number, above: Number) -> Callable[..., Number]:
    """The function up to 1100 in size; beyond, what it has come to."""
    return lambda x: function(x) if abs(x) < 1100 else (above if x > 0 else below)


def angle(function: Callable[..., Number]) -> Callable[..., Number]:
    return lambda x: None if abs(x) == INF else function(x)


def logarithm(base: int) -> Callable[..., Number]:
    return lambda x: -INF if x == 0 else mpmath.log(x) / mpmath.log(base)


def cube_root(x: Number) -> Number:
    return x if abs(x) == INF else mpmath.sign(x) * mpmath.cbrt(abs(x))


def inverse_tanh(x: Number) -> Number:
    return x * INF if abs(x) == 1 else mpmath.atanh(x)


KNOWN = {
    "exp": Known(
        far(mpmath.exp, mpmath.mpf(0), INF),
        (-104, 89),
        (0.34657359, 88.72284, -87.33655, 709.78271, -708.3964, -745.13),
    ),
    "expm1": Known(
        far(mpmath.expm1, -mpmath.mpf(1), INF), (-2, 2), (0.34657359, -17.32868, -36.7368)
    ),
    "log": Known(
        on(0, INF, lambda x: mpmath.log(x) if x else -INF), (0.1, 4), (0.70710678, 1.41421356)
    ),
    "log1p": Known(
        on(-1, INF, lambda x: mpmath.log1p(x) if x > -1 else -INF),
        (-1, 2),
        (-0.29289322, 0.41421356),
    ),
    "tanh": Known(
        far(mpmath.tanh, -mpmath.mpf(1), mpmath.mpf(1)),
        (-2, 2),
        (0.125, -0.625, 1.375, 9.125, 19.06),
    ),
    "exp2": Known(
        far(lambda x: mpmath.mpf(2) ** x, mpmath.mpf(0), INF),
        (-130, 120),
        (0.5, 128, -149, -126, -1022),
    ),
    "log2": Known(on(0, INF, logarithm(2)), (0.5, 2), (0.70710678, 1.41421356)),
    "log10": Known(on(0, INF, logarithm(10)), (0.5, 2), (0.70710678, 1.41421356)),
    "rsqrt": Known(on(0, INF, lambda x: 1 / mpmath.sqrt(x) if x else INF), (0, 9)),
    "cbrt": Known(cube_root, turns=(0.125, 8, 27, 2.0**-126)),
    "sin": Known(angle(mpmath.sin), turns=(0.78539816, 3.14159265, 2.0**30)),
    "cos": Known(angle(mpmath.cos), turns=(0.78539816, 1.57079633, 2.0**30)),
    "tan": Known(angle(mpmath.tan), turns=(0.78539816, 1.57079633, 2.0**30)),
    "asin": Known(on(-1, 1, mpmath.asin), (-1, 1), (0.5, -0.5, 0.99999)),
    "acos": Known(on(-1, 1, mpmath.acos), (-1, 1), (0.5, -0.5, 0.99999)),
    "atan": Known(mpmath.atan, (-3, 3), (0.41421356, 2.41421356, -1)),
    "sinh": Known(far(mpmath.sinh, -INF, INF), (-89, 89), (1, 89.41599, 710.4758)),
    "cosh": Known(far(mpmath.cosh, INF, INF), (-89, 89), (1, 89.41599, 710.4758)),
    "asinh": Known(lambda x: x if abs(x) == INF else mpmath.asinh(x), (-3, 3), (0.5, 1, 2.0**28)),
    "acosh": Known(
        on(1, INF, lambda x: x if x == INF else mpmath.acosh(x)), (1, 3), (1.5, 2, 2.0**28)
    ),
    "atanh": Known(on(-1, 1, inverse_tanh), (-1, 1), (0.5, -0.5, 0.25)),
    "erf": Known(
        far(mpmath.erf, mpmath.mpf(-1), mpmath.mpf(1)),
        (-6, 6),
        (2.0**-100, 0.25, -1, 3.921875, 5.9215872),
    ),
    "erfc": Known(far(mpmath.erfc, mpmath.mpf(2), mpmath.mpf(0)), (-6, 28), (4, 9.19455, 26.5432)),
    "lgamma": Known(on(-0.495, INF, gamma_log), (0, 12), (1, 2, 0.5, 1.25, 2.5, 8, -0.25)),
    "digamma": Known(on(0, INF, psi(0)), (0, 12), (1, 1.4616321449683622, 2, 8)),
}
NAMES = tuple(KNOWN)
EDGES = (0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 2.0, 8.0, -8.0, 100.0, 1e-20, -1e-20)
EVERY = pytest.mark.parametrize("name", NAMES)
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def samples(name: str, dtype: type[np.floating], count: int) -> NDArray[Any]:
    """Inputs where the function is delicate, over the whole range of exponents, and edges."""
    random, info = np.random.default_rng(7), np.finfo(dtype)
    near = random.uniform(*KNOWN[name].near, count)
    exponents = random.uniform(np.log2(float(info.smallest_subnormal)), info.maxexp - 0.01, count)
    wide = 2.0**exponents * random.choice([-1, 1], count)
    around_one = 1 + 2.0 ** random.uniform(-40, -2, count // 2) * random.choice([-1, 1], count // 2)
    turns = [at * (1 + k * info.eps) for at in KNOWN[name].turns for k in range(-2, 3)]
    edges = [*EDGES, info.max, -info.max, info.tiny, info.smallest_subnormal, 1 + info.eps]
    x = np.concatenate([near, wide, around_one, turns, edges]).astype(dtype)
    if name in ("lgamma", "digamma"):
        x = np.where(x < 0, np.abs(x) if name == "digamma" else np.maximum(x, -0.49), x)
    return np.resize(x.astype(dtype), x.size // 16 * 16 + 16)


def distance(got: float, true: Number, info: np.finfo) -> float:
    """Distance in units of the last place; infinite where a special value is wrong."""
    if true is None:
        return 0.0 if np.isnan(got) else np.inf
    if abs(true) >= mpmath.mpf(2) ** info.maxexp:
        return 0.0 if got == np.inf * mpmath.sign(true) else np.inf
    if not np.isfinite(got):
        return np.inf
    least = int(info.minexp)
    exponent = least if true == 0 else max(int(mpmath.floor(mpmath.log(abs(true), 2))), least)
    return float(abs(mpmath.mpf(float(got)) - true) / mpmath.mpf(2) ** (exponent - info.nmant))


def truths(function: Callable[..., Number], *operands: NDArray[Any]) -> list[Number]:
    """The true values, with digits enough for an angle of 2**1023 and asinh of the smallest."""
    with mpmath.workdps(360):
        rows = zip(*(operand.tolist() for operand in operands), strict=True)
        return [
            None if any(np.isnan(row)) else function(*(mpmath.mpf(one) for one in row))
            for row in rows
        ]


def assert_within(got: NDArray[Any], true: list[Number], bound: float, note: str) -> None:
    info = np.finfo(got.dtype)
    distances = [distance(float(g), t, info) for g, t in zip(got, true, strict=True)]
    worst = int(np.argmax(distances))
    assert distances[worst] <= bound, f"{note}, element {worst}: {got[worst]!r}, not {true[worst]}"


def stated(name: str, dtype: type[np.floating], **attrs: Any) -> float:
    """What the op's card says, in ulp."""
    return REGISTRY[name].ulps(as_dtype(np.dtype(dtype)), attrs)


def assert_as_stated(name: str, dtype: type[np.floating], count: int) -> None:
    x = samples(name, dtype, count)
    true = truths(KNOWN[name].true, x)
    for isa in CLASSES:
        got = run(OF_ONE[name], isa, x)
        assert_within(got, true, stated(name, dtype), f"{isa.name} {name} of {x.tolist()}")


def test_every_function_of_one_number_is_tried() -> None:
    assert set(KNOWN) == set(OF_ONE)


@EVERY
@BOTH
def test_results_are_within_their_ulp(name: str, dtype: type[np.floating]) -> None:
    assert_as_stated(name, dtype, 60)


@pytest.mark.slow
@EVERY
@BOTH
def test_many_results_are_within_their_ulp(name: str, dtype: type[np.floating]) -> None:
    assert_as_stated(name, dtype, 1500)


@EVERY
@BOTH
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_bits_are_the_same_in_every_width(name: str, dtype: Any, isa: Isa) -> None:
    x = samples(name, dtype, 60)
    first, *others = (run(OF_ONE[name], isa, x, lanes=lanes) for lanes in (1, 8, 16))
    assert all(same_bits(result, first) for result in others)


@pytest.mark.parametrize("name", ["exp", "tanh", "erf"])
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_what_instructions_look_up_or_scale_is_the_same_in_odd_widths(name: str, isa: Isa) -> None:
    x = samples(name, np.float32, 64)
    x = np.resize(x, -(-x.size // 64) * 64)
    first, *others = (run(OF_ONE[name], isa, x, lanes=lanes) for lanes in (8, 2, 4, 32, 64))
    assert all(same_bits(result, first) for result in others)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@BOTH
def test_no_library_function_is_called(isa: Isa, dtype: Any) -> None:
    for function in OF_ONE.values():
        text = elementwise_text(function, isa, dtype, dtype, isa.lanes(32))
        assert "call" not in assembly(text, isa)


@pytest.mark.parametrize(
    "name",
    [
        "cbrt",
        "sin",
        "tan",
        "asin",
        "atan",
        "sinh",
        "asinh",
        "atanh",
        "erf",
        "expm1",
        "log1p",
        "tanh",
    ],
)
@BOTH
def test_the_sign_of_zero_is_kept(name: str, dtype: type[np.floating]) -> None:
    zeros = np.array([0.0, -0.0] * 4, dtype)
    for isa in HERE:
        assert np.signbit(run(OF_ONE[name], isa, zeros)).tolist() == [False, True] * 4


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_nearest_to_multiples_of_a_right_angle(name: str) -> None:
    # The float64 nearest to a multiple of pi / 2 (Kahan), its neighbours, and multiples themselves.
    hard = 6381956970095103 * 2.0**797
    x = [hard, np.nextafter(hard, 0), 5.319372648326541e255, 1e22, 2.0**30, 2.0**29.999]
    x = np.array([*x, *(np.pi / 2 * np.array([1, 2, 3, 355, 10**6, 2**29, 2**40, 2**60, 3, 5]))])
    for isa in CLASSES:
        bound = stated(name, np.float64)
        assert_within(run(OF_ONE[name], isa, x), truths(KNOWN[name].true, x), bound, isa.name)


@BOTH
def test_gamma_functions_below_zero_are_right_absolutely(dtype: type[np.floating]) -> None:
    random = np.random.default_rng(3)
    x = -np.concatenate([random.uniform(0.5, 10, 40), random.uniform(10, 200, 24)]).astype(dtype)
    eps = np.finfo(np.float32).eps / 2 if dtype is np.float32 else 0.0
    for name, true in (("lgamma", gamma_log), ("digamma", psi(0))):
        wanted = truths(true, x)
        for isa in CLASSES:
            for got, want in zip(run(OF_ONE[name], isa, x), wanted, strict=True):
                error = abs(mpmath.mpf(float(got)) - want) / max(1, abs(want))
                assert error <= REGISTRY[name].near_zeros + 1.01 * eps, f"{name} {isa.name}"


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_float32_zeros_of_the_gamma_functions_keep_their_digits(name: str) -> None:
    zeros = {
        "lgamma": (-2.4570247, -2.7476826, -3.1435809, -3.9552943, -4.0393618, 1.0, 2.0, -5.00833),
        "digamma": (1.4616321, -0.5040830, -1.5734985, -2.6107209, -3.6352934, -4.6532378, -9.7026),
    }[name]
    x = np.resize(np.array(zeros, np.float32), 8)
    true = truths({"lgamma": gamma_log, "digamma": psi(0)}[name], x)
    for isa in CLASSES:
        assert_within(run(OF_ONE[name], isa, x), true, stated(name, np.float32), isa.name)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
@BOTH
def test_polygamma_of_an_order_is_within_its_ulp(order: int, dtype: type[np.floating]) -> None:
    random = np.random.default_rng(4)
    x = np.concatenate([random.uniform(0.01, 30, 50), 10.0 ** random.uniform(-2, 5, 14)])
    x = x.astype(dtype)
    bound = stated("polygamma", dtype, order=order)
    for isa in CLASSES:
        got = run(lambda f, v: polygamma(f, v, order), isa, x)
        assert_within(got, truths(psi(order), x), bound, isa.name)


@pytest.mark.parametrize("order", [1, 3])
def test_polygamma_of_odd_order_below_zero_is_within_its_ulp(order: int) -> None:
    x = -np.random.default_rng(4).uniform(0.01, 20, 64)
    bound = stated("polygamma", np.float64, order=order)
    for isa in CLASSES:
        got = run(lambda f, v: polygamma(f, v, order), isa, x)
        assert_within(got, truths(psi(order), x), bound, isa.name)


@pytest.mark.parametrize("order", [1, 2])
def test_polygamma_at_its_poles(order: int) -> None:
    x = np.array([0.0, -0.0, -1.0, -2.0, np.inf, -np.inf, np.nan, -(2.0**60)])
    odd = [np.inf, np.inf, np.inf, np.inf, 0.0, np.nan, np.nan, np.inf]
    even = [-np.inf, np.inf, np.nan, np.nan, 0.0, np.nan, np.nan, np.nan]
    for isa in HERE:
        got = run(lambda f, v: polygamma(f, v, order), isa, x)
        np.testing.assert_array_equal(got, odd if order % 2 else even)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_functions_at_their_poles(name: str) -> None:
    x = np.array([0.0, -0.0, -1.0, -7.0, np.inf, -np.inf, np.nan, -(2.0**60)])
    wanted = {
        "lgamma": [np.inf] * 6 + [np.nan, np.inf],
        "digamma": [-np.inf, np.inf, np.nan, np.nan, np.inf, np.nan, np.nan, np.nan],
    }[name]
    for isa in HERE:
        np.testing.assert_array_equal(run(OF_ONE[name], isa, x), wanted)


def true_power(x: Number, y: Number) -> Number:
    size = y * mpmath.log(x)
    return INF if size > 10**5 else mpmath.mpf(0) if size < -(10**5) else mpmath.exp(size)


def powers(dtype: type[np.floating], count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bases and exponents whose powers fill the whole range, also for bases next to 1."""
    random, top = np.random.default_rng(5), float(np.finfo(dtype).maxexp)
    bases = [2.0 ** random.uniform(-top, top - 1, count), random.uniform(0.5, 2, count)]
    bases.append(1 + 2.0 ** random.uniform(-20, -2, count) * random.choice([-1, 1], count))
    x = np.concatenate(bases).astype(dtype)
    y = (random.uniform(-1.05, 1.05, x.size) * top / np.log2(x.astype(np.float64))).astype(dtype)
    inside = np.isfinite(y) & (x > 0)
    return np.resize(x[inside], 3 * count // 8 * 8), np.resize(y[inside], 3 * count // 8 * 8)


@BOTH
def test_power_is_within_its_ulp(dtype: type[np.floating]) -> None:
    x, y = powers(dtype, 100)
    for isa in CLASSES:
        got = run_pair(maths_powers.power, isa, x, y)
        assert_within(got, truths(true_power, x, y), stated("pow", dtype), isa.name)


@BOTH
@pytest.mark.parametrize(("name", "reference"), [("pow", np.power), ("atan2", np.arctan2)])
def test_edges_of_two_numbers_are_numpys(name: str, reference: Any, dtype: Any) -> None:
    large = float(2 ** np.finfo(dtype).nmant)
    edges = [0, -0.0, 1, -1, 2, -2, 0.5, 3, -3, np.inf, -np.inf, np.nan, 2.5, -2.5, 1e30, -1e30]
    edges += [large + 1, -large - 2, 2 * large - 1, np.finfo(dtype).max, np.finfo(dtype).tiny]
    numbers = np.resize(np.array(edges, dtype), 24)
    x, y = (np.ascontiguousarray(grid.ravel()) for grid in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        wanted = reference(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    for isa in HERE:
        got = run_pair(OF_TWO[name], isa, x, y)
        np.testing.assert_array_max_ulp(got, wanted, 2)
        assert (np.signbit(got) == np.signbit(wanted))[~np.isnan(wanted)].all()


@BOTH
def test_atan2_is_within_its_ulp(dtype: type[np.floating]) -> None:
    random, top = np.random.default_rng(6), float(np.finfo(dtype).maxexp)
    y = np.concatenate([random.normal(size=64), 2.0 ** random.uniform(-top, top - 0.01, 64)])
    x = np.concatenate([random.normal(size=64), 2.0 ** random.uniform(-top, top - 0.01, 64)])
    y, x = y.astype(dtype), (x * random.choice([-1, 1], 128)).astype(dtype)
    for isa in CLASSES:
        bound, true = stated("atan2", dtype), truths(mpmath.atan2, y, x)
        assert_within(run_pair(OF_TWO["atan2"], isa, y, x), true, bound, isa.name)


@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_powers_of_two_and_ten_are_found_exactly(isa: Isa) -> None:
    for dtype in (np.float32, np.float64):
        whole = np.arange(24, dtype=dtype) - 8
        assert run(OF_ONE["exp2"], isa, whole).tolist() == (2.0**whole).tolist()
        assert run(OF_ONE["log2"], isa, (2.0**whole).astype(dtype)).tolist() == whole.tolist()
        tens = np.array([10.0**k for k in range(16)], dtype)
        assert run(OF_ONE["log10"], isa, tens).tolist() == list(range(16))
