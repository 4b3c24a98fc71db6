"""Is the derivative of every derivative right? Against differences of the first, eager and jit.

With F(x) = sum(g * op(x)) the gradient of F along a direction v is differentiated once more. That
is the second derivative times v, so the change of the gradient along v, element by element. All of
it is asked for as a user does, by `pe.grad` twice, in float64 on the CPU engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pellucid as pe
from pellucid.ir.graph import freeze_attrs
from pellucid.ops import REGISTRY
from pellucid.tensor.dispatch import apply
from tests.graphs import same_bits
from tests.ops.cases import CASES, Case

Arrays = tuple[NDArray[Any], ...]
Gradient = Callable[..., tuple[pe.Tensor, ...]]

DIFFERENTIABLE = [name for name in REGISTRY if any(case.differentiable for case in CASES[name])]
STEP = 1e-3


def cases(name: str) -> list[Case]:
    return [case for case in CASES[name] if case.differentiable]


def smallest(name: str) -> Case:
    """The smallest case that has elements."""
    filled = [case for case in cases(name) if all(x.size for x in case.operands)]
    return min(filled, key=lambda case: sum(x.size for x in case.operands))


def gradient_of(case: Case) -> Gradient:
    """The gradient of sum(g * op(x)) in the floating operands."""
    attrs = freeze_attrs(case.attrs)
    fixed = [pe.asarray(array) for array in case.operands]
    (type,) = case.op.result_types(case.types, case.attrs)
    weights = pe.asarray(normal(tuple(map(int, type.shape)), 13))  # type: ignore[arg-type]

    def total(*moving: pe.Tensor) -> pe.Tensor:
        operands = list(fixed)
        for index, tensor in zip(case.floating, moving, strict=True):
            operands[index] = tensor
        return pe.sum(weights * apply(case.op, tuple(operands), attrs))

    return pe.grad(total, argnums=tuple(range(len(case.floating))))


def second_of(gradient: Gradient, along: Arrays) -> Gradient:
    """The second derivative times the directions `along`."""
    directions = [pe.asarray(array) for array in along]

    def slope(*moving: pe.Tensor) -> pe.Tensor:
        shares = zip(gradient(*moving), directions, strict=True)
        return sum((pe.sum(g * v) for g, v in shares), pe.asarray(np.float64(0)))

    return pe.grad(slope, argnums=tuple(range(len(along))))


def normal(shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    return np.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_second_derivative(case: Case) -> None:
    x = tuple(case.operands[index] for index in case.floating)
    along = tuple(normal(array.shape, 20 + index) for index, array in enumerate(x))
    gradient = gradient_of(case)
    second = second_of(gradient, along)
    eager = [np.asarray(one) for one in second(*map(pe.asarray, x))]
    jitted = [np.asarray(one) for one in pe.jit(second)(*map(pe.asarray, x))]
    assert all(map(same_bits, jitted, eager)), case
    for found, wanted in zip(eager, difference(gradient, x, along), strict=True):
        # The error of the difference is STEP**4 times a sixth derivative.
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7, err_msg=str(case))


def difference(gradient: Gradient, x: Arrays, along: Arrays) -> list[NDArray[Any]]:
    """The change of the gradient along the directions, by a fourth-order central difference."""

    def at(step: float) -> list[NDArray[Any]]:
        moved = (pe.asarray(a + step * v) for a, v in zip(x, along, strict=True))
        return [np.asarray(one) for one in gradient(*moved)]

    near = [a - b for a, b in zip(at(STEP), at(-STEP), strict=True)]
    wide = [a - b for a, b in zip(at(2 * STEP), at(-2 * STEP), strict=True)]
    return [(8 * n - w) / (12 * STEP) for n, w in zip(near, wide, strict=True)]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_derivative_is_the_difference_of_the_first(name: str) -> None:
    assert_second_derivative(smallest(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_derivative_of_every_case_is_the_difference_of_the_first(name: str) -> None:
    for case in cases(name):
        assert_second_derivative(case)
