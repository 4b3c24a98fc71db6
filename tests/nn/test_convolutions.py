"""Do layers over windows compute what they say, in every format, eager and jitted?"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.core.error import OpShapeError, StateError
from pellucid.nn import functional


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain_conv(x: Any, w: Any, stride: int, low: int, high: int, gap: int) -> Any:
    """A 2-D convolution by loops."""
    x = np.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))
    reach = (w.shape[0] - 1) * gap + 1
    count = [(size - reach) // stride + 1 for size in x.shape[1:3]]
    y = np.zeros((x.shape[0], *count, w.shape[-1]))
    for i, j in product(*map(range, count)):
        at = x[:, i * stride : i * stride + reach : gap, j * stride : j * stride + reach : gap]
        y[:, i, j] = np.tensordot(at, w, 3)
    return y


@pytest.mark.parametrize(("stride", "pad", "gap"), [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 0, 1)])
def test_conv_equals_loops(stride: int, pad: int, gap: int) -> None:
    x, w = normal(2, 9, 8, 3), normal(3, 3, 3, 5, seed=1)
    found = functional.conv(x, w, strides=stride, padding=pad, dilation=gap)
    wanted = plain_conv(x, w, stride, pad, pad, gap)
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rank", "layer"), [(1, nn.Conv1D), (2, nn.Conv2D), (3, nn.Conv3D)])
def test_same_padding_keeps_sizes(rank: int, layer: Any) -> None:
    x = normal(2, *(6, 7, 5)[:rank], 3)
    assert layer(4, 3, padding="same")(x).shape == (*x.shape[:-1], 4)
    assert layer(4, 2, strides=2, padding="same")(x).shape[1] == 3


@pytest.mark.parametrize("strides", [1, 2, 3, 5])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_conv_transpose_is_the_transpose_of_conv(strides: int, padding: str) -> None:
    g, w = normal(2, 4, 3), normal(3, 3, 2, seed=1)
    large = functional.conv_transpose(g, w, strides=strides, padding=padding)
    x = pe.asarray(normal(*large.shape, seed=2))
    turned = pe.permute_dims(pe.asarray(w), (0, 2, 1))

    def forward(x: Any) -> Any:
        return pe.sum(functional.conv(x, turned, strides=strides, padding=padding) * g)

    np.testing.assert_allclose(np.asarray(pe.grad(forward)(x)), np.asarray(large), atol=1e-5)


def test_conv_transpose_with_same_padding_multiplies_sizes() -> None:
    for strides in (1, 2, 4):
        y = nn.Conv2DTranspose(2, 3, strides=strides, padding="same")(normal(1, 5, 4, 3))
        assert y.shape == (1, 5 * strides, 4 * strides, 2)
    assert nn.Conv1DTranspose(2, 3)(normal(1, 5, 3)).shape == (1, 7, 2)
    assert nn.Conv3DTranspose(2, 2, strides=2)(normal(1, 2, 3, 2, 3)).shape == (1, 4, 6, 4, 2)


def test_groups_are_convolutions_side_by_side() -> None:
    x, w = normal(2, 6, 6, 4), normal(3, 3, 2, 6, seed=1)
    found = np.asarray(functional.conv(x, w, groups=2))
    halves = [
        functional.conv(np.ascontiguousarray(x[..., s]), np.ascontiguousarray(w[..., f]))
        for s, f in ((slice(0, 2), slice(0, 3)), (slice(2, 4), slice(3, 6)))
    ]
    np.testing.assert_allclose(found, np.concatenate(list(map(np.asarray, halves)), -1), rtol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        lambda f: nn.Conv2D(4, 3, padding="same", data_format=f),
        lambda f: nn.Conv2DTranspose(4, 3, strides=2, data_format=f),
        lambda f: nn.MaxPool2D(2, data_format=f),
        lambda f: nn.AvgPool2D(3, 2, padding="same", data_format=f),
    ],
)
def test_channels_first_is_channels_last_with_axes_moved(layer: Any) -> None:
    x = normal(2, 6, 8, 3)
    last, first = layer("channels_last"), layer("channels_first")
    wanted = np.asarray(last(x))
    first(np.moveaxis(x, -1, 1))
    for name, cell in last.named_parameters().items():
        first.named_parameters()[name].assign(cell.value)
    found = np.asarray(first(np.ascontiguousarray(np.moveaxis(x, -1, 1))))
    np.testing.assert_array_equal(np.moveaxis(found, 1, -1), wanted)


def test_pools_equal_numpy() -> None:
    x = normal(2, 6, 8, 3)
    blocks = x.reshape(2, 3, 2, 4, 2, 3)
    np.testing.assert_array_equal(np.asarray(nn.MaxPool2D()(x)), blocks.max((2, 4)))
    found = np.asarray(nn.AvgPool2D()(x))
    np.testing.assert_allclose(found, blocks.mean((2, 4)), rtol=1e-5, atol=1e-6)
    assert nn.MaxPool1D(3)(normal(1, 9, 2)).shape == (1, 3, 2)
    assert nn.MaxPool3D()(normal(1, 4, 4, 4, 2)).shape == (1, 2, 2, 2, 2)
    assert nn.AvgPool1D(3)(normal(1, 9, 2)).shape == (1, 3, 2)
    assert nn.AvgPool3D()(normal(1, 4, 4, 4, 2)).shape == (1, 2, 2, 2, 2)


def test_padding_does_not_count_in_a_mean() -> None:
    ones = np.ones((1, 5, 5, 1), np.float32)
    found = functional.avg_pool(ones, 3, strides=2, padding="same")
    np.testing.assert_array_equal(np.asarray(found), np.ones((1, 3, 3, 1), np.float32))


def test_gradient_of_max_pool_goes_to_the_first_maximum() -> None:
    x = pe.asarray(np.array([[[1.0], [1.0], [0.0], [2.0]]], np.float32))
    found = pe.grad(lambda x: pe.sum(functional.max_pool(x, 2)))(x)
    np.testing.assert_array_equal(np.asarray(found)[0, :, 0], [1, 0, 0, 1])


def test_max_pool_passes_nan_on() -> None:
    x = np.array([[[1.0], [np.nan], [3.0], [2.0]]], np.float32)
    np.testing.assert_array_equal(np.asarray(functional.max_pool(x, 2))[0, :, 0], [np.nan, 3])


def test_gradients_of_a_small_network_are_the_same_eager_and_jitted() -> None:
    layers = [nn.Conv2D(6, 3, activation="relu"), nn.MaxPool2D(), nn.Flatten(), nn.Dense(3)]
    model = nn.Sequential(layers)
    x = pe.asarray(normal(4, 10, 10, 2))
    model(x)

    def loss(x: Any) -> Any:
        return pe.sum(model(x) * model(x))

    eager, jitted = pe.grad(loss)(x), pe.jit(pe.grad(loss))(x)
    np.testing.assert_array_equal(np.asarray(eager), np.asarray(jitted))


def test_wrong_shapes_are_named() -> None:
    layer = nn.Conv2D(4, 3)
    with pytest.raises(OpShapeError, match=r"Conv2D: expected batch, .* 2 spatial axes"):
        layer(normal(2, 5, 3))
    layer(normal(2, 5, 5, 3))
    with pytest.raises(OpShapeError, match="Conv2D: expected 3 channels"):
        layer(normal(2, 5, 5, 4))
    with pytest.raises(StateError, match="5 filters are not 2 equal groups"):
        nn.Conv2D(5, 3, groups=2)
    with pytest.raises(OpShapeError, match="3 channels are not 2 equal groups"):
        nn.Conv2D(4, 3, groups=2)(normal(2, 5, 5, 3))
    with pytest.raises(OpShapeError, match="strides: expected an int from 1"):
        nn.Conv2D(4, 3, strides=0)
    with pytest.raises(OpShapeError, match="padding: expected 'valid'"):
        functional.max_pool(normal(1, 4, 1), 2, padding="full")
    with pytest.raises(StateError, match="data_format"):
        nn.MaxPool2D(data_format="NHWC")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("first", [False, True])
def test_global_poolings_leave_one_number_for_each_channel(rank: int, first: bool):
    x = np.random.default_rng(3).normal(size=(2, *range(3, 3 + rank), 4))
    given, options = x, {}
    if first:
        given, options = np.moveaxis(x, -1, 1), {"data_format": "channels_first"}
    axes = tuple(range(1, 1 + rank))
    np.testing.assert_allclose(nn.GlobalAvgPool(**options)(given), x.mean(axes), rtol=1e-12)
    np.testing.assert_array_equal(nn.GlobalMaxPool(**options)(given), x.max(axes))


def test_global_poolings_need_a_place_and_a_format_that_is_known():
    with pytest.raises(pe.OpShapeError, match=r"GlobalAvgPool: expected \(batch, spatial axes"):
        nn.GlobalAvgPool()(pe.zeros((2, 3)))
    with pytest.raises(pe.StateError, match="no data_format is called 'first'"):
        nn.GlobalMaxPool(data_format="first")
