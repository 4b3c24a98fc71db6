"""Which operators and methods do Tensors and Variables have? This table; each is a function above.

It stands apart from the classes because the functions are made of Tensors: imports go one way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pellucid.core.dtype import as_dtype
from pellucid.tensor import arithmetic, indexing, products, reducing, shaping
from pellucid.tensor.backward import backward
from pellucid.tensor.state import detached
from pellucid.tensor.tensor import Operators, Tensor

Method = Callable[..., Any]


def _operator(function: Method) -> Method:
    def method(self: Any, other: Any) -> Any:
        return function(self, other) if _suits(other) else NotImplemented

    return method


def _reflected(function: Method) -> Method:
    def method(self: Any, other: Any) -> Any:
        return function(other, self) if _suits(other) else NotImplemented

    return method


def _suits(other: object) -> bool:
    return isinstance(other, Operators | bool | int | float) or hasattr(other, "__array__")


def _reducing(function: Method) -> Method:
    def method(self: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
        return function(self, axis=axis, keepdims=keepdims)

    method.__doc__ = function.__doc__
    return method


def _transpose(self: Any, *axes: Any) -> Tensor:
    """The axes in another order; in reverse where none is given."""
    return shaping.transpose(self, _unpacked(axes) if axes else None)


def _reshape(self: Any, *shape: Any) -> Tensor:
    """The same elements in another shape; one size may be -1."""
    return shaping.reshape(self, _unpacked(shape))


def _unpacked(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """(2, 3) from both f(2, 3) and f((2, 3))."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes


def _squeeze(self: Any, axis: Any) -> Tensor:
    """Axes of size 1 left out."""
    return shaping.squeeze(self, axis)


def _astype(self: Any, dtype: Any) -> Tensor:
    """The numbers in another dtype."""
    return arithmetic.astype(self, as_dtype(dtype))


_BINARY: dict[str, Method] = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "pow": arithmetic.pow,
    "matmul": products.matmul,
    "and": arithmetic.bitwise_and,
    "or": arithmetic.bitwise_or,
    "xor": arithmetic.bitwise_xor,
}
_COMPARISONS: dict[str, Method] = {
    "eq": arithmetic.equal,
    "ne": arithmetic.not_equal,
    "lt": arithmetic.less,
    "le": arithmetic.less_equal,
    "gt": arithmetic.greater,
    "ge": arithmetic.greater_equal,
}
_REDUCTIONS: dict[str, Method] = {
    "sum": reducing.sum,
    "prod": reducing.prod,
    "mean": reducing.mean,
    "var": reducing.var,
    "std": reducing.std,
    "max": reducing.max,
    "min": reducing.min,
    "any": reducing.any,
    "all": reducing.all,
    "argmax": reducing.argmax,
    "argmin": reducing.argmin,
}
_SHARED: dict[str, Any] = {
    "__neg__": arithmetic.negative,
    "__pos__": arithmetic.positive,
    "__abs__": arithmetic.absolute,
    "__invert__": arithmetic.bitwise_invert,
    "__getitem__": indexing.getitem,
    "__iter__": indexing.iterate,
    "T": property(shaping.transpose),
    "mT": property(shaping.matrix_transpose),
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "flatten": shaping.flatten,
    "astype": _astype,
    # NumPy leaves `array + tensor` to us, instead of making an object array.
    "__array_priority__": 1000,
    "__array_ufunc__": None,
}

for _name, _function in _BINARY.items():
    setattr(Operators, f"__{_name}__", _operator(_function))
    setattr(Operators, f"__r{_name}__", _reflected(_function))
for _name, _function in _COMPARISONS.items():
    setattr(Operators, f"__{_name}__", _operator(_function))
for _name, _function in _REDUCTIONS.items():
    setattr(Operators, _name, _reducing(_function))
for _name, _function in {**_SHARED}.items():
    setattr(Operators, _name, _function)
for _name, _function in {"detach": detached, "backward": backward}.items():
    setattr(Tensor, _name, _function)
