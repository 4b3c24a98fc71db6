"""How does Python call generated code within a tenth of a microsecond? As a builtin function.

ctypes looks at each argument of each call, which takes longer than a small kernel. So the code that
stands between Python and kernels is generated too: functions of the kind that builtins are
(METH_FASTCALL of Python's stable C interface), bound to the address of a record that says what to
run. It keeps alive what it is told to.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from pellucid.engines.cpu.native import MAX_ARGUMENTS
from pellucid.engines.llvm import cache as code_cache
from pellucid.engines.llvm.target import SSE2
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import I64, NULL, PTR, VOID, Value, constant

Native = Callable[..., int]
"""A builtin function that takes addresses."""

FASTCALL: Final = 0x80
"""The flag of a builtin that gets its arguments as an array, from Python's methodobject.h."""


def kernel_call(kernel: int, sizes: int, tasks: int, brief: bool, keep: object) -> Native:
    """A function of a kernel's buffers that runs all its tasks on the calling thread.

    A `brief` one keeps the interpreter's lock meanwhile.
    """
    return _bound("call_kernel", _Record([kernel, sizes, tasks, brief], keep))


def steps_calls(
    run_steps: int, run_frame: int, steps: int, count: int, keep: object
) -> tuple[Native, Native, Native]:
    """Three functions that run steps without the interpreter's lock.

    Each takes a context; then the first takes the address of a base table, the second the addresses
    that are in it, the third that of a frame. They return what the step runner does: 0, or the
    number of the step that found no memory.
    """
    record = _Record([run_steps, steps, count], keep)
    framed = _bound("call_on_table", _Record([run_frame, steps, count], keep))
    return _bound("call_on_table", record), _bound("call_on_addresses", record), framed


class _Record(int):
    """The address of a few words, which live as long as it does, and so does `keep`."""

    words: array[int]
    keep: object

    def __new__(cls, words: Sequence[int], keep: object) -> _Record:
        held = array("q", words)
        made = super().__new__(cls, held.buffer_info()[0])
        made.words, made.keep = held, keep
        return made


_NAMES = ("call_kernel", "call_on_table", "call_on_addresses")


def _text() -> str:
    module = Module(SSE2)
    _define_kernel_call(module)
    for name in _NAMES[1:]:
        _define_steps_call(module, name)
    return module.text()


_PARAMETERS = (("record", PTR), ("arguments", PTR), ("count", I64))


def _define_kernel_call(module: Module) -> None:
    f = module.function("call_kernel", PTR, _PARAMETERS)
    record, arguments, count = f.parameters
    words = _address(f, record)
    pointers = _unpacked(f, arguments, count)
    kernel, sizes = (f.load(PTR, f.gep(words, at, PTR)) for at in (0, 1))
    tasks, brief = (f.load(I64, f.gep(words, at, I64)) for at in (2, 3))
    operands = (pointers, sizes, constant(I64, 0), tasks, NULL)
    with f.when(f.icmp("ne", brief, 0), "brief"):
        f.call_pointer(kernel, VOID, operands)
        f.ret(_number(f, constant(I64, 0)))
    thread = f.call("PyEval_SaveThread", PTR, ())
    f.call_pointer(kernel, VOID, operands)
    f.call("PyEval_RestoreThread", VOID, (thread,))
    f.ret(_number(f, constant(I64, 0)))


def _define_steps_call(module: Module, name: str) -> None:
    f = module.function(name, PTR, _PARAMETERS)
    record, arguments, count = f.parameters
    words = _address(f, record)
    run, steps = (f.load(PTR, f.gep(words, at, PTR)) for at in (0, 1))
    context = _address(f, f.load(PTR, arguments))
    if name == "call_on_table":
        bases = _address(f, f.load(PTR, f.gep(arguments, 1, PTR)))
    else:
        bases = _unpacked(f, f.gep(arguments, 1, PTR), f.sub(count, 1))
    thread = f.call("PyEval_SaveThread", PTR, ())
    failed = f.call_pointer(run, I64, (steps, f.load(I64, f.gep(words, 2, I64)), bases, context))
    f.call("PyEval_RestoreThread", VOID, (thread,))
    f.ret(_number(f, failed))


def _unpacked(f: Function, arguments: Value, count: Value) -> Value:
    """The addresses among the arguments, as a table of their own."""
    table = f.alloca(PTR, MAX_ARGUMENTS, name="table")
    with f.loop(0, count, name="argument", unroll=1) as loop:
        address = _address(f, f.load(PTR, f.gep(arguments, loop.index, PTR)))
        f.store(address, f.gep(table, loop.index, PTR))
    return table


def _address(f: Function, number: Value) -> Value:
    return f.call("PyLong_AsVoidPtr", PTR, (number,))


def _number(f: Function, value: Value) -> Value:
    return f.call("PyLong_FromLongLong", PTR, (value,))


class _MethodDef(ctypes.Structure):
    """PyMethodDef, what Python knows of a builtin function."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@cache
def _definitions() -> dict[str, _MethodDef]:
    code = code_cache.load(_text(), SSE2, _NAMES)
    code.keep_forever()
    return {name: _MethodDef(name.encode(), code[name], FASTCALL, None) for name in _NAMES}


@cache
def _constructor() -> Any:
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = (
        ctypes.py_object,
        (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p),
    )
    return new


def _bound(name: str, record: _Record) -> Native:
    made: Native = _constructor()(ctypes.addressof(_definitions()[name]), record, None)
    return made
