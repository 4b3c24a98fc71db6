"""Does a Module find its cells, switch its mode, and show itself?"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.tensor.training import assert_same_bits


class Block(nn.Module):
    """Cells in attributes of every kind."""

    def __init__(self) -> None:
        self.layers = [nn.Dense(2), nn.Dense(2)]
        self.named = {"head": nn.Dense(1), 3: nn.Dropout(0.5)}
        self.pair = (pe.Buffer([1.0], name="seen"), "text")
        self.scale = pe.Parameter(2.0)

    def forward(self, x: Any) -> pe.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.named["head"](x) * self.scale


def built() -> Block:
    pe.random.seed(0)
    model = Block()
    model(pe.ones((1, 3)))
    return model


def test_cells_are_found_in_attributes_lists_dicts_and_tuples():
    assert list(built().variables()) == [
        "layers.0.kernel", "layers.0.bias", "layers.1.kernel", "layers.1.bias",
        "named.head.kernel", "named.head.bias", "pair.0", "scale",
    ]  # fmt: skip


def test_parameters_are_the_trainable_cells():
    model = built()
    assert len(model.parameters()) == 7
    assert "pair.0" not in model.named_parameters()
    assert all(isinstance(p, pe.Parameter) for p in model.parameters())


def test_a_shared_layer_comes_once():
    layer = nn.Dense(2)
    model = nn.Sequential(layer, layer)
    model(pe.ones((1, 2)))
    assert list(model.variables()) == ["layers.0.kernel", "layers.0.bias"]


def test_a_module_in_a_circle_is_no_endless_loop():
    parent, child = nn.Module(), nn.Module()
    parent.child, child.parent = child, parent
    child.weight_ = pe.Parameter(1.0)
    assert len(parent.parameters()) == 1
    assert parent.eval().training is False
    assert child.training is False


def test_train_and_eval_reach_every_module():
    model = built()
    model.eval()
    assert not model.named[3].training
    assert not model.layers[0].training
    assert model.train() is model
    assert model.named[3].training


def test_a_module_is_shown_as_a_tree():
    model = nn.Sequential([nn.Dense(3, activation="relu"), nn.Dropout(0.5), nn.tanh])
    model(pe.ones((1, 2)))
    text = repr(model)
    assert text.splitlines()[0] == "Sequential(layers.2=tanh)"
    assert "  layers.0: Dense(units=3, activation=relu, use_bias=True" in text
    assert "    kernel: Parameter float32[2, 3]" in text
    assert "    bias: Parameter float32[3]" in text
    assert text.endswith("  layers.1: Dropout(rate=0.5)")


def test_split_and_merge_give_the_functional_view():
    model = built()
    x = pe.ones((1, 3))
    structure, values = nn.split(model)
    assert_same_bits(nn.merge(structure, values)(x), model(x))
    zeros = {name: pe.zeros_like(value) for name, value in values.items()}
    assert float(nn.merge(structure, zeros)(x)) == 0.0
    assert float(model.scale) == 2.0


def test_split_values_are_arguments_of_transforms():
    structure, values = nn.split(built())
    x = pe.ones((1, 3))
    found = pe.grad(lambda values: nn.merge(structure, values)(x).sum())(values)
    assert found.keys() == values.keys()
    np.testing.assert_allclose(
        found["scale"], np.asarray(structure(x)) / 2.0 @ np.ones((1,)), rtol=1e-6
    )


def test_merging_other_names_is_an_error():
    structure, values = nn.split(built())
    values["extra"] = values.pop("scale")
    with pytest.raises(pe.StateError, match=r"missing \['scale'\], unknown \['extra'\]"):
        nn.merge(structure, values)


def test_a_deep_copy_has_cells_of_its_own_and_shares_what_was_shared():
    layer = nn.Dense(2)
    model = nn.Sequential(layer, layer)
    model(pe.ones((1, 2)))
    other = copy.deepcopy(model)
    assert other.layers[0] is other.layers[1]
    before = np.array(layer.kernel)
    other.layers[0].kernel += 1.0
    assert_same_bits(layer.kernel, before)
    assert isinstance(other.layers[0].kernel, pe.Parameter)


def test_models_are_not_pickled_and_it_says_what_to_do():
    for value in (built(), pe.ones((2,)), pe.Variable(1.0)):
        with pytest.raises(TypeError, match=r"is not pickled; keep or send np.asarray"):
            pickle.dumps(value)


def test_a_module_without_forward_is_an_error():
    class Empty(nn.Module):
        pass

    with pytest.raises(pe.StateError, match="Empty has no `forward`"):
        Empty()(1.0)


@pytest.mark.parametrize(
    ("name", "rewrite"),
    [("state_dict", r"nn\.split"), ("summary", r"print\(model\)"), ("to", "pe.device")],
)
def test_names_of_other_frameworks_show_the_rewrite(name: str, rewrite: str):
    with pytest.raises(AttributeError, match=rewrite):
        getattr(nn.Dense(1), name)
    assert not hasattr(nn.Dense(1), name)


def test_names_of_other_frameworks_in_nn_show_the_rewrite():
    with pytest.raises(AttributeError, match=r"nn\.Dense\(units\)"):
        _ = nn.Linear
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nn.nonsense
