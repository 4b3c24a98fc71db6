"""Are large results written past the caches where that is safe, and to the same bits?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import float32
from pellucid.engines.cpu import pipeline
from pellucid.engines.cpu.pipeline import compile_graph
from pellucid.engines.llvm.jit import assembly
from pellucid.engines.llvm.lower import lower
from pellucid.engines.llvm.target import AVX2, AVX512, SSE2, Isa, host_isa
from pellucid.engines.loops.ir import Binding, Kernel
from pellucid.engines.loops.stream import LINE, can_be_streamed, streamed, unstreamed
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops.elementwise import add, exp, less, mul, neg
from pellucid.ops.movement import broadcast
from pellucid.ops.reduce import sum_
from pellucid.passes.pipeline import optimize


@pytest.fixture(autouse=True)
def _small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A last-level cache of 16 KiB."""
    monkeypatch.setattr(pipeline, "cache_bytes", lambda level: 1 << 14)


def streams(
    build: Any, *shapes: tuple[int, ...], donate: dict[int, int] | None = None
) -> list[list[str]]:
    """The buffers that each launch of a function streams to."""
    with building() as builder:
        results = build(*(builder.input(TensorType(float32, shape)) for shape in shapes))
        results = [results] if isinstance(results, Value) else results
        graph: Graph = optimize(builder.graph(results))
    executable = compile_graph(graph, donate or {}, host_isa())
    kernels = [one.kernel for one in executable.launched]
    return [
        [b.axis for b in kernel.schedule if b.kind == "stream"]
        for kernel in kernels
        if isinstance(kernel, Kernel)
    ]


def test_large_result_of_a_kernel_that_moves_much_is_streamed() -> None:
    assert streams(exp, (64, 64)) == [["y0"]]
    assert streams(exp, (16, 64)) == [[]]


def test_numbers_a_row_beside_a_large_result_are_not_streamed() -> None:
    def rows(x: Value) -> list[Value]:
        total = sum_(x, axes=(1,))
        return [total, mul(x, broadcast(total, shape=x.shape, axes=(0,)))]

    assert streams(rows, (64, 64)) == [["y1"]]


def test_what_lies_where_an_operand_lies_is_not_streamed() -> None:
    # Its lines are in the caches: they were read.
    assert streams(neg, (64, 64), donate={0: 0}) == [[]]


def test_rows_that_do_not_begin_at_whole_vectors_are_not_streamed() -> None:
    def function(x: Value, row: Value) -> Value:
        return add(x, broadcast(row, shape=x.shape, axes=(1,)))

    assert streams(function, (64, 64), (64,)) == [["y0"]]
    assert streams(function, (64, 65), (65,)) == [[]]


def test_truth_values_are_not_streamed() -> None:
    assert streams(lambda x, y: less(x, y), (128, 128), (128, 128)) == [[]]


def test_what_a_kernel_reads_or_adds_to_is_not_streamed() -> None:
    text = """\
kernel k
  read x: float32
  write y: float32
  write z: float32
  write p: float32
  vector j 16
  for i < 8
    for j < 64
      t0: float32 = load y[64*i + j]
      store y[64*i + j] = t0
      store z[64*i + j] = t0
      chain p[j] sum t0 along i"""
    kernel = parse_kernel(text)
    assert [can_be_streamed(kernel, name) for name in "xyzp"] == [False, False, True, False]


def test_streaming_is_a_part_of_the_schedule_that_prints_and_parses() -> None:
    text = "kernel k\n  write z: float32\n  vector j 16\n  for j < 64\n"
    kernel = parse_kernel(text + "    t0: float32 = const 1.0\n    store z[j] = t0")
    found = streamed(kernel, frozenset({"z"}))
    assert found.schedule[-1] == Binding("z", "stream", LINE)
    assert parse_kernel(print_kernel(found)) == found
    assert unstreamed(found) == kernel


@pytest.mark.parametrize("isa", [SSE2, AVX2, AVX512], ids=lambda isa: isa.name)
def test_streams_are_instructions_of_every_set_and_end_with_a_fence(isa: Isa) -> None:
    lanes = isa.vector_bits // 32
    text = f"""\
kernel k
  read x: float32
  write y: float32
  thread i 4096
  vector i {lanes}
  stream y {LINE}
  for i < 4096
    t0: float32 = load x[i]
    t1: float32 = neg t0
    store y[i] = t1"""
    code = assembly(lower(parse_kernel(text), isa), isa)
    assert "movnt" in code
    assert "sfence" in code


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8", "int64"])
def test_streamed_results_of_every_width_are_right(dtype: str) -> None:
    x = pe.astype(pe.asarray(np.arange(256 * 128).reshape(256, 128) % 60), dtype)
    with pe.recording() as record:
        found = pe.jit(lambda x: x + x)(x)
    assert any("stream y0" in str(stage.text) for stage in record.named("loops"))
    assert np.asarray(found).tobytes() == np.asarray(x + x).tobytes()


def test_streamed_results_have_the_bits_of_eager_ones() -> None:
    rng = np.random.default_rng(0)
    x = pe.asarray(rng.standard_normal((300, 160), dtype=np.float32))

    def function(x: pe.Tensor) -> tuple[pe.Tensor, pe.Tensor]:
        y = pe.exp(x - pe.max(x, axis=1, keepdims=True))
        return y, pe.sum(y, axis=0)

    wanted = [np.asarray(one).tobytes() for one in function(x)]
    with pe.recording() as record:
        made = pe.jit(function)
        made(x)
    assert any("stream y0" in str(stage.text) for stage in record.named("loops"))
    before = pe.get_threads()
    try:
        for threads in (1, 2, 3):
            pe.set_threads(threads)
            assert [np.asarray(one).tobytes() for one in made(x)] == wanted
    finally:
        pe.set_threads(before)
