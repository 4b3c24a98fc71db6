"""Rounding, remainders, neighbours: NumPy's answers to the bit, at the edges too, on every ISA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import as_dtype
from pellucid.engines.llvm import bits, rounding
from pellucid.engines.llvm.jit import assembly
from pellucid.engines.llvm.target import ISAS, Isa, host_isa
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import Value
from tests.engines.llvm.running import elementwise_text, run, run_pair
from tests.graphs import same_bits

HERE = tuple(isa for isa in ISAS if isa.vector_bits <= host_isa().vector_bits)
ON_EVERY_ISA = pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
DIVISIONS = {"remainder": np.remainder, "floor_divide": np.floor_divide}
ROUNDINGS: dict[str, tuple[Callable[..., Value], Any]] = {
    "floor": (rounding.floor, np.floor),
    "ceil": (rounding.ceil, np.ceil),
    "trunc": (rounding.trunc, np.trunc),
    "nearest": (rounding.nearest, np.rint),
}


def edges(dtype: type[np.floating]) -> NDArray[Any]:
    info = np.finfo(dtype)
    whole = 2.0**info.nmant
    numbers = [0.0, 0.3, 0.5, 1, 1.5, 2.5, 3.7, 1e5 + 0.5, whole / 2 + 0.5, whole - 0.5, whole + 1]
    numbers += [info.max, info.tiny, info.smallest_subnormal, 3 * info.smallest_subnormal, np.inf]
    random = np.random.default_rng(1)
    numbers += [*random.uniform(0, 10, 8), *2.0 ** random.uniform(-100, 100, 7), np.nan]
    found = np.array([*numbers, *(-number for number in numbers)], dtype)
    assert found.size == 64
    return found


@ON_EVERY_ISA
@BOTH
@pytest.mark.parametrize("name", ROUNDINGS)
def test_rounding_is_numpys(name: str, dtype: Any, isa: Isa) -> None:
    body, reference = ROUNDINGS[name]
    x = edges(dtype)
    assert same_bits(run(body, isa, x), reference(x))


def division(name: str, dtype: Any) -> Callable[[Function, Value, Value], Value]:
    divide = {"remainder": rounding.remainder, "floor_divide": rounding.floor_divide}[name]
    return lambda f, lhs, rhs: divide(f, as_dtype(np.dtype(dtype)), lhs, rhs)


@ON_EVERY_ISA
@BOTH
@pytest.mark.parametrize("name", DIVISIONS)
def test_division_with_remainder_is_numpys(name: str, dtype: Any, isa: Isa) -> None:
    numbers = edges(dtype)
    lhs, rhs = (np.ascontiguousarray(grid.ravel()) for grid in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        # In float64 as the card's reference: a quotient is rounded to float32 once.
        wanted = DIVISIONS[name](lhs.astype(np.float64), rhs.astype(np.float64)).astype(dtype)
    for lanes in (1, 8):
        assert same_bits(run_pair(division(name, dtype), isa, lhs, rhs, lanes), wanted)


@ON_EVERY_ISA
def test_remainder_of_numbers_far_apart_is_exact(isa: Isa) -> None:
    random = np.random.default_rng(2)
    lhs = 2.0 ** random.uniform(-1070, 1023, 4096) * random.choice([-1, 1], 4096)
    rhs = 2.0 ** random.uniform(-1070, 1023, 4096) * random.choice([-1, 1], 4096)
    got = run_pair(division("remainder", np.float64), isa, lhs, rhs)
    assert same_bits(got, np.remainder(lhs, rhs))


@ON_EVERY_ISA
@BOTH
def test_next_number_is_numpys(dtype: Any, isa: Isa) -> None:
    numbers = edges(dtype)
    x, y = (np.ascontiguousarray(grid.ravel()) for grid in np.meshgrid(numbers, numbers))

    def body(f: Function, lhs: Value, rhs: Value) -> Value:
        return bits.next_after(f, as_dtype(np.dtype(dtype)), lhs, rhs)

    with np.errstate(all="ignore"):
        assert same_bits(run_pair(body, isa, x, y), np.nextafter(x, y))


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@BOTH
def test_no_library_function_is_called(isa: Isa, dtype: Any) -> None:
    bodies = [body for body, _ in ROUNDINGS.values()]
    bodies += [lambda f, x, name=name: division(name, dtype)(f, x, x) for name in DIVISIONS]
    for body in bodies:
        text = elementwise_text(body, isa, dtype, dtype, isa.lanes(32))
        assert "call" not in assembly(text, isa)
