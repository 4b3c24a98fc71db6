"""Does a summary count what a model holds and does?"""

from __future__ import annotations

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.tensor.training import assert_same_bits, numbers_of


def test_parameters_shapes_and_flops_of_dense_layers_are_counted():
    model = nn.Sequential([nn.Dense(16, activation="relu"), nn.Dense(10)])
    found = nn.summary(model, (32, 64))
    rows = {row.path: row for row in found.rows}
    assert rows["layers.0"].parameters == 64 * 16 + 16
    assert rows["layers.1"].parameters == 16 * 10 + 10
    assert found.parameters == 64 * 16 + 16 + 16 * 10 + 10
    assert rows["layers.0"].output == "float32[32, 16]"
    product, bias = 2 * 32 * 16 * 10, 32 * 10
    assert rows["layers.1"].flops == product + bias
    assert found.flops == rows["layers.0"].flops + rows["layers.1"].flops


def test_the_summary_is_a_readable_table():
    text = str(nn.summary(nn.Sequential([nn.Dense(4)]), (2, 3)))
    assert "Dense" in text
    assert "16 parameters" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_summary_changes_nothing_but_makes_the_parameters():
    pe.random.seed(4)
    model = nn.Sequential([nn.Dense(5), nn.BatchNorm(), nn.Dropout(0.5), nn.Dense(2)])
    nn.summary(model, (6, 3))
    after = numbers_of(model), int(pe.random.default_generator.draws)
    pe.random.seed(4)
    other = nn.Sequential([nn.Dense(5), nn.BatchNorm(), nn.Dropout(0.5), nn.Dense(2)]).eval()
    other(pe.zeros((6, 3)))
    assert_same_bits(numbers_of(other), after[0])
    assert int(pe.random.default_generator.draws) == after[1]
    assert model.training


def test_a_shared_layer_is_counted_once_and_a_nested_one_inside_its_module():
    shared = nn.Dense(4)
    found = nn.summary(nn.Sequential([shared, nn.Sequential([shared])]), (1, 4))
    assert found.parameters == 20
    assert [row.depth for row in found.rows] == [0, 1, 1, 2]


def test_an_example_tells_the_dtype():
    model = nn.Embedding(9, 4)
    found = nn.summary(model, np.zeros((2, 3), np.int64))
    assert found.rows[0].output == "float32[2, 3, 4]"


def test_buffers_are_told_apart_from_parameters():
    found = nn.summary(nn.BatchNorm(), (2, 3))
    assert (found.parameters, found.buffers) == (6, 6)


def test_what_is_no_module_is_refused():
    with pytest.raises(pe.StateError, match="summary: expected a Module"):
        nn.summary(lambda x: x, (1,))  # type: ignore[arg-type]
