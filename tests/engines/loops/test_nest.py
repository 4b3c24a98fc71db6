"""Lines stand in as few loops as can be, each in the outermost loop that knows what it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pellucid.core.dtype import float32
from pellucid.engines.loops.build import draft
from pellucid.engines.loops.ir import Loop, Quotient, nested
from pellucid.engines.loops.nest import nest
from pellucid.engines.loops.schedule import arrange
from pellucid.engines.loops.text import print_kernel
from pellucid.ir.graph import Value
from pellucid.ops.elementwise import add, exp, mul, neg, sub
from pellucid.ops.movement import broadcast, reshape, transpose
from pellucid.ops.reduce import max_, sum_
from tests.engines.kernels import Kind, graph_of


def body(kinds: Sequence[Kind], build: Callable[..., Value | Sequence[Value]]) -> str:
    """The text of the unscheduled nest, without its buffers."""
    text = print_kernel(nest("k", draft(graph_of(kinds, build))))
    lines = text.splitlines()[1:]
    return "\n".join(line[2:] for line in lines if not line.startswith(("  read", "  write")))


def test_axes_that_lie_together_become_one_loop() -> None:
    assert body([(float32, (2, 3, 4))], neg) == (
        "for i < 24\n  t0: float32 = load x0[i]\n  t1: float32 = neg t0\n  store y0[i] = t1"
    )


def test_what_does_not_change_in_a_loop_is_computed_before_it() -> None:
    def scaled(x: Value, bias: Value, scale: Value) -> Value:
        row = broadcast(bias, shape=(4, 6), axes=(0,))
        return mul(add(x, row), broadcast(exp(scale), shape=(4, 6), axes=()))

    assert body([(float32, (4, 6)), (float32, (4,)), (float32, ())], scaled) == (
        "t3: float32 = load x2[0]\n"
        "t4: float32 = exp t3\n"
        "for i < 4\n"
        "  t1: float32 = load x1[i]\n"
        "  for j < 6\n"
        "    t0: float32 = load x0[6*i + j]\n"
        "    t2: float32 = add t0 t1\n"
        "    t5: float32 = mul t2 t4\n"
        "    store y0[6*i + j] = t5"
    )


def test_a_dense_reshape_costs_nothing() -> None:
    assert body([(float32, (6, 4))], lambda x: neg(reshape(x, shape=(3, 8)))) == body(
        [(float32, (24,))], neg
    )


def test_a_reshape_of_a_transpose_splits_a_loop() -> None:
    # (6, 4) -> transposed (4, 6) -> (4, 2, 3) -> (8, 3): the 8 is cut into 4 x 2.
    text = body(
        [(float32, (6, 4))], lambda x: reshape(transpose(x, permutation=(1, 0)), shape=(8, 3))
    )
    assert "load x0[4*j + i]" in text
    assert text.count("for ") == 2


def test_a_reshape_that_fits_no_loop_divides() -> None:
    graph = graph_of(
        [(float32, (6, 4))], lambda x: reshape(transpose(x, permutation=(1, 0)), shape=(3, 8))
    )
    statements = list(nested(nest("k", draft(graph)).body))
    assert any(isinstance(getattr(s, "value", None), Quotient) for s in statements)


def test_a_value_used_twice_is_computed_once() -> None:
    text = body([(float32, (8,))], lambda x: [exp(x), mul(exp(x), exp(x))])
    assert text.count("exp") == 1


def test_reductions_of_one_space_share_their_loops() -> None:
    text = body([(float32, (4, 6))], lambda x: [sum_(x, axes=(1,)), max_(x, axes=(1,))])
    assert text.count("reduce") == 1


def test_a_reduction_that_uses_another_comes_after_it() -> None:
    def shifted(x: Value) -> Value:
        top = broadcast(max_(x, axes=(1,)), shape=(4, 6), axes=(0,))
        return sum_(exp(sub(x, top)), axes=(1,))

    text = body([(float32, (4, 6))], shifted)
    assert text.index("= max") < text.index("= sum")


def test_a_reduction_over_the_last_axis_has_lanes_and_over_others_a_chain() -> None:
    kinds: list[Kind] = [(float32, (3, 4, 5))]
    assert "r < 3, c < 5 by lanes in 3 x 5" in body(kinds, lambda x: sum_(x, axes=(0, 2)))
    assert "r < 12 by chain in 256" in body(kinds, lambda x: sum_(x, axes=(0, 1)))
    # An axis of size 1 does not count: the last one is then the 4.
    assert "by lanes" in body([(float32, (3, 4, 1))], lambda x: sum_(x, axes=(1,)))


def test_reduced_axes_that_lie_apart_are_found_by_division() -> None:
    text = body([(float32, (3, 4, 5, 6))], lambda x: sum_(x, axes=(0, 2)))
    assert "reduce s0: float32 = sum t0 over r < 15" in text
    assert "quotient [r] 5" in text


def test_a_matrix_that_is_turned_is_read_along_its_lines() -> None:
    graph = graph_of([(float32, (40, 50))], lambda x: transpose(x, permutation=(1, 0)))
    loops = [s.axis for s in nested(nest("k", draft(graph), arrange).body) if isinstance(s, Loop)]
    # i counts the lines of the result, j those of the operand.
    assert [(axis.name, axis.extent) for axis in loops] == [("j", 40), ("i", 50)]


def test_a_nest_has_no_loop_of_one_turn() -> None:
    graph = graph_of([(float32, (1, 7, 1))], neg)
    loops = [s for s in nested(nest("k", draft(graph)).body) if isinstance(s, Loop)]
    assert [loop.axis.extent for loop in loops] == [7]
