"""A kernel's text says all there is: parsing it gives the kernel again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pellucid.core.dtype import float16, float32, int64, uint32, uint64
from pellucid.core.error import ParseError
from pellucid.engines.cpu.rules import realise_graph
from pellucid.engines.llvm.target import AVX2
from pellucid.engines.loops.target import WRITTEN
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.ir.graph import Value
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, cast, exp, mul
from pellucid.ops.movement import full, iota, reshape, transpose
from pellucid.ops.random import random_bits
from pellucid.ops.reduce import max_, sum_
from tests.engines.kernels import Kind, graph_of
from tests.ops.cases import CASES

SCALE = """\
kernel scale
  sizes n s
  read x: float32
  write y: float32
  thread i 16384
  vector i 8
  for i < n
    t0: float32 = load x[s*i + 3]
    t1: float32 = const -inf
    t2: float32 = mul t0 t1
    store y[i] = t2"""

GRAPHS: list[tuple[list[Kind], Callable[..., Value]]] = [
    ([(float32, (4, 6)), (float32, (6, 4))], lambda x, y: add(x, transpose(y, permutation=(1, 0)))),
    ([(float16, (3, 4, 50))], lambda x: exp(sum_(x, axes=(0, 2)))),
    ([(float32, (3, 4, 50))], lambda x: max_(mul(x, x), axes=(0, 1))),
    ([(float32, (1000, 1000))], lambda x: sum_(x, axes=(0, 1))),
    (
        [(float32, (9, 8)), (float32, (8, 5))],
        lambda x, y: dot_general(x, y, contract=((1,), (0,)), batch=((), ())),
    ),
    ([(uint64, ()), (uint64, ())], lambda s, d: random_bits(s, d, shape=(5, 5))),
    ([(float32, (40, 60))], lambda x: reshape(transpose(x, permutation=(1, 0)), shape=(50, 48))),
    (
        [],
        lambda: add(
            cast(iota(dtype=int64, shape=(7,), axis=0), dtype=uint32), full((7,), 3, uint32)
        ),
    ),
]


def test_parse_of_a_text_prints_the_same_text() -> None:
    assert print_kernel(parse_kernel(SCALE)) == SCALE


@pytest.mark.parametrize("number", range(len(GRAPHS)))
def test_parse_of_a_printed_kernel_is_the_kernel(number: int) -> None:
    for call in realise_graph(graph_of(*GRAPHS[number]), AVX2).calls:
        assert parse_kernel(print_kernel(call.kernel)) == call.kernel


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kernel scale", "kernels", "line 1"),
        ("    t2: float32 = mul t0 t1", "    t2 = mul", "expected a statement"),
        ("    store y[i] = t2", "        store y[i] = t2", "expected the end"),
        ("float32 = load", "float33 = load", "float33"),
    ],
)
def test_a_wrong_line_is_named(old: str, new: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        parse_kernel(SCALE.replace(old, new))
    assert isinstance(caught.value, ParseError | TypeError)


@pytest.mark.parametrize(
    "name", ["argsort", "dynamic_slice", "gather", "min", "prod", "sum_lists", *sorted(WRITTEN)]
)
def test_kernels_of_parts_and_places_parse_back(name: str) -> None:
    for case in CASES[name]:
        for call in realise_graph(case.graph(), AVX2).calls:
            assert parse_kernel(print_kernel(call.kernel)) == call.kernel
