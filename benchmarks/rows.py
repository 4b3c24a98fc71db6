"""How fast are softmax, layer norm and cross-entropy, forward and backward, beside torch and jax?

    python -m benchmarks rows --threads 1

Each is compiled together with its gradient. All give the same results to 1e-4 of the largest one,
checked before anything is timed. One thread by CPU time, more by wall time; medians.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Timing, in_turns, write

Call = Callable[[], Sequence[Any]]
CASES = {
    "softmax 4096 x 1024": ("softmax", 4096, 1024),
    "softmax 16384 x 256": ("softmax", 16384, 256),
    "layer norm 4096 x 768": ("layer_norm", 4096, 768),
    "cross-entropy 1024 x 8192": ("cross_entropy", 1024, 8192),
    "cross-entropy 128 x 10": ("cross_entropy", 128, 10),
}


def main() -> None:
    """Parse the command line, compare, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    for name in ("PELLUCID_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    if arguments.threads == 1:
        os.environ["XLA_FLAGS"] = (
            "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    print(f"{arguments.threads} threads; milliseconds, median [quartiles], ratio to pellucid")
    found: dict[str, dict[str, Timing]] = {}
    for title, (name, rows, columns) in CASES.items():
        calls = calls_of(name, rows, columns, arguments.threads)
        require_equal(title, calls)
        found[title] = in_turns(
            calls, arguments.rounds, 1 if rows * columns > 1 << 16 else 50, clock
        )
        own = found[title]["pellucid"].median
        print(title)
        for who, t in found[title].items():
            spread = f"[{t.low * 1e3:.3f} {t.high * 1e3:.3f}]"
            print(f"  {who:10} {t.median * 1e3:9.3f}  {spread:18} {t.median / own:5.2f}")
    write("rows", {"threads": arguments.threads, "seconds": found}, arguments.out)


def calls_of(name: str, rows: int, columns: int, threads: int) -> dict[str, Call]:
    """The same work by each library that is installed."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, columns), dtype=np.float32)
    other: np.ndarray = rng.standard_normal((rows, columns), dtype=np.float32)
    if name == "cross_entropy":
        other = rng.integers(0, columns, rows)
    calls: dict[str, Call] = {"pellucid": pellucid_call(name, x, other)}
    for who, make in (("torch", torch_call), ("jax.jit", jax_call)):
        try:
            calls[who] = make(name, x, other, threads)
        except ImportError as error:
            print(f"  {who} left out: {error}")
    return calls


def require_equal(title: str, calls: dict[str, Call]) -> None:
    """End with the numbers if two libraries differ."""
    wanted = [np.asarray(array) for array in calls["pellucid"]()]
    for who, call in calls.items():
        for own, array in zip(wanted, call(), strict=True):
            apart = float(np.abs(own - np.asarray(array)).max())
            if not apart <= 1e-4 * max(1e-6, float(np.abs(own).max())):
                raise SystemExit(f"{title}: {who} differs by {apart}")


def pellucid_call(name: str, x: np.ndarray, other: np.ndarray) -> Call:
    """Forward and backward in one compiled call."""
    import pellucid as pe
    from pellucid import nn

    scale, bias = pe.ones((x.shape[1],)), pe.zeros((x.shape[1],))
    operands = pe.asarray(x), pe.asarray(other)

    def softmax(x: Any, g: Any) -> Any:
        y, back = pe.vjp(nn.softmax, x)
        return y, *back(g)

    def norm(x: Any, scale: Any, bias: Any) -> Any:
        centred = x - pe.mean(x, axis=-1, keepdims=True)
        spread = pe.mean(centred * centred, axis=-1, keepdims=True)
        return centred * pe.rsqrt(spread + 1e-5) * scale + bias

    def layer_norm(x: Any, g: Any) -> Any:
        y, back = pe.vjp(norm, x, scale, bias)
        return y, *back(g)

    def cross_entropy(x: Any, labels: Any) -> Any:
        return pe.value_and_grad(lambda x: nn.losses.cross_entropy(x, labels))(x)

    chosen = {"softmax": softmax, "layer_norm": layer_norm, "cross_entropy": cross_entropy}[name]
    compiled = pe.jit(chosen)
    return lambda: compiled(*operands)


def torch_call(name: str, x: np.ndarray, other: np.ndarray, threads: int) -> Call:
    """The same by torch's fused functions and their derivatives."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    value, g = torch.from_numpy(x).requires_grad_(), torch.from_numpy(other)
    scale = torch.ones(x.shape[1], requires_grad=True)
    bias = torch.zeros(x.shape[1], requires_grad=True)

    def softmax() -> Sequence[Any]:
        y = torch.softmax(value, -1)
        return y.detach(), *torch.autograd.grad(y, value, g)

    def layer_norm() -> Sequence[Any]:
        y = functional.layer_norm(value, (x.shape[1],), scale, bias)
        return y.detach(), *torch.autograd.grad(y, (value, scale, bias), g)

    def cross_entropy() -> Sequence[Any]:
        loss = functional.cross_entropy(value, g)
        return loss.detach(), *torch.autograd.grad(loss, value)

    return {"softmax": softmax, "layer_norm": layer_norm, "cross_entropy": cross_entropy}[name]


def jax_call(name: str, x: np.ndarray, other: np.ndarray, threads: int) -> Call:
    """The same by jax.jit."""
    import jax
    import jax.numpy as jnp

    value, g = jnp.asarray(x), jnp.asarray(other)
    scale, bias = jnp.ones(x.shape[1]), jnp.zeros(x.shape[1])

    def softmax(x: Any, g: Any) -> Any:
        y, back = jax.vjp(jax.nn.softmax, x)
        return y, *back(g)

    def norm(x: Any, scale: Any, bias: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        spread = (centred * centred).mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(spread + 1e-5) * scale + bias

    def layer_norm(x: Any, g: Any) -> Any:
        y, back = jax.vjp(norm, x, scale, bias)
        return y, *back(g)

    def cross_entropy(x: Any, labels: Any) -> Any:
        def loss(x: Any) -> Any:
            return -jnp.mean(jax.nn.log_softmax(x)[jnp.arange(len(labels)), labels])

        return jax.value_and_grad(loss)(x)

    chosen = {"softmax": softmax, "layer_norm": layer_norm, "cross_entropy": cross_entropy}[name]
    compiled = jax.jit(chosen)
    return lambda: jax.block_until_ready(compiled(value, g))


if __name__ == "__main__":
    main()
