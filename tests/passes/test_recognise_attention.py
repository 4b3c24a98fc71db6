"""Is an attention found however it is spelled, and nothing else taken for one?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pellucid as pe
from pellucid import nn
from pellucid.core.dtype import bfloat16
from pellucid.ir.graph import Graph, Node, count_ops
from pellucid.ops.control import evaluate
from pellucid.passes import recognise_attention as recognising
from pellucid.passes.dce import dce
from pellucid.passes.pipeline import clean
from pellucid.passes.recognise_attention import recognise_attention
from pellucid.tensor.traced import trace_function
from pellucid.transforms import vjp
from tests import spellings_of_attention as spelled
from tests.spellings_of_attention import CAUSAL, MASKED, PLAIN, Attention, T

Arrays = list[NDArray[Any]]
R, C, D, E = 5, 5, 16, 3
LEADING = [(), (3,), (2, 4), (2, 1, 2)]


@pytest.fixture(autouse=True)
def _checked_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_CHECK", "1")
    monkeypatch.setattr(recognising, "LEAST_SCORES", 0)


def drawn(*shapes: tuple[int, ...]) -> Arrays:
    draws = np.random.default_rng(0)
    return [draws.normal(size=shape) for shape in shapes]


def operands(leading: tuple[int, ...] = (2, 4)) -> Arrays:
    return drawn((*leading, R, D), (*leading, C, D), (*leading, C, E))


def mask_of(*shape: int) -> NDArray[Any]:
    """A mask in which every row sees something."""
    return (np.random.default_rng(1).random(shape) < 0.6) | np.eye(R, C, dtype=bool)


def traced(function: Any, arrays: Arrays) -> Graph:
    tensors = [pe.asarray(array) for array in arrays]
    return trace_function(function, tensors, tensors).graph


def found(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op.name == "attention"]


def assert_recognised(function: Any, arrays: Arrays, **attrs: Any) -> None:
    """The one attention has these attributes; values and derivatives, in float64, are the same."""
    graph = traced(function, arrays)
    for given in (graph, clean(graph)):
        made = dce(recognise_attention(given))
        (node,) = found(made)
        assert {name: node.attr(name) for name in attrs} == attrs
        assert not {"exp", "dot_general"} & set(count_ops(made))
        for wanted, value in zip(evaluate(graph, arrays), evaluate(made, arrays), strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-14)
    (out,) = graph.outputs
    inputs = [*arrays, np.random.default_rng(2).normal(size=out.shape)]
    floats = [n for n, array in enumerate(arrays) if array.dtype == np.float64]
    derivatives = [vjp(one, floats) for one in (graph, dce(recognise_attention(graph)))]
    assert count_ops(derivatives[1])["attention_gradient"] == 1
    pairs = zip(*(evaluate(one, tuple(inputs)) for one in derivatives), strict=True)
    for wanted, value in pairs:
        np.testing.assert_allclose(value, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("leading", LEADING, ids=str)
@pytest.mark.parametrize("function", PLAIN)
def test_plain_spellings(function: Attention, leading: tuple[int, ...]) -> None:
    assert_recognised(function, operands(leading), causal=False, mask=False, scale=0.25)


@pytest.mark.parametrize("leading", LEADING, ids=str)
@pytest.mark.parametrize("function", CAUSAL)
def test_causal_spellings(function: Attention, leading: tuple[int, ...]) -> None:
    assert_recognised(function, operands(leading), causal=True, mask=False, lengths=False)


@pytest.mark.parametrize("shape", [(R, C), (2, 1, R, C), (2, 4, R, C), (1, C), (4, 1, C)], ids=str)
@pytest.mark.parametrize("function", MASKED)
def test_masked_spellings(function: Attention, shape: tuple[int, ...]) -> None:
    mask = mask_of(R, C)[:1] if shape[-2] == 1 else mask_of(*shape)
    arrays = [*operands(), np.broadcast_to(mask, shape)]
    assert_recognised(function, arrays, causal=False, mask=True)


@pytest.mark.parametrize("leading", [(), (3,), (2, 1, 2)], ids=str)
def test_masks_of_any_number_of_axes(leading: tuple[int, ...]) -> None:
    arrays = [*operands(leading), mask_of(*leading[-1:], R, C)]
    assert_recognised(spelled.by_mask, arrays, mask=True)


def test_two_masks_and_a_diagonal_in_one() -> None:
    def both(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, m: pe.Tensor, n: pe.Tensor) -> pe.Tensor:
        place = pe.arange(C)
        seen = m & (place[:, None] >= place)
        return nn.softmax(pe.where(n, pe.where(~seen, -1e30, q @ T(k)), -math.inf)) @ v

    arrays = [*operands(), mask_of(R, C), mask_of(2, 1, R, C)]
    assert_recognised(both, arrays, causal=True, mask=True, scale=1.0)


@pytest.mark.parametrize("ahead", [-1, 1, 2])
def test_other_diagonals_are_masks(ahead: int) -> None:
    def beside(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
        seen = pe.tril(pe.ones((R, C), dtype="bool"), k=ahead) | pe.eye(R, C, dtype="bool")
        return nn.softmax(pe.where(seen, q @ T(k), -math.inf)) @ v

    assert_recognised(beside, operands(), causal=False, mask=True)


def test_rows_that_end_with_the_columns_have_lengths() -> None:
    def last(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
        seen = pe.tril(pe.ones((2, C), dtype="bool"), k=C - 2)
        return nn.softmax(pe.where(seen, q @ T(k), -math.inf)) @ v

    q, k, v = operands()
    assert_recognised(last, [q[:, :, :2], k, v], causal=True, mask=False, lengths=True)


def test_heads_stay_where_they_lie() -> None:
    arrays = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in operands()]
    graph = clean(recognise_attention(traced(spelled.with_lengths_before_heads, arrays)))
    assert count_ops(graph) == {"attention": 1}
    assert_recognised(spelled.with_lengths_before_heads, arrays)


@pytest.mark.parametrize("function", [spelled.with_repeated_heads, spelled.with_grouped_heads])
@pytest.mark.parametrize("shared", [1, 2])
def test_shared_heads_are_not_repeated(function: Attention, shared: int) -> None:
    arrays = drawn((2, 4, R, D), (2, shared, C, D), (2, shared, C, E))
    assert_recognised(function, arrays)
    (node,) = found(recognise_attention(traced(function, arrays)))
    assert node.operands[1].tensor.size == arrays[1].size


def test_narrow_floats_are_computed_in_float32() -> None:
    arrays = operands()

    def narrow(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
        q, k, v = (x.astype("bfloat16") for x in (q, k, v))
        weights = nn.softmax((q @ T(k)).astype("float32") * 0.25)
        return weights.astype("bfloat16") @ v

    graph = traced(narrow, arrays)
    made = dce(recognise_attention(graph))
    (node,) = found(made)
    assert {value.dtype.name for value in node.operands} == {"float32"}
    assert made.outputs[0].dtype.name == "bfloat16"
    rounded = [np.asarray(pe.asarray(x).astype("bfloat16")).astype(np.float64) for x in arrays]
    (exact,) = evaluate(traced(spelled.divided, rounded), tuple(rounded))
    errors = [abs(evaluate(one, tuple(arrays))[0].astype(float) - exact) for one in (graph, made)]
    assert errors[1].max() <= errors[0].max()


@pytest.mark.parametrize("function", PLAIN)
def test_the_precision_of_both_products_is_that_of_the_attention(function: Attention) -> None:
    arrays = [array.astype(np.float32) for array in operands()]

    def scoped(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
        with pe.precision("bf16"):
            return function(q, k, v)

    graph = traced(scoped, arrays)
    (exact,) = evaluate(traced(function, operands()), tuple(operands()))
    (spelled_out,) = evaluate(graph, tuple(arrays))
    for given in (graph, clean(graph)):
        made = dce(recognise_attention(given))
        (node,) = found(made)
        assert node.attr("precision") is bfloat16
        (value,) = evaluate(made, tuple(arrays))
        assert value.dtype == np.float32
        assert abs(value - exact).mean() <= 1.5 * abs(spelled_out - exact).mean()
    way_back = vjp(dce(recognise_attention(graph)), (0, 1, 2))
    (gradient,) = (n for n in way_back.nodes if n.op.name == "attention_gradient")
    assert gradient.attr("precision") is bfloat16


def test_products_of_different_precisions_are_left_as_they_are() -> None:
    def mixed(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor) -> pe.Tensor:
        with pe.precision("bf16"):
            scores = q @ T(k)
        return nn.softmax(scores * 0.25) @ v

    graph = traced(mixed, [array.astype(np.float32) for array in operands()])
    assert not found(recognise_attention(graph))
    assert not found(recognise_attention(clean(graph)))


# What is none, or is needed otherwise.


def dropped(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, mask: pe.Tensor) -> pe.Tensor:
    return (nn.softmax(q @ T(k)) * pe.astype(mask, q.dtype)) @ v


def weights_too(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, _: pe.Tensor) -> tuple[pe.Tensor, ...]:
    weights = nn.softmax(q @ T(k))
    return weights @ v, weights


def biased(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, mask: pe.Tensor) -> pe.Tensor:
    return nn.softmax(q @ T(k) + pe.astype(mask, q.dtype)) @ v


def barely_lowered(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, mask: pe.Tensor) -> pe.Tensor:
    return nn.softmax(pe.where(mask, q @ T(k), -30.0)) @ v


def capped(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, _: pe.Tensor) -> pe.Tensor:
    return nn.softmax(pe.tanh(q @ T(k))) @ v


def summed_over_rows(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, _: pe.Tensor) -> pe.Tensor:
    return nn.softmax(q @ T(k), axis=-2) @ v


def divided_by_columns(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, _: pe.Tensor) -> pe.Tensor:
    # As many rows as columns: the sums of rows fit as well where they do not belong.
    raised = pe.exp(q @ T(k))
    return (raised / pe.expand_dims(pe.sum(raised, axis=-1), axis=-2)) @ v


def without_gradient(q: pe.Tensor, k: pe.Tensor, v: pe.Tensor, _: pe.Tensor) -> pe.Tensor:
    return pe.stop_gradient(nn.softmax(q @ T(k))) @ v


NO_ATTENTIONS = [
    dropped, weights_too, biased, barely_lowered, capped, summed_over_rows, divided_by_columns,
    without_gradient,
]  # fmt: skip


@pytest.mark.parametrize("function", NO_ATTENTIONS)
def test_what_is_no_attention_is_left_as_it_is(function: Any) -> None:
    graph = traced(function, [*operands(), mask_of(R, C)])
    assert recognise_attention(graph) is graph


def test_few_scores_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = traced(spelled.divided, operands())
    for least in (R * C, R * C + 1):
        monkeypatch.setattr(recognising, "LEAST_SCORES", least)
        assert len(found(recognise_attention(graph))) == (least == R * C)


def test_a_row_that_sees_nothing_gives_zeros() -> None:
    q, k, v = operands()
    mask = mask_of(R, C)
    mask[2] = False
    graph = recognise_attention(traced(spelled.by_added_mask, [q, k, v, mask]))
    assert not np.any(evaluate(graph, (q, k, v, mask))[0][:, :, 2])
