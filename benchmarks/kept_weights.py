"""How fast are products of few rows with weights that stay the same from call to call?

What is compiled keeps such weights as its kernels read them; given as an argument, they are packed
at each call. Layouts are those of `products`: NT is x @ w.T, which torch calls linear. Of int8 the
results are int32, as those of torch._int_mm, which takes more than 16 rows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import torch_forward

ROWS = (1, 4, 8, 16, 32)
EXTENTS = ((1024, 1024), (768, 3072))
"""k and n."""

KINDS = (("bfloat16", "NN"), ("bfloat16", "NT"), ("int8", "NN"), ("int8", "NT"), ("float32", "NT"))
"""Dtypes and layouts; float32 weights of layout NN are read where they lie."""

Shape = tuple[int, int, int]


def cases(tiny: bool) -> tuple[Case, ...]:
    """Each dtype and layout, weights and number of rows."""
    shapes = [(m, *extents) for extents in EXTENTS for m in ROWS]
    each = [(3, 64, 80)] if tiny else shapes
    return tuple(case_of(dtype, layout, shape) for dtype, layout in KINDS for shape in each)


def case_of(dtype: str, layout: str, shape: Shape) -> Case:
    m, k, n = shape
    peers = {"pellucid, weights given": lambda: with_weights_given(dtype, layout, shape)}
    if dtype != "int8" or m > 16:
        peers["torch eager"] = lambda: in_torch(dtype, layout, shape)
    return Case(
        f"kept {dtype} {layout} {m}x{k}x{n}",
        f"({m}, {k}) @ ({k}, {n}), {layout}, of {dtype}, weights kept",
        lambda given: with_weights_kept(dtype, layout, shape),
        peers,
        # In bfloat16 each rounds its results to eight bits.
        tolerance=2**-7 if dtype == "bfloat16" else 1e-4,
    )


@cache
def operands(dtype: str, layout: str, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """x, and the weights as they lie."""
    (m, k, n), rng = shape, np.random.default_rng(0)
    shapes = (m, k), ((n, k) if layout == "NT" else (k, n))
    if dtype == "int8":
        x, w = (rng.integers(-128, 128, one, np.int8) for one in shapes)
    else:
        x, w = (rng.standard_normal(one, np.float32) for one in shapes)
    return x, w


def product(dtype: str, layout: str) -> Any:
    """The product of x and weights."""
    wide = "int32" if dtype == "int8" else None
    return lambda x, w: pe.matmul(x, w.T if layout == "NT" else w, dtype=wide)


def in_pellucid(dtype: str, layout: str, shape: Shape) -> tuple[pe.Tensor, pe.Tensor]:
    x, w = (pe.asarray(one).astype(dtype) for one in operands(dtype, layout, shape))
    return x, w


def with_weights_kept(dtype: str, layout: str, shape: Shape) -> Work:
    x, w = in_pellucid(dtype, layout, shape)
    weights, multiply = pe.Variable(w), product(dtype, layout)
    return Work(pe.jit(lambda x: multiply(x, weights)), (x,))


def with_weights_given(dtype: str, layout: str, shape: Shape) -> Call:
    return Work(pe.jit(product(dtype, layout)), in_pellucid(dtype, layout, shape))


def in_torch(dtype: str, layout: str, shape: Shape) -> Call:
    import torch

    x, w = (torch.from_numpy(one) for one in operands(dtype, layout, shape))
    turned = w.T if layout == "NT" else w
    if dtype == "int8":
        return torch_forward(lambda: torch._int_mm(x, turned))
    x, turned = (one.to(getattr(torch, dtype)) for one in (x, turned))
    if layout == "NT":
        weights = turned.T.contiguous()
        return torch_forward(lambda: torch.nn.functional.linear(x, weights))
    return torch_forward(lambda: x @ turned)
