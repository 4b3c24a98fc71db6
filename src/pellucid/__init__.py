"""pellucid: an AI framework that can be seen through, from the model to the machine code.

    import pellucid as pe
    from pellucid import nn, optim

Each name loads its part of the package at its first use. `__init__.pyi` lists them one by one, for
readers, editors and type checkers.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

__version__ = "0.1.0"

e: float = math.e
inf: float = math.inf
nan: float = math.nan
pi: float = math.pi

# Where the names live.
_NAMES = {
    "pellucid.core.dtype": """
        DType bfloat16 float16 float32 float64 int16 int32 int64 int8 uint16 uint32 uint64
        uint8
    """,
    "pellucid.core.error": """
        CacheWarning CheckpointError CompileError ConfigError DataError DerivativeError
        DeviceError EscapedTraceError ExchangeError GraphError MissingExtraError OpAxisError
        OpError OpIndexError OpShapeError OpTypeError ParseError PellucidError RandomError
        StateError TraceError TracedBoolError TreeError UnsupportedOpError
    """,
    "pellucid.ir.record": "recording",
    "pellucid.tensor.arithmetic": """
        add astype bitwise_and bitwise_invert bitwise_or bitwise_xor clip divide equal exp
        greater greater_equal less less_equal log logical_and logical_not logical_or
        logical_right_shift logical_xor maximum minimum multiply negative not_equal positive
        reciprocal sqrt square stop_gradient subtract tanh where
    """,
    "pellucid.tensor.boxes": "dynamic_slice dynamic_update_slice",
    "pellucid.tensor.context": "device devices no_grad",
    "pellucid.tensor.creation": """
        arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid
        one_hot ones ones_like tril triu zeros zeros_like
    """,
    "pellucid.tensor.dtypes": "can_cast finfo iinfo isdtype",
    "pellucid.tensor.elementary": """
        acos acosh asin asinh atan atan2 atanh bitcast bitwise_left_shift
        bitwise_right_shift cbrt ceil copysign cos cosh digamma erf erfc exp2 expm1 floor
        floor_divide hypot isfinite isinf isnan lgamma log10 log1p log2 logaddexp nextafter
        polygamma pow remainder round rsqrt sign signbit sin sinh tan trunc
    """,
    "pellucid.tensor.functional": "grad hessian jacobian jvp value_and_grad vjp",
    "pellucid.tensor.indexing": "take take_along_axis",
    "pellucid.tensor.jit": "jit spec",
    "pellucid.tensor.joining": "concat flip pad repeat roll split stack tile unstack",
    "pellucid.tensor.precision": "precision",
    "pellucid.tensor.products": "matmul outer tensordot vecdot",
    "pellucid.tensor.reducing": "all any argmax argmin count_nonzero max mean min prod std sum var",
    "pellucid.tensor.scanning": "cumulative_prod cumulative_sum diff",
    "pellucid.tensor.searching": """
        nonzero searchsorted unique_all unique_counts unique_inverse unique_values
    """,
    "pellucid.tensor.shaping": """
        broadcast_arrays broadcast_to expand_dims flatten matrix_transpose moveaxis
        permute_dims reshape squeeze transpose
    """,
    "pellucid.tensor.sorting": "argsort sort",
    "pellucid.tensor.state": "Buffer Parameter Variable",
    "pellucid.tensor.tensor": "Tensor",
    "pellucid.tensor.threads": "get_threads set_threads",
    "pellucid.tensor.tuning": "tune",
    "pellucid.tensor.vmap": "vmap",
    "pellucid.train.fitting": "fit",
}
# Those with another name there, and whole modules.
_RENAMED = {
    "bool": ("pellucid.core.dtype", "bool_"),
    "result_type": ("pellucid.core.dtype", "promote"),
    "abs": ("pellucid.tensor.arithmetic", "absolute"),
}
_MODULES = {
    "data": "pellucid.data",
    "explain": "pellucid.explain",
    "metrics": "pellucid.metrics",
    "nn": "pellucid.nn",
    "optim": "pellucid.optim",
    "random": "pellucid.tensor.random",
    "train": "pellucid.train",
}

_HOMES = _RENAMED | {n: (home, n) for home, names in _NAMES.items() for n in names.split()}
# Type checkers read the stub instead.
_PUBLIC = "e", "inf", "nan", "pi", *_HOMES, *_MODULES
__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]

_REWRITES = {
    "cat": "write pe.concat(arrays, axis=axis)",
    "concatenate": "write pe.concat(arrays, axis=axis)",
    "gather": "write pe.take_along_axis(x, indices, axis=axis)",
    "array": "write pe.asarray(x)",
    "from_numpy": "write pe.asarray(x), or pe.asarray(x, copy=False) to borrow the memory",
    "function": "write pe.jit",
    "manual_seed": "write pe.random.seed(0)",
    "mm": "write pe.matmul(x, y)",
    "rand": "write pe.random.uniform(shape)",
    "randn": "write pe.random.normal(shape)",
    "relu": "write pellucid.nn.relu",
    "sigmoid": "write pellucid.nn.sigmoid",
    "softmax": "write pellucid.nn.softmax",
    "unsqueeze": "write pe.expand_dims(x, axis=axis)",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found = importlib.import_module(_MODULES[name])
    elif name in _HOMES:
        home, there = _HOMES[name]
        found = getattr(importlib.import_module(home), there)
    else:
        hint = f"; {_REWRITES[name]}" if name in _REWRITES else ""
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}{hint}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
