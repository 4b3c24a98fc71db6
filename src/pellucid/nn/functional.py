"""What do windows over an array compute? Convolution, its transpose and pooling, as functions.

Inputs are (batch, spatial axes, channels), in one to three spatial axes or any other number; with
`data_format="channels_first"` (batch, channels, spatial axes). A number given for all spatial axes
may be one int. `padding` is "valid" (none), "same" (as many results as strides fit into the input),
an int, or an int or a (low, high) pair for each axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from pellucid.core.error import OpShapeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.core.spelling import unknown_name
from pellucid.ir.graph import freeze_attrs
from pellucid.nn.spellings import FUNCTIONS
from pellucid.ops.convolution import convolution, plain_attrs
from pellucid.ops.reduce_window import window_max, window_sum
from pellucid.ops.windows import Padding, Sizes, dilated
from pellucid.tensor.arithmetic import divide, same_dtype
from pellucid.tensor.creation import ones
from pellucid.tensor.dispatch import apply
from pellucid.tensor.precision import reading
from pellucid.tensor.shaping import permute_dims
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor

Numbers = int | Sequence[int]
PaddingLike = str | int | Sequence[int | tuple[int, int]]

FORMATS = ("channels_last", "channels_first")


def conv(
    x: Operand,
    kernel: Operand,
    *,
    strides: Numbers = 1,
    padding: PaddingLike = "valid",
    dilation: Numbers = 1,
    groups: int = 1,
    data_format: str = "channels_last",
) -> Tensor:
    """The products of a kernel with every window of x, added up (no window is turned round).

    The kernel is (window axes, channels / groups, features) in either data format. Raises
    OpShapeError where sizes do not fit.

    >>> from pellucid import ones
    >>> conv(ones((1, 5, 5, 2)), ones((3, 3, 2, 4)), padding="same", strides=2).shape
    (1, 3, 3, 4)
    """
    lhs, rhs = _operands("conv", x, kernel, data_format)
    rank = lhs.ndim - 2
    steps, gaps = numbers("strides", strides, rank), numbers("dilation", dilation, rank)
    pads = paddings(padding, lhs.shape[1:-1], rhs.shape[:-2], steps, gaps)
    attrs = plain_attrs(rank) | {
        "strides": steps, "padding": pads, "rhs_dilation": gaps, "feature_groups": groups,
    }  # fmt: skip
    frozen = freeze_attrs(attrs | dict(reading(lhs.dtype)))
    return _arranged(apply(convolution, (lhs, rhs), frozen), data_format)


def conv_transpose(
    x: Operand,
    kernel: Operand,
    *,
    strides: Numbers = 1,
    padding: PaddingLike = "valid",
    dilation: Numbers = 1,
    groups: int = 1,
    data_format: str = "channels_last",
) -> Tensor:
    """Every element of x sends out a window of the kernel; where windows overlap they add up.

    It is the transpose of `conv` with these strides, padding and dilation: sizes grow by the
    strides. The kernel is (window axes, channels / groups, features).

    >>> from pellucid import ones
    >>> conv_transpose(ones((1, 4, 4, 2)), ones((3, 3, 2, 1)), padding="same", strides=2).shape
    (1, 8, 8, 1)
    """
    lhs, rhs = _operands("conv_transpose", x, kernel, data_format)
    rank = lhs.ndim - 2
    steps, gaps = numbers("strides", strides, rank), numbers("dilation", dilation, rank)
    larger = tuple(size * step for size, step in zip(lhs.shape[1:-1], steps, strict=True))
    pads = paddings(padding, larger, rhs.shape[:-2], steps, gaps)
    reach = [dilated(w, gap) - 1 for w, gap in zip(rhs.shape[:-2], gaps, strict=True)]
    around = [(r - low, r - high) for r, (low, high) in zip(reach, pads, strict=True)]
    if padding == "same":
        # A stride wider than the window leaves a rim that no window reaches.
        rims = [max(step - r - 1, 0) for r, step in zip(reach, steps, strict=True)]
        around = [(low, high + rim) for (low, high), rim in zip(around, rims, strict=True)]
    attrs = plain_attrs(rank) | {
        "padding": tuple(around), "lhs_dilation": steps, "rhs_dilation": gaps,
        "feature_groups": groups, "flip": True,
    }  # fmt: skip
    frozen = freeze_attrs(attrs | dict(reading(lhs.dtype)))
    return _arranged(apply(convolution, (lhs, rhs), frozen), data_format)


def max_pool(
    x: Operand,
    window: Numbers,
    *,
    strides: Numbers | None = None,
    padding: PaddingLike = "valid",
    data_format: str = "channels_last",
) -> Tensor:
    """The largest element of each window; strides are the window's sizes if not given.

    The derivative goes to the first of several maxima.

    >>> from pellucid import asarray
    >>> print(max_pool(asarray([[[1.0], [3.0], [2.0], [0.0]]]), 2))
    [[[3.]
      [2.]]]
    """
    tensor = _arranged(as_tensor(x), data_format, back=False)
    attrs = _pooling("max_pool", tensor, window, strides, padding)
    return _arranged(apply(window_max, (tensor,), freeze_attrs(attrs)), data_format)


def avg_pool(
    x: Operand,
    window: Numbers,
    *,
    strides: Numbers | None = None,
    padding: PaddingLike = "valid",
    data_format: str = "channels_last",
) -> Tensor:
    """The mean of each window's elements, of which padding is none.

    >>> from pellucid import asarray
    >>> print(avg_pool(asarray([[[1.0], [3.0], [2.0]]]), 2, padding="same"))
    [[[2.]
      [2.]]]
    """
    tensor = _arranged(as_tensor(x), data_format, back=False)
    attrs = _pooling("avg_pool", tensor, window, strides, padding)
    rank = tensor.ndim - 2
    frozen = freeze_attrs(attrs | {"lhs_dilation": (1,) * rank})
    total = apply(window_sum, (tensor,), frozen)
    if all(pair == (0, 0) for pair in attrs["padding"]):
        return _arranged(divide(total, float(math.prod(attrs["window"]))), data_format)
    there = ones((1, *tensor.shape[1:-1], 1), dtype=tensor.dtype)
    return _arranged(divide(total, apply(window_sum, (there,), frozen)), data_format)


def numbers(name: str, given: Numbers, rank: int) -> Sizes:
    """One number for each spatial axis.

    >>> numbers("strides", 2, 3)
    (2, 2, 2)
    """
    found = (given,) * rank if isinstance(given, int) else tuple(given)
    if len(found) != rank or any(number < 1 for number in found):
        raise OpShapeError(
            f"{name}: expected an int from 1, or {rank} of them, got {given}"
            f"{at_line(user_source())}"
        )
    return found


def paddings(
    given: PaddingLike, sizes: Sizes, window: Sizes, strides: Sizes, dilation: Sizes
) -> Padding:
    """(low, high) for each spatial axis.

    >>> paddings("same", (5, 6), (3, 3), (1, 2), (1, 1))
    ((1, 1), (0, 1))
    """
    rank = len(sizes)
    if given == "valid":
        return ((0, 0),) * rank
    if given == "same":
        axes = zip(sizes, window, strides, dilation, strict=True)
        totals = [max((-(-n // s) - 1) * s + dilated(w, d) - n, 0) for n, w, s, d in axes]
        return tuple((total // 2, total - total // 2) for total in totals)
    each = (given,) * rank if isinstance(given, int) else tuple(given)
    if isinstance(given, str) or len(each) != rank:
        raise OpShapeError(
            f"padding: expected 'valid', 'same', an int, or {rank} ints or pairs, got {given!r}"
            f"{at_line(user_source())}"
        )
    return tuple(_pair(one) for one in each)


def _pair(one: Any) -> tuple[int, int]:
    if isinstance(one, int):
        return one, one
    low, high = one
    return low, high


def _pooling(
    name: str, x: Tensor, window: Numbers, strides: Numbers | None, padding: PaddingLike
) -> dict[str, Any]:
    rank = x.ndim - 2
    if rank < 0:
        raise OpShapeError(
            f"{name}: expected (batch, spatial axes, channels), got {shape_text(x.shape)}"
            f"{at_line(user_source())}"
        )
    sizes = numbers("window", window, rank)
    steps = sizes if strides is None else numbers("strides", strides, rank)
    pads = paddings(padding, x.shape[1:-1], sizes, steps, (1,) * rank)
    return {"window": sizes, "strides": steps, "padding": pads}


def _operands(name: str, x: Operand, kernel: Operand, data_format: str) -> tuple[Tensor, Tensor]:
    lhs, rhs = same_dtype(x, kernel)
    if lhs.ndim < 2 or lhs.ndim != rhs.ndim:
        raise OpShapeError(
            f"{name}: expected as many axes of x as of the kernel, and 2 at least, got "
            f"x {shape_text(lhs.shape)}, kernel {shape_text(rhs.shape)}{at_line(user_source())}"
        )
    return _arranged(lhs, data_format, back=False), rhs


def _arranged(x: Tensor, data_format: str, back: bool = True) -> Tensor:
    """Channels moved last, or `back` to where the format has them."""
    if data_format not in FORMATS:
        raise OpShapeError(
            f"data_format: expected one of {', '.join(FORMATS)}, got {data_format!r}"
            f"{at_line(user_source())}"
        )
    if data_format == "channels_last" or x.ndim < 3:
        return x
    last = x.ndim - 1
    axes = (0, last, *range(1, last)) if back else (0, *range(2, last + 1), 1)
    return permute_dims(x, axes)


def __getattr__(name: str) -> NoReturn:
    raise unknown_name("pellucid.nn.functional", name, FUNCTIONS)
