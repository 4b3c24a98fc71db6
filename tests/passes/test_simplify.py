"""Does every law apply where it should, and keep every bit? One example a law, at hard numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pellucid.core.dtype import (
    DTYPES,
    FLOATING,
    INTEGERS,
    NUMERIC,
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int32,
)
from pellucid.core.shape import product
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ir.text import print_graph
from pellucid.ops import REGISTRY
from pellucid.ops.attention import attention, attention_gradient
from pellucid.ops.attention_forms import USUAL
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import (
    add,
    cast,
    div,
    equal,
    exp,
    logical_and,
    logical_not,
    logical_or,
    mul,
    neg,
    select,
    stop_gradient,
    sub,
)
from pellucid.ops.movement import broadcast, constant_array, full_like, reshape, transpose
from pellucid.ops.parts import slice
from pellucid.passes.arithmetic_laws import holds
from pellucid.passes.dce import dce
from pellucid.passes.law import LAWS
from pellucid.passes.simplify import simplify
from tests.graphs import same_bits, sample
from tests.passes.evaluating import any_numbers, evaluate_as_engines_do, pairs

Program = Callable[..., Value]
SIGNED = tuple(dtype for dtype in NUMERIC if dtype.kind != "uint")


@dataclass(frozen=True)
class Example:
    """A law's name, what it changes and into what: functions of x and y (and a bool c)."""

    law: str
    before: Program
    after: Program
    on: tuple[DType, ...] = NUMERIC


def k(x: Value, number: float) -> Value:
    """A constant like x."""
    return full_like(x, number)


ARITHMETIC = (
    Example("plus_negative_zero", lambda x, y: add(x, k(x, -0.0)), lambda x, y: x, FLOATING),
    Example("plus_negative_zero", lambda x, y: add(k(x, -0.0), x), lambda x, y: x, FLOATING),
    Example("plus_zero", lambda x, y: add(x, k(x, 0)), lambda x, y: x, INTEGERS),
    Example("plus_negative", lambda x, y: add(x, neg(y)), lambda x, y: sub(x, y)),
    Example("plus_negative", lambda x, y: add(neg(y), x), lambda x, y: sub(x, y)),
    Example("minus_zero", lambda x, y: sub(x, k(x, 0.0)), lambda x, y: x),
    Example("minus_negative", lambda x, y: sub(x, neg(y)), lambda x, y: add(x, y)),
    Example("times_one", lambda x, y: mul(x, k(x, 1)), lambda x, y: x),
    Example("times_one", lambda x, y: mul(k(x, 1), x), lambda x, y: x),
    Example("times_minus_one", lambda x, y: mul(x, k(x, -1)), lambda x, y: neg(x), SIGNED),
    Example("product_of_negatives", lambda x, y: mul(neg(x), neg(y)), lambda x, y: mul(x, y)),
    Example("over_one", lambda x, y: div(x, k(x, 1)), lambda x, y: x, FLOATING),
    *(
        Example(
            "over_power_of_two",
            lambda x, y, by=by: div(x, k(x, by)),
            lambda x, y, by=by: mul(x, k(x, 1 / by)),
            FLOATING,
        )
        for by in (2.0, -0.125, 2.0**12, 2.0**-13)
    ),
    Example("negative_of_negative", lambda x, y: neg(neg(x)), lambda x, y: x),
    Example("neutral_truth", lambda x, y: logical_and(x, k(x, True)), lambda x, y: x, (bool_,)),
    Example("neutral_truth", lambda x, y: logical_or(k(x, False), x), lambda x, y: x, (bool_,)),
    Example(
        "deciding_truth",
        lambda x, y: logical_or(x, k(x, True)),
        lambda x, y: k(x, True),
        (bool_,),
    ),
    Example("not_not", lambda x, y: logical_not(logical_not(x)), lambda x, y: x, (bool_,)),
    Example("always", lambda x, y: select(k(equal(x, y), True), x, y), lambda x, y: x, DTYPES),
    Example("never", lambda x, y: select(k(equal(x, y), False), x, y), lambda x, y: y, DTYPES),
    Example("same_branches", lambda x, y: select(equal(x, y), x, x), lambda x, y: x, DTYPES),
    Example("cast_to_itself", lambda x, y: cast(x, dtype=x.dtype), lambda x, y: x, DTYPES),
    Example("stopped", lambda x, y: stop_gradient(x), lambda x, y: x, DTYPES),
)

# Programs over x: (2, 1, 3) and y: (3, 4).
MOVEMENTS = (
    Example("transpose_nothing", lambda x, y: transpose(y, permutation=(0, 1)), lambda x, y: y),
    Example(
        "transpose_twice",
        lambda x, y: transpose(transpose(x, permutation=(1, 2, 0)), permutation=(2, 1, 0)),
        lambda x, y: transpose(x, permutation=(0, 2, 1)),
    ),
    Example(
        "transpose_broadcast",
        lambda x, y: transpose(
            broadcast(y, shape=(3, 2, 4), axes=(0, 2)), permutation=(1, 0, 2)
        ),
        lambda x, y: broadcast(y, shape=(2, 3, 4), axes=(1, 2)),
    ),
    Example("reshape_nothing", lambda x, y: reshape(y, shape=(3, 4)), lambda x, y: y),
    Example(
        "reshape_twice",
        lambda x, y: reshape(reshape(y, shape=(12,)), shape=(2, 6)),
        lambda x, y: reshape(y, shape=(2, 6)),
    ),
    Example(
        "reshape_one_number",
        lambda x, y: reshape(broadcast(total(y), shape=(2, 6), axes=()), shape=(4, 3)),
        lambda x, y: broadcast(total(y), shape=(4, 3), axes=()),
    ),
    Example(
        "broadcast_nothing", lambda x, y: broadcast(y, shape=(3, 4), axes=(0, 1)), lambda x, y: y
    ),
    Example(
        "broadcast_to_ones",
        lambda x, y: broadcast(y, shape=(3, 1, 4), axes=(0, 2)),
        lambda x, y: reshape(y, shape=(3, 1, 4)),
    ),
    Example(
        "broadcast_twice",
        lambda x, y: broadcast(
            broadcast(y, shape=(5, 3, 4), axes=(1, 2)), shape=(5, 3, 2, 4), axes=(0, 1, 3)
        ),
        lambda x, y: broadcast(y, shape=(5, 3, 2, 4), axes=(1, 3)),
    ),
    Example(
        "broadcast_reshaped",
        lambda x, y: broadcast(
            reshape(y, shape=(3, 1, 4)), shape=(3, 7, 4), axes=(0, 1, 2)
        ),
        lambda x, y: broadcast(y, shape=(3, 7, 4), axes=(0, 2)),
    ),
    Example("reduce_ones", lambda x, y: REGISTRY["sum"](y, axes=()), lambda x, y: y),
    Example(
        "reduce_ones",
        lambda x, y: REGISTRY["max"](x, axes=(1,)),
        lambda x, y: reshape(x, shape=(2, 3)),
    ),
    Example(
        "reduce_ones",
        lambda x, y: REGISTRY["sum"](x, axes=(1, 2)),
        lambda x, y: REGISTRY["sum"](reshape(x, shape=(2, 3)), axes=(1,)),
    ),
    Example(
        "dot_of_turned_lhs",
        lambda x, y: dot(transpose(y, permutation=(1, 0)), y, (1,), (0,)),
        lambda x, y: dot(y, y, (0,), (0,)),
    ),
    Example(
        "dot_of_turned_lhs",
        lambda x, y: dot(transpose(x, permutation=(2, 0, 1)), x, (2, 0), (1, 2)),
        lambda x, y: dot(x, x, (1, 2), (1, 2)),
    ),
    Example(
        "dot_of_turned_rhs",
        lambda x, y: dot(y, transpose(y, permutation=(1, 0)), (1,), (0,)),
        lambda x, y: dot(y, y, (1,), (1,)),
    ),
    Example(
        "turned_product",
        lambda x, y: transpose(dot(x, y, (2,), (0,)), permutation=(2, 0, 1)),
        lambda x, y: dot(y, x, (0,), (2,)),
    ),
    Example(
        "attention_of_turned",
        lambda x, y: attend(transpose(heads(y), permutation=(0, 2, 1, 3))),
        lambda x, y: attend(heads(y), (True, True, True, False)),
    ),
    Example(
        "turned_attention",
        lambda x, y: transpose(attend(heads(y)), permutation=(0, 2, 1, 3)),
        lambda x, y: attend(heads(y), (False, False, False, True)),
    ),
    Example(
        "share_of_turned",
        lambda x, y: transpose(
            share_of(transpose(heads(y), permutation=(0, 2, 1, 3))), permutation=(0, 2, 1, 3)
        ),
        lambda x, y: share_of(heads(y), (True, True, True, True)),
    ),
)  # fmt: skip


def heads(y: Value) -> Value:
    return reshape(cast(y, dtype=float32), shape=(1, 3, 2, 2))


def attend(x: Value, heads_first: tuple[bool, bool, bool, bool] = USUAL) -> Value:
    attrs = {"causal": True, "lengths": False, "mask": False, "scale": 0.5, "dropout": 0.0}
    return attention(x, x, x, heads_first=heads_first, **attrs)


def share_of(x: Value, heads_first: tuple[bool, bool, bool, bool] = USUAL) -> Value:
    """The share of the key in the gradient of an attention of x by x by x, x coming back."""
    attrs = {"causal": True, "lengths": False, "mask": False, "scale": 0.5, "dropout": 0.0}
    packed = attention_gradient(x, x, x, x, heads_first=heads_first, **attrs)
    count = product(x.shape)
    flat = slice(packed, start=(count,), stop=(2 * count,), strides=(1,))
    return reshape(flat, shape=x.shape)


def total(x: Value) -> Value:
    return REGISTRY["sum"](x, axes=tuple(range(x.tensor.rank)))


def dot(lhs: Value, rhs: Value, left: tuple[int, ...], right: tuple[int, ...]) -> Value:
    return dot_general(lhs, rhs, contract=(left, right), batch=((), ()))


def build(program: Program, *types: TensorType) -> Graph:
    with building() as builder:
        return builder.graph([program(*(builder.input(type) for type in types))])


def assert_becomes(before: Graph, after: Graph) -> Graph:
    """The text after the pass is the text wanted."""
    found = check(dce(simplify(check(before))))
    assert print_graph(found) == print_graph(dce(after))
    return found


def test_every_law_has_an_example() -> None:
    laws = {law.name for table in LAWS.values() for law in table}
    assert {example.law for example in (*ARITHMETIC, *MOVEMENTS)} | {"cast_through_wider"} == laws


def test_every_law_states_itself() -> None:
    assert all(law.replace.__doc__ for table in LAWS.values() for law in table)


@pytest.mark.parametrize("example", ARITHMETIC, ids=lambda e: e.law)
def test_arithmetic_law(example: Example) -> None:
    for dtype in example.on:
        random = any_numbers(dtype, 2000, 1), any_numbers(dtype, 2000, 2)
        for x, y in (pairs(dtype), random):
            type = TensorType(dtype, x.shape)
            before = build(example.before, type, type)
            found = assert_becomes(before, build(example.after, type, type))
            wanted = evaluate_as_engines_do(before, (x, y))
            assert same_bits(evaluate_as_engines_do(found, (x, y))[0], wanted[0]), dtype


@pytest.mark.parametrize("example", MOVEMENTS, ids=lambda e: e.law)
def test_movement_law(example: Example) -> None:
    types = TensorType(int32, (2, 1, 3)), TensorType(int32, (3, 4))
    rng = np.random.default_rng(0)
    arrays = tuple(sample(rng, int32, shape) for shape in ((2, 1, 3), (3, 4)))
    before = build(example.before, *types)
    found = assert_becomes(before, build(example.after, *types))
    wanted = evaluate_as_engines_do(before, arrays)
    assert same_bits(evaluate_as_engines_do(found, arrays)[0], wanted[0])


@pytest.mark.parametrize("source", DTYPES, ids=str)
@pytest.mark.parametrize("middle", DTYPES, ids=str)
def test_cast_through_wider(source: DType, middle: DType) -> None:
    x, _ = pairs(source)
    for target in DTYPES:
        before = build(
            lambda v, t=target: cast(cast(v, dtype=middle), dtype=t), TensorType(source, x.shape)
        )
        found = dce(simplify(before))
        wanted = evaluate_as_engines_do(before, (x,))
        assert same_bits(evaluate_as_engines_do(found, (x,))[0], wanted[0]), target


def test_cast_through_wider_goes_where_the_middle_holds_everything() -> None:
    type = TensorType(bfloat16, (3,))
    before = build(lambda x: cast(cast(x, dtype=float32), dtype=int8), type)
    assert_becomes(before, build(lambda x: cast(x, dtype=int8), type))


@pytest.mark.parametrize("wide", DTYPES, ids=str)
@pytest.mark.parametrize("narrow", DTYPES, ids=str)
def test_holds_says_what_a_round_trip_keeps(wide: DType, narrow: DType) -> None:
    x = pairs(narrow)[0]
    before = build(lambda v: cast(cast(v, dtype=wide), dtype=narrow), TensorType(narrow, x.shape))
    kept = same_bits(evaluate_as_engines_do(before, (x,))[0], x)
    assert kept or not holds(wide, narrow)


UNTOUCHED: tuple[Program, ...] = (
    lambda x, y: add(x, k(x, 0.0)),
    lambda x, y: sub(x, k(x, -0.0)),
    lambda x, y: sub(k(x, 0.0), x),
    lambda x, y: sub(x, x),
    lambda x, y: mul(x, k(x, 0.0)),
    lambda x, y: div(x, k(x, 3.0)),
    lambda x, y: div(x, k(x, 0.0)),
    lambda x, y: div(x, k(x, 2.0**30)) if x.dtype is float16 else div(x, x),
    lambda x, y: neg(sub(x, y)),
    lambda x, y: logical_not(REGISTRY["less"](x, y)),
    lambda x, y: cast(cast(x, dtype=int32), dtype=x.dtype),
    lambda x, y: exp(neg(x)),
)  # fmt: skip


@pytest.mark.parametrize("program", UNTOUCHED)
@pytest.mark.parametrize("dtype", [float16, float32, float64], ids=str)
def test_what_would_change_a_bit_stays(program: Program, dtype: DType) -> None:
    type = TensorType(dtype, (5,))
    before = build(program, type, type)
    assert dce(simplify(before)) == before


def test_a_product_that_is_used_elsewhere_is_not_computed_twice() -> None:
    type = TensorType(float32, (3, 3))
    with building() as builder:
        x, y = builder.input(type), builder.input(type)
        product = dot(x, y, (1,), (0,))
        graph = builder.graph([product, transpose(product, permutation=(1, 0))])
    assert dce(simplify(graph)) == graph


def test_a_turned_operand_stays_where_free_axes_would_change_places() -> None:
    type = TensorType(float32, (2, 3, 4))
    before = build(
        lambda x: dot(transpose(x, permutation=(1, 0, 2)), x, (2,), (2,)), type
    )  # fmt: skip
    assert dce(simplify(before)) == before


def test_laws_apply_to_what_laws_make() -> None:
    type = TensorType(float32, (4,))
    assert_becomes(
        build(lambda x, y: add(neg(mul(x, k(x, -1.0))), neg(neg(neg(y)))), type, type),
        build(sub, type, type),
    )


def test_arrays_of_ones_are_not_seen_as_a_number() -> None:
    type = TensorType(float32, (2,))
    before: Any = build(lambda x: mul(x, constant_array(np.ones(2, np.float32))), type)
    assert dce(simplify(before)) == before
