"""Is what constants say computed now, and only where each engine would say the same?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pellucid.core.dtype import DTYPES, DType, bfloat16, float16, float32, float64, int32, int64
from pellucid.core.error import OpError
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, Value
from pellucid.ir.text import print_graph
from pellucid.ops import REGISTRY
from pellucid.ops.elementwise import add, cast, div, exp, maximum, mul, select, sqrt
from pellucid.ops.movement import (
    CONSTANT_BYTES,
    broadcast,
    constant_array,
    full,
    iota,
    reshape,
    transpose,
)
from pellucid.passes.dce import dce
from pellucid.passes.fold import EXACT, fold
from tests.graphs import same_bits
from tests.passes.evaluating import evaluate_as_engines_do, pairs


def build(program: Callable[[], Value]) -> Graph:
    with building() as builder:
        return builder.graph([program()])


def folded(program: Callable[[], Value]) -> str:
    """The text of the only node that is left, without its number and type."""
    text = print_graph(check(dce(fold(build(program))))).split("\n")
    assert len(text) == 4, "one node"
    return text[1].split(" = ", 1)[1]


def test_arithmetic_is_computed() -> None:
    found = folded(
        lambda: div(add(full((), 3, float32), full((), 4, float32)), full((), 2, float32))
    )
    assert found == "constant() [dtype=float32, shape=(), value='3.5']"


def test_one_number_stays_one_number_whatever_the_shape() -> None:
    found = folded(lambda: mul(full((999, 999), 2, int32), full((999, 999), 3, int32)))
    assert found == "constant() [dtype=int32, shape=(999, 999), value='6']"


def test_a_moved_number_is_the_number() -> None:
    found = folded(
        lambda: reshape(broadcast(full((), -0.0, float64), shape=(2, 3), axes=()), shape=(6,))
    )
    assert found == "constant() [dtype=float64, shape=(6,), value='-0.0']"


def test_small_arrays_are_computed() -> None:
    x = np.array([[1, 2], [3, 4]], np.int32)
    found = folded(lambda: transpose(constant_array(x), permutation=(1, 0)))
    assert found == f"constant() [dtype=int32, shape=(2, 2), value=hex {x.T.tobytes().hex()}]"


def test_what_would_be_large_stays() -> None:
    size = CONSTANT_BYTES // 8
    row = np.arange(size, dtype=np.int64)
    before = build(lambda: broadcast(constant_array(row), shape=(2, size), axes=(1,)))
    assert fold(before) == before


@pytest.mark.parametrize(
    "program",
    [
        lambda: exp(full((), 1, float32)),
        lambda: REGISTRY["sum"](constant_array(np.ones(3, np.float32)), axes=(0,)),
        lambda: maximum(full((), 0.0, float32), full((), -0.0, float32)),
        lambda: div(full((), 0.0, float32), full((), 0.0, float32)),
        lambda: sqrt(full((), -1.0, float32)),
        lambda: cast(full((), 0.1, float64), dtype=float16),
        lambda: cast(full((), 2**40 + 1, int64), dtype=bfloat16),
        lambda: cast(iota(dtype=int32, shape=(3,), axis=0), dtype=float32),
    ],
)
def test_what_an_engine_might_round_otherwise_stays(program: Callable[[], Value]) -> None:
    before = build(program)
    assert fold(before) == before


def test_folding_goes_on_from_what_was_folded() -> None:
    x = np.array([1.0, 2.0], np.float32)
    found = folded(
        lambda: select(
            REGISTRY["less"](constant_array(x), full((2,), 1.5, float32)),
            constant_array(x),
            mul(constant_array(x), constant_array(x)),
        )
    )
    want = np.array([1.0, 4.0], np.float32)
    assert found == f"constant() [dtype=float32, shape=(2,), value=hex {want.tobytes().hex()}]"


def applications() -> list[tuple[str, DType, dict[str, Any]]]:
    return [
        (name, dtype, {"dtype": target} if name == "cast" else {})
        for name in sorted(EXACT)
        for dtype in DTYPES
        for target in (DTYPES if name == "cast" else DTYPES[:1])
    ]


@pytest.mark.parametrize("uniform", [True, False])
def test_folding_keeps_every_bit(uniform: bool) -> None:
    """Each exact op at each pair of special numbers, in each dtype: as arrays and one by one."""
    tried = 0
    for name, dtype, attrs in applications():
        x, y = pairs(dtype)
        step = 60 if uniform else 256
        for start in range(0, len(x), step):
            here = slice(start, start + (1 if uniform else step))
            before = graph_of(name, [x[here], y[here]], attrs, uniform)
            if before is not None:
                wanted = evaluate_as_engines_do(before, ())[0]
                found = evaluate_as_engines_do(fold(before), ())[0]
                assert same_bits(found, wanted), (name, dtype, attrs)
                tried += fold(before).nodes[-1].op.name == "constant"
    assert tried > 100


def graph_of(name: str, arrays: list[Any], attrs: dict[str, Any], uniform: bool) -> Graph | None:
    """The op on constants, the last operand repeated; None where it cannot take the dtype."""
    op = REGISTRY[name]
    with building() as builder:
        made = [
            constant_array(array.reshape(())) if uniform else constant_array(array)
            for array in arrays
        ]
        less = REGISTRY["equal"](made[0], made[0])
        for operands in (made[:1], made, [less, *made]):
            try:
                result = op(*operands, **attrs)
            except (OpError, TypeError):
                continue
            return builder.graph([result])
    return None
