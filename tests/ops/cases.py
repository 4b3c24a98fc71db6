"""On what is every op tried? Operands and attributes per op: several shapes and dtypes, seeded.

Floating numbers keep clear of what a derivative cannot be measured at: ties, zeros and poles; the
conventions at those places have tests of their own. The dtypes of an elementwise op are those that
its card takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import (
    DTYPES,
    FLOATING,
    INTEGERS,
    NUMERIC,
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int32,
    int64,
    uint8,
)
from pellucid.core.error import OpError
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType
from pellucid.ops import REGISTRY
from pellucid.ops.contract import WIDER
from pellucid.ops.convolution import plain_attrs
from pellucid.ops.define import NoDerivative, Op, type_of
from pellucid.ops.elementwise import add, exp
from pellucid.ops.movement import literal

T = TypeVar("T")

SHAPES = ((), (5,), (2, 3), (0, 3), (2, 1, 4))
SOME_DTYPES = (float64, float32, float16, bfloat16, int32, uint8, bool_)
OTHER_DTYPES = tuple(dtype for dtype in DTYPES if dtype not in SOME_DTYPES)


def shared(cases: Sequence[T], dtype: DType) -> Sequence[T]:
    """All the cases for float64, three for most dtypes, and one where only the size is another."""
    count = len(cases) if dtype is float64 else 3 if dtype in SOME_DTYPES else 1
    return cases[:count]


@dataclass(frozen=True)
class Case:
    """One application: operands and attributes."""

    op: Op
    operands: tuple[NDArray[Any], ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def types(self) -> tuple[TensorType, ...]:
        """The operand types."""
        return tuple(type_of(array) for array in self.operands)

    @property
    def floating(self) -> tuple[int, ...]:
        """The numbers of the floating operands."""
        return tuple(i for i, type in enumerate(self.types) if type.dtype.is_floating)

    @property
    def differentiable(self) -> bool:
        """Whether derivatives are measured here: float64, a floating result, a derivative."""
        if isinstance(self.op.derivative, NoDerivative) or self.op.name == "fusion":
            return False
        result = self.op.result_types(self.types, self.attrs)[0].dtype
        wide = all(self.types[i].dtype is float64 for i in self.floating)
        return bool(self.floating) and wide and result is float64

    def graph(self) -> Graph:
        """The graph of this one application."""
        with building() as builder:
            operands = [builder.input(type) for type in self.types]
            return builder.graph(self.op.many(*operands, **self.attrs))

    def __repr__(self) -> str:
        types = ", ".join(map(str, self.types))
        attrs = {k: v for k, v in self.attrs.items() if not isinstance(v, Graph)}
        return f"{self.op.name}({types}) {attrs or ''}".strip()


def numbers(dtype: DType, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    """Distinct numbers from 0.3 to 2 in size, of both signs; all kinds of whole numbers."""
    rng = np.random.default_rng(seed)
    if dtype is bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_integer:
        low = 0 if dtype.kind == "uint" else -9
        return rng.integers(low, 10, shape).astype(dtype.numpy)
    size = rng.uniform(0.3, 2.0, shape)
    return np.asarray(size * rng.choice([-1.0, 1.0], shape)).astype(dtype.numpy)


def apart(dtype: DType, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    """As `numbers`; float64 at least 1/16 from each other, for what chooses the largest."""
    if dtype is not float64:
        return numbers(dtype, shape, seed)
    places = np.random.default_rng(seed).permutation(int(np.prod(shape, dtype=int)))
    return (places.reshape(shape) - places.size / 2 + 0.3) / 16


def positive(dtype: DType, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    """As `numbers`, without signs."""
    return np.abs(numbers(dtype, shape, seed))


def inside_one(dtype: DType, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    """Numbers from 0.15 to 0.85 in size, of both signs."""
    wide = numbers(float64, shape, seed)
    return np.asarray((np.abs(wide) * 0.4 + 0.03) * np.sign(wide)).astype(dtype.numpy)


def above_one(dtype: DType, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    """Numbers from 1.3 to 3."""
    return np.asarray(1 + positive(float64, shape, seed)).astype(dtype.numpy)


def stay(dtype: DType, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    """Small shift counts, and one that shifts everything out."""
    found = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 9)
    return found.astype(dtype.numpy)


Sample = Callable[[DType, tuple[int, ...], int], NDArray[Any]]


def elementwise_cases(name: str, samples: tuple[Sample, ...]) -> list[Case]:
    """Each dtype that the card takes, over several shapes; all operands of one dtype."""
    op, cases = REGISTRY[name], list[Case]()
    for dtype in DTYPES:
        for shape in SHAPES if dtype in (float64, float32) else SHAPES[1:2]:
            operands = tuple(sample(dtype, shape, seed) for seed, sample in enumerate(samples))
            case = Case(op, operands)
            try:
                op.result_types(case.types, {})
            except OpError:
                continue
            cases.append(case)
    return cases


UNARY = (
    *("neg", "abs", "exp", "tanh", "stop_gradient", "logical_not", "exp2", "expm1", "cbrt"),
    *("sin", "cos", "atan", "sinh", "cosh", "asinh", "erf", "erfc"),
    *("floor", "ceil", "round", "trunc", "sign", "isnan", "isinf", "isfinite", "bit_not"),
)
POSITIVE = ("sqrt", "log", "log1p", "log2", "log10", "rsqrt")
INSIDE_ONE = ("tan", "asin", "acos", "atanh")
ABOVE_ONE = ("acosh", "lgamma", "digamma")
BINARY = (
    *("add", "sub", "mul", "maximum", "minimum", "equal", "not_equal", "less", "less_equal"),
    *("logical_and", "logical_or", "bit_and", "bit_or", "bit_xor", "div"),
    *("atan2", "floor_divide", "remainder", "nextafter"),
)


def _elementwise() -> dict[str, list[Case]]:
    cases = {name: elementwise_cases(name, (numbers,)) for name in UNARY}
    cases |= {name: elementwise_cases(name, (positive,)) for name in POSITIVE}
    cases |= {name: elementwise_cases(name, (inside_one,)) for name in INSIDE_ONE}
    cases |= {name: elementwise_cases(name, (above_one,)) for name in ABOVE_ONE}
    cases |= {name: elementwise_cases(name, (numbers, numbers)) for name in BINARY}
    cases["pow"] = elementwise_cases("pow", (positive, numbers))
    for name in ("shift_left", "shift_right", "shift_right_arithmetic"):
        cases[name] = elementwise_cases(name, (numbers, stay))
    cases["polygamma"] = [
        Case(REGISTRY["polygamma"], (above_one(d, s, 0),), {"order": order})
        for d in FLOATING
        for s in (SHAPES if d is float64 else SHAPES[1:2])
        for order in (1, 2, 3)
    ]
    cases["bitcast"] = [
        Case(REGISTRY["bitcast"], (numbers(source, (5,), 0),), {"dtype": target})
        for source in DTYPES[1:]
        for target in DTYPES[1:]
        if source.bits == target.bits
    ]
    cases["select"] = [
        Case(REGISTRY["select"], (numbers(bool_, s, 0), numbers(d, s, 1), numbers(d, s, 2)))
        for d in DTYPES
        for s in (SHAPES if d in SOME_DTYPES else SHAPES[1:2])
    ]
    cases["cast"] = [
        Case(REGISTRY["cast"], (numbers(source, s, 0),), {"dtype": target})
        for source in DTYPES
        for target in DTYPES
        for s in (((), (5,)) if {source, target} <= set(SOME_DTYPES) else ((5,),))
    ]
    return cases


def _movement() -> dict[str, list[Case]]:
    x = {shape: numbers(float64, shape, 0) for shape in ((), (3,), (2, 3), (2, 1, 4), (0, 3))}
    broadcast = [
        ((), (2, 3), ()), ((3,), (2, 3), (1,)), ((3,), (3, 2), (0,)), ((3,), (0, 3), (1,)),
        ((2, 3), (2, 1, 3), (0, 2)), ((2, 1, 4), (2, 5, 4), (0, 1, 2)), ((), (), ()),
        ((2, 1, 4), (2, 3, 3, 4), (0, 2, 3)),
    ]  # fmt: skip
    reshape = [
        ((2, 3), (3, 2)),
        ((2, 3), (6,)),
        ((2, 1, 4), (8, 1)),
        ((), (1, 1)),
        ((0, 3), (3, 0)),
    ]
    transpose = [((2, 3), (1, 0)), ((2, 1, 4), (2, 0, 1)), ((), ()), ((3,), (0,)), ((0, 3), (1, 0))]
    op = REGISTRY
    raw = np.arange(3, dtype=np.float32).tobytes()
    cases = {
        "broadcast": [
            Case(op["broadcast"], (x[i],), {"shape": s, "axes": a}) for i, s, a in broadcast
        ],
        "reshape": [Case(op["reshape"], (x[i],), {"shape": s}) for i, s in reshape],
        "transpose": [Case(op["transpose"], (x[i],), {"permutation": p}) for i, p in transpose],
        "constant": [
            Case(op["constant"], (), {"dtype": d, "shape": (2,), "value": v})
            for d, v in (
                (float64, "0.0"), (float64, "-0.0"), (float64, "1.0"), (bfloat16, "0.5"),
                (bool_, "True"), (bool_, "False"), (int64, str(2**62)), (int64, "1"),
            )
        ]
        + [Case(op["constant"], (), {"dtype": float32, "shape": (3,), "value": raw})]
        + [
            Case(op["constant"], (), {"dtype": d, "shape": (2,), "value": literal(7, d)})
            for d in NUMERIC
        ],
        "iota": [
            Case(op["iota"], (), {"dtype": d, "shape": s, "axis": a})
            for d, s, a in (
                (float64, (3,), 0), (int32, (2, 3), 1), (bfloat16, (2, 3), 0), (uint8, (0,), 0),
                *((dtype, (3,), 0) for dtype in NUMERIC),
            )
        ],
    }  # fmt: skip
    for name in ("broadcast", "reshape", "transpose"):
        first = cases[name][1]
        for dtype in (*SOME_DTYPES[1:], *OTHER_DTYPES):
            operand = numbers(dtype, first.operands[0].shape, 1)
            cases[name].append(Case(first.op, (operand,), first.attrs))
    return cases


def _reductions() -> dict[str, list[Case]]:
    shapes = [((5,), (0,)), ((2, 3), (0,)), ((2, 3), (1,)), ((2, 3), (0, 1)), ((2, 1, 4), (0, 2)),
              ((2, 3), ()), ((), ()), ((0, 3), (1,)), ((2, 70), (1,))]  # fmt: skip
    cases: dict[str, list[Case]] = {}
    for name in ("sum", "prod", "max", "min"):
        cases[name] = [
            Case(REGISTRY[name], (numbers(d, s, 0),), {"axes": a})
            for d in NUMERIC
            for s, a in (shapes if d is float64 else shared(shapes[1:4], d))
        ]
    for name in ("sum", "prod"):
        cases[name].append(Case(REGISTRY[name], (numbers(float64, (0, 3), 0),), {"axes": (0,)}))
    cases["spread"] = [
        Case(REGISTRY["spread"], (numbers(d, s, 0),), {"axes": a})
        for d in FLOATING
        for s, a in (shapes if d is float64 else shared(shapes[1:4], d))
    ]
    zeros = np.asarray([[2.0, 0.0, 3.0, 0.5, 1.5], [0.0, -1.0, 0.0, 2.0, 1.0]])
    cases["prod"].append(Case(REGISTRY["prod"], (zeros,), {"axes": (1,)}))
    return cases


def _parts() -> dict[str, list[Case]]:
    slices = [
        ((5,), (1,), (4,), (1,)), ((5,), (0,), (5,), (2,)), ((4, 3), (1, 0), (4, 2), (2, 1)),
        ((2, 3), (0, 0), (2, 3), (1, 1)), ((2, 3), (1, 2), (1, 3), (1, 1)), ((), (), (), ()),
        ((0, 3), (0, 1), (0, 3), (1, 1)), ((2, 70), (1, 3), (2, 68), (1, 1)),
    ]  # fmt: skip
    reverses = [((5,), (0,)), ((2, 3), (0, 1)), ((2, 3), (1,)), ((2, 3), ()), ((), ())]
    pads = [
        ((3,), (1,), (2,), (0,)), ((3,), (0,), (0,), (2,)), ((4,), (-1,), (-2,), (0,)),
        ((2, 3), (1, -1), (0, 2), (1, 0)), ((3,), (-1,), (1,), (1,)), ((), (), (), ()),
        ((0, 3), (1, 0), (1, 0), (1, 1)), ((2, 3), (-2, 0), (0, 0), (0, 0)),
        ((2, 3), (0, 0), (0, 0), (0, 0)), ((2, 70), (1, 0), (1, 3), (0, 0)),
    ]  # fmt: skip
    joins = [
        (((2,), (3,)), 0), (((2, 3), (2, 1), (2, 0)), 1), (((1, 3), (2, 3)), 0), (((2, 3),), 0),
        (((2, 2, 3), (2, 1, 3)), 1),
    ]  # fmt: skip
    op = REGISTRY
    cases: dict[str, list[Case]] = {"slice": [], "reverse": [], "pad": [], "concatenate": []}
    for dtype in DTYPES:
        zero = {"bool": "False"}.get(dtype.name, "3.0" if dtype.is_floating else "3")
        cases["slice"] += [
            Case(op["slice"], (numbers(dtype, s, 0),), {"start": a, "stop": b, "strides": c})
            for s, a, b, c in shared(slices, dtype)
        ]
        cases["reverse"] += [
            Case(op["reverse"], (numbers(dtype, s, 0),), {"axes": a})
            for s, a in shared(reverses, dtype)
        ]
        cases["pad"] += [
            Case(
                op["pad"],
                (numbers(dtype, s, 0),),
                {"value": zero, "low": low, "high": high, "interior": between},
            )
            for s, low, high, between in shared(pads, dtype)
        ]
        cases["concatenate"] += [
            Case(
                op["concatenate"],
                tuple(numbers(dtype, s, i) for i, s in enumerate(shapes)),
                {"axis": a},
            )
            for shapes, a in shared(joins, dtype)
        ]
    return cases


def _indexing() -> dict[str, list[Case]]:
    gathers = [
        ((5, 3), ((2, 2),), (0,)), ((5, 3), ((4,),), (1,)), ((5, 3), ((3,), (3,)), (0, 1)),
        ((5,), ((),), (0,)), ((2, 3, 4), ((3,), (3,)), (0, 2)), ((5, 3), ((0,),), (0,)),
        ((0, 3), ((2,),), (0,)), ((4, 70), ((3,),), (0,)),
    ]  # fmt: skip
    boxes = [((5,), (2,)), ((4, 3), (2, 3)), ((2, 3, 4), (1, 2, 4)), ((), ()), ((3, 2), (0, 2)),
             ((4, 70), (2, 66))]  # fmt: skip
    op = REGISTRY
    cases: dict[str, list[Case]] = {
        name: [] for name in ("gather", "scatter", "dynamic_slice", "dynamic_update_slice")
    }
    for dtype in DTYPES:
        # Sums round to 16 bits one by one: there each place is met once at most.
        few = dtype.is_floating and dtype.bits == 16
        for shape, index_shapes, axes in shared(gathers, dtype):
            kind = np.int64 if dtype is float64 else np.int32
            # Many numbers are too close to each other for a difference to tell the largest.
            modes = 2 if shape == (4, 70) else 4
            indices = tuple(
                places(shape[axis], s, kind, seed, few)
                for seed, (axis, s) in enumerate(zip(axes, index_shapes, strict=True))
            )
            x = numbers(dtype, shape, 0)
            cases["gather"].append(Case(op["gather"], (x, *indices), {"axes": axes}))
            rest = tuple(n for axis, n in enumerate(shape) if axis not in axes)
            updates = numbers(dtype, (*index_shapes[0], *rest), 1)
            cases["scatter"] += [
                Case(op["scatter"], (x, updates, *indices), {"axes": axes, "mode": mode})
                for mode in ("set", "add", "max", "min")[: 1 if dtype is bool_ else modes]
            ]
        for seed, (shape, box) in enumerate(shared(boxes, dtype)):
            starts = tuple(np.asarray(n % 4 - seed % 2, np.int32) for n in shape)
            x, update = numbers(dtype, shape, 0), numbers(dtype, box, 1)
            cases["dynamic_slice"].append(Case(op["dynamic_slice"], (x, *starts), {"sizes": box}))
            cases["dynamic_update_slice"].append(
                Case(op["dynamic_update_slice"], (x, update, *starts))
            )
    return cases


def _sorts() -> list[Case]:
    shapes = [
        ((7,), 0),
        ((2, 70), 1),
        ((9, 3), 0),
        ((2, 5, 3), 1),
        ((1,), 0),
        ((0, 3), 1),
        ((3, 0), 1),
    ]
    odd = np.asarray([1.0, np.nan, -0.0, 0.0, np.inf, -1.0, 0.0, -np.inf, np.nan, -0.0, 1.0])
    arrays = [(numbers(d, s, 3), a) for d in DTYPES for s, a in shapes[:3]]
    arrays += [(numbers(float32, s, 3), a) for s, a in shapes[3:]]
    arrays += [(odd.astype(d.numpy), 0) for d in DTYPES if d.is_floating]
    arrays += [(np.asarray([2**63, 0, 2**64 - 1, 5, 0], np.uint64), 0)]
    arrays += [(np.asarray([-(2**63), 2**63 - 1, 0, -1], np.int64), 0)]
    return [
        Case(REGISTRY["argsort"], (x,), {"axis": axis, "descending": way})
        for x, axis in arrays
        for way in (False, True)
    ]


def places(
    size: int, shape: tuple[int, ...], kind: type[np.generic], seed: int, once: bool
) -> NDArray[Any]:
    """Indices along an axis, some more than once (unless `once`), some just out of range."""
    if once:
        found = np.random.default_rng(seed).permutation(np.arange(-1, max(size, 9)))
        return found[: int(np.prod(shape, dtype=int))].reshape(shape).astype(kind)
    return np.random.default_rng(seed).integers(-1, size + 1, shape).astype(kind)


def _contractions() -> list[Case]:
    forms = [
        ((2, 3), (3, 4), ((1,), (0,)), ((), ())),
        ((3, 2), (4, 3), ((0,), (1,)), ((), ())),
        ((3,), (3,), ((0,), (0,)), ((), ())),
        ((2,), (3,), ((), ()), ((), ())),
        ((), (3,), ((), ()), ((), ())),
        ((2, 3, 4), (2, 4, 5), ((2,), (1,)), ((0,), (0,))),
        ((3, 4, 2), (4, 2, 3, 5), ((1, 0), (0, 2)), ((2,), (1,))),
        ((2, 3, 4), (4, 3), ((2, 1), (0, 1)), ((), ())),
        ((2, 3), (2, 3), ((), ()), ((0, 1), (0, 1))),
        ((2, 0), (0, 4), ((1,), (0,)), ((), ())),
        ((0, 3), (3, 4), ((1,), (0,)), ((), ())),
    ]
    return (
        [
            Case(
                REGISTRY["dot_general"],
                (numbers(dtype, lhs, 0), numbers(dtype, rhs, 1)),
                {"contract": contract, "batch": batch},
            )
            for dtype in NUMERIC
            for lhs, rhs, contract, batch in shared(forms, dtype)
        ]
        + [
            Case(
                REGISTRY["dot_general"],
                (numbers(dtype, lhs, 0), numbers(dtype, rhs, 1)),
                {"contract": contract, "batch": batch, "dtype": wide},
            )
            for dtype, wider in WIDER.items()
            for wide in wider
            for lhs, rhs, contract, batch in (forms[0], forms[6])
        ]
        + [
            Case(
                REGISTRY["dot_general"],
                (numbers(float32, lhs, 0), numbers(float32, rhs, 1)),
                {"contract": contract, "batch": batch, "precision": bfloat16},
            )
            for lhs, rhs, contract, batch in (forms[0], forms[6])
        ]
    )


CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 5, 6, 3), (3, 2, 3, 4), {}),
    ((2, 5, 6, 3), (3, 3, 3, 4), {"padding": ((1, 1), (0, 2)), "strides": (2, 1)}),
    ((1, 6, 2), (2, 2, 3), {"strides": (2,), "rhs_dilation": (2,), "padding": ((2, -1),)}),
    ((2, 4, 2), (3, 2, 3), {"lhs_dilation": (2,), "padding": ((2, 1),), "flip": True}),
    ((2, 5, 3, 4), (2, 2, 2, 6), {"feature_groups": 2, "padding": ((0, 1), (1, 0))}),
    ((4, 5, 2), (3, 2, 6), {"batch_groups": 2, "strides": (2,)}),
    ((2, 5, 4), (3, 2, 6), {"feature_groups": 2, "flip": True, "padding": ((1, 1),)}),
    ((4, 5, 2), (2, 2, 4), {"batch_groups": 2, "flip": True, "lhs_dilation": (3,)}),
    ((1, 4, 2), (3, 2, 3), {"lhs_dilation": (4,), "strides": (2,), "rhs_dilation": (3,)}),
    ((1, 3, 3, 2), (3, 1, 2, 2), {"lhs_dilation": (2, 2), "padding": ((1, 2), (0, 1))}),
    ((2, 3, 4, 3, 2), (2, 2, 2, 2, 3), {"channels_outer": True, "padding": ((1, 0),) * 3}),
    ((3, 4, 4, 2), (1, 1, 2, 5), {}),
    ((2, 2), (2, 3), {}),
    ((2, 0, 2), (2, 2, 3), {}),
    ((2, 0, 2), (2, 2, 3), {"padding": ((1, 2),)}),
    ((2, 3, 2), (2, 2, 3), {"padding": ((5, 0),)}),
    ((2, 3, 2), (5, 2, 3), {}),
    ((0, 3, 2), (2, 2, 3), {}),
    ((2, 3, 0), (2, 0, 3), {"padding": ((1, 1),)}),
)
"""Shapes of lhs and rhs, and the attributes that are not plain."""


def _convolutions() -> list[Case]:
    return [
        Case(
            REGISTRY["convolution"],
            (numbers(dtype, lhs, 0), numbers(dtype, rhs, 1)),
            plain_attrs(len(lhs) - 2) | attrs,
        )
        for dtype in NUMERIC
        for lhs, rhs, attrs in shared(CONVOLUTIONS, dtype)
    ] + [
        Case(
            REGISTRY["convolution"],
            (numbers(dtype, lhs, 0), numbers(dtype, rhs, 1)),
            plain_attrs(len(lhs) - 2) | attrs | wider,
        )
        for dtype, wider in ((float32, {"precision": bfloat16}), (bfloat16, {"dtype": float32}))
        for lhs, rhs, attrs in CONVOLUTIONS[:4]
    ]


POOLINGS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 5, 6, 3), {"window": (2, 3), "strides": (1, 2), "padding": ((1, 0), (0, 1))}),
    ((2, 6, 4, 9), {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}),
    ((2, 5, 1), {"window": (3,), "strides": (1,), "padding": ((1, 1),)}),
    ((2, 4, 2), {"window": (2,), "strides": (3,), "padding": ((-1, 0),)}),
    ((1, 3, 2, 4, 2), {"window": (2, 1, 2), "strides": (1, 1, 2), "padding": ((0, 0),) * 3}),
    ((2, 3, 2), {"window": (2,), "strides": (1,), "padding": ((3, 0),)}),
    ((2, 3), {"window": (), "strides": (), "padding": ()}),
    ((0, 3, 2), {"window": (2,), "strides": (1,), "padding": ((0, 0),)}),
    ((2, 1, 2), {"window": (2,), "strides": (1,), "padding": ((0, 0),)}),
)
"""Shapes, and how windows lie over them."""


def _poolings() -> dict[str, list[Case]]:
    cases: dict[str, list[Case]] = {
        name: [] for name in ("sum", "max", "argmax", "pick", "scatter")
    }
    for dtype in NUMERIC:
        for shape, attrs in shared(POOLINGS, dtype):
            x = apart(dtype, shape, 0)
            places = REGISTRY["window_argmax"].evaluate(x, **attrs)[0]
            g = numbers(dtype, places.shape, 1)
            plain = {**attrs, "lhs_dilation": (1,) * len(attrs["window"])}
            sizes = {**attrs, "sizes": shape[1:-1]}
            cases["sum"].append(Case(REGISTRY["window_sum"], (x,), plain))
            if (3, 0) not in attrs["padding"]:
                cases["max"].append(Case(REGISTRY["window_max"], (x,), attrs))
            cases["argmax"].append(Case(REGISTRY["window_argmax"], (x,), attrs))
            cases["pick"].append(Case(REGISTRY["window_pick"], (x, places), attrs))
            cases["scatter"].append(Case(REGISTRY["window_scatter"], (g, places), sizes))
    # A window of padding alone: -inf, of which no difference can be taken.
    alone = (numbers(float32, (2, 3, 2), 0),)
    cases["max"].append(Case(REGISTRY["window_max"], alone, POOLINGS[5][1]))
    spread = {"window": (3,), "strides": (1,), "padding": ((1, 2),), "lhs_dilation": (2,)}
    cases["sum"].append(Case(REGISTRY["window_sum"], (numbers(float64, (2, 3, 2), 0),), spread))
    return {f"window_{name}": found for name, found in cases.items()}


def _others() -> dict[str, list[Case]]:
    words = [np.asarray(word, np.uint64) for word in (2**40 + 7, 3, 0)]
    draws = [
        ((words[0], words[1]), (5,)),
        ((words[1], words[2]), (2, 3)),
        ((words[1], words[0]), ()),
    ]
    with building() as builder:
        x, y = (builder.input(TensorType(float32, (2, 3))) for _ in range(2))
        body = builder.graph([add(x, y), exp(x)])
    pair = (numbers(float32, (2, 3), 0), numbers(float32, (2, 3), 1))
    return {
        "random_bits": [Case(REGISTRY["random_bits"], w, {"shape": s}) for w, s in draws],
        "fusion": [Case(REGISTRY["fusion"], pair, {"body": body, "kind": "loop"})],
    }


ATTENTIONS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((2, 3, 2, 4), (2, 3, 2, 4), (2, 3, 2, 4)),
    ((1, 3, 4, 2), (1, 5, 2, 2), (1, 5, 2, 3)),
    ((2, 1, 2, 3), (2, 4, 1, 3), (2, 4, 1, 2)),
)


def _attentions(name: str) -> list[Case]:
    masks: tuple[tuple[int, ...] | None, ...] = (None, (1, 1, 3, 5), (2, 2, 1, 1))
    made: list[Case] = []
    for dtype, precision in (
        (float64, None), (float32, None), (float32, bfloat16), (bfloat16, bfloat16),
    ):  # fmt: skip
        for shapes, mask in zip(ATTENTIONS, masks, strict=True):
            operands = [numbers(dtype, shape, seed) for seed, shape in enumerate(shapes)]
            if name == "attention_gradient":
                operands.append(numbers(dtype, (*shapes[0][:3], shapes[2][3]), 3))
            if mask is not None:
                operands.append(np.random.default_rng(4).random(mask) < 0.7)
            for causal, lengths in ((False, False), (True, False), (True, True)):
                dropout = 0.4 if causal else 0.0
                draws = [np.uint64(5), np.uint64(9)] if dropout else []
                ends = [np.asarray([3, 2][: shapes[0][0]], np.int32)] if lengths else []
                attrs = {"scale": 0.7, "causal": causal, "mask": mask is not None}
                every = {**attrs, "lengths": lengths, "dropout": dropout}
                every |= {} if precision is None else {"precision": precision}
                first = (causal, lengths, causal and not lengths, lengths)
                lying = [*operands]
                every["heads_first"] = first
                for at in range(3 if name == "attention" else 4):
                    lying[at] = operands[at].swapaxes(1, 2) if first[at] else operands[at]
                made.append(Case(REGISTRY[name], (*lying, *ends, *draws), every))
    return made


def _lists() -> dict[str, list[Case]]:
    made, summed = REGISTRY["list_updates"], REGISTRY["sum_lists"]
    problems = [
        ((5,), (2, 4), (3,)), ((2, 3), (7,), (4,)), ((4,), (9,), (70,)), ((5,), (), (2,)),
        ((3,), (0,), (2,)), ((0,), (2,), (3,)), ((4,), (6,), ()),
    ]  # fmt: skip
    cases: dict[str, list[Case]] = {"list_updates": [], "sum_lists": []}
    for dtype in (*INTEGERS, *FLOATING):
        # Sums round to 16 bits one by one: there each place is met once at most.
        few = dtype.is_floating and dtype.bits == 16
        for sizes, met, rest in shared(problems, dtype):
            kind = dtype.numpy if dtype.is_integer else np.int64
            indices = tuple(places(n, met, kind, at, few) for at, n in enumerate(sizes))
            one = Case(made, indices, {"sizes": sizes})
            cases["list_updates"] += [one] if dtype.is_integer or dtype is float64 else []
            (lists,) = made.evaluate(*indices, **one.attrs)
            attrs = {"sizes": sizes, "rank": len(met)}
            updates = numbers(dtype, (*met, *rest), 1)
            cases["sum_lists"].append(Case(summed, (updates, lists), attrs))
    return cases


CASES: dict[str, list[Case]] = {
    "attention": _attentions("attention"),
    "attention_gradient": _attentions("attention_gradient"),
    **_elementwise(), **_movement(), **_reductions(), **_parts(), **_indexing(), **_lists(),
    "argsort": _sorts(), "dot_general": _contractions(), **_others(),
    "convolution": _convolutions(), **_poolings(),
}  # fmt: skip
"""Every op's cases, by its name."""
