"""Does every card keep its word? Each gate is one test over the whole registry."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import DTYPES, DType, uint64
from pellucid.core.error import OpError
from pellucid.core.shape import Size
from pellucid.core.shape import evaluate as evaluate_size
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, walk
from pellucid.ops import REGISTRY
from pellucid.ops.control import evaluate
from pellucid.ops.define import NoBatch, NoDerivative, moved_bytes, type_of
from pellucid.transforms import batch, jvp, vjp
from tests.ops.cases import CASES, Case

Arrays = tuple[NDArray[Any], ...]

EVERY_OP = pytest.mark.parametrize("name", REGISTRY)


def test_every_op_has_cases() -> None:
    assert set(CASES) == set(REGISTRY)
    assert all(CASES.values())


def test_every_op_is_registered_under_its_name() -> None:
    assert all(op.name == name for name, op in REGISTRY.items())


@EVERY_OP
def test_every_dtype_of_the_card_has_a_case_and_no_other_is_taken(name: str) -> None:
    op = REGISTRY[name]
    tried = {main_dtype(case) for case in CASES[name]}
    assert tried == set(op.on) or name == "fusion"
    for case in CASES[name]:
        types = [type_of(x) for x in case.operands]
        for dtype in set(DTYPES) - set(op.on):
            others = [replace(t, dtype=dtype) if t.dtype is main_dtype(case) else t for t in types]
            attrs = case.attrs if types else {**case.attrs, "dtype": dtype}
            with pytest.raises(OpError, match=f"{name}: "):
                op.result_types(tuple(others), attrs)


def main_dtype(case: Case) -> DType:
    """That of the numbers which the op is about: not of a condition, and not of places."""
    types = case.types or case.op.result_types((), case.attrs)
    return types[1 if case.op.name == "select" else 0].dtype


@EVERY_OP
def test_every_derivative_is_measured(name: str) -> None:
    op = REGISTRY[name]
    can = not isinstance(op.derivative, NoDerivative) and any(case.floating for case in CASES[name])
    assert bool(differentiable(name)) == can


@EVERY_OP
def test_inferred_type_is_the_references(name: str) -> None:
    for case in CASES[name]:
        widens = not case.op.own_dtype
        wide = [x.astype(np.float64) if widens and is_narrow(x) else x for x in case.operands]
        found = case.op.reference(*wide, **case.attrs)
        results = found if isinstance(found, tuple) else (found,)
        inferred = case.op.result_types(case.types, case.attrs)
        assert len(results) == len(inferred), case
        for array, type in zip(results, inferred, strict=True):
            assert np.shape(array) == type.shape, case
            computed_wide = np.asarray(array).dtype == np.float64 and type.dtype.is_floating
            assert np.asarray(array).dtype == type.dtype.numpy or computed_wide, case


@EVERY_OP
def test_cost_counts_at_least_the_bytes_of_the_results(name: str) -> None:
    for case in CASES[name]:
        results = case.op.result_types(case.types, case.attrs)
        cost = case.op.cost(case.types, results, **case.attrs)
        assert as_number(cost.flops) >= 0, case
        assert as_number(cost.bytes) >= as_number(moved_bytes(results)), case


@EVERY_OP
def test_jvp_equals_differences(name: str) -> None:
    for case in differentiable(name):
        forward = jvp(case.graph(), case.floating)
        tangents = directions(case, 11)
        moved = evaluate(check(forward), case.operands + tangents)[1]
        assert_near(moved, difference(case.graph(), case.operands, case.floating, tangents), case)


@EVERY_OP
def test_second_jvp_equals_differences_of_the_first(name: str) -> None:
    for case in differentiable(name):
        first = jvp(case.graph(), case.floating)
        tangents, others = directions(case, 11), directions(case, 12)
        second = evaluate(jvp(first, case.floating), case.operands + tangents + others)[3]
        wanted = difference(first, case.operands + tangents, case.floating, others, output=1)
        assert_near(second, wanted, case)


@EVERY_OP
def test_transposed_derivative_has_the_same_inner_product(name: str) -> None:
    for case in differentiable(name):
        tangents = directions(case, 11)
        y, moved = evaluate(jvp(case.graph(), case.floating), case.operands + tangents)
        g = np.random.default_rng(13).normal(size=y.shape)
        backward = check(vjp(case.graph(), case.floating))
        shares = evaluate(backward, (*case.operands, np.asarray(g)))[1:]
        pulled = sum(float(np.sum(s * t)) for s, t in zip(shares, tangents, strict=True))
        assert pulled == pytest.approx(float(np.sum(g * moved)), rel=1e-10, abs=1e-10), case


@EVERY_OP
def test_batch_equals_loop(name: str) -> None:
    for case in CASES[name]:
        for mapped in product((False, True), repeat=len(case.operands)):
            if any(mapped) and isinstance(case.op.batch, NoBatch):
                with pytest.raises(OpError, match=f"{name}: "):
                    batch(case.graph(), mapped, 3)
            else:
                batch_equals_loop(case, mapped)


@EVERY_OP
def test_registry_is_closed_under_derivatives_and_batching(name: str) -> None:
    for case in CASES[name]:
        graphs = [case.graph()]
        if case.floating and not isinstance(case.op.derivative, NoDerivative):
            graphs += [jvp(graphs[0], case.floating), vjp(graphs[0], case.floating)]
        if not isinstance(case.op.batch, NoBatch):
            # What an op draws by comes from `random_bits`, whose seed is the same for all examples.
            draws = "dropout" in case.attrs
            for graph in tuple(graphs):
                mapped = [not (draws and value.dtype is uint64) for value in graph.inputs]
                graphs.append(batch(graph, mapped, 2))
        for graph in graphs:
            assert all(REGISTRY.get(node.op.name) is node.op for node in walk(graph)), case


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("exp", -700, 700), ("log", 1e-300, 1e300), ("tanh", -20, 20), ("sqrt", 0, 1e300)],
)
def test_float64_reference_is_within_an_ulp_of_mpmath(name: str, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(low, high, 200), rng.uniform(max(low, -2), 2, 200)])
    found = REGISTRY[name].evaluate(x)[0]
    with mpmath.workprec(200):
        exact = [getattr(mpmath, name)(mpmath.mpf(float(number))) for number in x]
        errors = [
            abs(mpmath.mpf(float(got)) - want) / mpmath.mpf(float(np.spacing(abs(got))))
            for got, want in zip(found, exact, strict=True)
        ]
    assert max(errors) <= 1


def as_number(size: Size) -> int:
    return evaluate_size(size, {})


def differentiable(name: str) -> list[Case]:
    return [case for case in CASES[name] if case.differentiable]


def directions(case: Case, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return tuple(np.asarray(rng.normal(size=case.types[i].shape)) for i in case.floating)


def difference(
    graph: Graph, arrays: Arrays, wrt: tuple[int, ...], tangents: Arrays, output: int = 0
) -> NDArray[Any]:
    """The change of one output along the tangents, by a fourth-order central difference."""

    def at(step: float) -> NDArray[Any]:
        moved = list(arrays)
        for index, tangent in zip(wrt, tangents, strict=True):
            moved[index] = arrays[index] + step * tangent
        return evaluate(graph, tuple(moved))[output]

    h = 1e-3
    if graph.nodes and graph.nodes[0].op.name == "stop_gradient":
        return np.zeros(graph.outputs[output].shape)
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def assert_near(found: NDArray[Any], wanted: NDArray[Any], case: Case) -> None:
    # The truncation error of the difference is h^4 times a fifth derivative, 1e-12 * 1e3 or so.
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7, err_msg=str(case))


def batch_equals_loop(case: Case, mapped: tuple[bool, ...]) -> None:
    """Three examples at once give what each gives alone."""
    rows = [
        np.stack([np.roll(x, k) for k in range(3)]) if m else x
        for x, m in zip(case.operands, mapped, strict=True)
    ]
    found = evaluate(check(batch(case.graph(), mapped, 3)), tuple(rows))
    for k in range(3):
        one = tuple(x[k] if m else x for x, m in zip(rows, mapped, strict=True))
        for many, alone in zip(found, evaluate(case.graph(), one), strict=True):
            assert many.dtype == alone.dtype, case
            close = {"rtol": 1e-2, "atol": 1e-2} if is_narrow(alone) else {"rtol": 1e-12}
            np.testing.assert_allclose(
                np.asarray(many[k]).astype(np.float64),
                np.asarray(alone).astype(np.float64),
                err_msg=f"{case} {mapped}",
                **close,
            )


def is_narrow(array: NDArray[Any]) -> bool:
    return array.dtype.name in ("float32", "float16", "bfloat16")
