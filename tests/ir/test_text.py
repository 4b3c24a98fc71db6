"""Does the text of a graph parse back to an equal graph, and does a wrong text say where?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pellucid.core.dtype import DTYPES, bfloat16, bool_, float32, int32
from pellucid.core.error import OpTypeError, ParseError
from pellucid.core.shape import sym
from pellucid.ir.build import Builder, building
from pellucid.ir.graph import Graph, TensorType, Token, Type
from pellucid.ir.text import node_text, parse_graph, print_graph
from pellucid.ops import lookup
from pellucid.ops.control import evaluate, fusion
from pellucid.ops.elementwise import add, exp, neg
from pellucid.ops.movement import constant_array, full
from tests.graphs import random_graph, same_bits

F = TensorType(float32, (3,))


class Anything:
    """An op that takes whatever it is given, to see how attributes travel."""

    name = "anything"

    def result_types(self, operands: tuple[Type, ...], attrs: Any) -> tuple[Type, ...]:
        """As many results of the first operand's type as `results` says."""
        return operands[:1] * attrs.get("results", 1)


ANYTHING = Anything()


def with_attrs(**attrs: Any) -> Graph:
    builder = Builder()
    x = builder.input(F)
    return builder.graph(builder.add(ANYTHING, [x], attrs))


def round_trip(graph: Graph) -> Graph:
    return parse_graph(print_graph(graph), lambda name: ANYTHING)


def body() -> Graph:
    with building() as builder:
        x = builder.input(F)
        return builder.graph([neg(exp(x))])


def test_a_graph_reads_as_a_program() -> None:
    with building() as builder:
        x, y = builder.input(F), builder.input(F)
        graph = builder.graph([add(x, y), x])
    assert print_graph(graph) == (
        "graph(%0: float32[3], %1: float32[3]) {\n"
        "  %2: float32[3] = add(%0, %1)\n"
        "  return %2, %0\n"
        "}"
    )


@pytest.mark.parametrize(
    "value",
    [
        *(0, -7, 2**70, True, False, None, "", "it's", 'a "quote"', "tab\tline\n", "é→\\"),
        *(0.0, -0.0, 0.1, 1e300, 5e-324, -1.5e-7, math.inf, -math.inf, 1.0),
        *((), (1,), (1, 2.5, (True, ("a",))), b"", b"\x00\xff\x0e", b"\xab"),
        *(float32, bfloat16, bool_, sym("n"), sym("2*n*m-n+3"), (sym("n"), 4), ((0,), ())),
    ],
    ids=repr,
)
def test_every_kind_of_attribute_travels(value: object) -> None:
    graph = with_attrs(value=value)
    parsed = round_trip(graph)
    assert parsed == graph
    found = parsed.nodes[0].attr("value")
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_a_nan_attribute_travels() -> None:
    assert math.isnan(round_trip(with_attrs(value=math.nan)).nodes[0].attr("value"))


def test_lists_become_tuples() -> None:
    assert with_attrs(value=[1, [2]]).nodes[0].attr("value") == (1, (2,))


def test_a_graph_in_an_attribute_travels() -> None:
    with building() as builder:
        x = builder.input(F)
        inner = builder.graph([fusion(x, body=body(), kind="loop")])
    with building() as builder:
        x = builder.input(F)
        graph = builder.graph([fusion(exp(x), body=inner, kind="loop")])
    parsed = parse_graph(print_graph(graph), lookup)
    assert parsed == graph
    assert print_graph(parsed) == print_graph(graph)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_an_unknown_size_travel(dtype: Any) -> None:
    builder = Builder()
    x = builder.input(TensorType(dtype, (sym("n"), 0, 3)))
    graph = builder.graph([x])
    assert round_trip(graph) == graph


def test_tokens_and_several_results_travel() -> None:
    builder = Builder()
    x = builder.input(Token())
    graph = builder.graph(builder.add(ANYTHING, [x], {"results": 3})[1:])
    assert "%1: token, %2: token, %3: token = anything(%0)" in print_graph(graph)
    assert round_trip(graph) == graph


def test_a_graph_of_nothing_travels() -> None:
    graph = Builder().graph([])
    assert round_trip(graph) == graph


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_travel_with_their_bits(seed: int) -> None:
    graph, arrays = random_graph(seed, (float32, bfloat16, int32, bool_), 30)
    parsed = parse_graph(print_graph(graph), lookup)
    assert parsed == graph
    assert all(map(same_bits, evaluate(parsed, arrays), evaluate(graph, arrays)))


def test_constants_keep_every_bit() -> None:
    patterns = np.array([0x7FC00001, 0x80000000, 1, 0xFF800000], np.uint32).view(np.float32)
    with building() as builder:
        graph = builder.graph([constant_array(patterns), full((2,), -0.0, float32)])
    array, zeros = evaluate(parse_graph(print_graph(graph), lookup), ())
    assert array.tobytes() == patterns.tobytes()
    assert np.signbit(zeros).all()


def test_one_node_reads_as_its_line() -> None:
    graph = body()
    assert node_text(graph, graph.nodes[1]) == "%2: float32[3] = neg(%1)"


HEAD = "graph(%0: float32[3]) {\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a name at line 1"),
        ("graph %0", r"expected '\(' at line 1, got '%0'"),
        ("graph(%0 float32)", "expected ':' at line 1, got 'float32"),
        ("graph(%0: float32[3) {", "expected a type at line 1"),
        ("graph(%0: float33[3]) {", "line 1: no dtype is called 'float33'"),
        ("graph(%0: float32[3.5]) {", "line 1: expected a size such as"),
        (HEAD + "  return %1\n}", "expected a value defined above at line 2, got '%1"),
        (HEAD + "  return %0", "expected a value at line 2"),
        (HEAD + "  return %0\n}\nmore", "expected the end of the text at line 4, got 'more'"),
        (HEAD + "  %1: float32[3] = nothing(%0)", "line 2: no op is called 'nothing'"),
        (HEAD + "  %1: float32[3] = exp(%7)", "expected a value defined above at line 2, got '%7"),
        (HEAD + "  %0: float32[3] = exp(%0)", "expected a value not defined above at line 2"),
        (HEAD + "  %1: float32[4] = exp(%0)", r"expected exp to give float32\[4\], which gives"),
        (HEAD + "  %1: float32[3] = add(%0)", "line 2: add: expected 2 operands, got 1"),
        (HEAD + "  %1: float32[3] = sum(%0) [axes=(9,)]", "line 2: sum: axis 9 is out of range"),
        (HEAD + "  %1: float32[3] = sum(%0) [axes=;]", "expected an attribute at line 2, got ';"),
        (HEAD + "  %1: float32[3] = cast(%0) [dtype=f]", "line 2: no dtype is called 'f'"),
        (HEAD + "  %1: float32[3] = cast(%0) [x=hex 123]", "line 2: .*hexadecimal"),
        (HEAD + "  %1: float32[3] = cast(%0) [x=hex zz]", "expected a literal at line 2"),
    ],
)
def test_a_wrong_text_says_where_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_graph(text, lookup)


def test_an_error_of_parsing_names_its_cause() -> None:
    with pytest.raises(ParseError) as raised:
        parse_graph(HEAD + "  %1: int32[3] = exp()", lookup)
    assert isinstance(raised.value.__cause__, OpTypeError)
