"""Is data that nothing can be learned from refused by name, before anything is changed?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.tensor.training import assert_same_bits, numbers_of

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = np.arange(12) % 3


def with_value(array: Any, place: Any, value: float) -> Any:
    """A copy with one other element."""
    changed = array.copy()
    changed[place] = value
    return changed


BAD: dict[str, tuple[Any, str]] = {
    "a label too large": ((X, with_value(Y, 5, 3)), r"label 3 at \[5\], but the model has 3 clas"),
    "a negative label": ((X, with_value(Y, 0, -1)), r"label -1 at \[0\]"),
    "nan inputs": ((with_value(X, (2, 1), np.nan), Y), r"inputs of the data have nan at \[2, 1\]"),
    "infinite inputs": ((with_value(X, (0, 0), np.inf), Y), "inf at"),
    "nan targets": ((X, with_value(np.eye(3)[Y], (1, 1), np.nan)), "targets of the data have nan"),
    "an empty dataset": ((X[:0], Y[:0]), "the data is empty"),
    "different lengths": ((X, Y[:7]), "12 inputs but 7 targets"),
    "no pair": (X, "as a pair"),
    "three arrays": ((X, Y, Y), "as a pair"),
    "texts": ((np.array(["a", "b"]), Y[:2]), "no array of numbers"),
    "a ragged list": (([[1.0], [1.0, 2.0]], Y[:2]), "no array of numbers"),
    "single numbers": ((1.0, 2.0), "no axis of examples"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("role", ["data", "validation"])
def test_bad_data_is_named_and_changes_nothing(name: str, role: str):
    data, message = BAD[name]
    model = nn.Dense(3)
    model(X)
    before = numbers_of(model)
    both = {"data": data} if role == "data" else {"data": (X, Y), "validation": data}
    said = message if role == "data" else message.replace("the data", "the validation data")
    with pytest.raises(pe.DataError, match=said):
        pe.fit(model, both["data"], loss="cross_entropy", validation=both.get("validation"))
    assert_same_bits(numbers_of(model), before)


@pytest.mark.parametrize("size", [0, -3])
def test_an_empty_batch_is_named(size: int):
    with pytest.raises(pe.DataError, match=f"batch_size of at least 1, got {size}"):
        pe.fit(nn.Dense(3), (X, Y), loss="cross_entropy", batch_size=size)


def test_numbers_of_epochs_are_checked():
    with pytest.raises(pe.StateError, match="epochs of at least 0, got -1"):
        pe.fit(nn.Dense(3), (X, Y), loss="cross_entropy", epochs=-1)
    with pytest.raises(pe.StateError, match="epochs as a whole number"):
        pe.fit(nn.Dense(3), (X, Y), loss="cross_entropy", epochs=1.5)  # type: ignore[arg-type]


def test_binary_targets_outside_the_unit_interval_are_named():
    with pytest.raises(pe.DataError, match=r"target 2\.0 at \[3, 0\]"):
        pe.fit(nn.Dense(1), (X, with_value(np.ones((12, 1)), 3, 2.0)), loss="binary_cross_entropy")


def test_floating_labels_are_answered_with_the_rewrite():
    with pytest.raises(pe.OpTypeError, match="did you mean labels"):
        pe.fit(nn.Dense(3), (X, Y.astype(float)), loss="cross_entropy", verbose=False)


def test_lists_and_tensors_are_data_too():
    for x, y in ((X.tolist(), Y.tolist()), (pe.asarray(X), pe.asarray(Y))):
        assert len(pe.fit(nn.Dense(3), (x, y), loss="cross_entropy", verbose=False)) == 1
