"""Do transposes around convolutions meet and cancel through what stands between, bits unchanged?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.core.dtype import float32
from pellucid.ir.build import building
from pellucid.ir.check import check
from pellucid.ir.graph import Graph, TensorType, Value, count_ops
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add, exp, less, mul, select
from pellucid.ops.movement import broadcast, full, full_like, transpose
from pellucid.ops.parts import concatenate, slice
from pellucid.ops.reduce import max_, sum_
from pellucid.passes.layout import layout
from pellucid.passes.pipeline import clean
from tests.graphs import same_bits, sample
from tests.passes.evaluating import evaluate_as_engines_do

SHAPE = (2, 3, 4, 5)
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def first(x: Value) -> Value:
    return transpose(x, permutation=TO_FIRST)


def last(x: Value) -> Value:
    return transpose(x, permutation=TO_LAST)


def graph_of(build: Callable[..., Value], *shapes: tuple[int, ...]) -> Graph:
    with building() as builder:
        inputs = [builder.input(TensorType(float32, shape)) for shape in shapes]
        return builder.graph([build(*inputs)])


def transposes(graph: Graph) -> int:
    return count_ops(clean(graph)).get("transpose", 0)


def scaled(x: Value, scale: Value) -> Value:
    return mul(first(x), broadcast(scale, shape=(2, 5, 3, 4), axes=(1,)))


BETWEEN = {
    "an activation": (lambda x: last(exp(first(x))), SHAPE),
    "several": (lambda x: last(exp(exp(add(first(x), first(x))))), SHAPE),
    "a residual": (lambda x, y: last(exp(add(first(x), exp(first(y))))), SHAPE, SHAPE),
    "a number": (lambda x: last(add(first(x), full((2, 5, 3, 4), 2.0, float32))), SHAPE),
    "a choice": (
        lambda x: last(select(less(first(x), full_like(first(x), 0.0)), first(x), exp(first(x)))),
        SHAPE,
    ),
    "a factor of each channel": (lambda x, scale: last(scaled(x, scale)), SHAPE, (5,)),
    "joined channels": (
        lambda x, y: last(exp(concatenate(first(x), first(y), axis=1))),
        SHAPE,
        (2, 3, 4, 7),
    ),
    "some of the channels": (
        lambda x: last(
            slice(first(x), start=(0, 1, 0, 2), stop=(2, 5, 3, 4), strides=(1, 2, 1, 1))
        ),
        SHAPE,
    ),
}


@pytest.mark.parametrize("case", BETWEEN.values(), ids=BETWEEN)
def test_transposes_cancel_through(case):
    build, *shapes = case
    graph = graph_of(build, *shapes)
    check(layout(graph), "after layout")
    assert transposes(graph) == 0
    rng = np.random.default_rng(0)
    arrays = [sample(rng, float32, shape) for shape in shapes]
    for one in (layout(graph), clean(graph)):
        found = evaluate_as_engines_do(one, tuple(arrays))
        expected = evaluate_as_engines_do(graph, tuple(arrays))
        assert all(map(same_bits, found, expected))


STAYING = {
    "a sum, whose order is that of its axes": (
        lambda x: transpose(sum_(first(x), axes=(1,)), permutation=(0, 2, 1)),
        SHAPE,
    ),
    "an operand in another order": (lambda x, y: last(add(first(x), y)), SHAPE, (2, 5, 3, 4)),
    "a broadcast that would be turned": (
        lambda x, y: last(add(first(x), broadcast(y, shape=(2, 5, 3, 4), axes=(1, 2)))),
        SHAPE,
        (5, 3),
    ),
    "what no transpose awaits": (lambda x: max_(exp(first(x)), axes=(1,)), SHAPE),
    "what a product awaits": (
        lambda x, w: dot_general(exp(first(x)), w, contract=((1,), (0,)), batch=((), ())),
        SHAPE,
        (5, 2),
    ),
}


@pytest.mark.parametrize("case", STAYING.values(), ids=STAYING)
def test_stays_as_it_is(case):
    build, *shapes = case
    graph = graph_of(build, *shapes)
    assert layout(graph) is graph


def test_a_network_with_channels_first_is_turned_at_its_ends_alone():
    rng = np.random.default_rng(0)
    kernels = [pe.asarray(rng.standard_normal((3, 3, c, 8), np.float32)) for c in (4, 8, 8)]
    scale = pe.asarray(rng.standard_normal(8, np.float32))
    pool = nn.MaxPool2D(2, 2)

    def conv(x, kernel, outer, inner):
        return outer(nn.functional.conv(inner(x), kernel, padding=1))

    def network(x, outer, inner, per_channel, axis):
        x = nn.relu(conv(x, kernels[0], outer, inner) * per_channel)
        x = outer(pool(inner(x)))
        y = nn.relu(conv(x, kernels[1], outer, inner) * per_channel)
        joined = pe.concat([x + y, y], axis=axis)
        return conv(joined[:, :8] if axis == 1 else joined[..., :8], kernels[2], outer, inner)

    def channels_first(x):
        outer, inner = (partial(pe.permute_dims, axes=axes) for axes in (TO_FIRST, TO_LAST))
        return network(x, outer, inner, scale.reshape((8, 1, 1)), 1)

    def channels_last(x):
        return network(x, lambda x: x, lambda x: x, scale, 3)

    x = pe.asarray(rng.standard_normal((2, 6, 8, 4), np.float32))
    with pe.recording() as here:
        expected = pe.jit(channels_last)(x)
    with pe.recording() as turned:
        found = pe.jit(channels_first)(pe.permute_dims(x, TO_FIRST))
    assert same_bits(np.moveaxis(np.asarray(found), 1, -1), np.asarray(expected))
    assert len(launches(turned)) - len(launches(here)) <= 2


def launches(record) -> list[str]:
    (code,) = [stage for stage in record.stages if stage.name == "code"]
    return [line for line in code.text.splitlines() if "kernel" in line and "task" in line]
