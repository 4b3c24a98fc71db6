"""A reduction with few results is split into one task a chunk, where there is work for it."""

from __future__ import annotations

import pytest

from pellucid.core.dtype import float16, float32
from pellucid.engines.cpu.rules import Argument, realise_graph
from pellucid.engines.llvm.target import AVX2
from pellucid.engines.loops.text import print_kernel
from pellucid.ir.graph import Value
from pellucid.ops.elementwise import mul, sqrt
from pellucid.ops.movement import broadcast
from pellucid.ops.reduce import max_, sum_
from tests.engines.kernels import graph_of


def norm(x: Value) -> Value:
    return sqrt(sum_(mul(x, x), axes=(0, 1)))


def test_a_large_sum_becomes_chunks_and_their_sum() -> None:
    plan = realise_graph(graph_of([(float32, (1000, 1000))], norm), AVX2)
    chunks, total = plan.calls
    assert chunks.tasks > 2
    assert chunks.arguments == (Argument("operand", 0), Argument("temporary", 0))
    assert total.arguments == (Argument("result", 0), Argument("temporary", 0))
    assert plan.temporaries == (4 * 125,)
    assert "part chunk" in print_kernel(chunks.kernel)
    assert "= sqrt" not in print_kernel(chunks.kernel)
    assert "= mul" not in print_kernel(total.kernel)


def test_partial_sums_of_a_16_bit_float_are_kept_in_float32() -> None:
    plan = realise_graph(graph_of([(float16, (1000, 1000))], norm), AVX2)
    assert plan.temporaries == (4 * 125,)


@pytest.mark.parametrize("shape", [(100, 100), (5000, 64), (4096, 1000)])
def test_small_sums_and_those_with_many_results_stay_whole(shape: tuple[int, ...]) -> None:
    plan = realise_graph(graph_of([(float32, shape)], lambda x: sum_(x, axes=(1,))), AVX2)
    assert len(plan.calls) == 1


def test_an_epilogue_s_operands_go_to_the_second_kernel() -> None:
    def scaled(x: Value, y: Value) -> list[Value]:
        row = broadcast(y, shape=(100_000, 8), axes=(1,))
        return [mul(sum_(mul(x, row), axes=(0,)), y), max_(mul(x, row), axes=(0,))]

    graph = graph_of([(float32, (100_000, 8)), (float32, (8,))], scaled)
    plan = realise_graph(graph, AVX2)
    chunks, total = plan.calls
    kinds = [(one.kind, one.index) for one in total.arguments]
    assert ("operand", 1) in kinds
    assert ("operand", 0) not in kinds
    assert [one.kind for one in chunks.arguments].count("temporary") == 2
