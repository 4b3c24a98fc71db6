"""Are constant operands of products laid out anew, only where it pays, and with the same bits?"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from pellucid.core.dtype import DType, bfloat16
from pellucid.core.shape import static_shape
from pellucid.ir.check import check
from pellucid.ir.graph import Graph
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops import lookup
from pellucid.ops.control import evaluate
from pellucid.passes.keep_operands import Form, as_it_lies, keep_operands
from pellucid.passes.steady import split_steady
from tests.graphs import same_bits

FOLDED = """graph(%0: bfloat16[4, 64], %1: bfloat16[64, 96]) {
  %2: bfloat16[32, 2, 96] = reshape(%1) [shape=(32, 2, 96)]
  %3: bfloat16[32, 96, 2] = transpose(%2) [permutation=(0, 2, 1)]
  %4: bfloat16[4, 32, 2] = reshape(%0) [shape=(4, 32, 2)]
  %5: bfloat16[4, 96] = dot_general(%4, %3) [batch=((), ()), contract=((1, 2), (0, 2))]
  return %5
}"""

FROM_ROWS = """graph(%0: bfloat16[4, 64], %1: bfloat16[96, 64]) {
  %2: bfloat16[96, 32, 2] = reshape(%1) [shape=(96, 32, 2)]
  %3: bfloat16[32, 96, 2] = transpose(%2) [permutation=(1, 0, 2)]
  %4: bfloat16[4, 32, 2] = reshape(%0) [shape=(4, 32, 2)]
  %5: bfloat16[4, 96] = dot_general(%4, %3) [batch=((), ()), contract=((1, 2), (0, 2))]
  return %5
}"""

TURNED = """graph(%0: float32[4, 64], %1: float32[96, 64]) {
  %2: float32[64, 96] = transpose(%1) [permutation=(1, 0)]
  %3: float32[4, 96] = dot_general(%0, %2) [batch=((), ()), contract=((1,), (0,))]
  return %3
}"""


def form_of(dtype: DType) -> Form:
    return Form(2, 32) if dtype is bfloat16 else Form(1, 16)


def product(
    lhs: str = "bfloat16[4, 64]",
    rhs: str = "bfloat16[64, 96]",
    contract: str = "((1,), (0,))",
    result: str = "bfloat16[4, 96]",
) -> Graph:
    text = f"""graph(%0: {lhs}, %1: {rhs}) {{
      %2: {result} = dot_general(%0, %1) [batch=((), ()), contract={contract}]
      return %2
    }}"""
    return check(parse_graph(text, lookup))


def laid_out(graph: Graph, numbers: Collection[int] = (1,)) -> Graph:
    """The graph with those inputs among what may be kept."""
    kept = {graph.inputs[number] for number in numbers}
    return check(keep_operands(graph, lambda value: value in kept, form_of)[0])


def test_k_is_folded_where_the_engine_folds_it() -> None:
    assert print_graph(laid_out(product())) == FOLDED


def test_k_is_folded_whichever_axis_it_is() -> None:
    graph = product(rhs="bfloat16[96, 64]", contract="((1,), (1,))")
    assert print_graph(laid_out(graph)) == FROM_ROWS


def test_k_comes_first_where_it_lay_last() -> None:
    kinds = ("float32[4, 64]", "float32[96, 64]", "((1,), (1,))", "float32[4, 96]")
    assert print_graph(laid_out(product(*kinds))) == TURNED


def test_a_transpose_that_does_so_already_is_what_is_kept() -> None:
    graph = parse_graph(TURNED, lookup)
    found, kept = keep_operands(graph, lambda value: value is not graph.inputs[0], form_of)
    assert print_graph(found) == TURNED
    assert [value.node.op.name for value in kept if value.node] == ["transpose"]


def test_one_row_may_have_its_operand_first() -> None:
    kinds = ("bfloat16[96, 64]", "bfloat16[64, 1]", "((1,), (0,))", "bfloat16[96, 1]")
    (*_, dot) = laid_out(product(*kinds), {0}).nodes
    assert dot.attr("contract") == ((0, 2), (0, 1))
    assert [operand.shape for operand in dot.operands] == [(32, 96, 2), (32, 2, 1)]


LEFT_ALONE = {
    "too many rows": ("bfloat16[33, 64]", "bfloat16[64, 96]", "((1,), (0,))", "bfloat16[33, 96]"),
    "too many in two axes": (
        "bfloat16[5, 7, 64]", "bfloat16[64, 96]", "((2,), (0,))", "bfloat16[5, 7, 96]"
    ),
    "no rows": ("bfloat16[0, 64]", "bfloat16[64, 96]", "((1,), (0,))", "bfloat16[0, 96]"),
    "k is odd": ("bfloat16[4, 65]", "bfloat16[65, 96]", "((1,), (0,))", "bfloat16[4, 96]"),
    "it is small": ("bfloat16[4, 64]", "bfloat16[64, 32]", "((1,), (0,))", "bfloat16[4, 32]"),
    "k comes first": ("float32[4, 64]", "float32[64, 96]", "((1,), (0,))", "float32[4, 96]"),
    "two k's": (
        "bfloat16[4, 8, 8]", "bfloat16[8, 8, 96]", "((1, 2), (0, 1))", "bfloat16[4, 96]"
    ),
    "no matrix": (
        "bfloat16[4, 64]", "bfloat16[64, 8, 12]", "((1,), (0,))", "bfloat16[4, 8, 12]"
    ),
    "one column": ("bfloat16[4, 4096]", "bfloat16[4096, 1]", "((1,), (0,))", "bfloat16[4, 1]"),
}  # fmt: skip


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_an_operand_is_left_alone_where(why: str) -> None:
    graph = product(*LEFT_ALONE[why])
    assert laid_out(graph) is graph


def test_products_of_what_is_not_kept_are_left_alone() -> None:
    graph = product()
    assert laid_out(graph, ()) is graph
    assert laid_out(graph, {0, 1}) is graph


def test_several_rows_whose_product_is_turned_are_left_alone() -> None:
    graph = parse_graph(
        """graph(%0: bfloat16[4, 64], %1: bfloat16[64, 96]) {
          %2: bfloat16[4, 96] = dot_general(%0, %1) [batch=((), ()), contract=((1,), (0,))]
          %3: bfloat16[96, 4] = transpose(%2) [permutation=(1, 0)]
          return %3
        }""",
        lookup,
    )
    assert laid_out(graph) is graph


def test_an_engine_without_wishes_has_none_laid_out() -> None:
    graph = product()
    assert keep_operands(graph, lambda value: True, as_it_lies)[0] is graph


TWICE = """graph(%0: bfloat16[4, 64], %1: bfloat16[8, 64], %2: bfloat16[64, 96]) {
  %3: bfloat16[4, 96] = dot_general(%0, %2) [batch=((), ()), contract=((1,), (0,))]
  %4: bfloat16[8, 96] = dot_general(%1, %2) [batch=((), ()), contract=((1,), (0,))]
  return %3, %4
}"""


def test_an_operand_of_two_products_is_kept_once_and_not_read_any_more() -> None:
    split = split_steady(parse_graph(TWICE, lookup), {2}, form_of)
    assert split is not None
    assert [value.shape for value in split.steady.outputs] == [(32, 96, 2)]
    used = {operand for node in split.rest.nodes for operand in node.operands}
    assert split.rest.inputs[2] not in used


def test_both_parts_together_give_the_bits_of_the_graph() -> None:
    graph, rng = parse_graph(TWICE, lookup), np.random.default_rng(0)
    shapes = [static_shape(value.shape, "a test") for value in graph.inputs]
    arrays = [rng.standard_normal(shape).astype(bfloat16.numpy) for shape in shapes]
    split = split_steady(graph, {2}, form_of)
    assert split is not None
    kept = evaluate(check(split.steady), [arrays[number] for number in split.reads])
    found = evaluate(check(split.rest), [*arrays, *kept])
    for one, other in zip(found, evaluate(graph, arrays), strict=True):
        assert same_bits(one, other)


def test_what_is_larger_than_its_sources_is_not_laid_out() -> None:
    graph = parse_graph(
        """graph(%0: float32[4, 64], %1: bfloat16[96, 64]) {
          %2: float32[96, 64] = cast(%1) [dtype=float32]
          %3: float32[4, 96] = dot_general(%0, %2) [batch=((), ()), contract=((1,), (1,))]
          return %3
        }""",
        lookup,
    )
    assert split_steady(graph, {1}, form_of) is None
