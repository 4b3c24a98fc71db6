"""What does an op mean? Everything, on one card: types, reference, derivative, batching, cost.

`define` makes the card and enters it in the registry; how an engine realises an op stands in that
engine's own table. The derivative is stated once, by kind, and both modes are read off it; rules
call ops on Values, so whatever they use is itself in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import DTYPES, DType, as_dtype
from pellucid.core.error import GraphError, OpError, OpShapeError, OpTypeError
from pellucid.core.shape import Size, product
from pellucid.ir.build import current_builder
from pellucid.ir.graph import TensorType, Type, Value, freeze_attrs

Array = NDArray[Any]
Partial = Callable[..., Value]


@dataclass(frozen=True, slots=True)
class One:
    """The partial derivative that is 1 everywhere (or -1): nothing is multiplied."""

    negative: bool = False


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Each result element depends on the operand elements at its place only.

    `partials[i](y, *operands, **attrs)` is dy/dx_i; None where operand i has no derivative.
    """

    partials: tuple[Partial | One | None, ...]


@dataclass(frozen=True, slots=True)
class Multilinear:
    """The op is linear in each operand by itself.

    `transposes[i](g, *operands, **attrs)` is operand i's share of the cotangent g.
    """

    transposes: tuple[Callable[..., Value], ...]


@dataclass(frozen=True, slots=True)
class Custom:
    """Both directions are given.

    `jvp(tangents, result, operands, attrs)` and `vjp(cotangent, result, operands, attrs)`; a
    tangent or cotangent that is None is zero.
    """

    jvp: Callable[..., Value | None]
    vjp: Callable[..., tuple[Value | None, ...]]


@dataclass(frozen=True, slots=True)
class Composed:
    """The derivative is that of `parts(*operands, **attrs)`, which means the same by other ops.

    `vjp`, as in Custom, is the better way for reverse mode, if there is one.
    """

    parts: Callable[..., Value]
    vjp: Callable[..., tuple[Value | None, ...]] | None = None


@dataclass(frozen=True, slots=True)
class NoDerivative:
    """There is none, and why; a floating result is refused with the reason."""

    why: str


@dataclass(frozen=True, slots=True)
class NoBatch:
    """No operand can have a batch axis, and why."""

    why: str


Derivative = Pointwise | Multilinear | Custom | Composed | NoDerivative


@dataclass(frozen=True, slots=True)
class Cost:
    """What one evaluation takes at least: floating operations, and bytes to and from memory."""

    flops: Size
    bytes: Size


Accuracy = Mapping[str, float] | Callable[..., Mapping[str, float]]
"""The largest error in ulp by dtype name; where attributes matter, a function of them."""

Infer = Callable[..., TensorType | tuple[TensorType, ...]]
Batch = Callable[..., Value | tuple[Value, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """A card. Called on Values of the open builder it appends a node.

    `infer(*types, **attrs)` gives the result type (or types) or raises OpError;
    `reference(*arrays, **attrs)` computes with NumPy; `batch(operands, mapped, **attrs)` gets the
    operands with a leading batch axis where `mapped` says so and gives results with one;
    `accuracy` states the largest error in units of the last place, by dtype name, and `near_zeros`
    what the error may be instead where the operand is negative and zeros come by cancellation: so
    much of the larger of 1 and the result, in float64; `own_dtype` says that the reference is about
    the grid of a dtype, and must see narrow floats as they are. `on` are the dtypes of the numbers
    it is about (its first operand's, or else its result's), and `what` says in a phrase what comes
    out, with a, b, c for the operands.
    """

    name: str
    infer: Infer
    reference: Callable[..., Any]
    derivative: Derivative
    batch: Batch | NoBatch
    cost: Callable[..., Cost]
    accuracy: Accuracy = field(default_factory=dict[str, float])
    kind: str = "general"
    own_dtype: bool = False
    near_zeros: float = 0.0
    on: tuple[DType, ...] = DTYPES
    what: str = ""

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def result_types(
        self, operands: tuple[Type, ...], attrs: Mapping[str, Any]
    ) -> tuple[TensorType, ...]:
        """The types of the results; raises OpError with the op's name in front."""
        for operand in operands:
            if not isinstance(operand, TensorType):
                raise OpTypeError(f"{self.name}: expected a tensor, got a token")
        try:
            found = self.infer(*operands, **attrs)
        except TypeError as error:
            if isinstance(error, OpError):
                raise
            raise OpTypeError(f"{self.name}: {error}") from None
        return found if isinstance(found, tuple) else (found,)

    def ulps(self, dtype: DType, attrs: Mapping[str, Any]) -> float:
        """The largest error that the card states for a result of this dtype; 0.5 is exact."""
        stated = self.accuracy(**attrs) if callable(self.accuracy) else self.accuracy
        return stated.get(dtype.name, 0.5)

    def many(self, *operands: Value, **attrs: Any) -> tuple[Value, ...]:
        """Append a node and give all its results."""
        return current_builder().add(self, operands, attrs)

    def __call__(self, *operands: Value, **attrs: Any) -> Value:
        """Append a node and give its only result."""
        (value,) = current_builder().add(self, operands, attrs)
        return value

    def evaluate(self, *arrays: Array, **attrs: Any) -> tuple[Array, ...]:
        """The reference: float32 and below are computed in float64 and rounded once."""
        types = self.result_types(tuple(type_of(array) for array in arrays), attrs)
        # NumPy adds in the order of memory: row-major operands make bits a matter of shape alone.
        dense = [np.asarray(array, order="C") for array in arrays]
        # An op that holds a graph leaves the widening to the ops in it.
        widens = self.kind != "control" and not self.own_dtype
        wide = [a.astype(np.float64) if widens and _is_narrow(a) else a for a in dense]
        with np.errstate(all="ignore"):
            found = self.reference(*wide, **attrs)
            results = cast("tuple[Any, ...]", found if isinstance(found, tuple) else (found,))
            arrays = tuple(
                np.asarray(result).astype(type.dtype.numpy, copy=False)
                for result, type in zip(results, types, strict=True)
            )
        for array, type in zip(arrays, types, strict=True):
            if array.shape != type.shape:
                raise OpShapeError(f"{self.name}: the reference gave {array.shape}, not {type}")
        return arrays


REGISTRY: dict[str, Op] = {}


def define(
    name: str,
    *,
    infer: Infer,
    reference: Callable[..., Any],
    derivative: Derivative,
    batch: Batch | NoBatch,
    cost: Callable[..., Cost] | None = None,
    accuracy: Accuracy | None = None,
    kind: str = "general",
    own_dtype: bool = False,
    near_zeros: float = 0.0,
    on: tuple[DType, ...] = DTYPES,
    what: str = "",
) -> Op:
    """Make an op's card and enter it in the registry; `cost` is moving the data by default."""
    op = Op(
        name, infer, reference, derivative, batch, cost or moving_cost, accuracy or {}, kind,
        own_dtype, near_zeros, on, what,
    )  # fmt: skip
    if name in REGISTRY:
        raise GraphError(f"op {name!r} is defined twice")
    REGISTRY[name] = op
    return op


def lookup(name: str) -> Op:
    """The op called `name`; raises GraphError where there is none."""
    if name not in REGISTRY:
        raise GraphError(f"no op is called {name!r}")
    return REGISTRY[name]


def type_of(array: Array) -> TensorType:
    """The tensor type of a NumPy array."""
    return TensorType(as_dtype(array.dtype), array.shape)


def attrs_of(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as a node keeps them, for a rule to pass on."""
    return dict(freeze_attrs(attrs))


def moved_bytes(types: tuple[TensorType, ...]) -> Size:
    """The bytes of all these tensors."""
    total: Size = 0
    for type in types:
        total = total + product(type.shape) * type.dtype.bytes
    return total


def moving_cost(
    operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any
) -> Cost:
    """No arithmetic: each operand is read once and each result written once."""
    return Cost(0, moved_bytes(operands) + moved_bytes(results))


def require_dtype(name: str, type: TensorType, allowed: tuple[DType, ...]) -> None:
    """Raise OpTypeError unless the operand has one of the `allowed` dtypes."""
    if type.dtype not in allowed:
        names = ", ".join(dtype.name for dtype in allowed)
        raise OpTypeError(f"{name}: expected one of {names}, got {type.message()}")


def _is_narrow(array: Array) -> bool:
    return type_of(array).dtype.is_floating and array.dtype != np.float64
