"""Is a schedule that was tuned used wherever its kernel is, and does no bit depend on it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.dtype import DType, bfloat16, float32, float64, int8, int32
from pellucid.engines.cpu import book, pool, tune
from pellucid.engines.cpu.book import Book, Schedule, kernel_key, read_book, suits, write_book
from pellucid.engines.cpu.pipeline import build_program, compile_graph
from pellucid.engines.cpu.runtime import CpuExecutable
from pellucid.engines.cpu.tune import tune_program
from pellucid.engines.llvm import cache
from pellucid.engines.llvm.contract import plan_contraction, schedule_contraction
from pellucid.engines.llvm.target import host_isa
from pellucid.engines.llvm.variants import task_variants, tile_variants
from pellucid.engines.loops.ir import Binding, Kernel
from pellucid.engines.loops.roles import has_contraction
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.engines.loops.variants import schedule_variants
from pellucid.ir.graph import Graph, Value
from pellucid.ir.record import recording
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, exp, tanh
from pellucid.ops.movement import broadcast, transpose
from pellucid.ops.reduce import max_, sum_
from pellucid.passes.pipeline import optimize
from tests.engines.cpu.test_pipeline import graph_of, samples
from tests.graphs import same_bits
from tests.running import Arrays, call

ISA = host_isa()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(cache, "_caches", {})
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


@pytest.fixture
def threads() -> Iterator[None]:
    before = pool.pool().threads
    yield
    pool.set_threads(before)


def product(m: int, n: int, k: int, dtype: DType = float32, turn: str = "") -> Graph:
    """A product with an epilogue; `turn` names the operands that lie transposed."""

    def body(x: Value, y: Value) -> list[Value]:
        lhs = transpose(x, permutation=(1, 0)) if "x" in turn else x
        rhs = transpose(y, permutation=(1, 0)) if "y" in turn else y
        return [add(made := dot_general(lhs, rhs, contract=((1,), (0,)), batch=((), ())), made)]

    left, right = (k, m) if "x" in turn else (m, k), (n, k) if "y" in turn else (k, n)
    return optimize(graph_of([(dtype, left), (dtype, right)], body))


def window() -> Graph:
    """A product over two axes at once, whose places are found through tables."""

    def body(x: Value, w: Value) -> list[Value]:
        return [dot_general(x, w, contract=((1, 3), (0, 1)), batch=((), ()))]

    return graph_of([(float32, (9, 4, 7, 5)), (float32, (4, 5, 21))], body)


def fused(shape: tuple[int, ...], body: Callable[[Value], list[Value]]) -> Graph:
    """A graph over one float32 operand, after the passes."""
    return optimize(graph_of([(float32, shape)], body))


PRODUCTS = {
    "whole": product(64, 64, 64),
    "edges": product(45, 37, 29),
    "chunks": product(70, 33, 1100),
    "row": product(1, 130, 65),
    "column": product(65, 1, 130),
    "low": product(5, 300, 40),
    "turned": product(33, 50, 40, turn="xy"),
    "rhs turned": product(1, 50, 40, turn="y"),
    "doubles": product(31, 35, 20, float64),
    "sixteen bits": product(31, 35, 20, bfloat16),
    "integers": product(31, 35, 20, int32),
    "bytes": product(31, 35, 20, int8),
    "window": window(),
    "wide row": product(1, 1000, 65),
    "colliding rows": product(120, 512, 1024),
}

LOOPS = {
    "line": fused((40_001,), lambda x: [tanh(exp(x))]),
    "rows": fused((37, 1003), lambda x: [sum_(exp(x), axes=(1,))]),
    "columns": fused((1003, 37), lambda x: [max_(exp(x), axes=(0,))]),
    "turned": fused((100, 70), lambda x: [exp(transpose(x, permutation=(1, 0)))]),
    "repeated": fused((70,), lambda x: [broadcast(exp(x), shape=(300, 70), axes=(1,))]),
}


def kernels(graph: Graph) -> list[Kernel]:
    """The kernels of a graph as the cost model schedules them."""
    launched = compile_graph(graph, {}, ISA, Book({})).launched
    return [one.kernel for one in launched if isinstance(one.kernel, Kernel)]


def others(kernel: Kernel) -> list[Schedule]:
    """Every other schedule that is tried for a kernel."""
    if not has_contraction(kernel):
        return list(schedule_variants(kernel))
    spec, tiling = plan_contraction(kernel, ISA)
    tilings = (*tile_variants(spec, ISA, tiling), *task_variants(spec, tiling))
    return [schedule_contraction(kernel, ISA, one).schedule for one in tilings]


def with_schedule(graph: Graph, kernel: Kernel, schedule: Schedule) -> CpuExecutable:
    made = compile_graph(graph, {}, ISA, Book({kernel_key(kernel): schedule}))
    assert [one.kernel.schedule for one in made.launched if one.tuned] == [schedule]
    return made


def on_threads(executable: CpuExecutable, arrays: Arrays, count: int) -> Arrays:
    pool.set_threads(count)
    return call(executable, arrays)


def assert_same_bits(graph: Graph, every: int) -> None:
    arrays = samples(graph)
    want = on_threads(compile_graph(graph, {}, ISA, Book({})), arrays, 1)
    for kernel in kernels(graph):
        for number, schedule in enumerate(others(kernel)[::every]):
            made = with_schedule(graph, kernel, schedule)
            found = on_threads(made, arrays, 1 + number % 3)
            assert all(same_bits(a, b) for a, b in zip(want, found, strict=True)), schedule


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", ["edges", "chunks", "low", "turned", "bytes"])
def test_some_schedules_of_a_product_give_the_same_bits(name: str) -> None:
    graph = PRODUCTS[name]
    assert_same_bits(graph, 1 + len(others(kernels(graph)[-1])) // 4)


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("graph", PRODUCTS.values(), ids=PRODUCTS)
def test_every_schedule_of_a_product_gives_the_same_bits(graph: Graph) -> None:
    assert_same_bits(graph, 1)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("graph", LOOPS.values(), ids=LOOPS)
def test_every_schedule_of_loops_gives_the_same_bits(graph: Graph) -> None:
    assert others(kernels(graph)[0])
    assert_same_bits(graph, 3)


def test_schedule_of_a_product_stands_in_its_text() -> None:
    (kernel,) = kernels(PRODUCTS["edges"])
    assert parse_kernel(print_kernel(kernel)) == kernel
    assert plan_contraction(kernel, ISA)[1].rows == kernel.schedule[0].factor


def slow(graph: Graph) -> tuple[Kernel, Schedule]:
    """A product's kernel, and a schedule by which it is slow for certain."""
    (kernel,) = kernels(graph)
    spec, tiling = plan_contraction(kernel, ISA)
    lowest = min(tile_variants(spec, ISA, tiling), key=lambda one: one.rows * one.vectors)
    return kernel, schedule_contraction(kernel, ISA, lowest).schedule


@pytest.mark.usefixtures("threads")
def test_what_is_faster_is_found_reported_and_used_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One thread is timed by its own CPU time, whatever else the machine does; the search ends by
    # itself after a few tiles, however long that takes.
    pool.set_threads(1)
    graph = PRODUCTS["whole"]
    kernel, schedule = slow(graph)
    _, default = plan_contraction(kernel, ISA)
    few = [default, *tile_variants(plan_contraction(kernel, ISA)[0], ISA, default)[::12]]
    monkeypatch.setattr(tune, "tile_variants", lambda *_: few)
    report = tune_program(with_schedule(graph, kernel, schedule), ISA, 600.0)
    (found,) = report.kernels
    assert found.changed
    assert found.after < found.before
    assert found.schedule in str(report)
    cache._caches.clear()  # as in another process
    kept = read_book(ISA).schedules[kernel_key(kernel)]
    (used,) = kernels_now(graph)
    assert used.schedule == kept
    assert kept != schedule


def kernels_now(graph: Graph) -> list[Kernel]:
    launched = build_program(graph, {}, ISA).launched
    return [one.kernel for one in launched if isinstance(one.kernel, Kernel)]


def test_known_program_is_not_handed_out_with_an_older_schedule() -> None:
    graph = PRODUCTS["whole"]
    (before,) = kernels_now(graph)
    kernel, schedule = slow(graph)
    write_book(ISA, {kernel_key(kernel): schedule})
    built = build_program(graph, {}, ISA)
    (after,) = (one.kernel for one in built.launched)
    assert (before.schedule, after.schedule) == (kernel.schedule, schedule)
    write_book(ISA, {kernel_key(kernel): None})
    assert kernels_now(graph) == [before]
    # What was built before is still explained by what runs.
    assert [one.kernel for one in built.launched] == [after]


def test_stage_says_what_was_tuned() -> None:
    graph = PRODUCTS["whole"]
    kernel, schedule = slow(graph)
    write_book(ISA, {kernel_key(kernel): schedule})
    with recording() as record:
        build_program(graph, {}, ISA)
    assert ", tuned)" in record.named("code")[-1].text
    assert f"rows {schedule[0].axis} {schedule[0].factor}\n" in record.named("loops")[-1].text


@pytest.mark.parametrize("damage", ["cut", "changed", "no book", "no schedule"])
def test_damaged_book_is_as_good_as_none(place: Path, damage: str) -> None:
    graph = PRODUCTS["whole"]
    kernel, schedule = slow(graph)
    write_book(ISA, {kernel_key(kernel): schedule})
    path = place / f"{book._key(ISA)}.o"
    content = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(content[:-3])
        case "changed":
            path.write_bytes(content[:-3] + b"999")
        case "no book":
            cache.process_cache().store(book._key(ISA), b"[1, 2]")
        case _:
            words = f'{{"{kernel_key(kernel)}": [["i", "rows", "many"]]}}'
            cache.process_cache().store(book._key(ISA), words.encode())
    assert read_book(ISA).schedules == {}
    assert kernels_now(graph) == [kernel]


def test_schedule_that_does_not_suit_is_not_used() -> None:
    (kernel,) = kernels(PRODUCTS["edges"])
    assert suits(kernel, kernel.schedule, ISA)
    rows, *rest = kernel.schedule
    for bad in (0, -3, 1000, "n"):
        assert not suits(kernel, (Binding(rows.axis, "rows", bad), *rest), ISA)
    assert not suits(kernel, kernel.schedule[1:], ISA)
    assert not suits(kernel, (*kernel.schedule, rows), ISA)
    (line,) = kernels(LOOPS["line"])
    assert not suits(line, kernel.schedule, ISA)
    assert not suits(line, (Binding("i", "thread", 0),), ISA)


@pytest.mark.parametrize("graph", PRODUCTS.values(), ids=PRODUCTS)
def test_what_is_tried_for_a_product_suits_it(graph: Graph) -> None:
    for kernel in filter(has_contraction, kernels(graph)):
        assert suits(kernel, kernel.schedule, ISA)
        assert all(suits(kernel, schedule, ISA) for schedule in others(kernel))


def test_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "MOST_SCHEDULES", 2)
    for name in ("first", "second", "third"):
        write_book(ISA, {name: (Binding("i", "rows", 1),)})
    assert list(read_book(ISA).schedules) == ["second", "third"]


def test_without_a_disk_the_process_remembers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", "0")
    graph = PRODUCTS["whole"]
    kernel, schedule = slow(graph)
    write_book(ISA, {kernel_key(kernel): schedule})
    assert [one.schedule for one in kernels_now(graph)] == [schedule]
    assert not place.exists()


def test_small_budget_leaves_kernels_untried() -> None:
    graph = PRODUCTS["chunks"]
    report = tune_program(compile_graph(graph, {}, ISA, Book({})), ISA, 1e-9)
    assert (report.kernels, report.untried) == ((), len(set(kernels(graph))))
    assert "no time was left" in str(report)
    assert np.isfinite(report.seconds)
