"""Kernels of one class have one generic text, and their numbers go into the table of sizes."""

from __future__ import annotations

from collections.abc import Callable

from pellucid.core.dtype import float32
from pellucid.engines.loops.build import draft
from pellucid.engines.loops.generic import generalise
from pellucid.engines.loops.ir import Kernel
from pellucid.engines.loops.nest import nest
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.ir.graph import Value
from pellucid.ops.elementwise import add
from pellucid.ops.reduce import sum_
from tests.engines.kernels import graph_of


def generic(
    shape: tuple[int, ...],
    build: Callable[..., Value],
    strides: tuple[tuple[int, ...], ...],
    unit: str = "j",
) -> tuple[Kernel, tuple[int, ...]]:
    graph = graph_of([(float32, shape)] * len(strides), build)
    return generalise(nest("k", draft(graph, strides)), frozenset(unit))


def test_shapes_of_one_rank_share_a_text() -> None:
    one, one_sizes = generic((3, 5), add, ((5, 1), (10, 1)))
    two, two_sizes = generic((700, 90), add, ((90, 1), (91, 1)))
    assert print_kernel(one) == print_kernel(two)
    assert one_sizes == (3, 5, 5, 10, 5)
    assert two_sizes == (700, 90, 90, 91, 90)


def test_a_unit_stride_and_no_stride_are_classes_of_their_own() -> None:
    texts = {
        print_kernel(generic((3, 5), add, ((7, 1), stride))[0])
        for stride in ((8, 1), (8, 0), (8, 2), (0, 1))
    }
    assert len(texts) == 4


def test_the_chunks_of_a_sum_are_parameters() -> None:
    kernel, sizes = generic((300, 100), lambda x: sum_(x, axes=(0, 1)), ((100, 1),), "c")
    assert "by lanes in q2 x q3" in print_kernel(kernel)
    assert sizes[:4] == (300, 100, 81, 100)


def test_a_generic_text_parses() -> None:
    kernel, _ = generic((3, 5), lambda x: sum_(x, axes=(0,)), ((9, 1),))
    assert parse_kernel(print_kernel(kernel)) == kernel
