"""Which passes over rows fetch the rows to come? The heaviest that reads each large operand."""

from __future__ import annotations

import pytest

from pellucid.core.dtype import DType, bfloat16, float32, float64
from pellucid.engines.cpu.rules import realise_graph
from pellucid.engines.llvm.jit import assembly
from pellucid.engines.llvm.lower import lower
from pellucid.engines.llvm.target import AVX512
from pellucid.engines.loops.ir import Kernel
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.ir.graph import Value
from pellucid.ops.elementwise import div, exp, mul, sub
from pellucid.ops.movement import broadcast
from pellucid.ops.reduce import max_, sum_
from tests.engines.kernels import graph_of


def wide(row: Value, x: Value) -> Value:
    return broadcast(row, shape=x.shape, axes=(0,))


def softmax_times(x: Value, scale: Value) -> Value:
    e = exp(sub(x, wide(max_(x, axes=(1,)), x)))
    y = div(e, wide(sum_(e, axes=(1,)), x))
    return mul(y, broadcast(scale, shape=x.shape, axes=(1,)))


def kernel_of(rows: int, columns: int, dtype: DType = float32) -> Kernel:
    graph = graph_of([(dtype, (rows, columns)), (dtype, (columns,))], softmax_times)
    (call,) = realise_graph(graph, AVX512).calls
    assert isinstance(call.kernel, Kernel)
    return call.kernel


def ahead(kernel: Kernel) -> dict[str, object]:
    return {b.axis: b.factor for b in kernel.schedule if b.kind == "ahead"}


def test_the_pass_of_the_exponentials_fetches_whole_rows() -> None:
    # The pass of the maximum computes less, and the last one reads what was kept.
    assert ahead(kernel_of(4096, 1024)) == {"c1": 2 * 1024}
    assert ahead(kernel_of(4096, 768)) == {"c1": 3 * 768}
    assert ahead(kernel_of(512, 8192)) == {"c1": 8192}


@pytest.mark.parametrize(
    ("rows", "columns", "dtype"),
    [(65536, 64, float32), (8, 8192, float32), (64, 60000, float64), (16384, 512, bfloat16)],
    ids=str,
)
def test_short_long_and_few_rows_are_not_fetched(rows: int, columns: int, dtype: DType) -> None:
    assert not ahead(kernel_of(rows, columns, dtype))


def test_a_pass_fetches_its_rows_and_not_what_all_rows_share() -> None:
    kernel = kernel_of(4096, 1024)
    text = assembly(lower(kernel, AVX512), AVX512)
    # One line of x in the loop of the exponentials; the scale is the same for all rows.
    assert text.count("prefetch") == 1


def test_the_text_of_what_is_fetched_parses_back() -> None:
    kernel = kernel_of(4096, 1024)
    assert "  ahead c1 2048\n" in print_kernel(kernel)
    assert parse_kernel(print_kernel(kernel)) == kernel
