"""The text builder: what it writes is valid, runs as said, and is the same every time."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import numpy as np
import pytest

from pellucid.engines.llvm import jit
from pellucid.engines.llvm.target import AVX2, AVX512, SSE2, host_isa
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import (
    BF16,
    F16,
    F32,
    F64,
    I8,
    I32,
    I64,
    PTR,
    VOID,
    Type,
    Value,
    constant,
    constants,
)


def answer(build: Callable[[Function], Value], *arguments: int) -> int:
    """What a function of i64 parameters, written by `build`, returns."""
    module = Module(host_isa())
    names = "abcd"[: len(arguments)]
    f = module.function("run", I64, [(name, I64) for name in names])
    f.ret(build(f))
    code = jit.load(jit.compile_text(module.text(), host_isa()), ["run"])
    word = ctypes.c_int64
    return ctypes.CFUNCTYPE(word, *[word] * len(arguments))(code["run"])(*arguments)


def test_a_loop_carries_its_accumulators() -> None:
    def build(f: Function) -> Value:
        zero, one = constant(I64, 0), constant(I64, 1)
        with f.loop(0, f.parameters[0], accs=(zero, one)) as loop:
            last, this = loop.accs
            loop.next(this, f.add(last, this))
        return loop.results[0]

    assert [answer(build, n) for n in range(8)] == [0, 1, 1, 2, 3, 5, 8, 13]


def test_loops_nest_and_step() -> None:
    def build(f: Function) -> Value:
        with f.loop(2, f.parameters[0], 3, accs=(constant(I64, 0),), name="row") as rows:
            with f.loop(0, rows.index, accs=rows.accs, name="column", unroll=1) as columns:
                columns.next(f.add(columns.accs[0], columns.index))
            rows.next(columns.results[0])
        return rows.results[0]

    assert answer(build, 9) == sum(sum(range(row)) for row in range(2, 9, 3))


def test_if_else_merges_what_both_sides_give() -> None:
    def build(f: Function) -> Value:
        a, b = f.parameters
        (larger,) = f.if_else(f.icmp("sgt", a, b), lambda: (a,), lambda: (f.mul(b, 10),))
        return larger

    assert answer(build, 7, 3) == 7
    assert answer(build, 2, 3) == 30


def test_when_runs_its_body_only_if_it_holds() -> None:
    def build(f: Function) -> Value:
        with f.when(f.icmp("slt", f.parameters[0], 0)):
            f.ret(-1)
        return f.parameters[0]

    assert answer(build, -5) == -1
    assert answer(build, 5) == 5


def test_forever_is_left_by_jumping() -> None:
    def build(f: Function) -> Value:
        slot = f.alloca(I64)
        f.store(f.parameters[0], slot)
        with f.forever() as leave:
            half = f.sdiv(f.load(I64, slot), 2)
            f.store(half, slot)
            with f.when(f.icmp("slt", half, 10)):
                f.jump(leave)
        return f.load(I64, slot)

    assert answer(build, 1000) == 7


def test_atomics_do_what_they_say() -> None:
    def build(f: Function) -> Value:
        slot = f.alloca(I64)
        f.atomic_store(f.parameters[0], slot)
        before = f.atomic_add(slot, constant(I64, 5))
        was, won = f.compare_exchange(slot, f.add(before, 5), constant(I64, 100))
        _, lost = f.compare_exchange(slot, was, constant(I64, 200))
        both = f.and_(won, f.not_(lost))
        return f.select(both, f.atomic_load(I64, slot), constant(I64, -1))

    assert answer(build, 3) == 100


def test_masked_access_touches_the_first_lanes_only() -> None:
    module = Module(host_isa())
    f = module.function("run", VOID, [("data", PTR), ("count", I32)])
    data, count = f.parameters
    mask = f.mask(count, 8)
    x = f.masked_load(F32.with_lanes(8), data, mask, 1.0)
    f.masked_store(f.fadd(x, 1.0), data, mask)
    f.ret()
    code = jit.load(jit.compile_text(module.text(), host_isa()), ["run"])
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32)(code["run"])
    for count in range(-1, 9):
        values = np.zeros(8, np.float32)
        call(values.ctypes.data, count)
        assert values.tolist() == [1.0 if lane < count else 0.0 for lane in range(8)]


def test_equal_calls_give_equal_text() -> None:
    def build() -> str:
        module = Module(AVX2)
        f = module.function("run", VOID, [("data", PTR)])
        with f.loop(0, 10, unroll=2) as loop:
            f.store(loop.index, f.gep(f.parameters[0], loop.index, I64))
        f.ret()
        return module.text()

    assert build() == build()


def test_a_shared_function_is_written_once() -> None:
    module = Module(AVX2)
    f = module.function("run", I64, [("a", I64)])

    def double(g: Function) -> None:
        g.ret(g.add(g.parameters[0], g.parameters[0]))

    for _ in range(2):
        name = module.once("double", I64, [("x", I64)], double)
        result = f.call(name, I64, f.parameters)
    f.ret(result)
    assert module.text().count("define internal i64 @double") == 1
    assert "declare" not in module.text()


def test_names_are_fresh_even_beside_numbered_ones() -> None:
    module = Module(AVX2)
    f = module.function("run", VOID, [("x1", I64), ("x", I64)])
    names = [f.fresh("x"), f.fresh("x"), f.fresh("x1")]
    assert len({*names, "%x", "%x1"}) == 5


@pytest.mark.parametrize("number", [0.0, -0.0, 0.1, 1e-5, 1e22, 2.0**-149, 3.0e38, -1.5, math.pi])
def test_float_literals_are_exact(number: float) -> None:
    for type, dtype in ((F32, np.float32), (F64, np.float64)):
        exact = float(dtype(number))
        assert float_constant(type, exact) == np.array(exact, dtype).tobytes()


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_infinite_literals_are_exact(number: float) -> None:
    for type, dtype in ((F16, np.float16), (F32, np.float32), (F64, np.float64)):
        assert float_constant(type, number) == np.array(number, dtype).tobytes()
    assert float_constant(BF16, number) == np.array(number, np.float32).tobytes()[2:]


def test_a_nan_literal_is_quiet() -> None:
    assert np.isnan(np.frombuffer(float_constant(F32, math.nan), np.float32)[0])


def float_constant(type: Type, number: float) -> bytes:
    """The bytes that storing a literal writes."""
    module = Module(host_isa())
    f = module.function("run", VOID, [("out", PTR)])
    f.store(constant(type, number), f.parameters[0])
    f.ret()
    code = jit.load(jit.compile_text(module.text(), host_isa()), ["run"])
    out = ctypes.create_string_buffer(type.bytes)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code["run"])(ctypes.addressof(out))
    return out.raw


def test_a_literal_that_is_no_float32_is_refused() -> None:
    with pytest.raises(AssertionError, match="round it"):
        constant(F32, 0.1)


def test_operands_of_two_types_are_refused() -> None:
    f = Module(AVX2).function("run", VOID, [("a", I64), ("b", I32)])
    with pytest.raises(AssertionError, match="two types"):
        f.add(*f.parameters)


def test_vectors_are_built_and_taken_apart() -> None:
    def build(f: Function) -> Value:
        lanes = constants(I64, (10, 20, 30, 40))
        swapped = f.shuffle(lanes, lanes, (3, 2, 1, 0))
        mixed = f.insert(swapped, f.parameters[0], 1)
        total = f.mul(f.extract(mixed, 0), 100)
        spread = f.splat(f.extract(mixed, 1), I64.with_lanes(2))
        return f.add(total, f.extract(spread, 1))

    assert answer(build, 7) == 4007


def test_data_lives_with_the_code() -> None:
    def build(f: Function) -> Value:
        table = f.module.data("table", bytes(range(10)))
        return f.cast("zext", f.load(I8, f.gep(table, f.parameters[0], I8)), I64)

    assert [answer(build, at) for at in (0, 9)] == [0, 9]


def test_nothing_is_contracted_or_reassociated() -> None:
    """x * y + z stays two roundings on every ISA, and (x + y) + z keeps its order."""
    module = Module(AVX512)
    f = module.function("run", VOID, [("p", PTR)])
    wide = F32.with_lanes(16)
    x, y, z = (f.load(wide, f.gep(f.parameters[0], 16 * at, F32)) for at in range(3))
    f.store(f.fadd(f.fmul(x, y), z), f.parameters[0])
    f.ret()
    for isa in (AVX512, AVX2, SSE2):
        assert "fma" not in jit.assembly(module.text(), isa).replace("pellucid", "")

    def build(f: Function) -> Value:
        # In float32 (2**24 + 1) + 1 = 2**24, but 2**24 + (1 + 1) = 2**24 + 2.
        big = f.cast("sitofp", f.parameters[0], F32)
        one = f.cast("sitofp", f.parameters[1], F32)
        return f.cast("fptosi", f.fadd(f.fadd(big, one), one), I64)

    assert answer(build, 1 << 24, 1) == 1 << 24


def test_avx512_code_uses_the_whole_register() -> None:
    module = Module(AVX512)
    f = module.function("run", VOID, [("p", PTR)])
    x = f.load(F32.with_lanes(16), f.parameters[0])
    f.store(f.fadd(x, x), f.parameters[0])
    f.ret()
    assert "zmm" in jit.assembly(module.text(), AVX512)
