"""From text to code: errors are named, and Ctrl-C leaves nothing half done."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
import time
from functools import reduce

import pytest

from pellucid.core.error import CompileError
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.target import AVX2, AVX512, SSE2
from pellucid.engines.llvm.text import AS_WRITTEN, Module
from pellucid.engines.llvm.types import I32, I64, PTR


def adding_text(amount: int = 1) -> str:
    module = Module(SSE2)
    f = module.function("add", I64, [("x", I64)])
    f.ret(f.add(f.parameters[0], amount))
    return module.text()


def call(code: jit.Code, x: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code["add"])(x)


def test_text_becomes_a_function() -> None:
    assert call(jit.load(jit.compile_text(adding_text(), SSE2), ["add"]), 41) == 42


def test_the_same_text_gives_the_same_bytes() -> None:
    assert jit.compile_text(adding_text(), AVX2) == jit.compile_text(adding_text(), AVX2)


def test_text_that_is_no_ir_is_a_compile_error() -> None:
    with pytest.raises(CompileError, match="expected valid LLVM IR"):
        jit.compile_text("define nonsense", SSE2)


def test_bytes_that_are_no_code_are_a_compile_error() -> None:
    with pytest.raises(CompileError, match="loading add"):
        jit.load(b"not object code", ["add"])


def test_a_name_the_code_has_not_is_a_compile_error() -> None:
    with pytest.raises(CompileError, match="loading subtract"):
        jit.load(jit.compile_text(adding_text(), SSE2), ["subtract"])


def test_a_name_the_process_has_not_is_a_compile_error() -> None:
    module = Module(SSE2)
    f = module.function("add", I32, [("x", I32)])
    f.ret(f.call("no_such_function_anywhere", I32, f.parameters))
    with pytest.raises(CompileError, match="loading add"):
        jit.load(jit.compile_text(module.text(), SSE2), ["add"])


def test_code_outlives_other_code() -> None:
    kept = jit.load(jit.compile_text(adding_text(2), SSE2), ["add"])
    for amount in range(3, 10):
        assert call(jit.load(jit.compile_text(adding_text(amount), SSE2), ["add"]), 0) == amount
    gc.collect()
    assert call(kept, 40) == 42


def test_what_is_shown_can_be_for_a_foreign_machine() -> None:
    assert "define" in jit.optimised_ir(adding_text(), AVX512)
    assert "retq" in jit.assembly(adding_text(), AVX512)


def test_ctrl_c_interrupts_the_caller_and_not_the_work() -> None:
    began, finished = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        time.sleep(0.2)
        finished.set()

    def interrupt() -> None:
        began.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        jit.uninterrupted(work)
    assert finished.wait(5)


def test_compiling_goes_on_after_an_interrupt() -> None:
    began = threading.Event()

    def interrupt() -> None:
        began.wait()
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    # It waits for the first text: however late this thread gets to run, it is compiling by then.
    with pytest.raises(KeyboardInterrupt):
        keep_compiling(began)
    interrupter.join()
    assert call(jit.load(jit.compile_text(adding_text(), SSE2), ["add"]), 1) == 2


def keep_compiling(began: threading.Event) -> None:
    for amount in range(10_000):
        jit.compile_text(adding_text(amount), SSE2)
        began.set()


def test_an_error_of_the_work_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        jit.uninterrupted(lambda: 1 // 0)


def test_text_as_written_is_compiled_so_and_no_other_after_it() -> None:
    plain = jit.compile_text(long_text(), AVX2)
    kept = jit.compile_text(f"{AS_WRITTEN}\n{long_text()}", AVX2)
    assert kept != plain
    assert jit.compile_text(long_text(), AVX2) == plain


def long_text() -> str:
    """Loads, all in front of the sums that use them: an order that LLVM would change."""
    module = Module(AVX2)
    f = module.function("total", I64, [("data", PTR)])
    (data,) = f.parameters
    parts = [f.load(I64, f.gep(data, 7 * at, I64)) for at in range(24)]
    products = [f.mul(part, at) for at, part in enumerate(parts)]
    f.ret(reduce(f.add, products))
    return module.text()
