"""Is a sum of one term and zeros that term, to the bit, and is nothing else taken for one?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pellucid.core.dtype import DType, bfloat16, float32, float64, int8, int32, int64, uint64
from pellucid.engines.cpu.rules import realise_graph
from pellucid.engines.llvm.target import host_isa
from pellucid.engines.loops.ir import Kernel, Reduce, nested
from pellucid.ir.graph import Graph, Value
from pellucid.ops.elementwise import add, equal, mul, neg, select
from pellucid.ops.movement import broadcast, full_like, iota
from pellucid.ops.reduce import sum_
from tests.engines.cpu.orders import ordered_sum
from tests.engines.kernels import Kind, graph_of, run_graph
from tests.graphs import same_bits

NAN, INF = float("nan"), float("inf")


def at_label(x: Value, label: Value, rest: float = 0.0) -> Value:
    """x where the place along the row is the row's label, and elsewhere a number."""
    places = iota(dtype=label.dtype, shape=x.shape, axis=1)
    here = equal(broadcast(label, shape=x.shape, axes=(0,)), places)
    return select(here, x, full_like(x, rest))


def reductions(graph: Graph) -> int:
    kernels = [call.kernel for call in realise_graph(graph, host_isa()).calls]
    bodies = [kernel.body for kernel in kernels if isinstance(kernel, Kernel)]
    return sum(isinstance(s, Reduce) for body in bodies for s in nested(body))


def graphs(kinds: list[Kind], terms: Callable[[Value, Value], Value]) -> tuple[Graph, Graph]:
    """The sums along the rows, and what is summed."""
    summed = graph_of(kinds, lambda x, label: sum_(terms(x, label), axes=(1,)))
    return summed, graph_of(kinds, terms)


@pytest.mark.parametrize("columns", [2, 5, 64, 100, 8192, 20000])
@pytest.mark.parametrize("terms", [at_label, lambda x, n: neg(at_label(mul(x, x), n))])
def test_one_term_has_the_bits_of_the_sum(
    columns: int, terms: Callable[[Value, Value], Value]
) -> None:
    numbers = [1.5, -0.0, 0.0, NAN, INF, -INF, 1e-45, -3.0, 2.0]
    labels = np.array([0, columns - 1, 1, 0, 1, 1, -1, columns, 2**40], np.int64)
    x = np.full((9, columns), NAN, np.float32)
    x[np.arange(9), np.clip(labels, 0, columns - 1)] = numbers
    summed, alone = graphs([(float32, x.shape), (int64, labels.shape)], terms)
    assert reductions(summed) == 0
    (whole,) = run_graph(alone, [x, labels])
    (found,) = run_graph(summed, [x, labels])
    assert same_bits(found, ordered_sum(whole, (1,)))


@pytest.mark.parametrize(
    ("dtype", "label", "columns", "picked"),
    [
        (float64, int32, 300, True),
        (float32, int8, 127, True),
        (float32, int8, 200, False),
        (float32, uint64, 300, False),
        (float32, int64, 1, False),
        (bfloat16, int64, 300, False),
    ],
    ids=str,
)
def test_labels_tell_all_places_apart(
    dtype: DType, label: DType, columns: int, picked: bool
) -> None:
    summed, _ = graphs([(dtype, (20, columns)), (label, (20,))], at_label)
    assert reductions(summed) == (0 if picked or columns == 1 else 1)
    x = np.random.default_rng(0).standard_normal((20, columns)).astype(dtype.numpy)
    labels = np.arange(20)
    (found,) = run_graph(summed, [x, labels.astype(label.numpy)])
    kept = x[np.arange(20), np.minimum(labels, columns - 1)] * (labels < columns)
    np.testing.assert_array_equal(found, kept.astype(dtype.numpy))


def test_a_sum_with_more_terms_stays_one() -> None:
    kinds: list[Kind] = [(float32, (20, 300)), (int64, (20,))]
    others: list[Callable[[Value, Value], Value]] = [
        lambda x, n: at_label(x, n, 1.0),
        lambda x, n: add(at_label(x, n), x),
        lambda x, n: at_label(x, n, NAN),
    ]
    for terms in others:
        assert reductions(graphs(kinds, terms)[0]) == 1


def test_what_is_summed_beside_it_keeps_its_order() -> None:
    kinds: list[Kind] = [(float32, (30, 500)), (int64, (30,))]
    both = graph_of(kinds, lambda x, n: [sum_(x, axes=(1,)), sum_(at_label(x, n), axes=(1,))])
    assert reductions(both) == 1
    x = np.random.default_rng(0).standard_normal((30, 500)).astype(np.float32)
    labels = np.arange(30)
    total, kept = run_graph(both, [x, labels])
    assert same_bits(total, ordered_sum(x, (1,)))
    assert same_bits(kept, x[labels, labels] + np.float32(0))
