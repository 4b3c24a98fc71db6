"""Which operators and methods do Tensors and Variables have? This table; each is a function above.

It stands apart from the classes because the functions are made of Tensors: imports go one way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pellucid.core.dtype import as_dtype
from pellucid.ops import elementwise
from pellucid.ops.define import Op
from pellucid.tensor import arithmetic, elementary, indexing, products, reducing, shaping
from pellucid.tensor.backward import backward
from pellucid.tensor.state import detached
from pellucid.tensor.tensor import Operators, Tensor

Method = Callable[..., Any]


def _operator(function: Method) -> Method:
    def method(self: Any, other: Any) -> Any:
        return function(self, other) if type(other) is Tensor or _suits(other) else NotImplemented

    return method


def _reflected(function: Method) -> Method:
    def method(self: Any, other: Any) -> Any:
        return function(other, self) if _suits(other) else NotImplemented

    return method


def _suits(other: object) -> bool:
    return isinstance(other, Operators | bool | int | float) or hasattr(other, "__array__")


def _reducing(function: Method) -> Method:
    # NumPy's functions call the methods of what they get, so np.sum(x) comes here with `out`.
    def method(
        self: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None, out: None = None
    ) -> Tensor:
        if out is not None:
            raise TypeError(f"{function.__name__}: a Tensor never changes: there is no `out`")
        x = self if dtype is None else arithmetic.astype(self, dtype)
        return function(x, axis=axis, keepdims=keepdims)

    method.__doc__ = function.__doc__
    return method


def _transpose(self: Any, *axes: Any) -> Tensor:
    """The axes in another order; in reverse where none is given."""
    return shaping.transpose(self, None if axes in ((), (None,)) else _unpacked(axes))


def _reshape(self: Any, *shape: Any) -> Tensor:
    """The same elements in another shape; one size may be -1."""
    return shaping.reshape(self, _unpacked(shape))


def _unpacked(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """(2, 3) from both f(2, 3) and f((2, 3))."""
    first = sizes[0] if len(sizes) == 1 else None
    return tuple(cast("list[Any]", first)) if isinstance(first, tuple | list) else sizes


def _squeeze(self: Any, axis: Any = None) -> Tensor:
    """Axes of size 1 left out, all of them where none is given."""
    every = tuple(i for i, size in enumerate(self.shape) if size == 1)
    return shaping.squeeze(self, every if axis is None else axis)


def _astype(self: Any, dtype: Any) -> Tensor:
    """The numbers in another dtype."""
    return arithmetic.astype(self, as_dtype(dtype))


def _elementwise(op: Op) -> tuple[Method, Method]:
    """An operator and its reflection, without a function between."""
    binary = arithmetic.binary

    def method(self: Any, other: Any) -> Any:
        return binary(op, self, other) if type(other) is Tensor or _suits(other) else NotImplemented

    def reflected(self: Any, other: Any) -> Any:
        return binary(op, other, self) if _suits(other) else NotImplemented

    return method, reflected


_ELEMENTWISE: dict[str, Op] = {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
}
_BINARY: dict[str, Method] = {
    "truediv": arithmetic.divide,
    "pow": elementary.pow,
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

for _name, _op in _ELEMENTWISE.items():
    _method, _other = _elementwise(_op)
    setattr(Operators, f"__{_name}__", _method)
    setattr(Operators, f"__r{_name}__", _other)
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
