"""Does fusing join what belongs together, keep every bit, and obey the spec of its kernels?"""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from pellucid.core.dtype import DTYPES, bool_, float32, int8, int32, int64, uint64
from pellucid.ir.build import Builder, building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ir.record import recording
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops.contract import dot_general
from pellucid.ops.control import evaluate
from pellucid.ops.define import lookup
from pellucid.ops.elementwise import (
    add,
    cast,
    div,
    exp,
    less,
    maximum,
    mul,
    neg,
    select,
    sqrt,
    sub,
    tanh,
)
from pellucid.ops.movement import broadcast, full, full_like, iota, reshape, transpose
from pellucid.ops.parts import slice
from pellucid.ops.random import random_bits
from pellucid.ops.reduce import max_, sum_
from pellucid.passes.columns import span_of
from pellucid.passes.fuse import BUFFERS, fuse
from pellucid.passes.groups import Plan, reads_plainly
from pellucid.passes.pipeline import clean
from pellucid.transforms.vjp import vjp
from tests.graphs import random_graph, same_bits


def graph_of(function, *shapes, dtype=float32):
    """The graph of a function of Values."""
    with building() as builder:
        operands = [builder.input(TensorType(dtype, shape)) for shape in shapes]
        results = function(*operands)
        return builder.graph(results if isinstance(results, tuple | list) else [results])


def kernels(graph: Graph) -> list[str]:
    """What each node is: `kind(op op ...)` without constants and movement, or a lone op's name."""
    return [_kernel(node) for node in graph.nodes]


def _kernel(node: Node) -> str:
    if node.op.name != "fusion":
        return node.op.name
    quiet = ("constant", "iota", "broadcast", "transpose", "reshape")
    names = [inner.op.name for inner in node.attr("body").nodes if inner.op.name not in quiet]
    return f"{node.attr('kind')}({' '.join(names)})"


def dot(lhs: Value, rhs: Value) -> Value:
    return dot_general(lhs, rhs, contract=((1,), (0,)), batch=((), ()))


def rows(x: Value, like: Value) -> Value:
    return broadcast(x, shape=like.shape, axes=(1,))


def columns(x: Value, like: Value) -> Value:
    return broadcast(x, shape=like.shape, axes=(0,))


def obeys_the_spec(graph: Graph, budget: int) -> bool:
    """Whether every fusion is a kernel of its kind."""
    for node in graph.nodes:
        if node.op.name == "fusion":
            body: Graph = node.attr("body")
            buffers = len(body.inputs) + len(body.outputs)
            if node.attr("kind") == "reduce":
                assert max(_halves_of_a_reduction(body)) <= budget
            else:
                assert buffers <= budget * (2 if node.attr("kind") == "columns" else 1)
            assert len(set(node.operands)) == len(node.operands)
            _SPECS[node.attr("kind")](body)
    return True


def _halves_of_a_reduction(body: Graph) -> tuple[int, int]:
    """How many buffers there are in the loops of the reductions, and in those after them."""
    sums = [node for node in body.nodes if lookup(node.op.name).kind == "reduce"]
    within = {*sums, *(far for node in sums for far in _ancestors(node))}
    halves = [[n for n in body.nodes if (n in within) is half] for half in (True, False)]
    read = [{v for n in half for v in n.operands if v in body.inputs} for half in halves]
    totals = {
        v for n, made in zip(body.nodes, body.results, strict=True) if n in sums for v in made
    }
    later = {v for n in halves[1] for v in n.operands if v in totals}
    rest = [value for value in body.outputs if value not in totals]
    return len(read[0]) + len(totals), len(read[1]) + len(later) + len(rest)


def _loop_spec(body: Graph) -> None:
    assert len(_counts(body)) == 1
    kinds = {lookup(node.op.name).kind for node in body.nodes}
    assert kinds <= {
        "elementwise", "movement", "general", "random", "gather", "lists", "window",
    }  # fmt: skip
    over = [n for n in body.nodes if lookup(n.op.name).kind == "window"]
    # Windows meet an element often: what they go over is not made for each.
    assert all(value.node is None for n in over for value in n.operands)


def _reduce_spec(body: Graph) -> None:
    reductions = [node for node in body.nodes if lookup(node.op.name).kind == "reduce"]
    assert {lookup(node.op.name).kind for node in body.nodes} <= {
        "elementwise", "movement", "general", "random", "gather", "lists", "reduce",
    }  # fmt: skip
    assert len({(n.operands[0].shape, n.attr("axes")) for n in reductions}) == 1
    assert _counts(body) == {prod(reductions[0].types[0].shape)}
    for reduction in reductions:
        assert not set(_ancestors(reduction)) & set(reductions)


def _rows_spec(body: Graph) -> None:
    reductions = [node for node in body.nodes if lookup(node.op.name).kind == "reduce"]
    assert {lookup(node.op.name).kind for node in body.nodes} <= {
        "elementwise", "movement", "general", "reduce",
    }  # fmt: skip
    ((whole, axes),) = {(n.operands[0].shape, n.attr("axes")) for n in reductions}
    long = [axis for axis, size in enumerate(whole) if size != 1]
    assert long[-1] in axes
    row = _long(reductions[0].types[0].shape)
    for node in body.nodes:
        if lookup(node.op.name).kind == "elementwise":
            shape = node.types[0].shape
            assert shape == whole or _long(shape) == row or set(shape) <= {1}
    assert _counts(body) <= {prod(whole), prod(row)}


def _columns_spec(body: Graph) -> None:
    nodes = [node for node in body.nodes if lookup(node.op.name).kind == "reduce"]
    down = [node for node in nodes if span_of(node) is not None]
    ((rows, columns),) = {span_of(node) for node in down}
    results = {
        value
        for n, made in zip(body.nodes, body.results, strict=True)
        if n in down
        for value in made
    }
    for value in body.outputs:
        above = {value, *(v for n in _ancestors_of(value) for v in n.operands)}
        after = bool(results & above)
        assert prod(value.shape) in ({columns} if after else {rows, rows * columns})
    for node in down:
        assert not set(_ancestors(node)) & set(down)


def _ancestors_of(value: Value) -> list[Node]:
    return [] if value.node is None else [value.node, *_ancestors(value.node)]


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _counts(body: Graph) -> set[int]:
    """How many elements the results have, in whatever shape they are written."""
    return {prod(value.shape) for value in body.outputs}


def _contract_spec(body: Graph) -> None:
    (main,) = (node for node in body.nodes if node.op.name == "dot_general")
    assert _counts(body) == {prod(main.types[0].shape)}
    views = set(_ancestors(main))
    assert {node.op.name for node in views} <= {"transpose"}
    for node in body.nodes:
        if node is not main and node not in views:
            plain = node.op.name in ("broadcast", "constant", "reshape")
            assert plain or lookup(node.op.name).kind == "elementwise"


_SPECS = {
    "loop": _loop_spec,
    "reduce": _reduce_spec,
    "rows": _rows_spec,
    "columns": _columns_spec,
    "contract": _contract_spec,
}


def _ancestors(node: Node) -> list[Node]:
    found = [operand.node for operand in node.operands if operand.node is not None]
    return found + [far for near in found for far in _ancestors(near)]


@pytest.mark.parametrize("seed", range(120))
def test_random_graphs_keep_every_bit(seed):
    dtypes = (float32,) if seed % 2 else tuple(DTYPES)
    graph, arrays = random_graph(seed, dtypes, size=15 + seed % 40)
    budget = 6 + seed % 20
    fused = check(fuse(graph, budget=budget))
    assert obeys_the_spec(fused, budget)
    assert parse_graph(print_graph(fused), lookup) == fused
    for found, expected in zip(evaluate(fused, arrays), evaluate(graph, arrays), strict=True):
        assert same_bits(found, expected)


def test_elementwise_ops_become_one_loop():
    graph = graph_of(lambda x, y: add(mul(x, y), tanh(y)), (3, 4), (3, 4))
    assert (
        print_graph(fuse(graph))
        == """\
graph(%0: float32[3, 4], %1: float32[3, 4]) {
  %2: float32[3, 4] = fusion(%0, %1) [body=graph(%0: float32[3, 4], %1: float32[3, 4]) {
    %2: float32[3, 4] = mul(%0, %1)
    %3: float32[3, 4] = tanh(%1)
    %4: float32[3, 4] = add(%2, %3)
    return %4
  }, kind='loop']
  return %2
}"""
    )


def test_value_used_outside_becomes_an_output():
    def step(p, m, g):
        moved = add(mul(m, full_like(m, 0.9)), g)
        return sub(p, mul(moved, full_like(p, 0.1))), moved

    fused = fuse(graph_of(step, (50,), (50,), (50,)))
    assert kernels(fused) == ["loop(mul add mul sub)"]
    assert len(fused.nodes[0].types) == 2


def test_whole_adam_update_is_one_kernel():
    def adam(p, m, v, g, rate):
        m = add(mul(m, full_like(m, 0.9)), mul(g, full_like(g, 0.1)))
        v = add(mul(v, full_like(v, 0.999)), mul(mul(g, g), full_like(g, 0.001)))
        scale = broadcast(rate, shape=p.shape, axes=())
        step = lookup("div")(mul(m, scale), add(sqrt(v), full_like(v, 1e-8)))
        return sub(p, step), m, v

    fused = fuse(graph_of(adam, (30, 40), (30, 40), (30, 40), (30, 40), ()))
    assert len(fused.nodes) == 1
    assert len(fused.nodes[0].operands) == 5


def test_bias_and_relu_follow_the_product():
    def layer(x, w, b):
        y = dot(x, w)
        y = add(y, rows(b, y))
        return maximum(y, full_like(y, 0.0))

    fused = fuse(graph_of(layer, (8, 5), (5, 7), (7,)))
    assert kernels(fused) == ["contract(dot_general add maximum)"]
    assert [value.shape for value in fused.nodes[0].operands] == [(8, 5), (5, 7), (7,)]


def test_scale_and_relu_follow_the_wide_product_of_narrow_integers():
    def layer(x, w):
        sums = dot_general(x, w, contract=((1,), (0,)), batch=((), ()), dtype=int32)
        y = cast(sums, dtype=float32)
        y = mul(y, full_like(y, 0.5))
        return maximum(y, full_like(y, 0.0))

    fused = fuse(graph_of(layer, (8, 5), (5, 7), dtype=int8))
    assert kernels(fused) == ["contract(dot_general cast mul maximum)"]


def test_mask_for_the_way_back_is_made_beside_the_product():
    def layer(x, w, g):
        y = dot(x, w)
        z = full_like(y, 0.0)
        h = maximum(y, z)
        far = dot(h, transpose(w, permutation=(1, 0)))
        return far, select(less(z, y), g, z)

    fused = fuse(graph_of(layer, (8, 5), (5, 7), (8, 7)))
    assert kernels(fused)[0] == "contract(dot_general maximum less select)"


def test_update_of_a_weight_follows_the_product_of_its_gradient():
    def step(x, g, w):
        slope = dot(transpose(x, permutation=(1, 0)), g)
        return sub(w, mul(slope, full_like(slope, 0.1)))

    assert kernels(fuse(graph_of(step, (8, 5), (8, 7), (5, 7)))) == [
        "contract(dot_general mul sub)"
    ]


def test_transposed_use_of_a_product_stays_apart():
    def function(x):
        y = dot(x, x)
        return add(y, transpose(y, permutation=(1, 0)))

    assert kernels(fuse(graph_of(function, (6, 6)))) == ["dot_general", "loop(add)"]


def test_reduction_takes_its_producers_and_its_epilogue():
    def function(x, y):
        distance = sub(x, y)
        return sqrt(sum_(mul(distance, distance), axes=(1,)))

    assert kernels(fuse(graph_of(function, (6, 9), (6, 9)))) == ["reduce(sub mul sum sqrt)"]


def softmax(x: Value, axis: int = 1) -> Value:
    back = rows if axis == 0 else columns
    e = exp(sub(x, back(max_(x, axes=(axis,)), x)))
    return lookup("div")(e, back(sum_(e, axes=(axis,)), e))


def test_mean_that_keeps_its_axes_is_divided_where_it_is_summed():
    def function(x):
        total = reshape(sum_(x, axes=(0,)), shape=(1, 9))
        mean = div(total, full_like(total, 6.0))
        return [mean, sqrt(reshape(mean, shape=(9,)))]

    assert kernels(fuse(graph_of(function, (6, 9)))) == ["reduce(sum div sqrt)"]


def test_softmax_is_one_kernel():
    graph = graph_of(softmax, (6, 9))
    assert (
        print_graph(fuse(graph))
        == """\
graph(%0: float32[6, 9]) {
  %1: float32[6, 9] = fusion(%0) [body=graph(%0: float32[6, 9]) {
    %1: float32[6] = max(%0) [axes=(1,)]
    %2: float32[6, 9] = broadcast(%1) [axes=(0,), shape=(6, 9)]
    %3: float32[6, 9] = sub(%0, %2)
    %4: float32[6, 9] = exp(%3)
    %5: float32[6] = sum(%4) [axes=(1,)]
    %6: float32[6, 9] = broadcast(%5) [axes=(0,), shape=(6, 9)]
    %7: float32[6, 9] = div(%4, %6)
    return %7
  }, kind='rows']
  return %1
}"""
    )


def test_producer_used_elsewhere_is_not_computed_twice():
    # Down the columns the elements of a sum lie apart: each pass over them is a kernel.
    found = kernels(fuse(graph_of(lambda x: softmax(x, 0), (6, 9))))
    assert found == ["max", "loop(sub exp)", "sum", "loop(div)"]


def test_one_long_row_is_shared_by_threads_and_no_kernel_of_rows():
    assert len(fuse(graph_of(softmax, (1, 50000))).nodes) == 4
    assert len(fuse(graph_of(softmax, (2, 50000))).nodes) == 4
    assert len(fuse(graph_of(softmax, (8, 50000))).nodes) == 1


def normed(x: Value) -> Value:
    """x brought to mean 0 and deviation 1 in each row; the statistics have an axis of size 1."""

    def mean(v: Value) -> Value:
        kept = reshape(sum_(v, axes=(1,)), shape=(x.shape[0], 1))
        return mul(kept, full_like(kept, 1 / 9))

    def wide(v: Value) -> Value:
        return broadcast(v, shape=x.shape, axes=(0, 1))

    centred = sub(x, wide(mean(x)))
    spread = sqrt(mean(mul(centred, centred)))
    return lookup("div")(centred, wide(spread))


def test_norm_is_one_kernel_with_the_product_s_bias_outside():
    def layer(x, w, b):
        y = dot(x, w)
        return normed(add(y, rows(b, y)))

    found = kernels(fuse(graph_of(layer, (8, 5), (5, 9), (9,))))
    assert found == ["contract(dot_general add)", "rows(sum mul sub mul sum mul sqrt div)"]


def test_derivative_of_a_norm_is_one_kernel():
    # The graph gives the norm and, from a cotangent, the derivative: all goes along the same rows.
    fused = fuse(clean(vjp(graph_of(normed, (60, 9)), (0,))))
    assert [node.attr("kind") for node in fused.nodes] == ["rows"]


def test_rows_give_whole_values_and_one_number_a_row():
    def function(x):
        total = sum_(x, axes=(1,))
        return exp(total), sub(x, columns(total, x))

    fused = fuse(graph_of(function, (6, 9)))
    assert kernels(fused) == ["rows(sum exp sub)"]
    assert [type.shape for type in fused.nodes[0].types] == [(6,), (6, 9)]


def test_transposed_use_of_a_row_s_sum_stays_apart():
    def function(x):
        return sub(x, rows(sum_(x, axes=(1,)), x))

    assert kernels(fuse(graph_of(function, (9, 9)))) == ["sum", "loop(sub)"]


def test_what_comes_back_through_a_product_stays_apart():
    def function(x):
        y = softmax(x)
        return mul(y, dot(y, y))

    found = kernels(fuse(graph_of(function, (9, 9))))
    assert found == ["rows(max sub exp sum div)", "contract(dot_general mul)"]


def test_result_is_written_in_the_shape_in_which_it_is_read():
    def function(x, w):
        y = exp(x)
        return dot(reshape(y, shape=(6, 4)), w)

    fused = fuse(graph_of(function, (2, 3, 4), (4, 5)))
    assert kernels(fused) == ["loop(exp)", "dot_general"]
    assert fused.nodes[0].types[0].shape == (6, 4)


def test_steps_of_a_sequence_are_equal_kernels_over_views_of_it():
    def function(x, w):
        state = reshape(row(x, 0), shape=(1, 4))
        for at in range(1, 4):
            state = tanh(add(row(x, at), dot(state, w)))
        return state

    def row(x, at):
        return reshape(
            slice(x, start=(at, 0, 0), stop=(at + 1, 1, 4), strides=(1, 1, 1)), shape=(1, 4)
        )

    fused = check(fuse(graph_of(function, (4, 1, 4), (4, 4))))
    bodies = {node.attr("body") for node in fused.nodes if node.op.name == "fusion"}
    assert len(bodies) == 1
    assert [name for name in kernels(fused) if name == "slice"] == ["slice"] * 4


def test_part_of_a_value_is_added_where_the_product_is_made():
    def function(x, w, all_steps):
        step = slice(all_steps, start=(1, 0, 0), stop=(2, 6, 4), strides=(1, 1, 1))
        return add(dot(x, w), reshape(step, shape=(6, 4)))

    def with_gaps(x, w, wide):
        return add(dot(x, w), slice(wide, start=(0, 1), stop=(6, 5), strides=(1, 1)))

    found = kernels(fuse(graph_of(function, (6, 5), (5, 4), (3, 6, 4))))
    assert found == ["slice", "reshape", "contract(dot_general add)"]
    assert "dot_general" in kernels(fuse(graph_of(with_gaps, (6, 5), (5, 4), (6, 8))))


def test_what_is_made_again_is_not_read_plainly():
    graph = graph_of(lambda x, y: add(mul(x, y), y), (6, 4), (6, 4))
    made, user = graph.nodes
    plan = Plan(graph, BUFFERS)
    assert reads_plainly(plan, user)
    plan.make_again(graph.results[0][0], (made,), ())
    assert not reads_plainly(plan, user)


def test_kernel_that_reads_two_parts_of_a_value_reads_the_value():
    def function(x):
        low, high = (slice(x, start=(a,), stop=(a + 4,), strides=(1,)) for a in (0, 4))
        return mul(low, high)

    (node,) = fuse(graph_of(function, (8,))).nodes
    assert [value.shape for value in node.operands] == [(8,)]


def gated_step(x: Value, w: Value, v: Value) -> tuple[Value, Value]:
    """A product that is read as it is, and again, far behind, together with its tanh."""
    y = dot(x, w)
    out = dot(y, v)
    back = dot(out, transpose(v, permutation=(1, 0)))
    return out, mul(add(back, y), tanh(y))


def test_what_is_cheap_is_made_again_and_not_stored():
    # The tanh could be written by the first kernel; but y is, and the last one reads it anyway.
    fused = fuse(graph_of(gated_step, (64, 30), (30, 80), (80, 20)))
    assert kernels(fused) == [
        "dot_general",
        "dot_general",
        "contract(dot_general add tanh mul)",
    ]


def test_a_product_does_not_make_again_what_depends_on_places():
    # What follows a product reads constants and broadcasts alone: no iota comes into it.
    def function(x, w):
        place = iota(dtype=float32, shape=x.shape, axis=1)
        h = mul(x, place)
        return mul(dot(h, w), add(h, place))

    fused = fuse(graph_of(function, (9, 9), (9, 9)))
    assert obeys_the_spec(fused, BUFFERS)
    assert kernels(fused) == ["loop(mul add)", "contract(dot_general mul)"]


def test_what_costs_more_than_its_bytes_is_stored():
    def deep(x, w, g):
        y = dot(x, w)
        for _ in range(8):
            y = tanh(y)
        return dot(y, w), mul(dot(g, w), y)

    fused = fuse(graph_of(deep, (9, 9), (9, 9), (9, 9)))
    assert sum(kernel.count("tanh") for kernel in kernels(fused)) == 8


def test_recomputed_values_keep_every_bit():
    graph = graph_of(gated_step, (64, 30), (30, 80), (80, 20))
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs)
    found, expected = evaluate(fuse(graph), arrays), evaluate(graph, arrays)
    assert all(same_bits(a, b) for a, b in zip(found, expected, strict=True))


def test_reductions_over_the_same_values_are_one_kernel():
    def function(x):
        return sum_(x, axes=(0,)), max_(x, axes=(0,)), sum_(mul(x, x), axes=(0,))

    assert kernels(fuse(graph_of(function, (6, 9)))) == ["reduce(sum max mul sum)"]


def test_reductions_that_are_made_of_the_same_values_are_one_kernel():
    def function(x, y, scale, mean):
        apart = sub(x, rows(mean, x))
        scaled = mul(y, rows(scale, y))
        sums = [sum_(one, axes=(0,)) for one in (y, mul(scaled, rows(mean, x)), mul(y, apart))]
        return add(mul(scaled, apart), rows(mul(sums[1], sums[2]), x)), sums[0]

    fused = fuse(graph_of(function, (6, 9), (6, 9), (9,), (9,)))
    assert [name.count("sum") for name in kernels(fused) if "sum" in name] == [3]


def test_what_follows_reductions_has_a_budget_of_its_own():
    def function(x, *cells):
        totals = [sum_(x, axes=(0,)), sum_(mul(x, x), axes=(0,)), max_(x, axes=(0,))]
        return [sub(cell, totals[at % 3]) for at, cell in enumerate(cells)]

    graph = graph_of(function, (6, 9), *[(9,)] * 8)
    assert len(fuse(graph, budget=19).nodes) == 1
    tight = fuse(graph, budget=18)
    assert len(tight.nodes) > 1
    assert obeys_the_spec(tight, 18)


def test_loops_that_read_the_same_value_are_one_kernel():
    fused = fuse(graph_of(lambda x, y: (exp(x), mul(x, y)), (6, 9), (6, 9)))
    assert kernels(fused) == ["loop(exp mul)"]


def pool(x: Value) -> Value:
    return lookup("window_max")(x, **POOL)


POOL = {"window": (3, 3), "strides": (1, 1), "padding": ((1, 1), (1, 1))}


def test_maximum_of_windows_and_its_places_are_one_kernel_and_their_way_back_another():
    def layer(x, t):
        return mul(pool(x), t)

    fused = fuse(clean(vjp(graph_of(layer, (2, 5, 4, 3), (2, 5, 4, 3)), (0,))))
    assert kernels(fused) == ["loop(window_max mul mul window_argmax)", "window_scatter"]


def test_maximum_that_is_read_in_another_shape_shares_its_kernel_with_its_places():
    def layer(x, w):
        y = pool(x)
        return dot(reshape(y, shape=(2, prod(y.shape[1:]))), w)

    sizes = prod(graph_of(pool, (2, 5, 4, 3)).outputs[0].shape) // 2
    fused = fuse(clean(vjp(graph_of(layer, (2, 5, 4, 3), (sizes, 7)), (0,))))
    assert "loop(window_max window_argmax)" in kernels(fused)


def test_what_follows_a_window_is_in_its_kernel():
    def masked(x, g):
        return select(less(full_like(x, 0.0), x), pool(g), full_like(x, 0.0))

    fused = fuse(graph_of(masked, (2, 5, 4, 3), (2, 5, 4, 3)))
    assert kernels(fused) == ["loop(less window_max select)"]


def test_what_windows_go_over_is_made_once():
    def function(x):
        h = exp(x)
        return add(pool(h), x)

    assert kernels(fuse(graph_of(function, (2, 5, 4, 3)))) == ["exp", "loop(window_max add)"]


def test_no_kernel_waits_for_itself():
    # exp(x) and its sum's use cannot be one loop: the sum lies between.
    def function(x):
        e = exp(x)
        total = sum_(dot(e, e), axes=(0, 1))
        return mul(e, broadcast(total, shape=e.shape, axes=()))

    fused = check(fuse(graph_of(function, (5, 5))))
    assert kernels(fused) == ["exp", "dot_general", "sum", "loop(mul)"]


def test_broadcasts_and_constants_are_copied_into_every_reader():
    def function(b, x, y):
        wide = broadcast(b, shape=x.shape, axes=(1,))
        return dot(add(x, wide), y), add(y, wide)

    fused = fuse(graph_of(function, (5,), (5, 5), (5, 5)))
    assert kernels(fused) == ["loop(add)", "dot_general", "loop(add)"]
    for node in (fused.nodes[0], fused.nodes[2]):
        assert (5,) in [value.shape for value in node.operands]


def test_movement_that_must_exist_is_a_kernel_of_its_own():
    def function(b, y):
        wide = broadcast(b, shape=(5, 5), axes=(1,))
        return dot(wide, y), wide

    assert kernels(fuse(graph_of(function, (5,), (5, 5)))) == ["broadcast", "dot_general"]


def test_random_mask_is_drawn_where_it_is_used():
    def dropout(x):
        seed = full((), 7, uint64)
        bits = random_bits(seed, seed, shape=x.shape)
        keep = less(bits, full_like(bits, 1 << 31))
        return select(keep, x, full_like(x, 0.0))

    assert kernels(fuse(graph_of(dropout, (30,)))) == ["loop(random_bits less select)"]


def test_one_hot_is_never_stored():
    def function(x, labels):
        places = iota(dtype=int64, shape=x.shape, axis=1)
        hit = lookup("equal")(places, columns(labels, places))
        return sum_(select(hit, x, full_like(x, 0.0)), axes=(1,))

    builder = Builder()
    with building(builder):
        x = builder.input(TensorType(float32, (6, 9)))
        labels = builder.input(TensorType(int64, (6,)))
        graph = builder.graph([function(x, labels)])
    assert kernels(fuse(graph)) == ["reduce(equal select sum)"]


def test_reshape_keeps_what_reads_elements_together():
    def function(x):
        return neg(reshape(exp(x), shape=(12,)))

    assert kernels(fuse(graph_of(function, (3, 4)))) == ["loop(exp neg)"]


def test_budget_bounds_the_buffers_of_a_kernel():
    def total(*values):
        result = values[0]
        for value in values[1:]:
            result = add(result, value)
        return result

    graph = graph_of(total, *[(9,)] * 12)
    assert len(fuse(graph).nodes) == 1
    tight = fuse(graph, budget=5)
    assert len(tight.nodes) > 1
    assert obeys_the_spec(tight, 5)


def test_update_in_place_comes_after_the_other_readers():
    def function(w, g, x):
        return sub(w, g), dot(x, w)

    fused = fuse(graph_of(function, (5, 5), (5, 5), (5, 5)))
    assert kernels(fused) == ["dot_general", "sub"]


def test_equal_layers_have_equal_bodies():
    def two(x, v, w):
        for weight in (v, w):
            y = dot(x, weight)
            x = maximum(y, full_like(y, 0.0))
        return x

    first, second = fuse(graph_of(two, (5, 5), (5, 5), (5, 5))).nodes
    assert first.attr("body") == second.attr("body")


def training_step() -> Graph:
    """Two layers, squared error, gradients and updates."""

    def loss(x, y, w, b, v):
        h = dot(x, w)
        h = add(h, rows(b, h))
        h = maximum(h, full_like(h, 0.0))
        error = sub(dot(h, v), y)
        return sum_(mul(error, error), axes=(0, 1))

    shapes = ((16, 9), (16, 3), (9, 11), (11,), (11, 3))
    forward = graph_of(loss, *shapes)
    slopes = vjp(forward, (2, 3, 4))
    with building() as builder:
        values = [builder.input(TensorType(float32, shape)) for shape in shapes]
        found = builder.inline(slopes, [*values, full((), 1.0, float32)])
        new = [
            sub(value, mul(slope, full_like(slope, 0.1)))
            for value, slope in zip(values[2:], found[1:], strict=True)
        ]
        return builder.graph([found[0], *new])


def test_training_step_is_one_kernel_for_each_product_and_reduction():
    graph = clean(training_step())
    fused = fuse(graph)
    found = kernels(fused)
    assert sum(name.startswith("contract") or name == "dot_general" for name in found) == 5
    assert not any(name in ("add", "mul", "sub", "select") for name in found)
    assert len(found) <= 8
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs)
    for ours, expected in zip(evaluate(fused, arrays), evaluate(graph, arrays), strict=True):
        assert same_bits(ours, expected)


def test_text_is_the_same_each_time():
    graph = clean(training_step())
    texts = {print_graph(fuse(again)) for again in (graph, clean(training_step()), graph)}
    assert len(texts) == 1


def test_stage_is_called_fuse():
    with recording() as record:
        fuse(graph_of(lambda x: neg(exp(x)), (3,)))
    (stage,) = record.named("fuse")
    assert stage.text.startswith("fuse: 2 nodes -> ")


def test_dead_nodes_and_inputs_as_outputs_are_no_trouble():
    with building() as builder:
        x = builder.input(TensorType(bool_, (3,)))
        lookup("logical_not")(x)
        fused = fuse(builder.graph([x, x]))
    assert fused.nodes == ()
    assert fused.outputs == (fused.inputs[0], fused.inputs[0])
