"""Does a compiled graph give what the graph means, wherever its inputs and outputs lie?

In place or not, the bits are those of the graph launched op by op in memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from pellucid.core.dtype import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int32,
    uint8,
)
from pellucid.core.error import UnsupportedOpError
from pellucid.core.shape import Size, sym
from pellucid.core.source import Source
from pellucid.engines import find_engine
from pellucid.engines.cpu.pipeline import CpuEngine
from pellucid.engines.cpu.runtime import CpuExecutable
from pellucid.engines.llvm import cache
from pellucid.engines.loops.text import print_kernel
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ir.record import recording
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, cast, div, exp, mul, neg, sqrt, sub, tanh
from pellucid.ops.movement import broadcast, constant_array, full, transpose
from pellucid.ops.reduce import max_, sum_
from pellucid.passes.pipeline import optimize
from tests.engines.executing import run_launched
from tests.graphs import same_bits, sample
from tests.passes.test_memory import example
from tests.running import Arrays, call

DTYPES = (float32, float64, bfloat16, float16, int32, uint8, bool_)
SIZES = (1, 2, 7, 8, 9, 31, 33, 64, 65, 1000, 40_001)


@pytest.mark.parametrize("seed", range(30))
def test_donated_pairs_have_the_bits_of_memory_apart(seed: int) -> None:
    graph, arrays, donate = example(seed)
    assert_in_place_is_right(graph, arrays, donate)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16, float16, int32])
def test_update_in_place_at_every_size(dtype: DType, size: int) -> None:
    graph = graph_of([(dtype, (size,))] * 2, lambda p, g: [sub(p, mul(g, add(p, g)))])
    assert_in_place_is_right(optimize(graph), samples(graph), {0: 0}, direct=True)


@pytest.mark.parametrize("size", SIZES)
def test_adam_update_is_one_kernel_in_place(size: int) -> None:
    def adam(p: Value, m: Value, v: Value, g: Value) -> list[Value]:
        tenth, rest = full(p.shape, 0.1, p.dtype), full(p.shape, 0.9, p.dtype)
        m = add(mul(m, rest), mul(g, tenth))
        v = add(mul(v, rest), mul(mul(g, g), tenth))
        return [sub(p, div(m, add(sqrt(v), tenth))), m, v]

    graph = graph_of([(float32, (size,))] * 4, adam)
    arrays = tuple(np.abs(array) for array in samples(graph))
    exe = assert_in_place_is_right(optimize(graph), arrays, {0: 0, 1: 1, 2: 2}, direct=True)
    assert len(exe.launched) == 1


def test_kernel_reads_everything_before_it_writes() -> None:
    """The first result takes the memory of an operand that only the second one reads."""
    graph = graph_of([(float32, (1000,))] * 2, lambda x, y: [neg(y), exp(mul(x, y))])
    assert_in_place_is_right(optimize(graph), samples(graph), {0: 0}, direct=True)


@pytest.mark.parametrize("depth", [1, 7, 512, 513, 1100])
@pytest.mark.parametrize("dtype", [float32, bfloat16, int32])
def test_residual_of_a_product_in_place(dtype: DType, depth: int) -> None:
    def build(x: Value, w: Value, residual: Value) -> list[Value]:
        y = dot_general(x, w, contract=((1,), (0,)), batch=((), ()))
        return [add(residual, neg(y)), y]

    kinds = [(dtype, (37, depth)), (dtype, (depth, 53)), (dtype, (37, 53))]
    graph = graph_of(kinds, build)
    assert_in_place_is_right(optimize(graph), samples(graph), {2: 0}, direct=True)


@pytest.mark.parametrize("shape", [(5, 7), (64, 1000), (2, 30_000)])
@pytest.mark.parametrize("axis", [0, 1])
def test_running_statistic_of_a_reduction_in_place(shape: tuple[int, int], axis: int) -> None:
    kept = (shape[1 - axis],)

    def build(x: Value, mean: Value) -> list[Value]:
        return [add(mul(mean, mean), sum_(mul(x, x), axes=(axis,))), max_(x, axes=(axis,))]

    graph = graph_of([(float32, shape), (float32, kept)], build)
    assert_in_place_is_right(optimize(graph), samples(graph), {1: 0}, direct=True)


def test_softmax_over_its_own_input() -> None:
    def build(x: Value) -> list[Value]:
        top = broadcast(max_(x, axes=(1,)), shape=x.shape, axes=(0,))
        e = exp(sub(x, top))
        return [div(e, broadcast(sum_(e, axes=(1,)), shape=x.shape, axes=(0,)))]

    graph = graph_of([(float32, (33, 130))], build)
    assert_in_place_is_right(optimize(graph), samples(graph), {0: 0})


def test_transposed_reader_of_what_is_overwritten() -> None:
    def build(x: Value) -> list[Value]:
        return [add(x, transpose(x, permutation=(1, 0)))]

    graph = graph_of([(float32, (65, 65))], build)
    assert_in_place_is_right(optimize(graph), samples(graph), {0: 0})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5,), (0, 0)])
def test_swapped_passed_on_and_doubled(dtype: DType, shape: tuple[int, ...]) -> None:
    graph = graph_of([(dtype, shape)] * 3, lambda a, b, c: [b, a, c, c, b])
    assert_in_place_is_right(graph, samples(graph), {0: 0, 1: 1, 2: 3})


def test_graph_without_inputs() -> None:
    array = sample(np.random.default_rng(0), float32, (5,))
    graph = graph_of([], lambda: [constant_array(array), full((), 2.5, float64)])
    found = call(compile_for_cpu(graph), ())
    assert same_bits(found[0], array)
    assert found[1] == 2.5


def test_graph_without_outputs() -> None:
    exe = compile_for_cpu(graph_of([(float32, (3,))], lambda x: []))
    assert call(exe, (np.ones(3, np.float32),)) == ()


def test_sum_over_no_elements_is_zero_beside_others() -> None:
    def build(x: Value, y: Value) -> list[Value]:
        return [add(sum_(x, axes=(0,)), y), dot_general(y, y, contract=((), ()), batch=((), ()))]

    graph = graph_of([(float32, (0, 4)), (float32, (4,))], build)
    arrays = samples(graph)
    assert same_bits(call(compile_for_cpu(optimize(graph)), arrays)[0], arrays[1])


def test_equal_layers_are_compiled_once() -> None:
    def build(x: Value, w: Value, v: Value, u: Value) -> list[Value]:
        for weight in (w, v, u):
            x = tanh(dot_general(x, weight, contract=((1,), (0,)), batch=((), ())))
        return [x]

    # A shape of its own, so that no other test has compiled it in this process.
    graph = optimize(graph_of([(float32, (3, 19))] + [(float32, (19, 19))] * 3, build))
    before = cache.counters()
    exe = compile_for_cpu(graph)
    after = cache.counters()
    assert len(exe.launched) == 3
    assert len({one.llvm for one in exe.launched}) == 1
    # Not only equal: the nest and its text were made once.
    assert len({(id(one.kernel), id(one.llvm)) for one in exe.launched}) == 1
    assert after.hits + after.misses - before.hits - before.misses == 1
    compile_for_cpu(graph)
    assert cache.counters().compiled == after.compiled


def test_unknown_size_is_refused_with_the_line() -> None:
    with building() as builder:
        x = builder.input(TensorType(float32, (sym("n"), 3)))
        builder.source = Source(__file__, 1)
        graph = builder.graph([exp(x)])
    with pytest.raises(UnsupportedOpError, match=r"float32\[n, 3\](.|\n)*test_pipeline.py:1"):
        compile_for_cpu(graph)


def test_stages_of_a_compilation_are_recorded() -> None:
    graph = graph_of([(float32, (9,))], lambda x: [sum_(exp(x), axes=(0,)), neg(x)])
    with recording() as record:
        compile_for_cpu(graph)
    names = [stage.name for stage in record.stages]
    assert names[:3] == ["kernels", "memory", "code"]
    assert names.count("loops") == names.count("llvm") == names.count("assembly") == 3
    (code,) = record.named("code")
    assert code.text.splitlines() == [
        "3 launches of 3 kernels",
        *(f"  node {n}: kernel {n} {op} (1 task)" for n, op in enumerate(("exp", "sum", "neg"))),
    ]


def test_the_code_of_a_kernel_that_is_used_again_has_the_number_of_its_stages() -> None:
    graph = graph_of([(float32, (9,))], lambda x: [neg(x), exp(x), neg(exp(x))])
    with recording() as record:
        exe = compile_for_cpu(graph)
    (code,) = record.named("code")
    loops = record.named("loops")
    for line, one in zip(code.text.splitlines()[1:], exe.launched, strict=True):
        number = int(line.split("kernel ")[1].split()[0])
        assert loops[number].text == print_kernel(one.kernel)


def test_arena_of_the_plan_is_what_is_used() -> None:
    """Whatever lies beside the arena stays as it is, and its last line is touched."""
    graph = graph_of(
        [(float32, (100,))],
        lambda x: [sum_(mul(cast(cast(x, dtype=float64), dtype=float32), x), axes=(0,))],
    )
    exe = compile_for_cpu(graph)
    size = exe.plan.arena_bytes
    assert size > 0
    frame = exe.lease()
    block = np.full(size + 256, 0xA5, np.uint8)
    base = block.ctypes.data + -block.ctypes.data % 64 + 64
    inside = slice(base - block.ctypes.data, base - block.ctypes.data + size)
    x, y = np.ones(100, np.float32), np.zeros((), np.float32)
    frame.table[0], frame.table[1], frame.table[2] = x.ctypes.data, y.ctypes.data, base
    exe.run(frame)
    touched = block != 0xA5
    assert y == 100
    assert touched[inside][-64:].any()
    touched[inside] = False
    assert not touched.any()


def assert_in_place_is_right(
    graph: Graph, arrays: Arrays, donate: Mapping[int, int], direct: bool = False
) -> CpuExecutable:
    """With each donated pair in one memory, with some of them, with none: the same bits."""
    wanted = run_launched(find_engine("cpu"), unfused(graph), arrays)
    exe = compile_for_cpu(graph, donate)
    for shared in ({}, donate, dict(list(donate.items())[1:])):
        for found, right in zip(call(exe, arrays, shared), wanted, strict=True):
            assert same_bits(found, right)
    if direct:
        assert set(donate.values()) <= set(exe.plan.direct)
        assert not exe.plan.after
    return exe


def unfused(graph: Graph) -> Graph:
    """The graph with the bodies of its fusions in their places."""
    with building() as builder:
        env = {value: builder.input(value.type) for value in graph.inputs}
        for node, results in zip(graph.nodes, graph.results, strict=True):
            operands = [env[value] for value in node.operands]
            if node.op.name == "fusion":
                made: Sequence[Value] = builder.inline(node.attr("body"), operands)
            else:
                made = builder.add(node.op, operands, dict(node.attrs))
            env.update(zip(results, made, strict=True))
        return builder.graph([env[value] for value in graph.outputs])


def compile_for_cpu(graph: Graph, donate: Mapping[int, int] | None = None) -> CpuExecutable:
    engine = find_engine("cpu")
    assert isinstance(engine, CpuEngine)
    return engine.compile(graph, donate or {})


def graph_of(
    kinds: Sequence[tuple[DType, tuple[Size, ...]]], build: Callable[..., Sequence[Value]]
) -> Graph:
    with building() as builder:
        return builder.graph(build(*(builder.input(TensorType(d, s)) for d, s in kinds)))


def samples(graph: Graph) -> Arrays:
    rng = np.random.default_rng(1)
    return tuple(sample(rng, value.dtype, call_shape(value)) for value in graph.inputs)


def call_shape(value: Value) -> tuple[int, ...]:
    return tuple(size for size in value.shape if isinstance(size, int))
