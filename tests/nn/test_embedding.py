"""Does an embedding read its rows, teach the rows it read, and tell numbers that have none?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.nn.summary import flops_of
from pellucid.tensor.traced import trace_function
from tests.tensor.training import assert_same_bits, numbers_of

BOTH = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])


@BOTH
@pytest.mark.parametrize("dtype", ["int64", "uint8", "int32"])
def test_it_gives_its_rows(compiled: bool, dtype: str):
    layer = nn.Embedding(7, 3)
    ids = np.array([[0, 6], [3, 3]], dtype)
    run = pe.jit(lambda ids: layer(ids)) if compiled else layer
    assert_same_bits(run(ids), np.asarray(layer.table)[ids])


def test_one_number_is_one_row_and_none_are_none():
    layer = nn.Embedding(5, 2)
    assert_same_bits(layer(pe.asarray(3)), np.asarray(layer.table)[3])
    assert layer(pe.zeros((0, 4), dtype="int64")).shape == (0, 4, 2)


@BOTH
def test_rows_that_are_read_learn_and_others_stay(compiled: bool):
    layer = nn.Embedding(5, 2)
    before = np.array(layer.table.value)

    def step(ids: Any) -> pe.Tensor:
        pe.sum(layer(ids)).backward()
        gradient = layer.table.grad
        assert gradient is not None
        optim.SGD(layer, 1.0).step()
        return gradient

    gradient = (pe.jit(step) if compiled else step)(pe.asarray([1, 1, 3]))
    expected = np.repeat([[0.0], [2.0], [0.0], [1.0], [0.0]], 2, axis=1)
    np.testing.assert_array_equal(np.asarray(gradient), expected)
    assert_same_bits(layer.table, (before - expected).astype(np.float32))


def test_the_work_does_not_grow_with_the_table():
    ids = pe.asarray([1, 2, 3])
    flops = [
        flops_of(trace_function(nn.Embedding(count, 4), [ids], [ids]).graph.nodes)
        for count in (10, 10_000)
    ]
    assert flops[0] == flops[1]


@pytest.mark.parametrize("number", [-1, 5])
def test_a_number_without_a_row_is_an_error_and_in_compiled_code_nan(number: int):
    layer = nn.Embedding(5, 2)
    ids = pe.asarray([[0, 4, number]])
    with pytest.raises(pe.OpIndexError, match=rf"number {number} at \[0, 2\] is out of range"):
        layer(ids)
    found = np.asarray(pe.jit(lambda ids: layer(ids))(ids))
    np.testing.assert_array_equal(np.isnan(found[0, :, 0]), [False, False, True])


@pytest.mark.parametrize("ids", [[1.0], [True]])
def test_what_is_no_whole_number_is_refused(ids: Any):
    with pytest.raises(pe.OpTypeError, match="Embedding: expected integers"):
        nn.Embedding(5, 2)(pe.asarray(ids))


@pytest.mark.parametrize("clipped", [False, True])
def test_a_compiled_step_has_no_memory_for_the_gradient_of_the_table(clipped: bool):
    ids = pe.asarray([[1, 499, 1], [3, 7, 3]])

    def trained(compiled: bool) -> Any:
        pe.random.seed(1)
        layer = nn.Embedding(500, 16)
        opt = optim.AdamW(layer, 0.1)

        def step(ids: Any) -> pe.Tensor:
            loss = pe.sum(pe.square(layer(ids)))
            loss.backward()
            if clipped:
                assert layer.table.grad is not None
                norm = pe.sqrt(pe.sum(pe.square(layer.table.grad)))
                layer.table.grad = layer.table.grad / norm
            opt.step()
            return loss

        run = pe.jit(step) if compiled else step
        run(ids), run(ids)
        if compiled:
            assert run.memory(ids).arena < np.asarray(layer.table).nbytes / 2
        return {**numbers_of(layer), **numbers_of(opt)}

    assert_same_bits(trained(True), trained(False))


class Tied(nn.Module):
    """A model whose last layer is its table."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(6, 16)
        self.dense = nn.Dense(16, activation="tanh")

    def forward(self, ids: Any) -> pe.Tensor:
        return self.dense(self.embedding(ids)) @ self.embedding.table.T


def test_a_tied_table_is_one_parameter_that_gets_both_gradients(tmp_path: Any):
    ids, labels = np.array([0, 1, 5]), np.array([1, 2, 0])

    def trained(compiled: bool) -> Any:
        pe.random.seed(1)
        model = Tied()
        opt = optim.Adam(model, 0.05)

        def step(ids: Any, labels: Any) -> pe.Tensor:
            loss = nn.losses.cross_entropy(model(ids), labels)
            loss.backward()
            opt.step()
            return loss

        run = pe.jit(step) if compiled else step
        losses = [float(run(ids, labels)) for _ in range(4)]
        assert losses[-1] < losses[0]
        return model

    model, other = trained(True), trained(False)
    assert set(model.variables()) == {"embedding.table", "dense.kernel", "dense.bias"}
    assert_same_bits(numbers_of(model), numbers_of(other))
    nn.save_weights(model, tmp_path / "tied")
    fresh = Tied()
    fresh(ids)
    nn.load_weights(fresh, tmp_path / "tied")
    assert_same_bits(fresh(ids), model(ids))


def test_the_gradient_of_a_tied_table_is_the_difference():
    table, ids = np.random.default_rng(0).normal(size=(5, 3)), pe.asarray([0, 4, 4])

    def loss(values: Any) -> pe.Tensor:
        layer = nn.merge(nn.Embedding(5, 3, dtype="float64"), {"table": values})
        return pe.sum(pe.square(layer(ids) @ values.T))

    gradient = np.asarray(pe.grad(loss)(pe.asarray(table)))
    way = np.random.default_rng(1).normal(size=table.shape)
    high, low = (float(loss(pe.asarray(table + sign * 1e-6 * way))) for sign in (1, -1))
    assert (gradient * way).sum() == pytest.approx((high - low) / 2e-6, rel=1e-7)
