"""What can change? Variables alone: cells that hold one Tensor of fixed shape and dtype.

Whoever takes the Tensor out keeps the value they saw. Under `jit` a Variable that is read or
assigned becomes an input or output of the graph; a Parameter's gradient does, too.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any, NoReturn, Self

from numpy.typing import NDArray

from pellucid.core.dtype import DType, as_dtype
from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.ops.elementwise import cast
from pellucid.tensor.cell import Cell, clock
from pellucid.tensor.context import context, journal, program_trace
from pellucid.tensor.dispatch import apply, dense
from pellucid.tensor.lifting import concrete
from pellucid.tensor.memory import copy_array, host_array
from pellucid.tensor.tensor import Operand, Tensor, number_of_elements, unpicklable


class Variable(Cell):
    """A mutable cell that holds one Tensor of fixed shape and dtype.

    It stands wherever a Tensor can. `assign`, and `+=` and its relatives, change what it holds.

    >>> v = Variable([1.0, 2.0])
    >>> v.assign(v * 2)
    >>> v += 1
    >>> v
    Variable([3., 5.], dtype=float32)
    """

    __slots__ = ()

    def __init__(self, value: Any, *, dtype: Any = None, name: str = "") -> None:
        first = first_value(value, None if dtype is None else as_dtype(dtype))
        super().__init__(first, name, self._starts_trainable(first.dtype))

    def _starts_trainable(self, dtype: DType) -> bool:
        return False

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
    def trainable(self) -> bool:
        """Whether gradients reach the cell; False freezes a Parameter, also in compiled code."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if value and not self.dtype.is_floating:
            raise StateError(
                f"trainable: only floating values have gradients, this is {self.dtype}"
            )
        before = self._trainable
        journal(lambda: self._set_trainable(before))
        self._set_trainable(value)

    @property
    def value(self) -> Tensor:
        """The Tensor that the cell holds now; it keeps its numbers whatever the cell does later."""
        tape = self if self._trainable and context.gradients else None
        trace = context.trace
        return self.take(tape) if trace is None else trace.read(self, tape is not None)

    def assign(self, value: Operand) -> None:
        """Let the cell hold `value`, cast to its dtype; raises OpShapeError on another shape."""
        tensor = self._fitting(value)
        if context.trace is not None:
            context.trace.assign(self, tensor)
            return
        tensor = dense(tensor)
        if tensor._storage is None or tensor._storage.borrowed:
            tensor = copy_array(tensor.numpy())
        if context.outermost is not None:
            before = Tensor(self._layout, self._storage, self._address)
            journal(lambda: self.hold(before))
        self.hold(tensor)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` left here, until a step consumes it; else None."""
        trace = program_trace()
        return self.held_gradient if trace is None else trace.gradients.get(self, trace)

    @grad.setter
    def grad(self, value: Operand | None) -> None:
        tensor = None if value is None else self._fitting(value)
        trace = program_trace()
        if trace is None:
            self.keep_gradient(None if tensor is None else concrete(tensor))
        else:
            trace.gradients.set(self, tensor)

    def numpy(self) -> NDArray[Any]:
        """The numbers as a read-only NumPy array; the cell may change, the array does not."""
        return self.value.numpy()

    def item(self) -> bool | int | float:
        """The only element as a Python number."""
        return self.value.item()

    def tolist(self) -> Any:
        """The numbers as nested lists."""
        return self.value.tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.value.__array__(dtype, copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.value.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.value.__dlpack_device__()

    def __iadd__(self, other: Operand) -> Self:
        self.assign(self + other)
        return self

    def __isub__(self, other: Operand) -> Self:
        self.assign(self - other)
        return self

    def __imul__(self, other: Operand) -> Self:
        self.assign(self * other)
        return self

    def __itruediv__(self, other: Operand) -> Self:
        self.assign(self / other)
        return self

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return self.value.__index__()

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        if context.trace is not None:
            return f"{type(self).__name__}(traced {self.type})"
        return type(self).__name__ + repr(self.value).removeprefix("Tensor")

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def __copy__(self) -> Self:
        copy = type(self)(self.value, name=self.name)
        copy.trainable = self.trainable
        return copy

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise unpicklable(self)

    def _set_trainable(self, value: bool) -> None:
        self._trainable = value
        clock.structure += 1

    def _fitting(self, value: Operand) -> Tensor:
        tensor = as_tensor(value, self.dtype)
        if tensor.shape != self.shape:
            raise OpShapeError(
                f"assign: a {type(self).__name__} of shape {shape_text(self.shape)} cannot hold "
                f"{shape_text(tensor.shape)}{at_line(user_source())}"
            )
        if tensor._tape is not None:
            tensor = detached(tensor)
        if tensor.dtype is not self.dtype:
            tensor = apply(cast, (tensor,), (("dtype", self.dtype),))
        return tensor


class Parameter(Variable):
    """A Variable that training changes: `backward` leaves a gradient in its `grad`.

    >>> w = Parameter(3.0)
    >>> (w * w).backward()
    >>> print(w.grad)
    6.0
    """

    __slots__ = ()

    def _starts_trainable(self, dtype: DType) -> bool:
        if not dtype.is_floating:
            raise StateError(
                f"Parameter: only floating values have gradients, this is {dtype}"
                f"{at_line(user_source())}\n  cast it, or keep it in a pe.Buffer"
            )
        return True


class Buffer(Variable):
    """A Variable that belongs to a module's state but is not trained."""

    __slots__ = ()


def note_backward() -> None:
    """A `backward` begins: if a step came after the last one, what was left over is dropped."""
    trace = program_trace()
    if trace is None:
        clock.backward_at = clock.steps
    else:
        trace.gradients.begin_backward()


def note_step() -> None:
    """An optimizer has made a step: the next `backward` drops what is left over."""
    trace = program_trace()
    if trace is None:
        clock.steps += 1
    else:
        trace.gradients.end_step()


def as_tensor(value: Any, dtype: DType | None = None) -> Tensor:
    """A Tensor of a Tensor, Variable, NumPy array or number; numbers get `dtype`."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Variable):
        return value.value
    wanted = dtype if isinstance(value, bool | int | float) else None
    return copy_array(host_array(value, wanted), wanted)


def detached(tensor: Tensor) -> Tensor:
    """The same value without its tape."""
    return Tensor(tensor._layout, tensor._storage, tensor._address, tensor._value, tensor._trace)


def first_value(value: Any, dtype: DType | None) -> Tensor:
    """The numbers with which a cell starts, in memory of its own where it was not a Tensor's."""
    if isinstance(value, Variable):
        value = value.value
    if not isinstance(value, Tensor):
        return copy_array(host_array(value, dtype), dtype)
    tensor = concrete(value)
    if dtype is not None and tensor.dtype is not dtype:
        return copy_array(tensor.numpy(), dtype)
    if tensor._storage is None or tensor._storage.borrowed or not tensor._layout.dense:
        return copy_array(tensor.numpy())
    return tensor
