"""How fast are softmax, layer norm and cross-entropy, forward and backward?

Each is compiled together with its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.case import Call, Case, Work
from benchmarks.peers import cores, jax_forward, torch_compiled
from pellucid import nn

ROWS = {
    "softmax": ((4096, 1024), (16384, 256)),
    "layer norm": ((4096, 768),),
    "cross-entropy": ((1024, 8192), (128, 10)),
}
EPSILON = 1e-5


def cases(tiny: bool) -> tuple[Case, ...]:
    """Each function at its sizes."""
    sizes = dict.fromkeys(ROWS, ((4, 8),)) if tiny else ROWS
    return tuple(case_of(name, *shape) for name, shapes in sizes.items() for shape in shapes)


def case_of(name: str, rows: int, columns: int) -> Case:
    return Case(
        f"{name} {rows}x{columns}",
        f"{name} of {rows} rows of {columns}, forward and backward",
        lambda given: in_pellucid(name, rows, columns),
        {
            "torch eager": lambda: in_torch(name, rows, columns),
            "torch.compile": lambda: in_torch(name, rows, columns, compiled=True),
            "jax.jit": lambda: in_jax(name, rows, columns),
        },
    )


@cache
def operands(name: str, rows: int, columns: int) -> tuple[np.ndarray, ...]:
    """x, then labels, or the cotangent and what else the function takes."""
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((rows, columns), dtype=np.float32) for _ in range(2))
    if name == "cross-entropy":
        return x, rng.integers(0, columns, rows)
    if name == "softmax":
        return x, g
    return x, g, *rng.standard_normal((2, columns), dtype=np.float32)


def in_pellucid(name: str, rows: int, columns: int) -> Work:
    def norm(x: Any, scale: Any, bias: Any) -> Any:
        centred = x - pe.mean(x, axis=-1, keepdims=True)
        spread = pe.mean(centred * centred, axis=-1, keepdims=True)
        return centred * pe.rsqrt(spread + EPSILON) * scale + bias

    def softmax(x: Any, g: Any) -> Any:
        y, back = pe.vjp(nn.softmax, x)
        return y, *back(g)

    def layer_norm(x: Any, g: Any, scale: Any, bias: Any) -> Any:
        y, back = pe.vjp(norm, x, scale, bias)
        return y, *back(g)

    def cross_entropy(x: Any, labels: Any) -> Any:
        return pe.value_and_grad(lambda x: nn.losses.cross_entropy(x, labels))(x)

    function = named(name, softmax, layer_norm, cross_entropy)
    return Work(pe.jit(function), tuple(map(pe.asarray, operands(name, rows, columns))))


def named(name: str, *functions: Callable[..., Any]) -> Callable[..., Any]:
    """The function of that name; they come in the order of ROWS."""
    return dict(zip(ROWS, functions, strict=True))[name]


def in_torch(name: str, rows: int, columns: int, compiled: bool = False) -> Call:
    import torch
    from torch.nn import functional

    torch.set_num_threads(cores())
    x, other, *more = (torch.from_numpy(one) for one in operands(name, rows, columns))
    for one in (x, *more):
        one.requires_grad_()

    def layer_norm(x: Any, scale: Any, bias: Any) -> Any:
        return functional.layer_norm(x, (columns,), scale, bias, EPSILON)

    forward = named(
        name,
        lambda x: torch.softmax(x, -1),
        layer_norm,
        lambda x: functional.cross_entropy(x, other),
    )
    made = torch_compiled(forward) if compiled else forward

    def call() -> Sequence[Any]:
        y = made(x, *more)
        cotangent = None if name == "cross-entropy" else other
        return y.detach(), *torch.autograd.grad(y, (x, *more), cotangent)

    return call


def in_jax(name: str, rows: int, columns: int) -> Call:
    import jax
    import jax.numpy as jnp

    def norm(x: Any, scale: Any, bias: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        spread = (centred * centred).mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(spread + EPSILON) * scale + bias

    def softmax(x: Any, g: Any) -> Any:
        y, back = jax.vjp(jax.nn.softmax, x)
        return y, *back(g)

    def layer_norm(x: Any, g: Any, scale: Any, bias: Any) -> Any:
        y, back = jax.vjp(norm, x, scale, bias)
        return y, *back(g)

    def cross_entropy(x: Any, labels: Any) -> Any:
        def loss(x: Any) -> Any:
            return -jnp.mean(jax.nn.log_softmax(x)[jnp.arange(rows), labels])

        return jax.value_and_grad(loss)(x)

    function = named(name, softmax, layer_norm, cross_entropy)
    return jax_forward(function, *operands(name, rows, columns))
