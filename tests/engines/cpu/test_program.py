"""Is a program compiled before linked without passes, and never believed when it is damaged?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.dtype import float32
from pellucid.core.error import UnsupportedOpError
from pellucid.core.shape import sym
from pellucid.engines.cpu import pipeline, program
from pellucid.engines.cpu.pipeline import build_program
from pellucid.engines.cpu.runtime import CpuExecutable
from pellucid.engines.llvm import cache
from pellucid.engines.llvm.target import host_isa, isa_named
from pellucid.ir.graph import Graph, Value
from pellucid.ir.record import recording
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, exp, mul, tanh
from pellucid.ops.movement import constant_array, transpose
from pellucid.ops.reduce import sum_
from tests.engines.cpu.test_pipeline import graph_of, samples
from tests.graphs import same_bits
from tests.running import call


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(cache, "_caches", {})
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def begin_anew() -> None:
    """Forget all that a new process would not know."""
    cache._caches.clear()


def example(factor: float = 0.5) -> Graph:
    """A product, a reduction, a constant array and something updated in place."""

    def body(x: Value, w: Value) -> list[Value]:
        scale = constant_array(np.full((8, 8), factor, np.float32) * np.arange(8, dtype=np.float32))
        y = tanh(dot_general(x, w, contract=((1,), (0,)), batch=((), ())))
        total = sum_(exp(y), axes=(1,))
        return [add(w, mul(w, scale)), total, transpose(y, permutation=(1, 0))]

    return graph_of([(float32, (8, 8))] * 2, body)


def built(graph: Graph, donate: Mapping[int, int] | None = None) -> CpuExecutable:
    return build_program(graph, {1: 0} if donate is None else donate, host_isa())


def no_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(graph: Graph, fast: bool = False) -> Graph:
        raise AssertionError(f"passes over {graph}")

    monkeypatch.setattr(pipeline, "optimize", refuse)


def test_known_program_runs_without_passes_or_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = example()
    first = call(built(graph), samples(graph))
    begin_anew()
    no_passes(monkeypatch)
    again = built(example())
    found = call(again, samples(graph))
    assert all(same_bits(a, b) for a, b in zip(first, found, strict=True))
    assert cache.counters().compiled == 0


def test_known_program_explains_itself_as_if_it_were_compiled() -> None:
    fresh = built(example())
    begin_anew()
    known = built(example())
    assert known.memory == fresh.memory
    assert known.launches == fresh.launches
    assert known.graph == fresh.graph
    assert known.plan.text(known.graph) == fresh.plan.text(fresh.graph)
    assert [one.llvm for one in known.launched] == [one.llvm for one in fresh.launched]
    assert cache.counters().compiled == 0


def test_known_program_can_be_timed() -> None:
    graph = example()
    built(graph)
    begin_anew()
    known = built(graph)
    with recording(timed=True) as record:
        call(known, samples(graph))
    assert record.stages == []
    (run,) = record.runs
    assert [step.name for step in run.steps] == [one.name for one in known.launched]


def test_another_graph_donation_isa_or_compiler_is_another_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def key(graph: Graph, donate: Mapping[int, int], isa: str = "sse2") -> str | None:
        return program.program_key(graph, donate, isa_named(isa))

    assert key(example(), {1: 0}) == key(example(), {1: 0})
    keys = {key(example(), {1: 0}), key(example(0.25), {1: 0}), key(example(), {})}
    keys.add(key(example(), {1: 0}, "avx2"))
    monkeypatch.setattr(program, "compiler_hash", lambda: "another")
    keys.add(key(example(), {1: 0}))
    assert len(keys) == 5
    assert None not in keys


def test_sources_that_changed_after_they_were_imported_are_not_vouched_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program.compiler_hash.cache_clear()
    monkeypatch.setattr(program, "_BEGAN", 0.0)
    try:
        assert program.program_key(example(), {}, host_isa()) is None
        assert built(example()).launched
    finally:
        program.compiler_hash.cache_clear()


def test_who_records_or_checks_has_every_pass_run(monkeypatch: pytest.MonkeyPatch) -> None:
    built(example())
    with recording() as record:
        built(example())
    assert record.named("fuse")
    assert record.named("assembly")
    no_passes(monkeypatch)
    monkeypatch.setenv("PELLUCID_CHECK", "1")
    with pytest.raises(AssertionError, match="passes over"):
        built(example())


@pytest.mark.parametrize("damage", ["removed", "cut", "changed"])
@pytest.mark.parametrize("which", ["program", "kernel"])
def test_what_is_damaged_or_gone_is_compiled_anew(place: Path, which: str, damage: str) -> None:
    graph = example()
    made = built(graph)
    first = call(made, samples(graph))
    key = program.program_key(graph, {1: 0}, host_isa())
    path = place / f"{key if which == 'program' else made.program.kernels[0][0]}.o"
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (b"" if damage == "cut" else bytes([content[-1] ^ 1])))
    begin_anew()
    found = call(built(graph), samples(graph))
    assert all(same_bits(a, b) for a, b in zip(first, found, strict=True))
    assert cache.counters().compiled == (which == "kernel")
    assert path.read_bytes() == content


def test_without_a_disk_a_program_is_known_in_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", "0")
    built(example())
    no_passes(monkeypatch)
    assert call(built(example()), samples(example()))


def test_what_cannot_be_compiled_is_refused_each_time() -> None:
    graph = graph_of([(float32, (sym("n"),))], lambda x: [exp(x)])
    for _ in range(2):
        with pytest.raises(UnsupportedOpError, match="known sizes"):
            built(graph, {})
