"""Do passes that change rounding run only where they may, and say what they did?"""

from __future__ import annotations

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.core.dtype import FLOATING, DType, float32, int32
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, count_ops
from pellucid.ir.record import recording
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops import lookup
from pellucid.ops.elementwise import add, div
from pellucid.ops.movement import full_like
from pellucid.passes import recognise_attention
from pellucid.passes.divide_by_numbers import divide_by_numbers
from pellucid.passes.fast import Rewrite, merged
from pellucid.passes.pipeline import FAST, clean, hasten, optimize
from pellucid.tensor.traced import trace_function
from tests.graphs import random_graph
from tests.passes.evaluating import any_numbers, evaluate_as_engines_do


def quotient(number: float, dtype: DType = float32) -> Graph:
    with building() as builder:
        x = builder.input(TensorType(dtype, (2000,)))
        return builder.graph([div(x, full_like(x, number))])


@pytest.mark.parametrize("seed", range(20))
def test_a_graph_after_fast_passes_prints_and_parses(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_CHECK", "1")
    graph = optimize(random_graph(seed, (float32, int32), 40)[0], fast=True)
    assert parse_graph(print_graph(graph), lookup) == graph


def test_fast_passes_run_only_where_they_may() -> None:
    with recording() as record:
        optimize(quotient(3.0))
    assert not {one.name for one in FAST} & {stage.name for stage in record.stages}


def test_what_was_rewritten_is_told_in_a_stage() -> None:
    with recording() as record:
        optimize(quotient(3.0), fast=True)
    (stage,) = record.named("fast")
    assert stage.text == str(hasten(quotient(3.0))[1][0])


def test_nothing_is_told_where_nothing_was_rewritten() -> None:
    with recording() as record:
        optimize(quotient(2.0), fast=True)
    assert not record.named("fast")
    assert hasten(optimize(quotient(2.0)))[1] == ()


def test_a_rewrite_is_counted_and_names_its_error() -> None:
    with building() as builder:
        x = builder.input(TensorType(float32, (4,)))
        graph = builder.graph([add(div(x, full_like(x, 3.0)), div(x, full_like(x, 5.0)))])
    (rewrite,) = hasten(graph)[1]
    assert (rewrite.name, rewrite.times) == ("divide_by_numbers", 2)
    assert rewrite.error


def test_what_one_rewrite_replaced_is_not_counted_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recognise_attention, "LEAST_SCORES", 0)

    def attended(q: pe.Tensor, k: pe.Tensor) -> pe.Tensor:
        return nn.softmax(q @ k.T / 3.0) @ k

    tensors = [pe.ones((4, 3)), pe.zeros((4, 3))]
    _, rewrites = hasten(clean(trace_function(attended, tensors, tensors).graph))
    assert [one.name for one in rewrites] == ["recognise_attention"]


def test_rewrites_of_one_name_are_added_up() -> None:
    found = merged((Rewrite("a", 1, "none"), Rewrite("b", 0, "none"), Rewrite("a", 2, "none")))
    assert found == (Rewrite("a", 3, "none"),)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("number", [3.0, -7.0, 0.1, 1.9])
def test_a_quotient_by_a_number_is_off_by_less_than_two_units(dtype: DType, number: float) -> None:
    graph = quotient(number, dtype)
    fast = divide_by_numbers(graph)
    assert count_ops(fast)["mul"] == 1
    x = any_numbers(dtype, 2000, seed=1)
    (exact,), (found,) = (evaluate_as_engines_do(one, (x,)) for one in (graph, fast))
    wide = exact.astype(np.float64)
    least = 2.0 ** {"float16": -14, "bfloat16": -126, "float32": -126, "float64": -1022}[dtype.name]
    normal = np.isfinite(wide) & (abs(wide) >= least)
    digits = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype.name]
    unit = np.ldexp(1.0, np.frexp(wide[normal])[1] - 1 - digits)
    # The exact quotient was rounded too: 1.5 units from the true one are 2 from that.
    assert np.max(abs(found[normal].astype(np.float64) - wide[normal]) / unit) <= 2.0


@pytest.mark.parametrize("number", [0.0, float("inf"), float("nan"), 2.0**-127, 1.5 * 2.0**126])
def test_numbers_without_a_normal_reciprocal_stay_divisors(number: float) -> None:
    graph = quotient(number)
    assert divide_by_numbers(graph) is graph
