"""Are rows that are added into zeros found where they are needed, and nowhere else?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pellucid as pe
from pellucid.core.dtype import NUMERIC, DType, bfloat16, float32, int32, int64
from pellucid.engines import find_engine
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value, count_ops
from pellucid.ir.text import print_graph
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, mul, neg, sub
from pellucid.ops.index import scatter
from pellucid.ops.movement import broadcast, full, transpose
from pellucid.ops.reduce import sum_
from pellucid.passes.listed import listed, with_lists
from pellucid.passes.pipeline import optimize
from tests.engines.executing import run_compiled
from tests.graphs import same_bits

ROWS, WIDTH = 300, 40


def met(
    count: int = 64,
    function: Callable[..., Value | list[Value]] = sub,
    dtype: DType = float32,
    kind: DType = int64,
    zero: float = 0.0,
    mode: str = "add",
    width: int = WIDTH,
) -> Graph:
    """What `function` makes of a table and of rows that are added into zeros of its size."""
    with building() as builder:
        table = builder.input(TensorType(dtype, (ROWS, width)))
        updates = builder.input(TensorType(dtype, (count, width)))
        index = builder.input(TensorType(kind, (count,)))
        zeros = full((ROWS, width), zero, dtype)
        found = function(table, scatter(zeros, updates, index, axes=(0,), mode=mode))
        return builder.graph(found if isinstance(found, list) else [found])


def arrays_of(graph: Graph, seed: int = 0) -> tuple[NDArray[Any], ...]:
    """Numbers for its inputs; a few rows are met many times, some are out of range."""
    rng = np.random.default_rng(seed)

    def numbers(type: TensorType, last: bool) -> NDArray[Any]:
        if last:
            few = rng.integers(-2, ROWS + 2, type.shape) % rng.choice([5, 1000], type.shape)
            return (few - (rng.random(type.shape) < 0.1)).astype(type.dtype.numpy)
        return (3 * rng.standard_normal(type.shape)).astype(type.dtype.numpy)

    types = [value.tensor for value in graph.inputs]
    return tuple(numbers(type, type.rank == 1) for type in types)


def assert_same_results(graph: Graph) -> None:
    """The bits of the optimised graph are those of the graph as it stands, on 1 and 3 threads."""
    engine, arrays, before = find_engine("cpu"), arrays_of(graph), pe.get_threads()
    wanted = run_compiled(engine, graph, arrays)
    try:
        for threads in (1, 3):
            pe.set_threads(threads)
            found = run_compiled(engine, optimize(graph), arrays)
            assert all(same_bits(*pair) for pair in zip(found, wanted, strict=True))
    finally:
        pe.set_threads(before)


def inside(graph: Graph) -> list[dict[str, int]]:
    """The ops of each kernel."""
    bodies = (dict(node.attrs).get("body") for node in graph.nodes)
    return [count_ops(body) for body in bodies if isinstance(body, Graph)]


def test_rows_added_into_zeros_are_sums_along_lists() -> None:
    with building() as builder:
        updates = builder.input(TensorType(float32, (3, 8)))
        index = builder.input(TensorType(int32, (3,)))
        zeros = full((9, 8), 0.0, float32)
        graph = builder.graph([scatter(zeros, updates, index, axes=(0,), mode="add")])
    assert print_graph(listed(graph)) == (
        "graph(%0: float32[3, 8], %1: int32[3]) {\n"
        "  %2: float32[9, 8] = constant() [dtype=float32, shape=(9, 8), value='0.0']\n"
        "  %3: int32[12] = list_updates(%1) [sizes=(9,)]\n"
        "  %4: float32[9, 8] = sum_lists(%0, %3) [rank=1, sizes=(9,)]\n"
        "  return %4\n"
        "}"
    )


@pytest.mark.parametrize(
    "graph",
    [met(zero=-0.0), met(zero=1.0), met(mode="max"), met(width=4), met(count=3 * ROWS)],
    ids=["-0.0", "1.0", "max", "short rows", "many updates"],
)
def test_others_stay_scatters(graph: Graph) -> None:
    assert with_lists(graph) is graph


@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_every_dtype_keeps_its_bits(dtype: DType) -> None:
    assert_same_results(met(dtype=dtype))


@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize("kind", [int32, int64], ids=str)
def test_any_number_of_updates_keeps_its_bits(count: int, kind: DType) -> None:
    assert_same_results(met(count, kind=kind))


def test_several_indices_of_several_axes_keep_their_bits() -> None:
    with building() as builder:
        updates = builder.input(TensorType(float32, (6, 7, 3, 33)))
        at = [builder.input(TensorType(int64, (6, 7))) for _ in range(2)]
        zeros = full((10, 20, 3, 33), 0.0, float32)
        graph = builder.graph([neg(scatter(zeros, updates, *at, axes=(0, 1), mode="add"))])
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((6, 7, 3, 33)).astype(np.float32), *rng.integers(-1, 12, (2, 6, 7))
    engine = find_engine("cpu")
    (found,), (wanted,) = (run_compiled(engine, g, arrays) for g in (optimize(graph), graph))
    assert same_bits(found, wanted)
    assert count_ops(optimize(graph))["list_updates"] == 1


def test_an_update_of_weights_makes_the_gradient_in_its_kernel() -> None:
    fused = optimize(met())
    assert [node.op.name for node in fused.nodes] == ["list_updates", "fusion"]


def clipped(table: Value, gradient: Value) -> list[Value]:
    norm = sum_(mul(gradient, gradient), axes=(0, 1))
    scaled = mul(gradient, broadcast(norm, shape=gradient.shape, axes=()))
    return [sub(table, scaled), norm]


def test_each_of_two_readers_makes_it_and_one_list_is_enough() -> None:
    graph = met(function=clipped)
    fused = optimize(graph)
    assert [ops.get("sum_lists") for ops in inside(fused)] == [1, 1]
    assert count_ops(fused)["list_updates"] == 1
    assert_same_results(graph)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_reductions_of_it_keep_their_bits(axes: tuple[int, ...]) -> None:
    def reduced(table: Value, gradient: Value) -> Value:
        return sum_(mul(gradient, table), axes=axes)

    graph = met(function=reduced)
    assert [ops["sum_lists"] for ops in inside(optimize(graph))] == [1]
    assert_same_results(graph)


def test_what_is_added_to_a_product_is_made_in_its_kernel() -> None:
    def shared(table: Value, gradient: Value) -> Value:
        square = dot_general(table, table, contract=((0,), (0,)), batch=((), ()))
        share = dot_general(table, square, contract=((1,), (0,)), batch=((), ()))
        return sub(table, add(share, gradient))

    graph = met(function=shared)
    assert {"dot_general": 1, "sum_lists": 1}.items() <= inside(optimize(graph))[-1].items()
    assert_same_results(graph)


def test_who_reads_it_turned_is_given_the_whole() -> None:
    def turned(table: Value, gradient: Value) -> Value:
        return neg(transpose(gradient, permutation=(1, 0)))

    graph = met(function=turned)
    assert [node.op.name for node in optimize(graph).nodes] == [
        "list_updates",
        "sum_lists",
        "fusion",
    ]
    assert_same_results(graph)


def test_sixteen_bits_round_after_each_update() -> None:
    graph = met(300, dtype=bfloat16)
    table, updates, _ = arrays_of(graph)
    arrays = table, np.full_like(updates, 1), np.zeros(300, np.int64)
    (found,) = run_compiled(find_engine("cpu"), optimize(graph), arrays)
    # 256 + 1 is 256 again.
    assert same_bits(found[0], table[0] - np.asarray(256, table.dtype))
