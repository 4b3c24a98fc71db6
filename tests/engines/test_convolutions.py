"""Are convolutions and poolings right and reproducible where they are large? Bits and kernels."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import bfloat16, float32
from pellucid.core.shape import Axes
from pellucid.engines import find_engine
from pellucid.engines.cpu.rules import body_of, realise
from pellucid.engines.cpu.staging import contraction_of
from pellucid.engines.llvm import tiling
from pellucid.engines.llvm.contract import plan_contraction
from pellucid.engines.llvm.target import AVX2, AVX512, host_isa
from pellucid.engines.llvm.tiling import Tiling, ranked_ways
from pellucid.engines.loops.ir import Contract, Kernel, Let, Load, Store, nested
from pellucid.engines.loops.roles import has_contraction
from pellucid.engines.loops.text import parse_kernel, print_kernel
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType
from pellucid.ops.control import evaluate
from pellucid.ops.convolution import convolution, plain_attrs
from pellucid.ops.elementwise import add, exp, maximum
from pellucid.ops.movement import broadcast, full_like, transpose
from pellucid.ops.reduce_window import window_max, window_sum
from pellucid.passes.pipeline import clean, optimize
from pellucid.transforms import vjp
from tests.engines.executing import run_compiled, run_launched
from tests.graphs import same_bits

ROOT = Path(__file__).parent.parent.parent
POOL: dict[str, Any] = {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
SAME: dict[str, Any] = plain_attrs(2) | {"padding": ((1, 1), (1, 1))}


def layer(attrs: dict[str, Any], *shapes: tuple[int, ...], dtype: Any = float32) -> Graph:
    """relu(convolution + bias), pooled."""
    with building() as builder:
        x, w, b = (builder.input(TensorType(dtype, shape)) for shape in shapes)
        y = convolution(x, w, **attrs)
        y = add(y, broadcast(b, shape=y.shape, axes=(y.tensor.rank - 1,)))
        y = maximum(y, full_like(y, 0.0))
        return builder.graph([window_max(y, **POOL), y])


def operands(graph: Graph) -> tuple[Any, ...]:
    """Seeded normal numbers."""
    rng = np.random.default_rng(0)
    types = [value.tensor for value in graph.inputs]
    return tuple(rng.normal(size=type.shape).astype(type.dtype.numpy) for type in types)


DEPTHWISE: dict[str, Any] = SAME | {"feature_groups": 20}
FORMS: list[tuple[dict[str, Any], tuple[tuple[int, ...], ...]]] = [
    (DEPTHWISE, ((2, 9, 8, 20), (3, 3, 1, 20), (20,))),
    (SAME, ((3, 14, 13, 8), (3, 3, 8, 40), (40,))),
    (plain_attrs(2) | {"strides": (2, 1)}, ((2, 17, 9, 70), (3, 3, 70, 16), (16,))),
    (plain_attrs(2), ((4, 16, 16, 1), (3, 3, 1, 32), (32,))),
    (SAME | {"feature_groups": 2}, ((2, 8, 8, 6), (3, 3, 3, 10), (10,))),
    (plain_attrs(2) | {"rhs_dilation": (2, 2)}, ((2, 12, 12, 5), (3, 3, 5, 1), (1,))),
    (plain_attrs(2), ((2, 6, 6, 5), (1, 1, 5, 7), (7,))),
    (SAME | {"strides": (2, 2)}, ((2, 9, 8, 5), (3, 3, 5, 24), (24,))),
    (DEPTHWISE | {"strides": (2, 2)}, ((2, 8, 9, 20), (3, 3, 1, 20), (20,))),
    (plain_attrs(2) | {"strides": (2, 3)}, ((2, 7, 7, 5), (1, 1, 5, 7), (7,))),
    (SAME | {"lhs_dilation": (2, 3), "feature_groups": 2}, ((2, 5, 4, 6), (3, 3, 3, 10), (10,))),
    (SAME | {"lhs_dilation": (2, 2), "flip": True}, ((2, 5, 4, 6), (4, 2, 6, 9), (9,))),
    # Lines long enough that padding is read as zeros; 648 k's are two chunks, cut within a line.
    (SAME, ((3, 10, 9, 72), (3, 3, 72, 40), (40,))),
    (
        SAME | {"padding": ((2, 0), (0, 3)), "strides": (1, 2), "rhs_dilation": (2, 1)}
        | {"feature_groups": 2, "flip": True},
        ((2, 9, 8, 36), (3, 3, 18, 10), (10,)),
    ),
    (DEPTHWISE | {"padding": ((2, 2), (2, 1))}, ((2, 9, 30, 20), (5, 4, 1, 20), (20,))),
    # Tiles of four and of three vectors.
    (SAME, ((2, 9, 14, 3), (3, 3, 3, 60), (60,))),
    (SAME, ((2, 8, 9, 20), (3, 3, 20, 48), (48,))),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FORMS)))
def test_layer_and_its_gradient_are_near_the_reference(number: int) -> None:
    attrs, shapes = FORMS[number]
    graph = layer(attrs, *shapes)
    back = vjp(graph, (0, 1, 2))
    arrays = operands(back)
    found = run_compiled(find_engine("cpu"), optimize(back), arrays)
    for got, want in zip(found, evaluate(back, arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("number", "dtype"),
    [*((number, float32) for number in range(len(FORMS))), (0, bfloat16), (10, bfloat16)],
    ids=str,
)
def test_launched_compiled_and_fused_have_the_same_bits(number: int, dtype: Any) -> None:
    attrs, shapes = FORMS[number]
    cpu = find_engine("cpu")
    back = vjp(layer(attrs, *shapes, dtype=dtype), (0, 1, 2))
    arrays = operands(back)
    wanted = run_launched(cpu, back, arrays)
    assert all(map(same_bits, run_compiled(cpu, back, arrays), wanted))
    assert all(map(same_bits, run_compiled(cpu, optimize(back), arrays), wanted))


def test_bits_of_one_thread_are_those_of_three() -> None:
    assert digest_in_child(PELLUCID_THREADS="1") == digest_in_child(PELLUCID_THREADS="3")


def test_bits_of_older_vectors_are_those_of_newer_ones() -> None:
    host = host_isa()
    if host.name == "sse2":
        pytest.skip("this machine has only the oldest class")
    # Sums of bfloat16 in pairs are a class apart.
    newest = "avx512vnni" if host.pairs_bfloat16 else host.name
    assert digest_in_child(PELLUCID_ISA=newest) == digest_in_child(PELLUCID_ISA="avx2")


@pytest.mark.parametrize("channels", [5, 61])
@pytest.mark.parametrize("columns", [1, 40])
def test_bfloat16_is_summed_as_in_the_product_of_the_windows(channels: int, columns: int) -> None:
    images, weights = (
        np.random.default_rng(seed).normal(size=shape).astype(bfloat16.numpy)
        for seed, shape in enumerate(((2, 6, 7, channels), (3, 3, channels, columns)))
    )
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2))
    lines = np.ascontiguousarray(windows.transpose(0, 1, 2, 4, 5, 3)).reshape(2, 4, 5, -1)
    product = np.asarray(pe.asarray(lines) @ pe.asarray(weights.reshape(-1, columns)))
    with building() as builder:
        x, w = (builder.input(TensorType(bfloat16, array.shape)) for array in (images, weights))
        graph = builder.graph([convolution(x, w, **plain_attrs(2))])
    for run in (run_compiled, run_launched):
        assert same_bits(run(find_engine("cpu"), graph, (images, weights))[0], product)


def test_depthwise_has_the_bits_of_each_channel_by_itself() -> None:
    shape = (20, 9, 37)
    images = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    weights = np.random.default_rng(2).normal(size=(3, 3, 1, 37)).astype(np.float32)
    for strides in ((1, 1), (2, 2)):
        attrs = SAME | {"strides": strides}
        found = convolved(images, weights, attrs | {"feature_groups": 37})
        for channel in range(37):
            one = slice(channel, channel + 1)
            alone = convolved(images[..., one], weights[..., one], attrs)
            assert same_bits(np.ascontiguousarray(found[..., one]), alone)


def convolved(x: np.ndarray, w: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    """The convolution by itself, compiled."""
    with building() as builder:
        types = [TensorType(float32, array.shape) for array in (x, w)]
        graph = builder.graph([convolution(*map(builder.input, types), **attrs)])
    return run_compiled(find_engine("cpu"), graph, (np.ascontiguousarray(x), w.copy()))[0]


def test_vectors_of_a_depthwise_convolution_run_along_the_channels() -> None:
    graph = layer(DEPTHWISE, (2, 9, 8, 20), (3, 3, 1, 20), (20,))
    assert plan_contraction(realise(graph.nodes[0], AVX2).calls[-1].kernel, AVX2)[1].beside


def test_overlapping_windows_with_what_follows_them_keep_every_bit() -> None:
    attrs = {"window": (3, 3), "strides": (2, 2), "padding": ((1, 1), (0, 1))}
    with building() as builder:
        x = builder.input(TensorType(float32, (2, 9, 8, 20)))
        y = maximum(x, full_like(x, 0.0))  # many equal elements, of which the first counts
        forward = builder.graph([window_max(y, **attrs)])
    back = optimize(vjp(forward, (0,)))
    assert len(back.nodes) == 3
    arrays = operands(back)
    arrays[0][0, 3, 4] = np.nan
    launched = run_launched(find_engine("cpu"), clean(vjp(forward, (0,))), arrays)
    assert all(map(same_bits, run_compiled(find_engine("cpu"), back, arrays), launched))
    for found, expected in zip(launched, evaluate(back, arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_padding_of_a_transposed_operand_is_copied_along_memory() -> None:
    back = optimize(vjp(layer(SAME, (4, 8, 8, 24), (3, 3, 24, 12), (12,)), (1,)))
    calls = [call for node in back.nodes for call in realise(node, AVX2).calls]
    (copy,) = (c.kernel for c in calls if c.kernel.name == "transpose_window_sum")
    (store,) = (s for s in nested(copy.body) if isinstance(s, Store))
    (load,) = (
        s.value for s in nested(copy.body) if isinstance(s, Let) and isinstance(s.value, Load)
    )
    along = [name for name, step in store.index.terms if step == 1]
    assert load.index.coefficient(along[0]) == 1


def test_bias_and_relu_are_part_of_the_convolutions_kernel() -> None:
    graph = optimize(layer(plain_attrs(2), (2, 8, 8, 3), (3, 3, 3, 4), (4,)))
    assert [node.op.name for node in graph.nodes] == ["fusion", "window_max"]
    assert len(realise(graph.nodes[0], AVX2).calls) == 1


def test_only_padding_is_copied_never_a_window() -> None:
    graph = optimize(layer(SAME, (2, 8, 8, 3), (3, 3, 3, 12), (12,)))
    assert realise(graph.nodes[0], AVX2).temporaries == (2 * 10 * 10 * 3 * 4,)


@pytest.mark.parametrize(
    ("channels", "features", "tile"),
    [(3, 64, (6, 4)), (16, 128, (6, 4)), (20, 48, (8, 3)), (64, 96, (8, 3)), (64, 64, (14, 2))],
)
def test_tiles_are_wide_where_there_are_few_ks_or_columns_would_idle(
    channels: int, features: int, tile: tuple[int, int]
) -> None:
    shapes = ((2, 58, 58, channels), (3, 3, channels, features), (features,))
    (fused, *_) = optimize(layer(plain_attrs(2), *shapes)).nodes
    (call,) = realise(fused, AVX512).calls
    _, made = plan_contraction(cast(Kernel, call.kernel), AVX512)
    assert (made.rows, made.vectors) == tile


def test_what_all_rows_see_and_comes_from_far_is_read_by_fewer_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiling, "_thread_counts", lambda: (1, 2))
    near = Tiling(12, 2, 16, False, False, False, 1, 1, tables=True)
    sizes = {"batch": 1, "m": 9 * 64, "n": 64, "k": 8 * 56 * 56}
    (close, _), (far, _) = (
        ranked_ways(replace(near, shared=shared), **sizes)[0] for shared in (0, 64)
    )
    assert far > close


def test_padding_is_not_copied_beside_long_lines() -> None:
    for number in (0, 12, 14):
        attrs, shapes = FORMS[number]
        (fused, *_) = optimize(layer(attrs, *shapes)).nodes
        made = realise(fused, AVX2)
        assert len(made.calls) == 1
        assert not made.temporaries
        kernel = cast(Kernel, made.calls[0].kernel)
        (contract,) = (s for s in nested(kernel.body) if isinstance(s, Contract))
        assert len(contract.within) == 2
        assert parse_kernel(print_kernel(kernel)) == kernel


@pytest.mark.parametrize("channels", [20, 36])
@pytest.mark.parametrize("padding", [((1, 1), (0, 0)), ((0, 0), (1, 1)), ((1, 1), (1, 1))], ids=str)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 1, 2)], ids=str)
def test_padding_along_an_axis_and_weights_that_lie_across(
    order: Axes, padding: Any, channels: int
) -> None:
    groups = 20 if channels == 20 else 1
    shape = (3, 3, channels // groups, 20)
    with building() as builder:
        x = builder.input(TensorType(float32, (2, 6, 7, channels)))
        w = builder.input(TensorType(float32, tuple(shape[axis] for axis in order)))
        attrs = plain_attrs(2) | {"padding": padding, "feature_groups": groups}
        seen = transpose(w, permutation=tuple(order.index(at) for at in range(4)))
        graph = builder.graph([exp(convolution(x, seen, **attrs))])
    arrays, cpu = operands(graph), find_engine("cpu")
    wanted = run_launched(cpu, graph, arrays)
    assert all(map(same_bits, run_compiled(cpu, optimize(graph), arrays), wanted))


def test_infinite_weights_meet_zeros_in_padding() -> None:
    attrs, shapes = FORMS[12]
    graph = layer(attrs, *shapes)
    x, w, b = operands(graph)
    w[0, 0, 5, 7] = np.inf
    _, found = run_compiled(find_engine("cpu"), graph, (x, w, b))
    nans = np.isnan(found)
    assert nans[:, 0, :, 7].all()
    assert nans[:, :, 0, 7].all()
    assert not nans[:, 1:, 1:].any()


def test_gaps_are_neither_copied_nor_multiplied() -> None:
    attrs = SAME | {"strides": (2, 2)}
    graph = optimize(vjp(layer(attrs, (2, 8, 8, 3), (3, 3, 3, 4), (4,)), (0,)))
    *_, node = (node for node in graph.nodes if contraction_of(body_of(node)) is not None)
    made = realise(node, AVX2)
    products = [call.kernel for call in made.calls if has_contraction(call.kernel)]
    depths = [
        prod(cast(int, axis.extent) for axis in statement.axes)
        for kernel in products
        for statement in nested(kernel.body)
        if isinstance(statement, Contract)
    ]
    # 9 places of the window in all, each of 4 features.
    assert sorted(depths) == [4, 8, 8, 16]
    assert sum(made.temporaries) <= 4 * (2 * 6 * 6 * 4 + 9 * 4 * 3)


def test_lines_of_few_rows_are_one_product() -> None:
    graph = layer(plain_attrs(2) | {"strides": (2, 2)}, (3, 14, 14, 8), (1, 1, 8, 32), (32,))
    (call,) = realise(graph.nodes[0], AVX2).calls
    spec, _ = plan_contraction(call.kernel, AVX2)
    assert (spec.m, spec.n, spec.batch) == (3 * 7 * 7, 32, ())


def test_weights_read_across_are_copied_along_memory() -> None:
    back = optimize(vjp(layer(SAME, (2, 8, 8, 3), (3, 3, 3, 40), (40,)), (0,)))
    *_, node = (node for node in back.nodes if contraction_of(body_of(node)) is not None)
    copies = [c.kernel for c in realise(node, AVX2).calls if not has_contraction(c.kernel)]
    turned = next(kernel for kernel in copies if "window_sum" not in kernel.name)
    loads = (
        line.value
        for line in nested(turned.body)
        if isinstance(line, Let) and isinstance(line.value, Load)
    )
    stores = (line for line in nested(turned.body) if isinstance(line, Store))
    for load, store in zip(loads, stores, strict=True):
        along = [name for name, step in store.index.terms if step == 1]
        assert load.index.coefficient(along[0]) == 1


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_infinite_weights_in_gaps_are_no_terms(engine: str) -> None:
    weights = np.asarray([np.inf, 1, 2], np.float32).reshape(3, 1, 1)
    images = np.asarray([3, 4, 5], np.float32).reshape(1, 3, 1)
    attrs = plain_attrs(1) | {"lhs_dilation": (2,)}
    with building() as builder:
        types = [TensorType(float32, array.shape) for array in (images, weights)]
        graph = builder.graph([convolution(*map(builder.input, types), **attrs)])
    (found,) = run_compiled(find_engine(engine), graph, (images, weights))
    assert found.ravel().tolist() == [np.inf, 4, np.inf]


def test_window_of_one_is_a_plain_product() -> None:
    graph = layer(plain_attrs(2), (2, 8, 8, 3), (1, 1, 3, 4), (4,))
    (call,) = realise(graph.nodes[0], AVX2).calls
    assert "over k2 < 3" in print_kernel(call.kernel)
    assert "for i < 128" in print_kernel(call.kernel)


def test_kernels_over_windows_parse_from_their_text() -> None:
    graph = layer(SAME | {"strides": (2, 2)}, (2, 8, 8, 3), (3, 3, 3, 4), (4,))
    for node in graph.nodes:
        for call in realise(node, AVX2).calls:
            assert parse_kernel(print_kernel(call.kernel)) == call.kernel


def test_large_windows_are_shared_by_threads_with_the_same_bits() -> None:
    attrs = {"window": (600, 600), "strides": (1, 1), "padding": ((0, 0), (0, 0))}
    with building() as builder:
        x = builder.input(TensorType(float32, (1, 600, 600, 3)))
        graph = builder.graph([window_sum(x, **attrs, lhs_dilation=(1, 1)), window_max(x, **attrs)])
    arrays = operands(graph)
    found = run_compiled(find_engine("cpu"), graph, arrays)
    assert all(map(same_bits, found, run_launched(find_engine("cpu"), graph, arrays)))
    np.testing.assert_allclose(found[0], arrays[0].sum((1, 2), keepdims=True), rtol=1e-3, atol=0.1)
    assert same_bits(found[1], arrays[0].max((1, 2), keepdims=True))


def digest() -> str:
    """One SHA-256 over layers and their gradients."""
    sums = hashlib.sha256()
    for attrs, shapes in (*FORMS[:5], *FORMS[7:9], *FORMS[12:14]):
        for dtype in (float32, bfloat16):
            back = optimize(vjp(layer(attrs, *shapes, dtype=dtype), (0, 1, 2)))
            for array in run_compiled(find_engine("cpu"), back, operands(back)):
                sums.update(array.tobytes())
    return sums.hexdigest()


def digest_in_child(**settings: str) -> str:
    """The digest computed by a fresh process with these settings."""
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": paths, **settings}
    body = "from tests.engines.test_convolutions import digest; print(digest())"
    command = [sys.executable, "-c", body]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
