"""Runs one elementwise function of the emitter over a NumPy array, for the tests beside it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.engines.llvm import cache
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import F32, F64, I16, I32, I64, PTR, VOID, Type, Value

TYPES = {"float32": F32, "float64": F64, "int16": I16, "int32": I32, "int64": I64}


def type_of(dtype: Any) -> Type:
    return TYPES[np.dtype(dtype).name.replace("uint", "int")]


def elementwise_text(
    body: Callable[[Function, Value], Value], isa: Isa, dtype: Any, result: Any, lanes: int
) -> str:
    """A loop over whole vectors of `lanes`: void run(ptr data, ptr out, i64 count)."""
    module = Module(isa)
    f = module.function("run", VOID, [("data", PTR), ("out", PTR), ("count", I64)])
    data, out, count = f.parameters
    operand = type_of(dtype)
    with f.loop(0, count, lanes) as loop:
        x = f.load(operand.with_lanes(lanes), f.gep(data, loop.index, operand))
        f.store(body(f, x), f.gep(out, loop.index, type_of(result)))
    f.ret()
    return module.text()


def run(
    body: Callable[[Function, Value], Value],
    isa: Isa,
    data: NDArray[Any],
    result: Any = None,
    lanes: int = 8,
) -> NDArray[Any]:
    """The function of each element; the array's size must be a multiple of `lanes`."""
    assert data.size % lanes == 0
    result = np.dtype(result or data.dtype)
    text = elementwise_text(body, isa, data.dtype, result, lanes)
    code = cache.load(text, isa, ("run",))
    data = np.ascontiguousarray(data)
    out = np.empty(data.shape, result)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(code["run"])
    call(data.ctypes.data, out.ctypes.data, data.size)
    return out


def run_pair(
    body: Callable[[Function, Value, Value], Value],
    isa: Isa,
    lhs: NDArray[Any],
    rhs: NDArray[Any],
    lanes: int = 8,
) -> NDArray[Any]:
    """The function of each pair of elements; the size must be a multiple of `lanes`."""
    assert lhs.size % lanes == 0
    operand, result = type_of(lhs.dtype), lhs.dtype
    module = Module(isa)
    names = ("lhs", "rhs", "out")
    f = module.function("run", VOID, [*((name, PTR) for name in names), ("count", I64)])
    *sources, out, count = f.parameters
    with f.loop(0, count, lanes) as loop:
        wide = operand.with_lanes(lanes)
        values = [f.load(wide, f.gep(source, loop.index, operand)) for source in sources]
        f.store(body(f, *values), f.gep(out, loop.index, operand))
    f.ret()
    code = cache.load(module.text(), isa, ("run",))
    lhs, rhs = np.ascontiguousarray(lhs), np.ascontiguousarray(rhs)
    found = np.empty(lhs.shape, result)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(code["run"])
    call(lhs.ctypes.data, rhs.ctypes.data, found.ctypes.data, lhs.size)
    return found
