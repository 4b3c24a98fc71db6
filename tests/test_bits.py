"""Do the bits of a result depend on graph, inputs and ISA class alone? (DESIGN.md, section 6.)

Each way of running a program gives the same bits: eager, compiled, without passes, from the text of
any pass, on 1, 2, 3 and 5 threads, compiled afresh or read from the cache, with the vectors of
an older machine of the same class. So does a whole training run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pellucid.engines import find_engine
from pellucid.engines.cpu import pool
from pellucid.engines.cpu.pipeline import compile_graph
from pellucid.engines.llvm.target import AVX2, AVX512, host_isa
from pellucid.ir.record import recording
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops import lookup
from pellucid.passes.pipeline import clean, optimize
from tests.graphs import same_bits
from tests.programs import (
    LARGE,
    LONG,
    SMALL,
    eager,
    graph_digests,
    in_child,
    program,
    training_digest,
)
from tests.running import Arrays, call, compiled

EVERY = (*SMALL, *LONG, *LARGE)
FEW = (*SMALL[:8], LARGE[0])
"""One graph of each choice of dtypes, and a large one."""


def some(quick: Sequence[int]) -> list[Any]:
    """All seeds as parameters of a test, those that are not `quick` marked as slow."""
    return [s if s in quick else pytest.param(s, marks=pytest.mark.slow) for s in EVERY]


HOST = host_isa()
needs_fma = pytest.mark.skipif(
    HOST.bit_class != "fma", reason="this machine has only the oldest class"
)


@pytest.mark.parametrize("seed", some(SMALL))
def test_eager_compiled_and_unfused_agree(seed: int) -> None:
    graph, arrays = program(seed)
    wanted = eager(graph, arrays)
    assert_same(compiled(clean(graph) if seed % 2 else graph, arrays), wanted)
    assert_same(compiled(optimize(graph), arrays), wanted)


@pytest.mark.parametrize("seed", some(SMALL[::9]))
def test_parsed_text_of_every_pass_agrees(seed: int) -> None:
    graph, arrays = program(seed)
    wanted = eager(graph, arrays)
    with recording() as record:
        optimize(graph)
    texts = {stage.text.partition("\n")[2]: stage.name for stage in record.stages}
    assert {"dce", "simplify", "layout", "fold", "cse", "fuse"} >= set(texts.values())
    for text, name in texts.items():
        parsed = parse_graph(text, lookup)
        assert print_graph(parsed) == text, name
        assert_same(compiled(parsed, arrays), wanted)


@pytest.mark.parametrize("seed", LARGE)
def test_number_of_threads_does_not_matter(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arrays = program(seed)
    exe = find_engine("cpu").compile(optimize(graph), {})
    monkeypatch.setattr(pool, "_state", pool._State())
    pool.set_threads(1)
    wanted = eager(graph, arrays)
    for threads in (1, 2, 3, 5):
        pool.set_threads(threads)
        assert_same(call(exe, arrays), wanted)
        assert_same(eager(graph, arrays), wanted)


def test_cold_and_cached_agree(tmp_path: Path) -> None:
    assert_cold_and_cached_agree(tmp_path, FEW[2:5])


@pytest.mark.slow
def test_cold_and_cached_agree_on_every_graph(tmp_path: Path) -> None:
    assert_cold_and_cached_agree(tmp_path, EVERY)


@needs_fma
def test_older_vectors_agree() -> None:
    assert_digests(in_child("graphs", *FEW, ISA="avx2"), newest_digests(FEW))


@needs_fma
@pytest.mark.slow
def test_older_vectors_agree_on_every_graph() -> None:
    assert_digests(in_child("graphs", *EVERY, ISA="avx2"), newest_digests(EVERY))


@needs_fma
@pytest.mark.parametrize("seed", some(FEW[::2]))
@pytest.mark.parametrize("vector_bits", [128, 512])
def test_width_of_vectors_does_not_matter(seed: int, vector_bits: int) -> None:
    """Vectors of 512 bits are cut in two where the machine has none: their code can be run."""
    graph, arrays = program(seed)
    pairs = replace(AVX512, features=f"{AVX512.features},+avx512bf16")
    older = pairs if HOST.pairs_bfloat16 else AVX2
    isa = replace(older, vector_bits=vector_bits, registers=32 if vector_bits == 512 else 16)
    exe = compile_graph(optimize(graph), {}, isa)
    assert_same(call(exe, arrays), eager(graph, arrays))


def test_oldest_class_agrees_with_itself() -> None:
    assert_oldest_class_agrees(FEW[::2])


@pytest.mark.slow
def test_oldest_class_agrees_with_itself_on_every_graph() -> None:
    assert_oldest_class_agrees(EVERY)


def test_training_has_the_same_bits_eager_and_jitted() -> None:
    assert training_digest(jitted=True) == training_digest(jitted=False)


def test_training_has_the_same_bits_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "_state", pool._State())
    digests: set[str] = set()
    for threads in (1, 2, 3):
        pool.set_threads(threads)
        digests |= {training_digest(jitted=True), training_digest(jitted=False)}
    assert len(digests) == 1


def test_training_has_the_same_bits_cold_and_cached(tmp_path: Path) -> None:
    wanted = training_digest(jitted=True)
    directory = str(tmp_path / "kernels")
    for is_cold in (True, False):
        found = in_child("training", CACHE_DIR=directory)
        assert (found["kernels compiled"] != "0") == is_cold
        assert found["eager"] == found["jit"] == wanted


@needs_fma
def test_training_has_the_same_bits_with_older_vectors() -> None:
    found = in_child("training", ISA="avx2")
    assert found["eager"] == found["jit"] == training_digest(jitted=True)


def test_training_in_the_oldest_class_agrees_with_itself() -> None:
    one, three = (in_child("training", ISA="sse2", THREADS=threads) for threads in "13")
    assert one["eager"] == one["jit"] == three["eager"] == three["jit"]


def newest_digests(seeds: tuple[int, ...]) -> dict[str, str]:
    """Those of the newest set in the class of AVX2, whose bfloat16 is a chain of float32."""
    if not HOST.pairs_bfloat16:
        return graph_digests(seeds)
    found = in_child("graphs", *seeds, ISA="avx512vnni")
    return {name: text for name, text in found.items() if name[0].isdigit()}


def assert_same(found: Arrays, wanted: Arrays) -> None:
    for number, (mine, right) in enumerate(zip(found, wanted, strict=True)):
        assert same_bits(mine, right), f"output {number}: {mine} and {right}"


def assert_digests(found: dict[str, str], wanted: dict[str, str]) -> None:
    assert {name: found[name] for name in wanted} == wanted


def assert_cold_and_cached_agree(directory: Path, seeds: tuple[int, ...]) -> None:
    place = str(directory / "kernels")
    cold = in_child("graphs", *seeds, CACHE_DIR=place)
    cached = in_child("graphs", *seeds, CACHE_DIR=place)
    assert int(cold.pop("kernels compiled")) > 0
    assert int(cached.pop("kernels compiled")) == 0
    assert cold == cached == graph_digests(seeds)


def assert_oldest_class_agrees(seeds: tuple[int, ...]) -> None:
    one, three = (in_child("graphs", *seeds, ISA="sse2", THREADS=threads) for threads in "13")
    assert_digests(three, {name: text for name, text in one.items() if name[0].isdigit()})
    for seed in seeds:
        assert one[f"{seed} eager"] == one[f"{seed} compiled"]
