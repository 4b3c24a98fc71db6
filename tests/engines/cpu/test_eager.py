"""Single ops run on operands of any layout, with the bits of the compiled graph, on old code."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core.dtype import NUMERIC, DType, as_dtype, float32, float64, int64
from pellucid.core.error import OpShapeError, UnsupportedOpError
from pellucid.engines.base import Launch, Layout, layout
from pellucid.engines.cpu.eager import launcher
from pellucid.engines.llvm.cache import counters
from pellucid.engines.llvm.target import AVX2, SSE2, Isa
from pellucid.ir.build import building
from pellucid.ir.graph import TensorType
from pellucid.ops.define import lookup
from tests.engines.kernels import GUARD, assert_close, run_graph

Array = NDArray[Any]


def layout_of(array: Array) -> Layout:
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return layout(TensorType(as_dtype(array.dtype), array.shape), strides)


def address(array: Array) -> int:
    where: int = array.__array_interface__["data"][0]
    return where


def prepare(name: str, *arrays: Array, isa: Isa | None = None, **attrs: Any) -> Launch:
    return launcher(lookup(name), attrs, tuple(map(layout_of, arrays)), isa)


def launched(launch: Launch, *arrays: Array) -> Array:
    result = launch.result
    block = np.full(result.nbytes + 2 * GUARD, 0xA5, np.uint8)
    launch.run(*map(address, arrays), address(block) + GUARD)
    assert (block[:GUARD] == 0xA5).all(), "something before the result was written"
    assert (block[-GUARD:] == 0xA5).all(), "something after the result was written"
    return block[GUARD:-GUARD].view(result.dtype.numpy).reshape(result.shape).copy()


def run_eagerly(name: str, *arrays: Array, isa: Isa | None = None, **attrs: Any) -> Array:
    return launched(prepare(name, *arrays, isa=isa, **attrs), *arrays)


def compiled(name: str, *arrays: Array, isa: Isa | None = None, **attrs: Any) -> Array:
    """The op as a graph of fixed sizes, on dense copies."""
    with building() as builder:
        inputs = [builder.input(layout_of(array).type) for array in arrays]
        graph = builder.graph([lookup(name)(*inputs, **attrs)])
    return run_graph(graph, arrays, isa)[0]


def agree(name: str, *arrays: Array, slack: float = 4, **attrs: Any) -> None:
    """Eager = compiled, bit for bit, and both = the reference."""
    expected: Array
    (expected,) = lookup(name).evaluate(*arrays, **attrs)
    for isa in (AVX2, SSE2):
        found = run_eagerly(name, *arrays, isa=isa, **attrs)
        assert found.tobytes() == compiled(name, *arrays, isa=isa, **attrs).tobytes()
        assert_close(found, expected, as_dtype(found.dtype), slack)


def normal(*shape: int, dtype: DType = float32) -> Array:
    rng = np.random.default_rng(sum(shape))
    return np.asarray(rng.standard_normal(shape) * 9).astype(dtype.numpy)


VIEWS: dict[str, Array] = {
    "dense": normal(7, 5, 6),
    "reversed": normal(7, 5, 6).transpose(2, 1, 0),
    "rows of columns": normal(7, 5, 6).transpose(1, 0, 2),
    "every second": normal(9, 5, 6)[::2],
    "a column": normal(7, 5, 6)[:, :, 1],
    "stretched row": np.broadcast_to(normal(6), (5, 4, 6)),
    "stretched column": np.broadcast_to(normal(4, 1), (5, 4, 6)),
    "stretched number": np.broadcast_to(normal(), (3, 4)),
    "number": normal(),
    "empty": normal(0, 3),
    "ones": normal(1, 1),
    "one and more": normal(3, 1, 5),
    "rank six": normal(2, 3, 2, 3, 2, 3).transpose(0, 2, 4, 1, 3, 5),
}


@pytest.mark.parametrize("view", VIEWS)
def test_elementwise_ops_take_any_strides(view: str) -> None:
    x = VIEWS[view]
    other = np.array(x, order="C")
    agree("add", x, other)
    agree("mul", x, x)
    agree("exp", x, slack=10)
    agree("less", x, other)
    agree("cast", x, dtype=float64)


@pytest.mark.parametrize("view", [name for name in VIEWS if name not in ("number", "empty")])
def test_reductions_take_any_strides(view: str) -> None:
    x = VIEWS[view]
    for axis in range(x.ndim):
        agree("sum", x, axes=(axis,), slack=30)
        agree("max", x, axes=(axis,))
    agree("sum", x, axes=tuple(range(x.ndim)), slack=100)
    if x.ndim == 3:
        agree("sum", x, axes=(0, 2), slack=30)


@pytest.mark.parametrize("view", [name for name in VIEWS if name != "empty"])
def test_a_reshape_of_a_view_is_a_copy_in_order(view: str) -> None:
    x = VIEWS[view]
    agree("reshape", x, shape=(x.size,))


@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_every_dtype_runs(dtype: DType) -> None:
    x = np.abs(normal(5, 33, dtype=float32)).astype(dtype.numpy)
    agree("add", x, x)
    agree("sum", x, axes=(1,), slack=30)
    agree("dot_general", x, x, contract=((1,), (1,)), batch=((), ()), slack=100)


@pytest.mark.parametrize(
    "shape",
    [(300, 100), (20_000,), (3, 20_000), (700, 3), (2_000_000,), (600_000, 3), (3, 600_000)],
)
def test_large_sums_keep_the_compiled_order(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    for axis in range(x.ndim):
        agree("sum", x, axes=(axis,), slack=1000)
    agree("sum", x, axes=tuple(range(x.ndim)), slack=1000)


SIZES = [(3, 4, 5), (33, 70, 40), (1, 5, 9), (9, 5, 1), (64, 1, 3), (1, 1, 1), (8, 700, 10)]


@pytest.mark.parametrize("size", SIZES)
def test_products_take_transposed_operands(size: tuple[int, int, int]) -> None:
    m, k, n = size
    lhs, rhs = normal(m, k), normal(k, n)
    ways = [(lhs, rhs, 1, 0), (lhs.T, rhs, 0, 0), (lhs, rhs.T, 1, 1), (lhs.T, rhs.T, 0, 1)]
    for x, y, left, right in ways:
        agree("dot_general", x, y, contract=((left,), (right,)), batch=((), ()), slack=1000)
    flipped = np.asfortranarray(lhs), np.asfortranarray(rhs)
    agree("dot_general", *flipped, contract=((1,), (0,)), batch=((), ()), slack=1000)


def test_products_with_batches_and_with_axes_apart() -> None:
    pairs: dict[str, Any] = {"contract": ((2,), (1,)), "batch": ((0,), (0,))}
    agree("dot_general", normal(4, 5, 6), normal(4, 6, 7), **pairs, slack=100)
    pairs = {"contract": ((0, 2), (0, 1)), "batch": ((), ())}
    agree("dot_general", normal(4, 5, 6, 3), normal(4, 6, 7), **pairs, slack=100)


def test_ops_without_operands_run() -> None:
    agree("iota", dtype=int64, shape=(3, 4), axis=1)
    agree("constant", dtype=float32, shape=(3, 4), value="2.5")
    agree("constant", dtype=float64, shape=(2,), value=np.arange(2.0).tobytes())
    seed = np.array(5, np.uint64)
    agree("random_bits", seed, seed, shape=(1001,))


def test_a_new_shape_compiles_nothing() -> None:
    def run_some(size: int) -> None:
        x = normal(size, size)
        run_eagerly("add", x, x)
        run_eagerly("sum", x, axes=(0,))
        run_eagerly("sum", x, axes=(1,))
        run_eagerly("dot_general", x, x, contract=((1,), (0,)), batch=((), ()))

    run_some(7)
    before = counters()
    run_some(19)
    after = counters()
    assert (after.compiled, after.disk_hits) == (before.compiled, before.disk_hits)


def test_a_new_shape_compiles_nothing_for_parts_and_places() -> None:
    def run_some(size: int) -> None:
        x, at = normal(size, size + 2), np.arange(size // 2)
        run_eagerly("reverse", x, axes=(0, 1))
        run_eagerly("concatenate", x, x, axis=1)
        run_eagerly("pad", x, value="1.0", low=(size, -2), high=(2, size), interior=(0, 0))
        run_eagerly("gather", x, at, axes=(0,))
        run_eagerly("scatter", x, x[: size // 2], at, axes=(0,), mode="add")
        run_eagerly("dynamic_slice", x, at[0], at[1], sizes=(size - 1, size - 2))
        run_eagerly("dynamic_update_slice", x, x[1:, 1:], at[0], at[1])
        run_eagerly("argsort", x, axis=1, descending=False)

    run_some(7)
    before = counters()
    run_some(19)
    after = counters()
    assert (after.compiled, after.disk_hits) == (before.compiled, before.disk_hits)


def test_an_operand_may_be_the_result() -> None:
    x = normal(1003)
    expected = x + x
    prepare("add", x, x).run(address(x), address(x), address(x))
    np.testing.assert_array_equal(x, expected)


def test_a_launch_serves_many_threads_at_once() -> None:
    x = normal(3000)
    launch = prepare("exp", x)
    expected = launched(launch, x).tobytes()
    wrong: list[int] = []

    def work(number: int) -> None:
        found = (launched(launch, x).tobytes() for _ in range(200))
        wrong.extend(number for bits in found if bits != expected)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_wrong_operands_are_the_op_s_own_error() -> None:
    with pytest.raises(OpShapeError, match=r"add: operand shapes differ, \(3,\) and \(4,\)"):
        prepare("add", normal(3), normal(4))


def test_a_fusion_is_not_launched_alone() -> None:
    with pytest.raises(UnsupportedOpError, match="fusion"):
        prepare("fusion", normal(3), kind="loop", body=None)
