"""What do ops say where mathematics leaves a choice? Ties, zeros, clamping, sums of nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import as_dtype, float32, float64, int8, int32, uint8
from pellucid.core.error import OpAxisError, OpShapeError, OpTypeError
from pellucid.ir.build import building
from pellucid.ir.graph import TensorType
from pellucid.ops import REGISTRY
from pellucid.ops.control import evaluate
from pellucid.ops.define import type_of
from pellucid.ops.random import philox
from pellucid.transforms import vjp

F = TensorType(float32, (2, 3))


def gradient(name: str, *arrays: Any, **attrs: Any) -> list[NDArray[Any]]:
    """The gradients of the sum of an op's result with respect to all operands."""
    operands = tuple(np.asarray(array, np.float64) for array in arrays)
    with building() as builder:
        inputs = [builder.input(type_of(array)) for array in operands]
        graph = builder.graph([REGISTRY[name](*inputs, **attrs)])
    seed = np.ones(tuple(graph.outputs[0].shape))
    return list(evaluate(vjp(graph, range(len(operands))), (*operands, seed))[1:])


def test_maximum_of_equal_numbers_gives_each_half() -> None:
    lhs, rhs = gradient("maximum", [1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert lhs.tolist() == [0.5, 0.0, 1.0]
    assert rhs.tolist() == [0.5, 1.0, 0.0]


def test_minimum_of_equal_numbers_gives_each_half() -> None:
    lhs, rhs = gradient("minimum", [1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert lhs.tolist() == [0.5, 1.0, 0.0]
    assert rhs.tolist() == [0.5, 0.0, 1.0]


def test_max_shares_its_gradient_among_the_largest() -> None:
    (share,) = gradient("max", [[1.0, 4.0, 4.0], [0.0, -1.0, -2.0]], axes=(1,))
    assert share.tolist() == [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]


def test_abs_is_flat_at_zero() -> None:
    assert gradient("abs", [-2.0, 0.0, 2.0])[0].tolist() == [-1.0, 0.0, 1.0]


def test_max_lets_nan_through() -> None:
    assert np.isnan(REGISTRY["max"].evaluate(np.array([1.0, np.nan, 2.0]), axes=(0,))[0])


def test_sum_of_nothing_is_positive_zero() -> None:
    (total,) = REGISTRY["sum"].evaluate(np.zeros((2, 0)), axes=(1,))
    assert total.tolist() == [0.0, 0.0]
    assert not np.signbit(total).any()


@pytest.mark.parametrize("axes", [(), (0,), (0, 1)])
def test_sum_of_negative_zeros_is_negative_zero(axes: tuple[int, ...]) -> None:
    (total,) = REGISTRY["sum"].evaluate(np.full((3, 2), -0.0), axes=axes)
    assert np.signbit(total).all()


def test_max_of_nothing_is_refused() -> None:
    with pytest.raises(OpShapeError, match="max: an axis of size 0 has no maximum"):
        REGISTRY["max"].result_types((TensorType(float32, (0, 3)),), {"axes": (0,)})


def test_sum_of_whole_numbers_wraps_in_its_dtype() -> None:
    assert REGISTRY["sum"].evaluate(np.array([200, 100], np.uint8), axes=(0,))[0] == 44


@pytest.mark.parametrize("dtype", [int8, uint8, int32])
def test_floating_to_integer_clamps_and_turns_nan_to_zero(dtype: Any) -> None:
    info = np.iinfo(dtype.numpy)
    x = np.array([np.inf, -np.inf, np.nan, 1.9, -0.9, 1e30])
    found = REGISTRY["cast"].evaluate(x, dtype=dtype)[0]
    assert found.tolist() == [info.max, info.min, 0, 1, 0, info.max]


def test_shift_right_fills_with_zeros_and_shifts_everything_out() -> None:
    x = np.array([-1, -128, 5, 5], np.int8)
    assert REGISTRY["shift_right"].evaluate(x, np.array([7, 1, 8, -1], np.int8))[0].tolist() == [
        *(1, 64, 0, 0)
    ]


def test_narrow_floats_are_rounded_once() -> None:
    # In float16 alone 2048 + 1 + 1 stays 2048; the sum is taken wide and rounded at the end.
    x = np.array([2048, 1, 1], np.float16)
    assert REGISTRY["sum"].evaluate(x, axes=(0,))[0] == 2050


def test_longer_draw_begins_with_the_shorter() -> None:
    words = np.asarray(5, np.uint64), np.asarray(9, np.uint64)
    long = REGISTRY["random_bits"].evaluate(*words, shape=(101,))[0]
    short = REGISTRY["random_bits"].evaluate(*words, shape=(3,))[0]
    assert long[:3].tolist() == short.tolist()


def test_random_bits_are_philox() -> None:
    # Known answers of Random123 for philox4x32-10: counter and key all zeros, then all ones.
    zero = philox(0, np.zeros(1, np.uint64), 0)
    ones = philox(2**64 - 1, np.full(1, 2**64 - 1, np.uint64), 2**64 - 1)
    assert [int(w[0]) for w in zero] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert [int(w[0]) for w in ones] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize(
    ("name", "types", "attrs", "error", "message"),
    [
        ("add", (F, TensorType(float32, (3, 2))), {}, OpShapeError, r"shapes differ, \(2, 3\)"),
        ("add", (F, TensorType(float64, (2, 3))), {}, OpTypeError, "dtypes differ, float32 and"),
        ("add", (F,), {}, OpTypeError, "expected 2 operands, got 1"),
        ("exp", (TensorType(int32, ()),), {}, OpTypeError, r"exp: expected one of .*, got int32"),
        ("sum", (F,), {"axes": (2,)}, OpAxisError, "axis 2 is out of range for rank 2"),
        ("sum", (F,), {"axes": (0, 0)}, OpAxisError, "an axis is named twice"),
        ("sum", (F,), {}, OpTypeError, "sum: .*axes"),
        ("reshape", (F,), {"shape": (4,)}, OpShapeError, "has 6 elements, .* has 4"),
        ("reshape", (F,), {"shape": (-2, -3)}, OpShapeError, r"sizes from 0, got \(-2, -3\)"),
        ("broadcast", (F,), {"shape": (-1, 2, 3), "axes": (1, 2)}, OpShapeError, "sizes from 0"),
        ("iota", (), {"dtype": int32, "shape": (3,), "axis": -1}, OpAxisError, "counted from 0"),
        ("transpose", (F,), {"permutation": (0, 0)}, OpAxisError, "each axis .* once"),
        ("broadcast", (F,), {"shape": (4, 3), "axes": (0, 1)}, OpShapeError, "2 cannot become 4"),
        (
            "dot_general",
            (F, F),
            {"contract": ((1,), (0,)), "batch": ((), ())},
            OpShapeError,
            r"contract axes 1 and 0 differ, 3 != 2 \(lhs \(2, 3\), rhs \(2, 3\)\)",
        ),
        ("constant", (), {"dtype": int8, "shape": (), "value": "200"}, OpTypeError, "does not fit"),
    ],
)
def test_wrong_operands_are_refused_with_a_reason(
    name: str, types: Any, attrs: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        REGISTRY[name].result_types(types, attrs)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "bool", "uint64"])
def test_numpy_dtypes_are_found(name: str) -> None:
    assert as_dtype(np.dtype(as_dtype(name).numpy)) is as_dtype(name)
