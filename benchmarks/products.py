"""How fast are matrix products, of squares, of a perceptron's shapes, and of a single row?

Layouts name lhs and rhs: N is row-major, T the transpose of a row-major matrix. pellucid's eager
call is the kernel that serves all sizes, its compiled one is made for these. Of int8 the results
are int32, as those of torch._int_mm; of bfloat16 they are bfloat16.
"""

from __future__ import annotations

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
from pellucid.core.dtype import bfloat16, int8

SHAPES = (
    *(("NN", size, size, size) for size in (64, 128, 256, 512, 1024, 2048)),
    ("NN", 128, 784, 512),
    ("NT", 128, 512, 512),
    ("TN", 784, 128, 512),
    ("NN", 128, 512, 10),
    ("TN", 512, 128, 10),
    ("NN", 1, 784, 512),
    ("NT", 1, 784, 512),
    ("NN", 512, 784, 1),
    ("NT", 1, 1024, 1024),
    ("NN", 1, 4096, 4096),
    ("NT", 1, 4096, 4096),
    ("NN", 128, 1024, 10),
    ("NN", 128, 1024, 100),
    ("NT", 128, 2048, 100),
    ("NN", 64, 9216, 128),
    ("TN", 9216, 64, 128),
    ("NN", 512, 768, 3072),
)
"""Layout, m, k and n."""

NARROW = ((32, 784, 512), *((size, size, size) for size in (256, 512, 1024, 2048)))
"""m, k and n of the products of narrow numbers."""

Shape = tuple[str, int, int, int]
Extents = tuple[int, int, int]


def cases(tiny: bool) -> tuple[Case, ...]:
    """Each shape, and those of narrow numbers."""
    wide = (("NN", 3, 4, 5), ("NT", 1, 4, 5)) if tiny else SHAPES
    narrow = ((3, 4, 5),) if tiny else NARROW
    made = (make(extents) for make in (int8_case, bfloat16_case) for extents in narrow)
    return (*map(case_of, wide), *made)


def case_of(shape: Shape) -> Case:
    layout, m, k, n = shape
    return Case(
        f"product {layout} {m}x{k}x{n}",
        f"({m}, {k}) @ ({k}, {n}), {layout}",
        lambda given: in_pellucid(shape),
        {
            "pellucid eager": lambda: in_pellucid_eager(shape),
            "torch eager": lambda: torch_forward(*in_torch(shape)),
            "jax.jit": lambda: jax_forward(function(shape), *operands(shape)),
            "onnxruntime": lambda: onnx_forward(*in_torch(shape)),
            "mlx": lambda: mlx_forward(function(shape), *operands(shape)),
            "tinygrad": lambda: tinygrad_forward(function(shape), *operands(shape)),
            "numpy": lambda: in_numpy(shape),
        },
    )


def int8_case(extents: Extents) -> Case:
    m, k, n = extents
    return Case(
        f"product int8 {m}x{k}x{n}",
        f"({m}, {k}) @ ({k}, {n}) of int8, in int32",
        lambda given: Work(pe.jit(int8_product), tuple(map(pe.asarray, whole_numbers(extents)))),
        {"torch eager": lambda: int8_in_torch(extents)},
        dtype=int8,
    )


def bfloat16_case(extents: Extents) -> Case:
    m, k, n = extents
    return Case(
        f"product bfloat16 {m}x{k}x{n}",
        f"({m}, {k}) @ ({k}, {n}) of bfloat16",
        lambda given: bfloat16_in_pellucid(extents),
        {"torch eager": lambda: bfloat16_in_torch(extents)},
        # Each rounds its results to eight bits.
        tolerance=2**-7,
        dtype=bfloat16,
    )


@cache
def whole_numbers(extents: Extents) -> tuple[np.ndarray, np.ndarray]:
    m, k, n = extents
    rng = np.random.default_rng(0)
    return rng.integers(-128, 128, (m, k), np.int8), rng.integers(-128, 128, (k, n), np.int8)


def int8_product(x: Any, y: Any) -> Any:
    return pe.matmul(x, y, dtype="int32")


def int8_in_torch(extents: Extents) -> Call:
    import torch

    return torch_forward(torch._int_mm, *map(torch.from_numpy, whole_numbers(extents)))


def bfloat16_in_pellucid(extents: Extents) -> Work:
    x, y = (pe.asarray(one).astype("bfloat16") for one in operands(("NN", *extents)))
    return Work(pe.jit(lambda x, y: x @ y), (x, y))


def bfloat16_in_torch(extents: Extents) -> Call:
    import torch

    x, y = (torch.from_numpy(one).bfloat16() for one in operands(("NN", *extents)))
    return torch_forward(lambda x, y: x @ y, x, y)


@cache
def operands(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """What lies in memory, before it is turned."""
    layout, m, k, n = shape
    rng = np.random.default_rng(0)
    lhs, rhs = ((k, m) if layout[0] == "T" else (m, k)), ((n, k) if layout[1] == "T" else (k, n))
    return rng.standard_normal(lhs, np.float32), rng.standard_normal(rhs, np.float32)


def function(shape: Shape) -> Any:
    """The product of what lies in memory, of arrays of any library."""
    first, second = (letter == "T" for letter in shape[0])
    return lambda x, y: (x.T if first else x) @ (y.T if second else y)


def in_pellucid(shape: Shape) -> Work:
    return Work(pe.jit(function(shape)), tuple(map(pe.asarray, operands(shape))))


def in_pellucid_eager(shape: Shape) -> Call:
    x, y = map(pe.asarray, operands(shape))
    product = function(shape)
    return lambda: product(x, y)


def in_torch(shape: Shape) -> tuple[Any, ...]:
    import torch

    return function(shape), *map(torch.from_numpy, operands(shape))


def in_numpy(shape: Shape) -> Call:
    x, y = operands(shape)
    product = function(shape)
    return lambda: product(x, y)
