"""Do messages give the op, what was expected, what came, the user's line, and the way out?"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import pellucid as pe
from pellucid import nn

MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "inner sizes": (
        lambda: pe.ones((2, 4)) @ pe.ones((3, 4)),
        pe.OpShapeError,
        r"dot_general: contract axes 1 and 0 differ, 4 != 3 \(lhs \(2, 4\), rhs \(3, 4\)\)",
    ),
    "hint to transpose": (
        lambda: pe.ones((2, 4)) @ pe.ones((3, 4)),
        pe.OpShapeError,
        r"did you mean  x @ w\.T \?",
    ),
    "hint to transpose the left": (
        lambda: pe.ones((4, 2)) @ pe.ones((4, 3)),
        pe.OpShapeError,
        r"did you mean  x\.T @ w \?",
    ),
    "scalar product": (
        lambda: pe.asarray(1.0) @ pe.ones((2,)),
        pe.OpShapeError,
        "matmul: expected at least one axis",
    ),
    "broadcast": (
        lambda: pe.ones((2, 3)) + pe.ones((2,)),
        pe.OpShapeError,
        r"add: operand shapes \(2, 3\) and \(2,\) do not broadcast, 3 != 2",
    ),
    "where": (
        lambda: pe.where(pe.ones((2,)), pe.ones((3,)), 1.0),
        pe.OpShapeError,
        r"where: operand shapes",
    ),
    "reshape": (
        lambda: pe.ones((2, 3)).reshape(4, 2),
        pe.OpShapeError,
        r"reshape: \(2, 3\) has 6 elements, \(4, 2\) has 8",
    ),
    "reshape with -1": (
        lambda: pe.ones((2, 3)).reshape(4, -1),
        pe.OpShapeError,
        r"reshape: \(2, 3\) does not fit \(4, -1\)",
    ),
    "axis": (
        lambda: pe.ones((2, 3)).sum(axis=2),
        pe.OpAxisError,
        "sum: axis 2 is out of range for rank 2",
    ),
    "axis twice": (
        lambda: pe.ones((2, 3)).sum(axis=(0, -2)),
        pe.OpAxisError,
        "sum: an axis is named twice",
    ),
    "axis that is no number": (
        lambda: pe.ones((2, 3)).sum(axis="x"),  # pyright: ignore[reportArgumentType]
        pe.OpAxisError,
        "expected whole numbers as axes, got 'x'",
    ),
    "permutation": (
        lambda: pe.permute_dims(pe.ones((2, 3)), (0, 0)),
        pe.OpAxisError,
        r"transpose: expected each axis of float32 \(2, 3\) once, got \(0, 0\)",
    ),
    "squeeze": (
        lambda: pe.squeeze(pe.ones((2, 3)), 0),
        pe.OpShapeError,
        r"squeeze: expected axes of size 1, got \(0,\) of \(2, 3\)",
    ),
    "rank": (
        lambda: pe.matrix_transpose(pe.ones((2,))),
        pe.OpShapeError,
        r"matrix_transpose: expected 2 axes, got \(2,\)",
    ),
    "bits of floats": (
        lambda: pe.ones((2,)) & pe.ones((2,)),
        pe.OpTypeError,
        "bit_and: expected one of",
    ),
    "negative bool": (
        lambda: -pe.asarray([True]),
        pe.OpTypeError,
        r"neg: expected one of .* got bool \(1,\)",
    ),
    "dtype name": (
        lambda: pe.ones((2,), dtype="float"),
        pe.OpTypeError,
        "no dtype is called 'float'; there are bool, int8",
    ),
    "exponent": (
        lambda: pe.arange(2) ** pe.arange(2),
        pe.OpTypeError,
        r"pow: .*int64",
    ),
    "features": (
        lambda: _dense()(pe.ones((2, 5))),
        pe.OpShapeError,
        r"Dense: expected 3 features, got \(2, 5\)",
    ),
    "labels": (
        lambda: nn.losses.cross_entropy(pe.ones((4, 3)), pe.asarray([0, 1])),
        pe.OpShapeError,
        r"cross_entropy: expected integer labels of shape \(4,\) or .* got int64\[2\]",
    ),
    "floating labels": (
        lambda: nn.losses.cross_entropy(pe.ones((4, 3)), pe.ones((4,))),
        pe.OpTypeError,
        r"did you mean labels\.astype\('int64'\) \?",
    ),
    "assignment": (
        lambda: pe.Variable([1.0]).assign([1.0, 2.0]),
        pe.OpShapeError,
        r"assign: a Variable of shape \(1,\) cannot hold \(2,\)",
    ),
}


def _dense() -> nn.Dense:
    layer = nn.Dense(2)
    layer(pe.ones((1, 3)))
    return layer


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line(name: str):
    mistake, kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message) as caught:
        mistake()
    if name != "dtype name":
        _, first = inspect.getsourcelines(mistake)
        assert f"test_errors.py:{first}" in str(caught.value) or "test_errors.py:1" in str(
            caught.value
        )


@pytest.mark.parametrize("name", ["inner sizes", "broadcast", "reshape", "axis", "features"])
def test_a_mistake_in_a_traced_function_is_told_with_its_line(name: str):
    mistake, kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message) as caught:
        pe.jit(mistake)()
    assert "test_errors.py:" in str(caught.value)


def test_an_error_shows_the_line_itself():
    with pytest.raises(pe.OpShapeError) as caught:
        _ = pe.ones((2, 3)) + pe.ones((4,))  # this very line
    assert "# this very line" in str(caught.value)


def test_every_error_is_a_pellucid_error_and_pythons_own_kind():
    with pytest.raises(ValueError, match="add"):
        _ = pe.ones((2,)) + pe.ones((3,))
    with pytest.raises(TypeError, match="neg"):
        _ = -pe.asarray(True)
    with pytest.raises(IndexError, match="sum"):
        pe.sum(pe.ones((2,)), axis=5)
    for kind in (pe.OpShapeError, pe.TracedBoolError, pe.StateError, pe.RandomError):
        assert issubclass(kind, pe.PellucidError)


def test_if_on_a_traced_value_names_the_line_and_what_to_write():
    def run(x: pe.Tensor) -> pe.Tensor:
        if x.sum() > 0:  # the branch
            return x
        return -x

    assert run(pe.ones((2,))).tolist() == [1.0, 1.0]
    with pytest.raises(pe.TracedBoolError, match=r"pe\.where\(condition, a, b\)") as caught:
        pe.jit(run)(pe.ones((2,)))
    assert "# the branch" in str(caught.value)
    assert "take `jit` away" in str(caught.value)


@pytest.mark.parametrize(
    "ask",
    [bool, float, int, lambda x: x.item(), lambda x: x.tolist(),
     lambda x: [0, 1][x.astype("int64")],
     lambda x: f"{x:.2f}"],
    ids=["bool", "float", "int", "item", "tolist", "index", "format"],
)  # fmt: skip
def test_asking_a_traced_value_for_its_number_is_an_error(ask: Callable[[Any], Any]):
    with pytest.raises(pe.TracedBoolError, match="has no numbers yet"):
        pe.jit(ask)(pe.asarray(1.0))
    with pytest.raises(pe.TracedBoolError, match="has no numbers yet"):
        pe.jit(lambda: ask(pe.Variable(1.0) * pe.asarray(1.0)))()


def test_numpy_on_a_traced_value_is_an_error():
    import numpy as np

    with pytest.raises(pe.TracedBoolError, match="its numbers"):
        pe.jit(lambda x: np.linalg.norm(x))(pe.ones((2,)))
    with pytest.raises(pe.TracedBoolError, match="its numbers"):
        pe.jit(lambda x: pe.asarray([x, x]))(pe.ones((2,)))


def test_an_unknown_engine_is_an_error():
    message = "no engine is called 'gpu'; there are cpu, reference"
    with pytest.raises(pe.DeviceError, match=message), pe.device("gpu"):
        pass
