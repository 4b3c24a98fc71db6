"""What several passes over a row share is computed once, if it is costly and there is room."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pellucid.core.dtype import bfloat16, float32
from pellucid.engines.loops.build import draft
from pellucid.engines.loops.hold import MOST_BYTES, hold
from pellucid.engines.loops.ir import Kernel, scratch_bytes
from pellucid.engines.loops.nest import nest
from pellucid.engines.loops.schedule import arrange
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.ir.graph import Value
from pellucid.ops.elementwise import div, exp, mul, sub
from pellucid.ops.movement import broadcast, reshape
from pellucid.ops.reduce import max_, sum_
from tests.engines.kernels import Kind, graph_of


def held(kind: Kind, build: Callable[[Value], Value | list[Value]]) -> Kernel:
    """The kernel of a function of one value, with what its passes share kept."""
    return hold(nest("k", draft(graph_of([kind], build)), arrange))


def wide(row: Value, x: Value) -> Value:
    return broadcast(row, shape=x.shape, axes=(0,))


def softmax(x: Value) -> Value:
    e = exp(sub(x, wide(max_(x, axes=(1,)), x)))
    return div(e, wide(sum_(e, axes=(1,)), x))


def test_the_exponentials_of_a_softmax_are_kept() -> None:
    assert (
        print_kernel(held((float32, (4, 100)), softmax))
        == """\
kernel k
  read x0: float32
  write y0: float32
  scratch h0: float32 x 100
  for i < 4
    reduce s0: float32 = max t1 over c0 < 100 by lanes in 1 x 100
      t1: float32 = load x0[100*i + c0]
    reduce s1: float32 = sum t6 over c1 < 100 by lanes in 1 x 100
      t4: float32 = load x0[100*i + c1]
      t5: float32 = sub t4 s0
      t6: float32 = exp t5
      store h0[c1] = t6
    for j < 100
      t3: float32 = load h0[j]
      t7: float32 = div t3 s1
      store y0[100*i + j] = t7"""
    )


def test_a_kernel_with_scratch_parses_back() -> None:
    kernel = held((float32, (4, 100)), softmax)
    assert parse_kernel(print_kernel(kernel)) == kernel


def test_what_costs_little_is_computed_again() -> None:
    def centred(x: Value) -> Value:
        apart = sub(x, wide(sum_(x, axes=(1,)), x))
        return mul(apart, wide(sum_(mul(apart, apart), axes=(1,)), x))

    assert held((float32, (4, 100)), centred).scratch == ()


def test_rows_of_several_axes_are_kept_as_one() -> None:
    def over_both(x: Value) -> Value:
        e = exp(x)
        total = sum_(e, axes=(1, 2))
        return div(e, broadcast(total, shape=x.shape, axes=(0,)))

    kernel = held((float32, (5, 6, 7)), over_both)
    assert [(one.name, one.elements) for one in kernel.scratch] == [("h0", 42)]
    text = print_kernel(kernel)
    assert "store h0[7*r + c] = " in text
    assert "load h0[j]" in text


def test_scratch_has_the_dtype_of_the_value() -> None:
    kernel = held((bfloat16, (4, 100)), softmax)
    assert [one.dtype for one in kernel.scratch] == [bfloat16]
    assert scratch_bytes(kernel) == 256


@pytest.mark.parametrize("columns", [MOST_BYTES // 4, MOST_BYTES // 4 + 1])
def test_a_row_that_is_too_long_is_computed_again(columns: int) -> None:
    kernel = held((float32, (2, columns)), softmax)
    assert bool(kernel.scratch) == (columns * 4 <= MOST_BYTES)


def test_another_row_s_value_is_not_taken_for_this_one() -> None:
    # exp of x and of x read backwards along the rows' axis are different values at one column.
    def function(x: Value) -> Value:
        turned = reshape(x, shape=(100, 4))
        e = exp(turned)
        return div(exp(x), wide(reshape(sum_(e, axes=(0,)), shape=(4,)), x))

    kernel = held((float32, (4, 100)), function)
    assert kernel.scratch == ()
