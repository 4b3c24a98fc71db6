"""A schedule suits the register width and the number of tasks to the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pellucid.core.dtype import DType, bfloat16, float32, float64, int8, int32, uint64
from pellucid.engines.loops.build import draft
from pellucid.engines.loops.ir import Kernel
from pellucid.engines.loops.nest import nest
from pellucid.engines.loops.schedule import arrange, lane_count, schedule, share_out
from pellucid.ir.graph import Value
from pellucid.ops.elementwise import add, cast, exp, mul
from pellucid.ops.lists import sum_lists
from pellucid.ops.movement import broadcast, transpose
from pellucid.ops.random import random_bits
from pellucid.ops.reduce import sum_
from tests.engines.kernels import Kind, graph_of


def kernel_of(kinds: Sequence[Kind], build: Callable[..., Value]) -> Kernel:
    return nest("k", draft(graph_of(kinds, build)), arrange)


@pytest.mark.parametrize(
    ("dtype", "lanes"), [(float32, 8), (float64, 4), (bfloat16, 8), (int8, 32)]
)
def test_a_vector_fills_a_register(dtype: DType, lanes: int) -> None:
    assert lane_count(kernel_of([(dtype, (100,))] * 2, add), 256) == lanes


def test_the_widest_dtype_decides() -> None:
    kernel = kernel_of([(int8, (100,))], lambda x: exp(cast(x, dtype=float64)))
    assert lane_count(kernel, 512) == 8


def test_a_vector_is_not_longer_than_its_axis() -> None:
    kernel = schedule(kernel_of([(float32, (90, 5))], lambda x: sum_(x, axes=(0,))), 512)
    assert kernel.bound("i", "vector") == 4


def test_rows_of_a_sum_run_over_threads_and_columns_over_lanes() -> None:
    kernel = schedule(kernel_of([(float32, (500, 100))], lambda x: sum_(x, axes=(1,))), 256)
    assert kernel.bound("i", "thread") is not None
    assert kernel.bound("c", "vector") == 8
    assert kernel.bound("c", "unroll") == 8


def test_random_words_are_drawn_a_block_at_a_time() -> None:
    kinds: list[Kind] = [(uint64, ()), (uint64, ())]
    kernel = schedule(kernel_of(kinds, lambda s, d: random_bits(s, d, shape=(1000,))), 256)
    assert kernel.bound("i", "unroll") == 4


@pytest.mark.parametrize("turned", [False, True])
def test_vectors_go_along_rows_whose_lists_are_one(turned: bool) -> None:
    def sums(updates: Value, lists: Value) -> Value:
        found = sum_lists(updates, lists, sizes=(500,), rank=1)
        return transpose(found, permutation=(1, 0)) if turned else found

    kernel = schedule(kernel_of([(float32, (40, 64)), (int32, (540,))], sums), 256)
    assert kernel.bound("j", "vector") == (None if turned else 8)
    assert kernel.bound("j", "unroll") == (None if turned else 4)


def test_small_work_is_one_task_and_heavy_work_more() -> None:
    def tasks(size: int, build: Callable[..., Value]) -> int:
        return share_out(kernel_of([(float32, (size,))], build)).count

    assert tasks(1000, exp) == 1
    assert tasks(1_000_000, exp) > tasks(1_000_000, lambda x: add(x, x)) > 1


def test_threads_share_a_long_loop_where_the_outer_one_is_short() -> None:
    kinds: list[Kind] = [(float32, (2, 1_000_000)), (float32, (2,))]
    kernel = kernel_of(kinds, lambda x, y: add(x, broadcast(y, shape=(2, 1_000_000), axes=(0,))))
    assert share_out(kernel).count > 2


def test_a_task_takes_whole_vectors() -> None:
    kinds: list[Kind] = [(float32, (3, 50_000)), (float32, (3,))]
    kernel = kernel_of(kinds, lambda x, y: add(x, broadcast(y, shape=(3, 50_000), axes=(0,))))
    assert share_out(kernel).block % 64 == 0


def test_sums_down_columns_that_share_a_kernel_have_several_vectors_each() -> None:
    def sums(x: Value, y: Value) -> list[Value]:
        z = add(mul(x, x), mul(x, y))
        return [sum_(one, axes=(0,)) for one in (x, mul(x, y), z)]

    kinds = [(float32, (300, 64))] * 2
    kernel = nest("k", draft(graph_of(kinds, sums)), arrange)
    assert schedule(kernel, 512).bound("i", "unroll") == 4
    assert schedule(kernel, 256).bound("i", "unroll") == 2
