"""Is the oracle what the cards say? Op by op and as a whole, wherever its memory lies."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.dtype import float32
from pellucid.engines import find_engine
from pellucid.engines.base import array_at, layout
from pellucid.ir.build import building
from pellucid.ir.graph import TensorType
from pellucid.ops.control import evaluate
from pellucid.ops.elementwise import add
from pellucid.passes.pipeline import optimize
from tests.engines.executing import run_compiled, run_launched
from tests.graphs import random_graph, same_bits
from tests.programs import DTYPES

ENGINE = find_engine("reference")


@pytest.mark.parametrize("seed", range(8))
def test_graph_op_by_op_and_fused_is_what_the_cards_say(seed: int) -> None:
    graph, arrays = random_graph(seed, DTYPES[seed])
    wanted = evaluate(graph, arrays)
    fused = optimize(graph)
    for found in (
        run_compiled(ENGINE, graph, arrays),
        run_compiled(ENGINE, fused, arrays),
        run_launched(ENGINE, graph, arrays),
    ):
        assert all(map(same_bits, found, wanted))


def test_operand_is_read_where_its_strides_say() -> None:
    square = layout(TensorType(float32, (2, 2)))
    turned = layout(TensorType(float32, (2, 2)), (1, 2))
    launch = ENGINE.launcher(add, {}, (square, turned))
    x, y = np.array([[1, 2], [3, 4]], np.float32), np.empty((2, 2), np.float32)
    launch.run(x.ctypes.data, x.ctypes.data, y.ctypes.data)
    assert launch.result is square
    np.testing.assert_array_equal(y, x + x.T)


def test_outputs_may_lie_where_inputs_do() -> None:
    type = TensorType(float32, (3,))
    with building() as builder:
        x, y = builder.input(type), builder.input(type)
        graph = builder.graph([y, x, add(x, y)])
    executable = ENGINE.compile(graph, {0: 0, 1: 1})
    blocks = [ENGINE.allocate(12) for _ in range(3)]
    arrays = [array_at(block.address, layout(type), block) for block in blocks]
    arrays[0][...], arrays[1][...] = 1, 2
    frame = executable.lease()
    for slot, block in enumerate([*blocks[:2], *blocks]):
        frame.table[slot] = block.address
    executable.run(frame)
    executable.release(frame)
    assert [array[0] for array in arrays] == [2, 1, 3]
