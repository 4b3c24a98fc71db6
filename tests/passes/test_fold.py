"""Is what constants say computed now, and only where each engine would say the same?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pellucid.core.dtype import DTYPES, DType, bfloat16, float16, float32, float64, int32, int64
from pellucid.core.error import OpError
from pellucid.engines import find_engine
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, Value
from pellucid.ir.text import print_graph
from pellucid.ops import REGISTRY
from pellucid.ops.control import evaluate
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
from pellucid.passes.fold import fold
from tests.engines.executing import run_launched
from tests.graphs import same_bits
from tests.ops.cases import CASES, Case
from tests.passes.evaluating import pairs


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


def as_constants(case: Case) -> Graph:
    """The op on its operands as constants."""
    with building() as builder:
        return builder.graph(case.op.many(*map(constant_array, case.operands), **case.attrs))


def numbers_of(name: str, dtype: DType) -> list[Case]:
    """An elementwise op on every pair of special numbers of a dtype, where it takes them."""
    op, (x, y) = REGISTRY[name], pairs(dtype)
    truth = np.resize([True, False, True], x.shape)
    targets = [{"dtype": target} for target in DTYPES] if name in ("cast", "bitcast") else [{}]
    attrs = [{"order": 2}] if name == "polygamma" else targets
    found: list[Case] = []
    for operands in ((x,), (x, y), (truth, x, y)):
        for one in attrs:
            try:
                case = Case(op, operands, one)
                op.result_types(case.types, one)
            except OpError:
                continue
            found.append(case)
    return found


def assert_folds_to_the_engines_bits(cases: list[Case]) -> bool:
    """Whether some were folded; those that were have the bits that the CPU engine computes."""
    folded = False
    for case in cases:
        before = as_constants(case)
        after = fold(before)
        if after == before:
            continue
        assert [node.op.name for node in dce(after).nodes] == ["constant"]
        (found,) = evaluate(after, ())
        (wanted,) = run_launched(find_engine("cpu"), case.graph(), case.operands)
        assert same_bits(found, wanted), case
        folded = True
    return folded


def in_parts(case: Case) -> list[Case]:
    """As many numbers at a time as a constant may have, without NaN, which is never folded."""
    (result,) = case.op.evaluate(*case.operands, **case.attrs)
    bad = np.logical_or.reduce([x != x for x in (*case.operands, result)])
    if case.op.name in ("maximum", "minimum"):
        bad |= result == 0
    kept = [x[~bad] for x in case.operands]
    starts = range(0, len(kept[0]), 400)
    return [Case(case.op, tuple(x[at : at + 400] for x in kept), case.attrs) for at in starts]


@pytest.mark.parametrize("name", [n for n, op in REGISTRY.items() if op.kind == "elementwise"])
def test_folding_special_numbers_keeps_every_bit(name: str) -> None:
    """An elementwise op is folded if and only if its card says that its results are exact."""
    for dtype in DTYPES:
        for case in numbers_of(name, dtype):
            (result,) = case.op.result_types(case.types, case.attrs)
            stated = case.op.ulps(result.dtype, case.attrs)
            folds = assert_folds_to_the_engines_bits(in_parts(case))
            assert folds == (stated <= 0.5 and rounds_once(case)), case


def rounds_once(case: Case) -> bool:
    """Whether it is not a cast that engines make in two steps."""
    source, (target,) = case.types[0].dtype, case.op.result_types(case.types, case.attrs)
    small = source.bits <= (32 if source.is_floating else 16)
    return case.op.name != "cast" or target.dtype not in (float16, bfloat16) or small


NEVER_FOLDED = ("constant", "iota", "fusion", "attention", "attention_gradient", "spread")
"""What has no operands, holds a graph, or is about sums of floats and nothing else."""


@pytest.mark.parametrize("name", [n for n, op in REGISTRY.items() if op.kind != "elementwise"])
def test_folding_other_ops_keeps_every_bit(name: str) -> None:
    small = [c for c in CASES[name] if c.operands and all(x.nbytes <= 4096 for x in c.operands)]
    exact = assert_folds_to_the_engines_bits(small)
    assert exact == (name not in NEVER_FOLDED)
