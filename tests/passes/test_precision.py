"""Does the pass make casts of a precision, once for each value, and change no bit?"""

from __future__ import annotations

import numpy as np

from pellucid.core.dtype import bfloat16, float32
from pellucid.engines import find_engine
from pellucid.ir.build import Builder, building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, TensorType, count_ops
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops import lookup
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, cast, tanh
from pellucid.ops.movement import transpose
from pellucid.passes.pipeline import clean, optimize
from pellucid.passes.precision import precision
from tests.engines.executing import run_launched
from tests.graphs import same_bits
from tests.running import compiled

PLAIN = {"contract": ((1,), (0,)), "batch": ((), ())}


def product_with(builder: Builder) -> Graph:
    """x w and (x w)^T x, in bfloat16."""
    x, w = (builder.input(TensorType(float32, shape)) for shape in ((9, 9), (9, 9)))
    first = dot_general(x, w, **PLAIN, precision=bfloat16)
    turned = transpose(first, permutation=(1, 0))
    return builder.graph([dot_general(turned, x, **PLAIN, precision=bfloat16), first])


def test_operands_are_cast_and_results_stay_wide() -> None:
    with building() as builder:
        x, w = (builder.input(TensorType(float32, (3, 3))) for _ in range(2))
        graph = builder.graph([dot_general(x, w, **PLAIN, precision=bfloat16)])
    with building() as builder:
        x, w = (builder.input(TensorType(float32, (3, 3))) for _ in range(2))
        narrow = (cast(one, dtype=bfloat16) for one in (x, w))
        wanted = builder.graph([dot_general(*narrow, **PLAIN, dtype=float32)])
    assert parse_graph(print_graph(graph), lookup) == graph
    assert precision(check(graph)) == wanted
    assert precision(wanted) is wanted


def test_a_value_that_several_products_read_is_cast_once() -> None:
    with building() as builder:
        graph = product_with(builder)
    cleaned = check(clean(graph))
    assert count_ops(cleaned)["cast"] == 3


def test_the_bits_are_those_of_the_ops_one_by_one() -> None:
    with building() as builder:
        graph = product_with(builder)
    rng = np.random.default_rng(0)
    arrays = tuple(rng.normal(size=(9, 9)).astype(np.float32) for _ in range(2))
    wanted = run_launched(find_engine("cpu"), graph, arrays)
    for one in (graph, optimize(graph)):
        for found, bits in zip(compiled(one, arrays), wanted, strict=True):
            assert same_bits(found, bits)


def test_what_is_read_wide_and_was_narrow_stands_in_memory_narrow() -> None:
    """As a layer's result that another kernel reads: the cast to float32 is made by the reader."""
    with building() as builder:
        x, w = (builder.input(TensorType(bfloat16, (64, 64))) for _ in range(2))
        y = cast(dot_general(x, w, **PLAIN), dtype=float32)
        after = dot_general(cast(tanh(y), dtype=bfloat16), w, **PLAIN, dtype=float32)
        graph = builder.graph([add(y, after)])
    first = optimize(graph).nodes[0]
    assert {type.dtype for type in first.types if isinstance(type, TensorType)} == {bfloat16}
    rng = np.random.default_rng(0)
    arrays = tuple(rng.normal(size=(64, 64)).astype(bfloat16.numpy) for _ in range(2))
    for found, bits in zip(compiled(optimize(graph), arrays), compiled(graph, arrays), strict=True):
        assert same_bits(found, bits)
