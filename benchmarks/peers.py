"""How is the same work done by other libraries? What the builders of the peers share.

A builder imports its library itself, so that one that is not installed is named and left out.
"""

from __future__ import annotations

import importlib
import io
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[], Any]
"""Does the work once and gives what is compared: a number, an array, or several of them."""

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Peer:
    """How a library is installed, and what has to be said beside its numbers."""

    install: str
    note: str = ""


PEERS = {
    "torch": Peer("torch==2.13.0"),
    "jax": Peer("jax==0.10.2"),
    "onnxruntime": Peer("onnxruntime onnx torch==2.13.0"),
    "tinygrad": Peer("tinygrad (it calls clang, a program)", "runs on one core"),
    "mlx": Peer("'mlx[cpu]'", "its wheel has a reference BLAS"),
    "numpy": Peer("numpy"),
}


MODULES = {
    "pellucid": ("llvmlite.binding",),
    "onnxruntime": ("onnxruntime", "onnx", "torch"),
    "mlx": ("mlx.core",),
}
"""What a contender imports when it is made, where that is not the library alone."""


def import_library(name: str) -> None:
    """Import what a contender is made with, where it is installed."""
    library = library_of(name)
    for module in MODULES.get(library, (library,)):
        with suppress(ImportError):
            importlib.import_module(module)


def library_of(name: str) -> str:
    """Which library "torch.compile" or "jax.jit" belongs to."""
    return name.replace(".", " ").split()[0]


def why_missing(name: str, error: Exception) -> str:
    """Why a peer takes no part, in one line, with the way to have it."""
    if isinstance(error, ImportError | FileNotFoundError):
        peer = PEERS[library_of(name)]
        return f"{error}; pip install {peer.install}".replace("\n", " ")
    return f"{error}".strip().partition("\n")[0][:100]


def settings(threads: int) -> dict[str, str]:
    """The environment by which every library takes so many threads."""
    count = str(threads)
    names = ("PELLUCID_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    found = {**dict.fromkeys(names, count), "DEV": "CPU", "CPU_COUNT": count}
    if threads == 1:
        found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return found


def cores() -> int:
    """How many cores this process may use: a child that measures is bound to its threads'."""
    return len(os.sched_getaffinity(0))


# torch.


def torch_weights(weights: Weights, gradients: bool = False) -> dict[str, Any]:
    """Tensors as torch wants them: (units, features), and (features, channels, height, width).

    Those are the paths that end with "kernel"; others stay as they are.
    """
    import torch

    turns = {2: (1, 0), 4: (3, 2, 0, 1)}
    found: dict[str, Any] = {}
    for path, array in weights.items():
        turned = array.transpose(turns[array.ndim]) if path.endswith("kernel") else array
        found[path] = torch.from_numpy(np.ascontiguousarray(turned).copy())
        if gradients:
            found[path].requires_grad_()
    return found


def torch_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function by `torch.compile`; raises RuntimeError where that does not work here."""
    import torch

    double = torch.compile(lambda x: x * 2 + 1)
    double(torch.ones(16))
    return torch.compile(function)


def torch_forward(function: Callable[..., Any], *inputs: Any, compiled: bool = False) -> Call:
    """A function of torch without gradients."""
    import torch

    torch.set_num_threads(cores())
    forward = torch_compiled(function) if compiled else function

    def call() -> Any:
        with torch.no_grad():
            return forward(*inputs)

    return call


def torch_cast(loss_of: Call, autocast: bool) -> Call:
    """The loss, computed with torch's automatic casts to bfloat16 if asked for."""
    if not autocast:
        return loss_of
    import torch

    def cast() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return loss_of()

    return cast


def torch_step(loss_of: Callable[[], Any], optimizer: Any, compiled: bool = False) -> Call:
    """A step of torch: eager, or forward pass, backward pass and update by `torch.compile`.

    Raises RuntimeError where torch.compile does not work here.
    """
    import torch

    torch.set_num_threads(cores())
    forward = torch_compiled(loss_of) if compiled else loss_of
    update = torch.compile(optimizer.step) if compiled else optimizer.step

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        update()
        return loss.item()

    return step


# onnxruntime, by way of torch's functions.


def onnx_session(function: Callable[..., Any], *inputs: Any) -> Any:
    """A session of onnxruntime for a function of torch and its inputs, called x0, x1, ..."""
    import onnx  # noqa: F401, which torch's exporter needs
    import onnxruntime
    import torch

    class Model(torch.nn.Module):
        def forward(self, *x: Any) -> Any:
            return function(*x)

    file = io.BytesIO()
    names = [f"x{number}" for number in range(len(inputs))]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(Model(), inputs, file, dynamo=False, opset_version=17, input_names=names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cores(), 1
    return onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )


def onnx_forward(function: Callable[..., Any], *inputs: Any) -> Call:
    """A function of torch, exported and run by onnxruntime."""
    session = onnx_session(function, *inputs)
    held = {f"x{number}": one.numpy() for number, one in enumerate(inputs)}
    return lambda: session.run(None, held)


# jax.


def jax_forward(function: Callable[..., Any], *inputs: Any) -> Call:
    """A function of jax, compiled; the inputs (trees of arrays) are given to it in each call."""
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(function)
    held = [jax.tree.map(jnp.asarray, one) for one in inputs]
    return lambda: jax.block_until_ready(compiled(*held))


def jax_step(
    loss_of: Callable[..., Any],
    update: Callable[..., tuple[Any, ...]],
    slots: int,
    weights: Any,
    *inputs: np.ndarray,
) -> Call:
    """A step of jax, compiled whole; what it replaces is given to it.

    `loss_of(parameters, *inputs)`; `update(parameter, gradient, *slots, t)` gives the parameter
    and its slots, of which there are so many, after step number t.
    """
    import jax
    import jax.numpy as jnp

    def advance(state: Any, *x: Any) -> Any:
        t = state[0] + 1
        loss, gradients = jax.value_and_grad(loss_of)(state[1], *x)
        leaves = [jax.tree.leaves(tree) for tree in (state[1], gradients, *state[2:])]
        updated = [update(*parts, t) for parts in zip(*leaves, strict=True)]
        shape = jax.tree.structure(state[1])
        trees = [jax.tree.unflatten(shape, list(part)) for part in zip(*updated, strict=True)]
        return loss, (t, *trees)

    compiled = jax.jit(advance, donate_argnums=0)
    # Copies: a donated buffer may not be two things at once.
    parameters = jax.tree.map(jnp.array, weights)
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(slots)]
    state = [(jnp.zeros((), jnp.float32), parameters, *zeros)]
    held = [jnp.array(one) for one in inputs]

    def step() -> float:
        loss, state[0] = compiled(state[0], *held)
        jax.block_until_ready(state[0])
        return float(loss)

    return step


def jax_cross_entropy(logits: Any, labels: Any) -> Any:
    """The mean of -log softmax at the labels."""
    import jax
    import jax.numpy as jnp

    likely = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(likely, labels[..., None], axis=-1))


def jax_adam(rate: float, weight_decay: float = 0.0) -> Callable[..., tuple[Any, ...]]:
    """Adam's update in jax."""
    import jax.numpy as jnp

    return adam_update(jnp.sqrt, rate, weight_decay)


# Updates, for any library that computes with operators.


def adam_update(
    root_of: Callable[[Any], Any], rate: float, weight_decay: float = 0.0
) -> Callable[..., tuple[Any, ...]]:
    """Adam's update with two slots, as torch and pellucid define it; AdamW's with weight decay.

    `root_of` is the library's square root.
    """

    def update(p: Any, gradient: Any, mean: Any, square: Any, t: Any) -> tuple[Any, ...]:
        mean = 0.9 * mean + (1 - 0.9) * gradient
        square = 0.999 * square + (1 - 0.999) * gradient * gradient
        root = root_of(square) / root_of(1 - 0.999**t)
        decayed = p * (1 - rate * weight_decay) if weight_decay else p
        return decayed - rate / (1 - 0.9**t) * mean / (root + 1e-8), mean, square

    return update


def momentum_update(rate: float, momentum: float) -> Callable[..., tuple[Any, ...]]:
    """The update of gradient descent with momentum, which has one slot."""

    def update(p: Any, gradient: Any, velocity: Any, t: Any) -> tuple[Any, ...]:
        velocity = momentum * velocity + gradient
        return p - rate * velocity, velocity

    return update


# mlx and tinygrad.


def mlx_forward(function: Callable[..., Any], *inputs: Any) -> Call:
    """A function of mlx, compiled, of arrays or dicts of arrays."""
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    compiled = mx.compile(function)
    held = [mlx_arrays(one) for one in inputs]

    def call() -> Any:
        found = compiled(*held)
        mx.eval(found)
        return found

    return call


def mlx_arrays(one: Any) -> Any:
    """An array, or a dict of arrays, as mlx's."""
    import mlx.core as mx

    if isinstance(one, Mapping):
        return {path: mx.array(array) for path, array in one.items()}
    return mx.array(one)


def mlx_step(
    loss_of: Callable[..., Any],
    update: Callable[..., tuple[Any, ...]],
    slots: int,
    weights: Weights,
    *inputs: np.ndarray,
) -> Call:
    """A step of mlx, compiled whole; what it is given is that of `jax_step`, the weights a dict."""
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    gradients_of = mx.value_and_grad(loss_of)

    def advance(state: Any, *x: Any) -> Any:
        t = state[0] + 1
        loss, gradients = gradients_of(state[1], *x)
        updated = {
            path: update(*(tree[path] for tree in (state[1], gradients, *state[2:])), t)
            for path in state[1]
        }
        parts = ({path: new[at] for path, new in updated.items()} for at in range(1 + slots))
        return loss, [t, *parts]

    compiled = mx.compile(advance)
    parameters = mlx_arrays(weights)
    zeros = [{path: mx.zeros_like(p) for path, p in parameters.items()} for _ in range(slots)]
    state = [[mx.array(0.0), parameters, *zeros]]
    held = [mx.array(one) for one in inputs]

    def step() -> float:
        loss, state[0] = compiled(state[0], *held)
        mx.eval(loss, state[0])
        return float(loss.item())

    return step


def mlx_cross_entropy(logits: Any, labels: Any) -> Any:
    """The mean of -log softmax at the labels."""
    import mlx.core as mx

    chosen = mx.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return mx.mean(mx.logsumexp(logits, axis=-1) - chosen)


def tinygrad_forward(function: Callable[..., Any], *inputs: np.ndarray) -> Call:
    """A function of tinygrad, compiled, of arrays."""
    from tinygrad import TinyJit

    compiled = TinyJit(lambda *x: function(*x).realize())
    held = [tinygrad_tensors(one) for one in inputs]
    # The third call is the first of the compiled ones.
    for _ in range(2):
        compiled(*held)
    return lambda: compiled(*held)


def tinygrad_tensors(one: Any) -> Any:
    """An array, or a dict of arrays, as Tensors."""
    from tinygrad import Tensor

    if isinstance(one, Mapping):
        return {path: tinygrad_tensors(array) for path, array in one.items()}
    return Tensor(np.asarray(one)).clone().realize()
