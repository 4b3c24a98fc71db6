"""Which convolutions take a quarter of the multiplications? Those of 3x3 windows, in tiles of 4x4.

Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016): with d a tile of 6x6 elements, g a window of
weights and * element by element,

    y = A' ((G g G') * (B' d B)) A

is a tile of 4x4 results. Over channels the products of one of the 36 places are a matrix product.

Only where `fast=True` asked for it. Before: any graph that checks. After: no float32 convolution of
a 3x3 window at step 1 is left that has `LEAST` channels, features and tiles; the ops in its place
are slices, additions, multiplications by numbers and products. Sums of each tile cancel: results
are off by at most 2e-5 of the largest where numbers are like noise (direct ones by 5e-7), and a NaN
or an infinity spreads over its tile.

To transform weights takes as long as to multiply a few tens of tiles by them. `keep_transformed`
does it where weights seldom change and tiles are few, for `steady` to keep what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from pellucid.core.dtype import float32
from pellucid.core.shape import is_static, static_shape
from pellucid.ir.graph import Graph, Node, TensorType, Value
from pellucid.ir.rewrite import rewrite_nodes
from pellucid.ops.contract import dot_general
from pellucid.ops.convolution import convolution, plain_attrs
from pellucid.ops.elementwise import add, mul, neg
from pellucid.ops.movement import full_like, literal, reshape, transpose
from pellucid.ops.parts import concatenate, pad, slice
from pellucid.passes.stage import staged

LEAST = 48
"""Channels, features and tiles from which it is faster: with fewer, transforming costs too much."""

LEAST_KEPT, MOST_KEPT = 16, 128
"""Tiles for which transformed weights are kept: few gain by them, and to many they are nothing."""

LARGEST_KEPT = 1 << 24
"""The bytes of kept weights at most: larger ones leave the caches, and to read them takes long."""

TILE, REACH = 4, 6
"""Results of a tile along an axis, and the elements that they meet."""

Rows = tuple[tuple[float, ...], ...]
Square = list[list[Value]]

TO_WEIGHTS: Rows = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
TO_ELEMENTS: Rows = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
TO_RESULTS: Rows = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
"""G, B' and A' of the equation."""


@staged
def winograd(graph: Graph) -> Graph:
    """Convolutions of 3x3 windows by products of transformed tiles, up to rounding."""

    def rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value] | None:
        if not _suits(node) or _tile_count(node) < LEAST:
            return None
        x, w = operands
        return (_convolved(node, x, _twice(TO_WEIGHTS, _window(w, node.attr("flip")))),)

    return rewrite_nodes(graph, rule)


def keep_transformed(
    graph: Graph, is_steady: Callable[[Value], bool]
) -> tuple[Graph, frozenset[Value]]:
    """The graph with steady weights transformed where that is to be kept; what is to be kept."""
    made: dict[tuple[Value, bool], Value] = {}

    def rule(node: Node, operands: tuple[Value, ...]) -> tuple[Value] | None:
        if not _suits(node) or not is_steady(node.operands[1]) or not _is_worth_keeping(node):
            return None
        x, w = operands
        flip: bool = node.attr("flip")
        if (w, flip) not in made:
            made[w, flip] = _together(_twice(TO_WEIGHTS, _window(w, flip)))
        return (_convolved(node, x, _apart(made[w, flip])),)

    return rewrite_nodes(graph, rule), frozenset(made.values())


def _is_worth_keeping(node: Node) -> bool:
    *_, channels, features = static_shape(node.operands[1].shape, "a convolution")
    nbytes = REACH * REACH * channels * features * float32.bytes
    return LEAST_KEPT <= _tile_count(node) <= MOST_KEPT and nbytes <= LARGEST_KEPT


def _together(square: Square) -> Value:
    """The matrices of all places as one value, which is kept as one."""
    every = [one for row in square for one in row]
    return concatenate(*(reshape(one, shape=(1, *one.shape)) for one in every), axis=0)


def _apart(whole: Value) -> Square:
    """The matrices that `_together` put together."""
    count, channels, features = static_shape(whole.shape, "kept weights")

    def at(n: int) -> Value:
        stop = (n + 1, channels, features)
        part = slice(whole, start=(n, 0, 0), stop=stop, strides=(1, 1, 1))
        return reshape(part, shape=(channels, features))

    every = [at(n) for n in range(count)]
    return [every[n : n + REACH] for n in range(0, count, REACH)]


def _tile_count(node: Node) -> int:
    return prod(_tiles(node))


def _suits(node: Node) -> bool:
    """Whether a convolution has the form, and channels and features enough."""
    if node.op is not convolution:
        return False
    x, w = (operand.tensor for operand in node.operands)
    if x.dtype is not float32 or not (is_static(x.shape) and is_static(w.shape)):
        return False
    attrs = dict(node.attrs)
    free = {"padding", "flip"}
    if w.rank != 4 or any(attrs[k] != v for k, v in plain_attrs(2).items() if k not in free):
        return False
    height, width, channels, features = static_shape(w.shape, "a convolution")
    return (
        (height, width) == (3, 3)
        and min(low for pair in attrs["padding"] for low in pair) >= 0
        and min(channels, features) >= LEAST
    )


def _convolved(node: Node, x: Value, weights: Square) -> Value:
    """The convolution of tiles by transformed weights, put together and cut to size."""
    batch, down, along = _tiles(node)
    features = static_shape(weights[0][0].shape, "transformed weights")[-1]
    elements = _twice(TO_ELEMENTS, _elements(node, x))
    products = [
        [_product(v, u) for v, u in zip(*rows, strict=True)]
        for rows in zip(elements, weights, strict=True)
    ]
    tiles = [one for row in _twice(TO_RESULTS, products) for one in row]
    apart = reshape(concatenate(*tiles, axis=0), shape=(TILE, TILE, batch, down, along, features))
    beside = transpose(apart, permutation=(2, 3, 0, 4, 1, 5))
    whole = reshape(beside, shape=(batch, down * TILE, along * TILE, features))
    ends = _result_shape(node)
    return slice(whole, start=(0, 0, 0, 0), stop=ends, strides=(1, 1, 1, 1))


def _tiles(node: Node) -> tuple[int, int, int]:
    """Examples, and tiles down and along each."""
    batch, height, width, _ = _result_shape(node)
    return batch, -(-height // TILE), -(-width // TILE)


def _result_shape(node: Node) -> tuple[int, ...]:
    (type,) = node.types
    assert isinstance(type, TensorType), "a convolution gives a tensor"
    return static_shape(type.shape, "a convolution")


def _elements(node: Node, x: Value) -> Square:
    """Of all tiles the elements at each of their 6x6 places, a row a tile."""
    batch, *tiles = _tiles(node)
    _, *sizes, channels = static_shape(x.shape, "a convolution")
    lows = [low for low, _ in node.attr("padding")]
    highs = [
        count * TILE + REACH - TILE - size - low
        for count, size, low in zip(tiles, sizes, lows, strict=True)
    ]
    number = literal(0.0, x.dtype)
    held = pad(x, value=number, low=(0, *lows, 0), high=(0, *highs, 0), interior=(0, 0, 0, 0))
    reach = [TILE * (count - 1) + 1 for count in tiles]
    return [
        [
            reshape(
                slice(
                    held,
                    start=(0, i, j, 0),
                    stop=(batch, i + reach[0], j + reach[1], channels),
                    strides=(1, TILE, TILE, 1),
                ),
                shape=(batch * tiles[0] * tiles[1], channels),
            )
            for j in range(REACH)
        ]
        for i in range(REACH)
    ]


def _window(w: Value, flip: bool) -> Square:
    """The matrix of weights at each place of the window."""
    *_, channels, features = static_shape(w.shape, "a convolution")
    order = (2, 1, 0) if flip else (0, 1, 2)
    return [
        [
            reshape(
                slice(
                    w,
                    start=(i, j, 0, 0),
                    stop=(i + 1, j + 1, channels, features),
                    strides=(1, 1, 1, 1),
                ),
                shape=(channels, features),
            )
            for j in order
        ]
        for i in order
    ]


def _twice(rows: Rows, square: Square) -> Square:
    """rows x square x rows'."""
    down = [
        [_combined(row, [line[j] for line in square]) for j in range(len(square[0]))]
        for row in rows
    ]
    return [[_combined(row, line) for row in rows] for line in down]


def _combined(row: Sequence[float], values: Sequence[Value]) -> Value:
    """The sum of values, each times a number."""
    total: Value | None = None
    for number, value in zip(row, values, strict=True):
        if number:
            term = _times(number, value)
            total = term if total is None else add(total, term)
    assert total is not None, "no row is all zeros"
    return total


def _times(number: float, value: Value) -> Value:
    if abs(number) == 1:
        return value if number > 0 else neg(value)
    return mul(value, full_like(value, number))


def _product(elements: Value, weights: Value) -> Value:
    return dot_general(elements, weights, contract=((1,), (0,)), batch=((), ()))
