"""Do the array functions give what NumPy's give? Over dtypes and odd shapes, rounding aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import DTYPES, DType

SHAPES = ((), (1,), (0,), (3,), (2, 3), (3, 0, 2), (1, 4, 1), (5, 1, 7))
FLOATS = (pe.float16, pe.bfloat16, pe.float32, pe.float64)
SOME = (*FLOATS, pe.int32, pe.uint8, pe.int64, pe.bool)

# Half a unit in the last place of the dtype for each of a few roundings.
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 2e-6, "float64": 1e-14}


def sample(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    if dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_integer:
        return rng.integers(0 if dtype.kind == "uint" else -9, 10, shape).astype(dtype.numpy)
    return np.asarray(rng.normal(size=shape)).astype(dtype.numpy)


def check(found: pe.Tensor, expected: Any, dtype: DType | None = None) -> None:
    """Values and shape as expected; floats within the roundings of their dtype."""
    assert isinstance(found, pe.Tensor)
    left, right = np.asarray(found), np.asarray(expected)
    assert left.shape == right.shape
    if dtype is not None:
        assert found.dtype is dtype
    if found.dtype.is_floating:
        error = TOLERANCE[found.dtype.name]
        np.testing.assert_allclose(
            left.astype(np.float64), right.astype(np.float64), rtol=error, atol=error
        )
    else:
        np.testing.assert_array_equal(left, right)


def wide(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What NumPy computes with: our small floats in float64."""
    small = array.dtype.name in ("bfloat16", "float16", "float32")
    return array.astype(np.float64) if small else array


UNARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "negative": (pe.negative, np.negative),
    "positive": (pe.positive, np.positive),
    "abs": (pe.abs, np.abs),
    "square": (pe.square, np.square),
    "exp": (pe.exp, np.exp),
    "tanh": (pe.tanh, np.tanh),
    "sqrt": (lambda x: pe.sqrt(pe.abs(x)), lambda x: np.sqrt(np.abs(x))),
    "log": (lambda x: pe.log(pe.abs(x) + 1), lambda x: np.log(np.abs(x) + 1)),
    "isnan": (pe.isnan, np.isnan),
    "isinf": (pe.isinf, np.isinf),
    "isfinite": (pe.isfinite, np.isfinite),
    "sign": (pe.sign, np.sign),
    "logical_not": (pe.logical_not, np.logical_not),
    "clip": (lambda x: pe.clip(x, 1, 3), lambda x: np.clip(x, 1, 3)),
}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [d for d in SOME if d.kind != "bool"], ids=str)
def test_unary_functions_are_numpys(name: str, dtype: DType):
    function, reference = UNARY[name]
    for shape in SHAPES:
        x = sample(dtype, shape)
        with np.errstate(all="ignore"):
            real = x.astype(np.float64) if name in ("exp", "tanh", "sqrt", "log") else wide(x)
            check(function(pe.asarray(x)), reference(real))


BINARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (pe.add, np.add),
    "subtract": (pe.subtract, np.subtract),
    "multiply": (pe.multiply, np.multiply),
    "maximum": (pe.maximum, np.maximum),
    "minimum": (pe.minimum, np.minimum),
    "equal": (pe.equal, np.equal),
    "not_equal": (pe.not_equal, np.not_equal),
    "less": (pe.less, np.less),
    "less_equal": (pe.less_equal, np.less_equal),
    "greater": (pe.greater, np.greater),
    "greater_equal": (pe.greater_equal, np.greater_equal),
    "logical_and": (pe.logical_and, np.logical_and),
    "logical_or": (pe.logical_or, np.logical_or),
    "logical_xor": (pe.logical_xor, np.logical_xor),
    "where": (lambda a, b: pe.where(a > b, a, b), lambda a, b: np.where(a > b, a, b)),
}
PAIRS = (
    ((), ()),
    ((3,), ()),
    ((2, 3), (3,)),
    ((2, 1), (1, 4)),
    ((0, 3), (1, 3)),
    ((3, 1, 2), (4, 1)),
    ((1,), (0,)),
)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", [d for d in SOME if d.kind != "bool"], ids=str)
def test_binary_functions_broadcast_as_numpys(name: str, dtype: DType):
    function, reference = BINARY[name]
    for left, right in PAIRS:
        x, y = sample(dtype, left, 1), sample(dtype, right, 2)
        check(function(pe.asarray(x), pe.asarray(y)), reference(wide(x), wide(y)))


@pytest.mark.parametrize("dtype", [d for d in SOME if d.kind != "bool"], ids=str)
def test_division_is_floating(dtype: DType):
    x, y = sample(dtype, (2, 3), 1), np.full(3, 2).astype(dtype.numpy)
    found = pe.asarray(x) / pe.asarray(y)
    check(found, wide(x) / 2.0, dtype if dtype.is_floating else pe.float32)


BITWISE = {
    "bitwise_and": (pe.bitwise_and, np.bitwise_and),
    "bitwise_or": (pe.bitwise_or, np.bitwise_or),
    "bitwise_xor": (pe.bitwise_xor, np.bitwise_xor),
}


@pytest.mark.parametrize("name", BITWISE)
@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.is_floating], ids=str)
def test_bitwise_functions_are_numpys(name: str, dtype: DType):
    function, reference = BITWISE[name]
    x, y = sample(dtype, (2, 3), 1), sample(dtype, (3,), 2)
    check(function(pe.asarray(x), pe.asarray(y)), reference(x, y), dtype)
    check(~pe.asarray(x), ~x, dtype)


@pytest.mark.parametrize("dtype", SOME, ids=str)
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (), (2, 0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_are_numpys(dtype: DType, axis: Any, keepdims: bool):
    x = sample(dtype, (3, 2, 4))
    t, w = pe.asarray(x), wide(x)
    kept = {"axis": axis, "keepdims": keepdims}
    if dtype.kind != "bool":
        check(pe.mean(t, **kept), w.mean(**kept))
        check(pe.var(t, **kept), w.var(**kept))
        check(pe.std(t, **kept), w.std(**kept))
    check(pe.sum(t, **kept), w.sum(**kept))
    check(pe.max(t, **kept), w.max(**kept), dtype)
    check(pe.min(t, **kept), w.min(**kept), dtype)
    check(pe.any(t, **kept), (w != 0).any(**kept), pe.bool)
    check(pe.all(t, **kept), (w != 0).all(**kept), pe.bool)
    check(pe.count_nonzero(t, **kept), np.count_nonzero(w, **kept), pe.int64)


def test_small_integers_are_summed_in_64_bits():
    assert pe.sum(pe.asarray(np.full(300, 200, np.uint8))).dtype is pe.uint64
    assert int(pe.sum(pe.asarray(np.full(300, 100, np.int8)))) == 30000
    assert int(pe.sum(pe.asarray(np.full(300, True)))) == 300
    assert pe.sum(pe.ones((2,), dtype="int8"), dtype="int8").dtype is pe.int8


def test_empty_reductions():
    assert float(pe.sum(pe.zeros((0, 3)))) == 0.0
    assert np.isnan(float(pe.mean(pe.zeros((0,)))))
    assert not bool(pe.any(pe.zeros((0,))))
    assert bool(pe.all(pe.zeros((0,))))
    with pytest.raises(pe.OpShapeError, match="an axis of size 0 has no maximum"):
        pe.max(pe.zeros((0, 3)), axis=0)
    assert pe.max(pe.zeros((0, 3)), axis=1).shape == (0,)


@pytest.mark.parametrize("dtype", SOME, ids=str)
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_places_of_extremes_are_numpys(dtype: DType, axis: int | None):
    x = sample(dtype, (4, 5))
    check(pe.argmax(pe.asarray(x), axis=axis), wide(x).argmax(axis=axis), pe.int64)
    check(pe.argmin(pe.asarray(x), axis=axis), wide(x).argmin(axis=axis), pe.int64)
    check(
        pe.argmax(pe.asarray(x), axis=axis, keepdims=True),
        wide(x).argmax(axis=axis, keepdims=True),
    )


def test_nan_is_the_extreme_as_in_numpy():
    x = np.array([1.0, np.nan, 3.0, np.nan], np.float32)
    assert int(pe.argmax(pe.asarray(x))) == int(np.argmax(x)) == 1
    assert int(pe.argmin(pe.asarray(x))) == int(np.argmin(x)) == 1
    assert np.isnan(float(pe.max(pe.asarray(x))))
    assert np.isnan(float(pe.min(pe.asarray(x))))
    assert np.isnan(np.asarray(pe.maximum(pe.asarray(x), 2.0))).sum() == 2


def test_the_smallest_integers_have_places_and_minima():
    x = np.array([0, np.iinfo(np.int64).min, np.iinfo(np.int64).max])
    assert int(pe.min(pe.asarray(x))) == x[1]
    assert int(pe.argmin(pe.asarray(x))) == 1
    assert int(pe.max(pe.asarray(x))) == x[2]


SHAPING: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "reshape": (lambda x: pe.reshape(x, (4, -1)), lambda x: np.reshape(x, (4, -1))),
    "one axis": (lambda x: pe.reshape(x, -1), lambda x: np.reshape(x, -1)),
    "permute": (lambda x: pe.permute_dims(x, (2, 0, 1)), lambda x: np.transpose(x, (2, 0, 1))),
    "negative axes": (lambda x: pe.permute_dims(x, (-1, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    "transpose": (pe.transpose, np.transpose),
    "matrices": (pe.matrix_transpose, lambda x: np.swapaxes(x, -1, -2)),
    "moveaxis": (lambda x: pe.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1)),
    "expand": (lambda x: pe.expand_dims(x, axis=-2), lambda x: np.expand_dims(x, -2)),
    "squeeze": (lambda x: pe.squeeze(pe.expand_dims(x, axis=1), 1), lambda x: x),
    "broadcast": (
        lambda x: pe.broadcast_to(x, (5, 2, 3, 4)),
        lambda x: np.broadcast_to(x, (5, 2, 3, 4)),
    ),
    "flatten": (pe.flatten, np.ravel),
    "transposed copy": (lambda x: pe.reshape(pe.transpose(x), (6, 4)), lambda x: x.T.reshape(6, 4)),
    "stretched copy": (
        lambda x: pe.reshape(pe.broadcast_to(x, (2, 2, 3, 4)), (4, 12)),
        lambda x: np.broadcast_to(x, (2, 2, 3, 4)).reshape(4, 12),
    ),
    "tril": (lambda x: pe.tril(x, k=-1), lambda x: np.tril(x, -1)),
    "triu": (lambda x: pe.triu(x, k=1), lambda x: np.triu(x, 1)),
}


@pytest.mark.parametrize("name", SHAPING)
@pytest.mark.parametrize("dtype", SOME, ids=str)
def test_shaping_is_numpys(name: str, dtype: DType):
    function, reference = SHAPING[name]
    x = sample(dtype, (2, 3, 4))
    check(function(pe.asarray(x)), reference(x), dtype)


def test_shaping_of_empty_and_scalar_tensors():
    assert pe.reshape(pe.zeros((0, 3)), (3, 0)).shape == (3, 0)
    assert pe.reshape(pe.asarray(1.0), (1, 1)).shape == (1, 1)
    assert pe.flatten(pe.zeros((0, 3))).shape == (0,)
    assert pe.flatten(pe.asarray(1.0)).shape == (1,)
    assert pe.transpose(pe.asarray(1.0)).shape == ()
    with pytest.raises(pe.OpShapeError, match="does not fit"):
        pe.reshape(pe.zeros((0, 3)), (0, -1))


def test_arrays_that_are_broadcast_together():
    found = pe.broadcast_arrays(pe.zeros((2, 1)), pe.zeros((3,)), 1.0)
    assert [one.shape for one in found] == [(2, 3)] * 3


PRODUCTS = (
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)), ((5, 1, 2, 3), (6, 3, 4)), ((3,), (5, 3, 4)), ((2, 0), (0, 3)),
    ((0, 3), (3, 4)), ((4, 5, 2, 3), (3,)), ((1, 1), (1, 1)), ((17, 33), (33, 9)),
)  # fmt: skip


@pytest.mark.parametrize("dtype", [d for d in SOME if d.kind != "bool"], ids=str)
def test_matrix_products_are_numpys(dtype: DType):
    for left, right in PRODUCTS:
        x, y = sample(dtype, left, 1), sample(dtype, right, 2)
        found = pe.asarray(x) @ pe.asarray(y)
        expected = wide(x) @ wide(y)
        scale = max(1.0, float(np.abs(wide(x)).sum())) if x.size else 1.0
        check(
            found / scale if dtype.is_floating else found,
            expected / scale if dtype.is_floating else expected,
        )


def test_products_of_transposed_operands():
    x, y = sample(pe.float32, (3, 2)), sample(pe.float32, (4, 3))
    check(pe.asarray(x).T @ pe.asarray(y).T, x.T @ y.T)


def test_other_products_are_numpys():
    x, y = sample(pe.float32, (2, 3, 4)), sample(pe.float32, (3, 4, 5))
    check(pe.tensordot(pe.asarray(x), pe.asarray(y)), np.tensordot(x, y))
    pairs = ((2, 1), (1, 0))
    check(pe.tensordot(pe.asarray(x), pe.asarray(y), axes=pairs), np.tensordot(x, y, pairs))
    check(pe.tensordot(pe.asarray(x), pe.asarray(x), axes=0), np.tensordot(x, x, 0))
    check(pe.outer(pe.asarray(x[0, 0]), pe.asarray(y[0, 0])), np.outer(x[0, 0], y[0, 0]))
    check(pe.vecdot(pe.asarray(x), pe.asarray(x[:1])), np.vecdot(x, x[:1]))
    check(pe.vecdot(pe.asarray(x), pe.asarray(x), axis=0), (x * x).sum(0))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, -1, -2, 0.5, -0.5, 2.0])
def test_powers_are_numpys(exponent: float):
    x = np.abs(sample(pe.float64, (5,))) + 0.5
    check(pe.asarray(x) ** exponent, x**exponent)


def test_creation_is_numpys():
    check(pe.zeros((2, 3)), np.zeros((2, 3)), pe.float32)
    check(pe.ones(3, dtype="int8"), np.ones(3), pe.int8)
    check(pe.full((2,), 7), np.full(2, 7), pe.int64)
    check(pe.full((2,), 7.5), np.full(2, 7.5), pe.float32)
    check(pe.full((), True), np.array(True), pe.bool)
    check(pe.arange(5), np.arange(5), pe.int64)
    check(pe.arange(2, 9, 3), np.arange(2, 9, 3), pe.int64)
    check(pe.arange(5, 0, -2), np.arange(5, 0, -2), pe.int64)
    check(pe.arange(0.0, 1.0, 0.25), np.arange(0, 1, 0.25), pe.float32)
    check(pe.arange(3, 1), np.arange(3, 1), pe.int64)
    check(pe.linspace(-1, 1, 9), np.linspace(-1, 1, 9), pe.float32)
    check(pe.eye(3, 4, k=1), np.eye(3, 4, k=1), pe.float32)
    x = pe.zeros((2, 1), dtype="float16")
    check(pe.zeros_like(x), np.zeros((2, 1)), pe.float16)
    check(pe.ones_like(x, dtype="int32"), np.ones((2, 1)), pe.int32)
    check(pe.full_like(x, 2), np.full((2, 1), 2.0), pe.float16)


def test_one_hot_of_a_label_out_of_range_is_all_zeros():
    check(pe.one_hot(pe.asarray([1, 5, -1]), 3), [[0, 1, 0], [0, 0, 0], [0, 0, 0]], pe.float32)


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts_between_all_dtypes(source: DType):
    x = sample(source, (6,))
    for target in DTYPES:
        found = pe.asarray(x).astype(target)
        if source.kind == "int" and target.kind == "uint":
            expected = x.astype(np.int64).astype(target.numpy)
        elif source.is_floating and target.kind == "uint":
            expected = np.maximum(np.trunc(wide(x)), 0).astype(target.numpy)
        elif target.kind == "bool":
            expected = x != 0
        else:
            expected = wide(x).astype(target.numpy)
        check(found, expected, target)


def test_floats_out_of_range_become_the_nearest_integer():
    x = pe.asarray(np.array([1e30, -1e30, np.nan, np.inf]))
    assert x.astype("int8").tolist() == [127, -128, 0, 127]
    assert x.astype("uint16").tolist() == [65535, 0, 0, 65535]


def test_operators_are_the_functions():
    x, y = np.array([4.0, 9.0]), np.array([2.0, 3.0])
    s, t = pe.asarray(x), pe.asarray(y)
    for found, expected in (
        (s + t, x + y), (s - t, x - y), (s * t, x * y), (s / t, x / y), (s @ t, x @ y),
        (s**2, x**2), (-s, -x), (+s, x), (abs(-s), x), (1 - s, 1 - x), (2 / t, 2 / y),
        (s == t, x == y), (s != t, x != y), (s < t, x < y), (s <= t, x <= y), (s > t, x > y),
        (s >= t, x >= y), (s > 2.0, x > 2.0),
    ):  # fmt: skip
        check(found, expected)


def test_arrays_and_tensors_mix_with_the_tensor_in_charge():
    x = np.array([1.0, 2.0])
    t = pe.asarray([10.0, 20.0])
    for found in (x + t, t + x, x - t, x * t, x / t, x @ t, x < t, np.float64(3.0) * t):
        assert isinstance(found, pe.Tensor)
    check(x - t, [-9.0, -18.0], pe.float64)


def test_methods_are_the_functions():
    x = sample(pe.float32, (3, 1, 4))
    t = pe.asarray(x)
    check(t.sum(0), x.sum(0))
    check(t.sum(axis=(0, 2), keepdims=True), x.sum(axis=(0, 2), keepdims=True))
    check(t.mean(-1), x.mean(-1))
    check(t.max(), x.max())
    check(t.min(1), x.min(1))
    check(t.argmax(2), x.argmax(2))
    check(t.reshape(4, 3), x.reshape(4, 3))
    check(t.reshape((2, -1)), x.reshape(2, -1))
    check(t.transpose(2, 0, 1), x.transpose(2, 0, 1))
    check(t.transpose(), x.T)
    check(t.T, x.T)
    check(t.mT, np.swapaxes(x, 1, 2))
    check(t.squeeze(1), x.squeeze(1))
    check(t.flatten(), x.ravel())
    assert t.astype("float64").dtype is pe.float64


def test_variables_have_the_operators_and_methods():
    v = pe.Variable([1.0, 4.0])
    check(v + 1, [2.0, 5.0])
    check(10 / v, [10.0, 2.5])
    check(v.sum(), 5.0)
    check(np.ones(2, np.float32) - v, [0.0, -3.0])
    check(v.T, [1.0, 4.0])
    check(pe.sqrt(v), [1.0, 2.0])


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_integer], ids=str)
def test_bits_are_shifted_down_with_zeros_from_above(dtype: DType):
    x = sample(dtype, (20,), 3)
    unsigned = x.view(f"u{dtype.bytes}")
    for by in (0, 1, dtype.bits - 1):
        found = np.asarray(pe.logical_right_shift(pe.asarray(x), by))
        np.testing.assert_array_equal(found.view(unsigned.dtype), unsigned >> by)


@pytest.mark.parametrize("dtype", SOME, ids=str)
def test_truth_is_being_other_than_zero(dtype: DType):
    x, y = sample(dtype, (40,), 1), sample(dtype, (40,), 2)
    left, right = wide(x) != 0, wide(y) != 0
    check(pe.logical_and(pe.asarray(x), pe.asarray(y)), left & right, pe.bool)
    check(pe.logical_or(pe.asarray(x), pe.asarray(y)), left | right, pe.bool)
    check(pe.logical_xor(pe.asarray(x), pe.asarray(y)), left ^ right, pe.bool)
    check(pe.logical_not(pe.asarray(x)), ~left, pe.bool)


def test_bool_has_comparisons_and_choices():
    x, y = np.array([True, True, False]), np.array([True, False, False])
    check(pe.asarray(x) == pe.asarray(y), x == y, pe.bool)
    check(pe.asarray(x) != pe.asarray(y), x != y, pe.bool)
    check(pe.where(pe.asarray(x), pe.asarray(y), True), np.where(x, y, True), pe.bool)
    check(pe.asarray(x) & True, x, pe.bool)


def test_reciprocals_and_square_roots_at_the_edges():
    x = pe.asarray([0.0, -0.0, np.inf, -1.0, 4.0])
    np.testing.assert_array_equal(pe.reciprocal(x), [np.inf, -np.inf, 0.0, -1.0, 0.25])
    np.testing.assert_array_equal(pe.sqrt(x), [0.0, -0.0, np.inf, np.nan, 2.0])
    np.testing.assert_array_equal(
        pe.log(x), [-np.inf, -np.inf, np.inf, np.nan, np.log(np.float32(4))]
    )
    np.testing.assert_array_equal(pe.exp(pe.asarray([-np.inf, 1000.0])), [0.0, np.inf])


@pytest.mark.parametrize("name", sorted({*UNARY, *BINARY}))
def test_compiled_functions_are_the_eager_ones_bit_for_bit(name: str):
    function = UNARY[name][0] if name in UNARY else BINARY[name][0]
    operands = [pe.asarray(sample(pe.float32, (37,), seed)) for seed in (1, 2)]
    given = operands[: 1 if name in UNARY else 2]
    eager, compiled = function(*given), pe.jit(function)(*given)
    assert np.asarray(eager).tobytes() == np.asarray(compiled).tobytes()
