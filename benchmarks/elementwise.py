"""How fast is a chain of elementwise functions over more numbers than the caches hold?

gelu(x a + b) sigmoid(x) over 16 million numbers, with a and b numbers; gelu exact, and in its tanh
form. It is one pass at best: 4 bytes in, 4 bytes out.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import (
    jax_forward,
    mlx_forward,
    onnx_forward,
    tinygrad_forward,
    torch_forward,
)
from pellucid import nn

FULL, TINY = 1 << 24, 1 << 6
A, B = np.float32(1.25), np.float32(-0.5)


def cases(tiny: bool) -> tuple[Case, ...]:
    """Both forms of gelu."""
    size = TINY if tiny else FULL
    return tuple(case_of(size, exact) for exact in (True, False))


def case_of(size: int, exact: bool) -> Case:
    form = "exact" if exact else "tanh"
    return Case(
        f"elementwise {form}",
        f"gelu(x a + b) sigmoid(x) of {size:,} numbers, {form} gelu",
        lambda given: in_pellucid(size, exact),
        {
            "torch eager": lambda: in_torch(size, exact),
            "torch.compile": lambda: in_torch(size, exact, compiled=True),
            "jax.jit": lambda: in_jax(size, exact),
            "onnxruntime": lambda: in_onnx(size, exact),
            "mlx": lambda: in_mlx(size, exact),
            "tinygrad": lambda: in_tinygrad(size, exact),
            **({} if exact else {"numpy": lambda: in_numpy(size)}),
        },
    )


@cache
def numbers(size: int) -> np.ndarray:
    """What x is."""
    return np.random.default_rng(0).standard_normal(size, np.float32)


def in_pellucid(size: int, exact: bool) -> Work:
    gelu = nn.gelu if exact else nn.gelu_tanh
    function = pe.jit(lambda x, a, b: gelu(x * a + b) * nn.sigmoid(x))
    return Work(function, tuple(map(pe.asarray, (numbers(size), A, B))))


def torch_problem(size: int, exact: bool) -> tuple[Any, ...]:
    import torch
    from torch.nn import functional

    form = "none" if exact else "tanh"
    held = [torch.from_numpy(np.asarray(one)) for one in (numbers(size), A, B)]
    return (
        lambda x, a, b: functional.gelu(x * a + b, approximate=form) * torch.sigmoid(x),
        *held,
    )


def in_torch(size: int, exact: bool, compiled: bool = False) -> Call:
    return torch_forward(*torch_problem(size, exact), compiled=compiled)


def in_onnx(size: int, exact: bool) -> Call:
    return onnx_forward(*torch_problem(size, exact))


def in_jax(size: int, exact: bool) -> Call:
    import jax

    def function(x: Any, a: Any, b: Any) -> Any:
        return jax.nn.gelu(x * a + b, approximate=not exact) * jax.nn.sigmoid(x)

    return jax_forward(function, numbers(size), A, B)


def in_mlx(size: int, exact: bool) -> Call:
    from mlx import core, nn

    gelu = nn.gelu if exact else nn.gelu_approx
    return mlx_forward(lambda x, a, b: gelu(x * a + b) * core.sigmoid(x), numbers(size), A, B)


def in_tinygrad(size: int, exact: bool) -> Call:
    def function(x: Any, a: Any, b: Any) -> Any:
        y = x * a + b
        raised = y * 0.5 * (1 + (y / math.sqrt(2)).erf()) if exact else y.gelu()
        return raised * x.sigmoid()

    return tinygrad_forward(function, numbers(size), A, B)


def in_numpy(size: int) -> Call:
    x = numbers(size)

    def call() -> np.ndarray:
        y = x * A + B
        inner = np.float32(math.sqrt(2 / math.pi)) * (y + np.float32(0.044715) * y * y * y)
        return np.float32(0.5) * y * (1 + np.tanh(inner)) / (1 + np.exp(-x))

    return call
