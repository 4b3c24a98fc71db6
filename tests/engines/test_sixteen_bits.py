"""Is every float16 and bfloat16 result the rounded float32 one? All 65,536 operands of each.

The card says how far the result is from the truth: a little more than half a unit in the last place
where the float32 in between is itself rounded, half a unit where it is exact.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import DType, bfloat16, float16, float64
from pellucid.core.error import OpError
from pellucid.engines import find_engine
from pellucid.ops import REGISTRY
from pellucid.ops.define import type_of
from tests.engines.executing import run_compiled
from tests.ops.cases import Case

NARROW = pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)


def everything(dtype: DType) -> NDArray[Any]:
    """Every number of a 16-bit dtype."""
    return np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)


def case_of(name: str, dtype: DType) -> Case | None:
    """The function on every number; None where it does not make one number of one."""
    case = Case(REGISTRY[name], (everything(dtype),), {"order": 1} if name == "polygamma" else {})
    try:
        made = case.op.result_types(case.types, case.attrs)
    except OpError:
        return None
    return case if case.op.kind == "elementwise" and made == case.types else None


FUNCTIONS = [name for name in REGISTRY if case_of(name, float16)]


@NARROW
@pytest.mark.parametrize("name", ["exp", "sqrt", "sign"])
def test_every_result_is_rounded_once(name: str, dtype: DType) -> None:
    assert_rounded(name, dtype)


@pytest.mark.slow
@NARROW
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_result_of_every_function_is_rounded_once(name: str, dtype: DType) -> None:
    assert_rounded(name, dtype)


def assert_rounded(name: str, dtype: DType) -> None:
    case = case_of(name, dtype)
    assert case is not None
    (found,) = run_compiled(find_engine("cpu"), case.graph(), case.operands)
    with np.errstate(all="ignore"):
        true = case.op.reference(case.operands[0].astype(float64.numpy), **case.attrs)
        nearest = true.astype(dtype.numpy).astype(np.float64)
        got = found.astype(np.float64)
        off = np.abs(got - true) / unit(true, dtype)
    assert type_of(found).dtype is dtype
    assert (np.signbit(got) == np.signbit(nearest))[~np.isnan(nearest)].all()
    special = ~np.isfinite(nearest)
    np.testing.assert_array_equal(got[special], nearest[special])
    worst = int(np.argmax(np.where(special, 0, off)))
    assert special.all() or off[~special].max() <= case.op.ulps(dtype, case.attrs), worst


def unit(true: NDArray[np.float64], dtype: DType) -> NDArray[np.float64]:
    """The distance of two neighbours of the dtype at each number."""
    info = ml_dtypes.finfo(dtype.numpy)
    size = np.maximum(np.abs(true), float(info.smallest_normal))
    return np.ldexp(float(info.eps), np.frexp(size)[1] - 1)
