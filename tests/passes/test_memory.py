"""Does every value keep its bytes for as long as somebody reads them? On random graphs.

`simulate` runs a plan with NumPy in one array of bytes for each base; where a donated pair shares
its memory, so do the arrays. Results are written after all operands are read, so what a kernel may
not overwrite while it runs is a law of its own: `assert_kernels_are_safe`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import bfloat16, bool_, float32, float64, int32
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ir.record import recording
from pellucid.ops import parts
from pellucid.ops.contract import dot_general
from pellucid.ops.control import evaluate, fusion
from pellucid.ops.define import lookup
from pellucid.ops.elementwise import add, cast, exp, mul, neg
from pellucid.ops.movement import broadcast, reshape, transpose
from pellucid.ops.reduce import sum_
from pellucid.passes.memory import (
    MemoryPlan,
    Place,
    plan_memory,
    reads_in_place,
)
from pellucid.passes.packing import ALIGNMENT
from pellucid.passes.pipeline import optimize
from pellucid.passes.views import value_bytes
from tests.graphs import random_graph, same_bits
from tests.running import compiled

Arrays = tuple[NDArray[Any], ...]
SEEDS = range(60)
DTYPES = (float32, int32, bool_, float64, bfloat16)


@pytest.mark.parametrize("seed", SEEDS)
def test_plan_gives_what_the_graph_means(seed: int) -> None:
    graph, arrays, _ = example(seed)
    assert_same(simulate(graph, plan_memory(graph), arrays, {}), evaluate(graph, arrays))


@pytest.mark.parametrize("seed", SEEDS)
def test_donated_pairs_may_share_memory_or_not(seed: int) -> None:
    graph, arrays, donate = example(seed)
    plan = plan_memory(graph, donate)
    wanted = evaluate(graph, arrays)
    assert_same(simulate(graph, plan, arrays, {}), wanted)
    assert_same(simulate(graph, plan, arrays, donate), wanted)
    some = dict(list(donate.items())[::2])
    assert_same(simulate(graph, plan, arrays, some), wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_kernel_writes_what_it_still_reads(seed: int) -> None:
    graph, _, donate = example(seed)
    extra = [(64, 192) if seed % 3 == at % 3 else () for at in range(len(graph.nodes))]
    plan = plan_memory(graph, donate, extra)
    for number in range(len(graph.nodes)):
        assert_kernels_are_safe(graph, plan, donate, number, extra[number])


@pytest.mark.parametrize("seed", SEEDS[::6])
def test_offsets_are_aligned_and_inside_the_arena(seed: int) -> None:
    graph, _, donate = example(seed)
    plan = plan_memory(graph, donate, [(40,)] * len(graph.nodes))
    ends = [0]
    for value, place in plan.places.items():
        if place.kind == "arena":
            assert place.offset % ALIGNMENT == 0 or value in plan.views
            ends.append(place.offset + value_bytes(value))
    for place in (place for places in plan.temporaries for place in places):
        assert place.offset % ALIGNMENT == 0
        ends.append(place.offset + 40)
    assert max(ends) <= plan.arena_bytes < max(ends) + ALIGNMENT
    assert plan.peak_bytes <= plan.arena_bytes
    assert plan.peak_bytes == sum(one.bytes for one in plan.held)


def test_reshaped_values_and_whole_slices_are_views() -> None:
    def build(x: Value) -> list[Value]:
        made = sum_(x, axes=(0,))
        turned = reshape(made, shape=(6, 4))
        part = parts.slice(turned, start=(2, 0), stop=(4, 4), strides=(1, 1))
        column = parts.slice(turned, start=(0, 1), stop=(6, 2), strides=(1, 1))
        return [exp(part), exp(column)]

    graph = graph_of(build, (5, 24))
    plan = plan_memory(graph)
    made, turned, part, column, *_ = (value for (value,) in graph.results)
    assert plan.places[turned] == plan.places[made]
    assert plan.places[part].offset == plan.places[made].offset + 2 * 4 * 4
    assert set(plan.views) == {turned, part}
    assert column not in plan.views


def test_what_a_view_shows_is_not_overwritten_while_it_is_read() -> None:
    def build(x: Value) -> list[Value]:
        made = exp(x)
        seen = reshape(made, shape=(4, 4))
        other = neg(made)
        return [sum_(seen, axes=(0,)), sum_(mul(other, other), axes=(0,))]

    graph = graph_of(build, (16,))
    found = compiled(graph, (np.arange(16, dtype=np.float32) / 16,))
    made = np.exp(np.arange(16) / 16)
    np.testing.assert_allclose(found[0], made.reshape(4, 4).sum(0), rtol=1e-6)
    np.testing.assert_allclose(found[1], (made * made).sum(), rtol=1e-6)


def joined(*values: Value) -> Value:
    """The values one after the other."""
    return parts.concatenate(*values, axis=0)


def test_parts_are_made_inside_the_whole() -> None:
    def build(x: Value, y: Value) -> list[Value]:
        inner = joined(exp(x), neg(exp(y)))
        return [sum_(joined(exp(neg(y)), inner), axes=(0,))]

    graph = graph_of(build, (16, 4), (32, 4))
    plan = plan_memory(graph)
    whole = graph.outputs[0].node.operands[0]
    first, inner = whole.node.operands
    starts = {first: 0, inner: 512, inner.node.operands[0]: 512, inner.node.operands[1]: 768}
    begin = plan.places[whole].offset
    assert {value: plan.places[value].offset - begin for value in starts} == starts


JOINED: dict[str, Any] = {
    "a part that is read later": lambda x, y: [neg(made := exp(x)), exp(joined(made, neg(y)))],
    "a part that is there twice": lambda x, y: [exp(joined(made := exp(x), made, neg(y)))],
    "a part of two wholes": lambda x, y: [
        neg(joined(made := exp(x), neg(y))), exp(joined(neg(x), made)),
    ],
    "a whole that is an output": lambda x, y: [joined(exp(x), neg(y))],
    "a part that is an output": lambda x, y: [made := exp(x), neg(joined(made, neg(y)))],
    "an input": lambda x, y: [neg(joined(x, exp(y)))],
    "parts seen in another shape": lambda x, y: [
        neg(joined(*(reshape(exp(one), shape=(8, 8)) for one in (x, y)))),
    ],
    "a whole that is overwritten": lambda x, y: [
        sum_(mul(made := neg(joined(exp(x), neg(y))), made), axes=(0,)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_parts_and_wholes_keep_their_bytes(name: str) -> None:
    graph = graph_of(JOINED[name], (16, 4), (16, 4))
    arrays = tuple(np.random.default_rng(n).normal(size=(16, 4)).astype("f") for n in range(2))
    wanted = evaluate(graph, arrays)
    assert_same(simulate(graph, plan_memory(graph), arrays, {}), wanted)
    for found, exact in zip(compiled(graph, arrays), wanted, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_parts_are_copied_where_the_whole_would_be_in_use_for_long() -> None:
    def build(x: Value) -> list[Value]:
        early, first = exp(x), neg(x)
        large = [broadcast(first, shape=(64, 64), axes=(1,)) for _ in range(2)]
        between = sum_(dot_general(*large, contract=((1,), (0,)), batch=((), ())), axes=(0,))
        late = broadcast(between, shape=(64, 64), axes=(1,))
        return [exp(joined(early, reshape(late, shape=(4096,))))]

    graph = graph_of(build, (64,))
    plan = plan_memory(graph)
    whole = graph.outputs[0].node.operands[0]
    assert plan.places[whole.node.operands[0]].offset != plan.places[whole].offset
    assert plan.arena_bytes < 3 * value_bytes(whole)


def test_chain_of_elementwise_ops_takes_no_arena() -> None:
    graph = graph_of(lambda x: [neg(exp(neg(x)))], (100,))
    plan = plan_memory(graph)
    # The two intermediates share one block; the last is the output.
    assert plan.arena_bytes == 448
    assert plan.places[graph.outputs[0]] == Place("output", 0)


def test_blocks_that_live_at_other_times_share_the_arena() -> None:
    def build(x: Value) -> list[Value]:
        for _ in range(5):
            x = sum_(
                transpose(broadcast(x, shape=(64, 64), axes=(0,)), permutation=(1, 0)), axes=(0,)
            )
        return [x]

    plan = plan_memory(graph_of(build, (64,)))
    # At any time one spread value and its transposed copy are alive, or one of them and a sum.
    assert plan.peak_bytes == 2 * 64 * 64 * 4
    assert plan.arena_bytes <= plan.peak_bytes + 64 * 4


def test_peak_says_where_and_what() -> None:
    graph = graph_of(lambda x: [sum_(transpose(exp(x), permutation=(1, 0)), axes=(0, 1))], (32, 32))
    plan = plan_memory(graph)
    assert (plan.peak_bytes, plan.peak_node) == (8192, 1)
    assert [(one.name, one.bytes, one.first, one.last) for one in plan.held] == [
        ("%1", 4096, 0, 1),
        ("%2", 4096, 1, 2),
    ]


def test_text_shows_arena_peak_places_and_copies() -> None:
    graph = graph_of(lambda x, y: [y, x, mul(exp(x), y)], (4,), (4,))
    assert plan_memory(graph, {0: 0}).text(graph).splitlines() == [
        "arena 128 bytes, peak 128 at node 0",
        "  alive at the peak: %0 saved: float32[4] 64 bytes, nodes 0 to 2",
        "  alive at the peak: %2: float32[4] 64 bytes, nodes 0 to 1",
        "  %0: float32[4] at input 0",
        "  %1: float32[4] at input 1",
        "  %2: float32[4] at arena+0",
        "  %3: float32[4] at output 2",
        "  copy before: input 0 -> arena+64, float32[4]",
        "  copy after: input 1 -> output 0, float32[4]",
        "  copy after: arena+64 -> output 1, float32[4]",
    ]


def test_plan_is_a_recorded_stage() -> None:
    graph = graph_of(lambda x: [exp(x)], (4,))
    with recording() as record:
        plan = plan_memory(graph)
    assert [(stage.name, stage.text) for stage in record.stages] == [("memory", plan.text(graph))]


def test_swapped_inputs_are_saved_before_either_is_written() -> None:
    graph = graph_of(lambda x, y: [y, x], (3,), (3,))
    plan = plan_memory(graph, {0: 0, 1: 1})
    assert len(plan.before) == 2
    found = simulate(graph, plan, (ones(3), 2 * ones(3)), {0: 0, 1: 1})
    assert_same(found, (2 * ones(3), ones(3)))


def test_update_in_place_is_written_at_once() -> None:
    graph = graph_of(lambda x, g: [add(x, mul(g, g))], (5,), (5,))
    plan = plan_memory(graph, {0: 0})
    assert plan.direct == (0,)
    assert not plan.before + plan.after


def test_later_reader_of_a_donated_input_delays_the_write() -> None:
    graph = graph_of(lambda x: [neg(x), sum_(x, axes=(0,))], (5,))
    plan = plan_memory(graph, {0: 0})
    assert plan.direct == (1,)
    found = simulate(graph, plan, (ones(5),), {0: 0})
    assert_same(found, (-ones(5), np.float32(5)))


def test_earlier_reader_of_a_donated_input_does_not() -> None:
    graph = graph_of(lambda x: [mul(broadcast(sum_(x, axes=(0,)), shape=(5,), axes=()), x)], (5,))
    assert plan_memory(graph, {0: 0}).direct == (0,)


def test_output_named_twice_is_copied_once() -> None:
    def build(x: Value) -> list[Value]:
        y = exp(x)
        return [y, y, x]

    graph = graph_of(build, (5,))
    plan = plan_memory(graph, {0: 1})
    assert plan.direct == (0,)
    assert_same(simulate(graph, plan, (ones(5),), {0: 1}), evaluate(graph, (ones(5),)))


def test_results_of_one_kernel_never_share() -> None:
    """A result that nobody reads ends at once; its sibling may not take the same dying operand."""
    body = graph_of(lambda x: [neg(x), exp(x)], (50,))
    with building() as builder:
        x = builder.input(TensorType(float32, (50,)))
        y = mul(x, x)
        _, kept = fusion.many(y, body=body, kind="loop")
        graph = builder.graph([sum_(kept, axes=(0,))])
    plan = plan_memory(graph)
    offsets = {plan.places[value].offset for value in graph.results[1]}
    assert len(offsets) == 2


def test_graph_without_nodes_copies_its_inputs() -> None:
    graph = graph_of(lambda x: [x, x], (3,))
    plan = plan_memory(graph)
    assert plan.arena_bytes == 0
    assert [str(copy.target) for copy in plan.after] == ["output 0", "output 1"]


def test_elementwise_ops_read_in_place() -> None:
    assert in_place(lambda x: exp(x))
    assert in_place(lambda x: cast(x, dtype=int32))
    assert not in_place(lambda x: cast(x, dtype=float64))


def test_what_moves_reduces_or_contracts_does_not_read_in_place() -> None:
    assert not in_place(lambda x: transpose(x, permutation=(1, 0)))
    assert not in_place(lambda x: reshape(x, shape=(4, 4)))
    assert not in_place(lambda x: dot_general(x, x, contract=((1,), (0,)), batch=((), ())))
    assert not in_place(lambda x: sum_(x, axes=()))


def test_kernel_that_also_moves_what_it_reads_does_not_read_in_place() -> None:
    assert in_place_fused(lambda x: [exp(neg(x))], 0)
    assert not in_place_fused(lambda x: [add(x, transpose(x, permutation=(1, 0)))], 0)
    assert not in_place_fused(lambda x: [neg(x), transpose(exp(x), permutation=(1, 0))], 0)


def test_kernel_that_only_spells_axes_otherwise_reads_in_place() -> None:
    assert in_place_fused(lambda x: [reshape(neg(reshape(x, shape=(4, 1, 4))), shape=(4, 4))], 0)
    assert not in_place_fused(lambda x: [reshape(neg(reshape(x, shape=(2, 8))), shape=(4, 4))], 0)


def test_kernel_that_hands_an_input_on_does_not_read_in_place() -> None:
    assert not in_place_fused(lambda x: [neg(x), x], 0)


def example(seed: int) -> tuple[Graph, Arrays, dict[int, int]]:
    """A random graph, operands, and donations where types agree; half of them fused.

    Its outputs also name inputs, in another order, so that pairs swap.
    """
    dtypes = DTYPES[: 1 + seed % 5]
    graph, arrays = random_graph(seed, dtypes, 16, elements=600)
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        swapped = tuple(graph.inputs[at] for at in rng.permutation(len(graph.inputs)))
        graph = Graph(graph.inputs, graph.nodes, graph.results, (*graph.outputs, *swapped))
    if seed % 2:
        graph = optimize(graph)
    return graph, arrays, donations(graph, rng)


def donations(graph: Graph, rng: np.random.Generator) -> dict[int, int]:
    """Pairs of equal type: each input and each output in one of them at most."""
    donate: dict[int, int] = {}
    free = list(rng.permutation(len(graph.outputs)))
    for i, value in enumerate(graph.inputs):
        fitting = [int(j) for j in free if graph.outputs[j].type == value.type]
        if fitting and rng.random() < 0.8:
            donate[i] = fitting[0]
            free.remove(fitting[0])
    return donate


def simulate(
    graph: Graph, plan: MemoryPlan, arrays: Arrays, shared: Mapping[int, int]
) -> list[NDArray[Any]]:
    """What is in the outputs after the plan was carried out; unwritten memory is poison."""
    arena = np.full(plan.arena_bytes, 0xA5, np.uint8)
    inputs = [np.frombuffer(array.tobytes(), np.uint8).copy() for array in arrays]
    outputs = [np.full(value_bytes(value), 0xA5, np.uint8) for value in graph.outputs]
    for i, j in shared.items():
        outputs[j] = inputs[i]

    def at(place: Place, value: Value) -> NDArray[Any]:
        bases = {"input": inputs, "output": outputs, "arena": [arena]}
        base = bases[place.kind][place.index]
        size = value_bytes(value)
        held = base[place.offset : place.offset + size]
        assert held.size == size, "a place beyond its base"
        return held.view(value.dtype.numpy).reshape(value.shape)

    for copy in plan.before:
        at(copy.target, copy.value)[...] = at(copy.source, copy.value)
    for node, results in zip(graph.nodes, graph.results, strict=True):
        operands = [at(plan.places[value], value).copy() for value in node.operands]
        found = lookup(node.op.name).evaluate(*operands, **dict(node.attrs))
        for value, array in zip(results, found, strict=True):
            at(plan.places[value], value)[...] = array
    for copy in plan.after:
        at(copy.target, copy.value)[...] = at(copy.source, copy.value)
    return [at(Place("output", j), value) for j, value in enumerate(graph.outputs)]


def assert_kernels_are_safe(
    graph: Graph, plan: MemoryPlan, donate: Mapping[int, int], number: int, extra: Sequence[int]
) -> None:
    """What a node writes overlaps nothing else that it touches, unless it reads that in place."""
    node, results = graph.nodes[number], graph.results[number]
    owner = {j: i for i, j in donate.items()}
    work = [stretch(p, n, owner) for p, n in zip(plan.temporaries[number], extra, strict=True)]
    if results[0] in plan.views:
        return  # It has nothing to do.
    writes = [stretch(plan.places[value], value_bytes(value), owner) for value in results]
    both = [*writes, *work]
    for at, one in enumerate(both):
        assert not any(overlap(one, other) for other in both[at + 1 :])
    for operand in node.operands:
        read = stretch(plan.places[operand], value_bytes(operand), owner)
        assert not any(overlap(read, one) for one in work)
        for value, written in zip(results, writes, strict=True):
            if overlap(read, written):
                assert read == written
                assert reads_in_place(node, operand, value)


def stretch(place: Place, size: int, owner: Mapping[int, int]) -> tuple[str, int, int]:
    """Which memory, from where to where; a donated pair is one memory."""
    if place.kind == "output" and place.index in owner:
        place = Place("input", owner[place.index])
    return f"{place.kind} {place.index}", place.offset, place.offset + size


def overlap(lhs: tuple[str, int, int], rhs: tuple[str, int, int]) -> bool:
    return lhs[0] == rhs[0] and max(lhs[1], rhs[1]) < min(lhs[2], rhs[2])


def in_place(build: Any) -> bool:
    graph = graph_of(lambda x: [build(x)], (4, 4))
    return reads_in_place(graph.nodes[0], graph.inputs[0], graph.outputs[0])


def in_place_fused(build: Any, result: int) -> bool:
    body = graph_of(build, (4, 4))
    with building() as builder:
        x = builder.input(TensorType(float32, (4, 4)))
        results = fusion.many(x, body=body, kind="loop")
        node: Node = builder.nodes[0]
    return reads_in_place(node, x, results[result])


def graph_of(build: Any, *shapes: tuple[int, ...]) -> Graph:
    with building() as builder:
        return builder.graph(build(*(builder.input(TensorType(float32, s)) for s in shapes)))


def ones(size: int) -> NDArray[Any]:
    return np.ones(size, np.float32)


def assert_same(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    for mine, right in zip(found, wanted, strict=True):
        assert same_bits(np.asarray(mine), np.asarray(right))
