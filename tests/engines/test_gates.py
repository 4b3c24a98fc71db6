"""Does every engine say what the cards say? Each op's cases on each engine, beside the reference.

The tolerance is derived, not chosen. Movement, arithmetic, comparison and bits are exact: no
tolerance. An elementary function may err by what its card states, in units of the last place, and
the reference by half a unit. A sum of n terms, added in any order, errs by at most n half units of
the dtype it is accumulated in (float32 for 16-bit floats) times the sum of their sizes; then it is
rounded once to its own dtype. A scatter that adds accumulates in its own dtype.
"""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import DType, float32
from pellucid.core.error import UnsupportedOpError
from pellucid.core.shape import Size
from pellucid.core.shape import evaluate as evaluate_size
from pellucid.engines import engine_names, find_engine
from pellucid.engines.base import Engine, Layout, array_at, layout
from pellucid.engines.cpu import rules
from pellucid.ops import REGISTRY
from pellucid.ops.define import type_of
from tests.engines.executing import run_compiled, stored
from tests.graphs import same_bits
from tests.ops.cases import CASES, Case

LONG = ("attention", "attention_gradient")
"""Ops of which each case compiles many kernels: those in float64 are slow tests."""


def in_float64(case: Case) -> bool:
    return case.operands[0].dtype == np.float64


GATED = {
    **CASES,
    **{name: [case for case in CASES[name] if not in_float64(case)] for name in LONG},
    **{f"{name} in float64": list(filter(in_float64, CASES[name])) for name in LONG},
}
EVERY_OP = pytest.mark.parametrize(
    "name",
    [*REGISTRY, *(pytest.param(f"{name} in float64", marks=pytest.mark.slow) for name in LONG)],
)
EVERY_ENGINE = pytest.mark.parametrize("engine", engine_names())
ACCUMULATING = (
    "sum", "prod", "dot_general", "scatter", "sum_lists", "convolution", "window_sum",
    "window_scatter",
)  # fmt: skip
CHOOSING = ("max", "min", "window_max", "window_pick")


def test_cpu_table_and_what_it_refuses_are_the_registry() -> None:
    supported = rules.supported_ops()
    assert supported | set(rules.UNSUPPORTED) == set(REGISTRY)
    assert not supported & set(rules.UNSUPPORTED)
    assert all(rules.UNSUPPORTED.values())


def test_what_the_cpu_refuses_names_the_op_and_why() -> None:
    for name, why in rules.UNSUPPORTED.items():
        with pytest.raises(UnsupportedOpError, match=f"{name}: .*{re.escape(why)}"):
            compiled(find_engine("cpu"), CASES[name][0])


@EVERY_ENGINE
@EVERY_OP
def test_compiled_op_is_the_reference(engine: str, name: str) -> None:
    skip_refused(engine, name)
    for case in GATED[name]:
        for found, wanted in zip(compiled(find_engine(engine), case), reference(case), strict=True):
            assert_within(found, wanted, case)


@EVERY_ENGINE
@EVERY_OP
def test_launched_op_is_the_reference(engine: str, name: str) -> None:
    skip_refused(engine, name, launching=True)
    for case in GATED[name]:
        assert_within(launched(find_engine(engine), case), reference(case)[0], case)


@EVERY_ENGINE
@EVERY_OP
def test_launched_op_has_the_bits_of_the_compiled_one(engine: str, name: str) -> None:
    skip_refused(engine, name, launching=True)
    for case in GATED[name]:
        wanted = compiled(find_engine(engine), case)[0]
        assert same_bits(launched(find_engine(engine), case), wanted), case


@EVERY_ENGINE
@EVERY_OP
def test_bits_do_not_depend_on_how_operands_lie(engine: str, name: str) -> None:
    skip_refused(engine, name, launching=True)
    for case in GATED[name]:
        if any(array.ndim > 1 for array in case.operands):
            dense = launched(find_engine(engine), case)
            assert same_bits(launched(find_engine(engine), case, turned=True), dense), case


def skip_refused(engine: str, name: str, launching: bool = False) -> None:
    if launching and name == "fusion":
        pytest.skip("a fusion is compiled, never launched")
    if engine == "cpu" and name in rules.UNSUPPORTED:
        pytest.skip(f"refused: {rules.UNSUPPORTED[name]}")


def reference(case: Case) -> tuple[NDArray[Any], ...]:
    return case.op.evaluate(*case.operands, **case.attrs)


def compiled(engine: Engine, case: Case) -> tuple[NDArray[Any], ...]:
    """The results of the graph of one node."""
    return run_compiled(engine, case.graph(), case.operands)


def launched(engine: Engine, case: Case, turned: bool = False) -> NDArray[Any]:
    """The result of one launch; `turned` stores operands with their axes in the other order."""
    places = [operand_layout(array, turned) for array in case.operands]
    launch = engine.launcher(case.op, case.attrs, tuple(places))
    pairs = zip(case.operands, places, strict=True)
    blocks = [stored(engine, array, place) for array, place in pairs]
    result = engine.allocate(launch.result.nbytes)
    launch.run(*(block.address for block in blocks), result.address)
    return array_at(result.address, launch.result, result)


def operand_layout(array: NDArray[Any], turned: bool) -> Layout:
    if not turned or array.size < 2:
        return layout(type_of(array))
    steps = np.asfortranarray(array).strides
    return layout(type_of(array), tuple(step // array.itemsize for step in steps))


def assert_within(found: NDArray[Any], wanted: NDArray[Any], case: Case) -> None:
    allowed = tolerance(case, wanted)
    if allowed is None:
        assert same_bits(found, wanted), case
        return
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), case
    wide = [array.astype(np.float64) for array in (found, wanted)]
    same = (wide[0] == wide[1]) | (np.isnan(wide[0]) & np.isnan(wide[1]))
    with np.errstate(invalid="ignore"):
        assert (same | (np.abs(wide[0] - wide[1]) <= allowed)).all(), case


def tolerance(case: Case, wanted: NDArray[Any]) -> NDArray[Any] | None:
    """The largest difference from the reference, or None where there may be none."""
    dtype = type_of(wanted).dtype
    if not dtype.is_floating or case.op.name in CHOOSING:
        return None
    if case.attrs.get("mode", "add") != "add":
        return None
    if case.op.name in ACCUMULATING:
        sizes = [
            np.abs(array.astype(np.float64)) if type_of(array).dtype.is_floating else array
            for array in case.operands
        ]
        # In float64 there is no wider dtype of a product to ask for, and no other precision.
        attrs = {k: v for k, v in case.attrs.items() if k not in ("dtype", "precision")}
        size = np.asarray(case.op.evaluate(*sizes, **attrs)[0])
        kept = dtype if dtype.bits >= 32 or case.op.name in ("scatter", "sum_lists") else float32
        inner = half_unit(kept) * terms(case) * size
        return inner + units(wanted) / 2 * (dtype.bits < 32)
    if case.op.name == "spread":
        # Each distance is off by what the mean is off, whose sum has as many terms.
        (size,) = REGISTRY["sum"].evaluate(
            np.square(case.operands[0].astype(np.float64)), axes=case.attrs["axes"]
        )
        return half_unit(dtype) * (3 * terms(case) + 8) * np.asarray(size)
    if case.op.name.startswith("attention"):
        # An exponential that is a little off may be rounded to a neighbour in its precision.
        unit = half_unit(case.attrs.get("precision", dtype))
        return np.full(wanted.shape, unit * error_of_attention(case))
    ulps = largest_error(case, dtype)
    return None if ulps <= 0.5 else units(wanted) * (ulps + 0.5)


def error_of_attention(case: Case) -> float:
    """The largest error in half units: roundings that a result goes through, times its size.

    A score is a sum of products, so its error is that of `size` terms of the largest size, and so
    is the relative error of its exponential; then come the sums over columns or rows.
    """
    q, k, v, *rest = (float(np.abs(array).max(initial=0)) for array in case.operands)
    (_, rows, heads, size), (_, columns, shared, _) = (type.shape for type in case.types[:2])
    numbers = (rows, heads, size, columns, shared, case.types[2].shape[3])
    rows, heads, size, columns, shared, features = (evaluate_size(one, {}) for one in numbers)
    scale = case.attrs["scale"]
    score = size * q * k * scale
    roundings = (size + 2) * score + columns + 8
    if case.op.name == "attention":
        return roundings * v
    many = rows * heads // shared
    share = 2 * features * rest[0] * v * scale
    return (2 * roundings + features + many) * max(many * share * q, share * k, many * rest[0])


def largest_error(case: Case, dtype: DType) -> float:
    """What the card of the op, or those of the ops in its body, state in ulp."""
    if case.op.name != "fusion":
        return case.op.ulps(dtype, case.attrs)
    nodes = case.attrs["body"].nodes
    return max(REGISTRY[node.op.name].ulps(dtype, dict(node.attrs)) for node in nodes)


def terms(case: Case) -> int:
    """How many numbers become one."""
    shape: tuple[Size, ...] = case.types[0].shape
    if case.op.name == "scatter":
        return case.operands[2].size + 1
    if case.op.name == "sum_lists":
        return case.operands[1].size + 1
    if case.op.name == "convolution":
        return int(np.prod(case.operands[1].shape[:-1], initial=1))
    if case.op.name.startswith("window"):
        return int(np.prod(case.attrs["window"], initial=1))
    axes = case.attrs["axes"] if "axes" in case.attrs else case.attrs["contract"][0]
    return int(np.prod([evaluate_size(shape[axis], {}) for axis in axes], initial=1))


def half_unit(dtype: DType) -> float:
    return float(ml_dtypes.finfo(dtype.numpy).eps) / 2


def units(array: NDArray[Any]) -> NDArray[Any]:
    """The spacing of the dtype at each number."""
    info = ml_dtypes.finfo(array.dtype)
    size = np.maximum(np.abs(array.astype(np.float64)), float(info.smallest_normal))
    return 2.0 ** np.floor(np.log2(size)) * float(info.eps)
