"""Are the shares of slices and of repeated products joined, and is the cotangent the same?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pellucid.core.dtype import float64
from pellucid.core.source import Source
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, TensorType, Value, count_ops
from pellucid.ops.contract import dot_general
from pellucid.ops.control import evaluate
from pellucid.ops.elementwise import add, mul, tanh
from pellucid.ops.movement import reshape, transpose
from pellucid.ops.parts import slice
from pellucid.passes.pipeline import clean
from pellucid.transforms import gradient_graph, jvp, vjp
from tests.transforms.functions import trace

WHOLE = TensorType(float64, (6, 3))


def rows(x: Value, start: int, stop: int) -> Value:
    """Some rows of a matrix."""
    return slice(x, start=(start, 0), stop=(stop, x.shape[1]), strides=(1, 1))


def curved_rows(*cuts: tuple[int, int]) -> Callable[[Value], list[Value]]:
    """A function that gives a curve of each of these cuts."""
    return lambda x: [tanh(mul(part, part)) for part in (rows(x, a, b) for a, b in cuts)]


CUTS: dict[str, Callable[[Value], Value | Sequence[Value]]] = {
    "neighbours": curved_rows((0, 1), (1, 4), (4, 6)),
    "in any order": curved_rows((4, 6), (0, 1), (1, 4)),
    "with a gap": curved_rows((0, 2), (3, 4), (4, 5)),
    "twice": curved_rows((0, 2), (0, 2), (2, 6)),
    "overlapping": curved_rows((0, 4), (2, 6), (4, 6)),
    "beside the whole": lambda x: [*curved_rows((0, 3), (3, 6))(x), tanh(x)],
    "every other": lambda x: slice(x, start=(1, 0), stop=(6, 3), strides=(2, 1)),
    "along two axes": lambda x: [
        mul(one, one)
        for one in (slice(x, start=(a, 1), stop=(a + 2, 3), strides=(1, 1)) for a in (0, 2))
    ],
    "reshaped": lambda x: [reshape(mul(one, one), shape=(3,)) for one in one_by_one(x)],
}


def one_by_one(x: Value) -> list[Value]:
    """All rows of a matrix, each (1, n)."""
    return [rows(x, at, at + 1) for at in range(x.shape[0])]


def repeated(x: Value, w: Value) -> list[Value]:
    """Rows of x, each times the same large matrix."""
    return [tanh(times(rows(x, at, at + 2), w)) for at in (0, 2, 4)]


def times(x: Value, w: Value) -> Value:
    """A product of matrices."""
    return dot_general(x, w, contract=((1,), (0,)), batch=((), ()))


def turned(x: Value, w: Value) -> list[Value]:
    """As `repeated`, over the transposed matrix and with the operands exchanged."""
    parts = [rows(x, at, at + 2) for at in (0, 2, 4)]
    return [
        dot_general(transpose(w, permutation=(1, 0)), one, contract=((1,), (1,)), batch=((), ()))
        for one in parts
    ]


PRODUCTS = {"repeated": repeated, "turned": turned}
LARGE = TensorType(float64, (3, 40)), TensorType(float64, (40, 3))


def assert_transpose_of_jvp(graph: Graph) -> None:
    """<pull(g), t> = <g, push(t)>, for random numbers."""
    rng = np.random.default_rng(0)
    everything = tuple(range(len(graph.inputs)))
    x, t = ([rng.normal(size=v.shape) for v in graph.inputs] for _ in range(2))
    g = [rng.normal(size=v.shape) for v in graph.outputs]
    moved = evaluate(jvp(graph, everything), (*x, *t))[len(g) :]
    back = evaluate(check(vjp(graph, everything)), (*x, *g))[len(g) :]
    there = sum(float(np.sum(a * b)) for a, b in zip(g, moved, strict=True))
    assert sum(float(np.sum(a * b)) for a, b in zip(back, t, strict=True)) == pytest.approx(there)


@pytest.mark.parametrize("name", CUTS)
def test_shares_of_slices_are_the_transpose_of_slicing(name: str) -> None:
    assert_transpose_of_jvp(trace(CUTS[name], WHOLE))


@pytest.mark.parametrize("name", ["neighbours", "in any order", "reshaped"])
def test_shares_of_slices_that_lie_side_by_side_are_one_concatenate(name: str) -> None:
    ops = count_ops(clean(vjp(trace(CUTS[name], WHOLE), (0,))))
    assert (ops["concatenate"], ops.get("pad", 0)) == (1, 0)


def test_gap_between_slices_is_padded_once_a_run() -> None:
    ops = count_ops(clean(vjp(trace(CUTS["with a gap"], WHOLE), (0,))))
    assert (ops["concatenate"], ops["pad"]) == (1, 2)


@pytest.mark.parametrize("name", PRODUCTS)
def test_shares_of_products_are_the_transpose_of_multiplying(name: str) -> None:
    assert_transpose_of_jvp(trace(PRODUCTS[name], WHOLE, LARGE[0]))


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_matrix_that_is_multiplied_often_gets_its_cotangent_by_one_product(name: str) -> None:
    graph = trace(PRODUCTS[name], WHOLE, LARGE[0])
    ops = count_ops(clean(vjp(graph, (1,))))
    assert ops["dot_general"] == count_ops(graph)["dot_general"] + 1


def test_what_is_joined_carries_the_line_of_its_first_use() -> None:
    with building() as builder:
        x, w = (builder.input(type) for type in (WHOLE, LARGE[0]))
        found: list[Value] = []
        for at in range(3):
            builder.source = Source("model.py", 7 + at)
            found.append(times(rows(x, 2 * at, 2 * at + 2), w))
        graph = builder.graph(found)
    swept, _ = gradient_graph(graph, [w], graph.outputs)
    assert {str(node.source) for node in swept.nodes} == {"model.py:7"}


def test_products_that_are_smaller_than_their_operands_are_added() -> None:
    # Joined, each (40, 3) would be copied to save an addition of (3, 3).
    graph = trace(
        lambda x, y, w: add(times(x, w), times(y, w)),
        *(TensorType(float64, shape) for shape in ((40, 3), (40, 3), (3, 3))),
    )
    assert count_ops(clean(vjp(graph, (2,)))).get("concatenate", 0) == 0
