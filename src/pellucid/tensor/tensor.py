"""What is a Tensor? An immutable value: memory that holds it, or a place in a graph being traced.

The class holds data and conversions; its operators and methods are entered by `methods.py`, which
stands above the functions they call. They are declared here for readers and type checkers.
"""

# pyright: reportPrivateUsage=false
# ruff: noqa: D102 (what is only declared here has its text where it is defined)

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import DTYPES, DType, bool_, float32, float64
from pellucid.core.error import EscapedTraceError, StateError, TracedBoolError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import Layout, Storage
from pellucid.tensor import dlpack

if TYPE_CHECKING:
    from pellucid.ir.graph import Value


class OpenTrace(Protocol):
    """The trace that a traced Tensor belongs to, as far as the Tensor knows it."""

    is_open: bool


class HasArray(Protocol):
    """What NumPy can take an array from: NumPy arrays, Variables and other libraries' tensors."""

    def __array__(self) -> NDArray[Any]: ...


class Operators:
    """The operators and methods that Tensors and Variables share; `methods.py` enters them."""

    __slots__ = ()

    # Who compares as NumPy does has to say that he is hashed as he is.
    __hash__ = object.__hash__

    if TYPE_CHECKING:
        T: Tensor
        mT: Tensor

        def __add__(self, other: Operand) -> Tensor: ...
        def __radd__(self, other: Operand) -> Tensor: ...
        def __sub__(self, other: Operand) -> Tensor: ...
        def __rsub__(self, other: Operand) -> Tensor: ...
        def __mul__(self, other: Operand) -> Tensor: ...
        def __rmul__(self, other: Operand) -> Tensor: ...
        def __truediv__(self, other: Operand) -> Tensor: ...
        def __rtruediv__(self, other: Operand) -> Tensor: ...
        def __pow__(self, other: Operand) -> Tensor: ...
        def __matmul__(self, other: Operand) -> Tensor: ...
        def __rmatmul__(self, other: Operand) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __eq__(self, other: Operand) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Operand) -> Tensor: ...  # type: ignore[override]
        def __lt__(self, other: Operand) -> Tensor: ...
        def __le__(self, other: Operand) -> Tensor: ...
        def __gt__(self, other: Operand) -> Tensor: ...
        def __ge__(self, other: Operand) -> Tensor: ...
        def __and__(self, other: Operand) -> Tensor: ...
        def __rand__(self, other: Operand) -> Tensor: ...
        def __or__(self, other: Operand) -> Tensor: ...
        def __ror__(self, other: Operand) -> Tensor: ...
        def __xor__(self, other: Operand) -> Tensor: ...
        def __rxor__(self, other: Operand) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def sum(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def prod(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def var(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def std(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def any(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def all(self, axis: AxisArgument = None, keepdims: bool = False) -> Tensor: ...
        def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def flatten(self) -> Tensor: ...
        def squeeze(self, axis: AxisArgument = None) -> Tensor: ...
        def transpose(self, *axes: Any) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...


class Tensor(Operators):
    """An immutable array: `shape`, `dtype`, NumPy's operators, the Array API's names.

    Made by `pe.asarray`, `pe.zeros` and the other functions, never by calling the class. While a
    function is traced a Tensor has a shape and a dtype but no numbers yet.
    """

    __slots__ = ("__weakref__", "_address", "_layout", "_storage", "_tape", "_trace", "_value")

    def __init__(
        self,
        layout: Layout,
        storage: Storage | None,
        address: int,
        value: Value | None = None,
        trace: OpenTrace | None = None,
        tape: object = None,
    ) -> None:
        self._layout = layout
        self._storage = storage
        self._address = address
        self._value = value
        self._trace = trace
        self._tape = tape

    @property
    def layout(self) -> Layout:
        """How the numbers lie in memory."""
        return self._layout

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return self._layout.shape

    @property
    def dtype(self) -> DType:
        """The number format of the elements."""
        return self._layout.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._layout.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return number_of_elements(self._layout.shape)

    @property
    def device(self) -> str:
        """Where the numbers are; all engines of this version work in the host's memory."""
        return "cpu"

    @property
    def is_traced(self) -> bool:
        """Whether it is a place in a graph, without numbers."""
        return self._value is not None

    @property
    def requires_grad(self) -> bool:
        """Whether `backward` from here reaches a Parameter."""
        return self._tape is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> NoReturn:
        raise StateError(
            "a Tensor is not asked for gradients: make it a pe.Parameter(x), whose `grad` "
            "`backward` fills, or use pe.grad(f)(x)"
        )

    def numpy(self) -> NDArray[Any]:
        """The numbers as a read-only NumPy array that shares the memory.

        Raises TracedBoolError for a traced Tensor, which has none.
        """
        if self._storage is None:
            raise traced_value_error(self, "its numbers")
        return self._storage.view(self._layout, self._address)

    def item(self) -> bool | int | float:
        """The only element as a Python number; raises ValueError where there are several."""
        return self._scalar("the number")

    def tolist(self) -> Any:
        """The numbers as nested lists."""
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a Tensor of {self.dtype} is no {dtype} array without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[Any, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        return dlpack.lend(
            self.numpy(), stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CPU

    def __bool__(self) -> bool:
        return bool(self._scalar("the truth"))

    def __int__(self) -> int:
        return int(self._scalar("an int"))

    def __float__(self) -> float:
        return float(self._scalar("a float"))

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise TypeError(f"only an integer tensor can be an index, this is {self.dtype}")
        return int(self._scalar("an index"))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        if self._storage is None:
            return f"Tensor(traced {self._layout.type})"
        body = np.array2string(self.numpy(), separator=", ", prefix="Tensor(")
        return f"Tensor({body}, dtype={self.dtype})"

    def __str__(self) -> str:
        return repr(self) if self._storage is None else str(self.numpy())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.shape == () and spec else str(self)

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: object) -> Tensor:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise unpicklable(self)

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise TypeError(
            "a Tensor never changes: build a new one, for instance with pe.where(mask, new, old), "
            "or keep the value in a pe.Variable and assign to it"
        )

    def __getattr__(self, name: str) -> NoReturn:
        # Reached only for names that nothing else knows.
        hint = f"; write {REWRITES[name]}" if name in REWRITES else ""
        raise AttributeError(f"a Tensor has no attribute {name!r}{hint}", name=name, obj=self)

    def _scalar(self, what: str) -> Any:
        if self._storage is None:
            raise traced_value_error(self, what)
        if self.size != 1:
            raise ValueError(
                f"{what} of a tensor with {self.size} elements is ambiguous "
                f"(shape {shape_text(self.shape)}); did you mean pe.any(...) or pe.all(...)?"
            )
        plain = _C_TYPES.get(self._layout.dtype)
        if plain is not None:
            return plain.from_address(self._address).value
        return self.numpy().reshape(()).item()

    if TYPE_CHECKING:

        def detach(self) -> Tensor: ...
        def backward(self, gradient: Any = None, retain_graph: bool = False) -> None: ...


_C_TYPES: dict[DType, Any] = {
    bool_: ctypes.c_bool,
    float32: ctypes.c_float,
    float64: ctypes.c_double,
    **{dtype: getattr(ctypes, f"c_{dtype.name}") for dtype in DTYPES if dtype.is_integer},
}
"""How one number is read from memory, of dtypes that C has."""

REWRITES = {
    "add_": "x = x + y; a Tensor never changes",
    "clone": "x itself; a Tensor never changes",
    "contiguous": "x itself; kernels take any layout",
    "copy": "x itself; a Tensor never changes",
    "cpu": "x itself; np.asarray(x) gives its numbers",
    "cuda": "`with pe.device(...):` around the program",
    "data": "x.detach()",
    "dim": "x.ndim",
    "double": "x.astype(pe.float64)",
    "expand": "pe.broadcast_to(x, shape)",
    "float": "x.astype(pe.float32)",
    "grad": "p.grad of a pe.Parameter p, which `backward` fills, or pe.grad(f)(x)",
    "half": "x.astype(pe.float16)",
    "int": "x.astype(pe.int32)",
    "long": "x.astype(pe.int64)",
    "mul_": "x = x * y; a Tensor never changes",
    "numel": "x.size",
    "permute": "pe.permute_dims(x, axes) or x.transpose(axes)",
    "requires_grad_": "pe.Parameter(x), or pe.grad(f)(x)",
    "swapaxes": "pe.moveaxis(x, source, destination)",
    "t": "x.T",
    "to": "x.astype(dtype), or `with pe.device(name):` around the program",
    "type": "x.astype(dtype)",
    "unsqueeze": "pe.expand_dims(x, axis=axis)",
    "view": "x.reshape(shape)",
    "zero_": "pe.zeros_like(x); a Tensor never changes",
}
"""What to write instead, for names that other frameworks' tensors have."""

Scalar = bool | int | float
if TYPE_CHECKING:
    Operand = Tensor | HasArray | Scalar
    AxisArgument = int | tuple[int, ...] | None
else:
    Operand = AxisArgument = Any


def number_of_elements(shape: tuple[int, ...]) -> int:
    """The product of the sizes."""
    count = 1
    for size in shape:
        count *= size
    return count


def unpicklable(value: object) -> TypeError:
    """The error of pickling what points to memory."""
    return TypeError(
        f"a {type(value).__name__} is not pickled; keep or send np.asarray(x), and nn.split(model) "
        "gives all Tensors of a model by name"
    )


def traced_value_error(tensor: Tensor, what: str) -> TracedBoolError | EscapedTraceError:
    """The error of asking a traced Tensor for numbers: what was asked, where, and the way out."""
    if tensor._trace is not None and not tensor._trace.is_open:
        return escaped_error(tensor)
    return TracedBoolError(
        f"{what} of a traced value was asked for, but {tensor._layout.type} has no numbers yet"
        f"{at_line(user_source())}\n  in a traced function write pe.where(condition, a, b) instead "
        "of `if`; to look at values, take `jit` away: the same code runs line by line"
    )


def escaped_error(tensor: Tensor) -> EscapedTraceError:
    """The error of using a traced Tensor after its trace has ended."""
    return EscapedTraceError(
        f"a traced {tensor._layout.type} was used after its trace ended{at_line(user_source())}\n"
        "  return it from the traced function, or keep it in a pe.Variable by assigning to that"
    )
