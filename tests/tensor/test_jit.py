"""When does a jitted function compile, and what may its arguments and results be?"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.tensor.training import assert_same_bits

ONE = pe.asarray(1.0)
FACTOR = 2.0
TABLE = [1.0]


def scaled(x: pe.Tensor) -> pe.Tensor:
    return x * FACTOR


def test_equal_types_share_one_executable():
    run = pe.jit(lambda x: x * 2.0)
    for _ in range(3):
        run(pe.ones((2,)))
    assert sum(map(len, run.entries.values())) == 1
    assert not run.why


def test_another_shape_dtype_or_structure_compiles_again_and_says_why():
    run = pe.jit(lambda x: x)
    run(pe.ones((2,)))
    run(pe.ones((3,)))
    run(pe.ones((3,), dtype="float16"))
    run((pe.ones((3,)),))
    assert run.why == [
        "argument 0: float32[2] became float32[3]",
        "argument 0: float32[3] became float16[3]",
        "the structure of the arguments differs",
    ]


def test_a_known_kind_of_call_is_found_again():
    run = pe.jit(lambda x: x * 2.0)
    for size in (2, 3, 2, 3):
        assert run(pe.ones((size,))).shape == (size,)
    assert len(run.why) == 1


def test_python_values_are_part_of_what_is_compiled():
    run = pe.jit(lambda x, n: x * n if n else x)
    assert float(run(ONE, 2)) == 2.0
    assert float(run(ONE, 0)) == 1.0
    assert run(ONE, 2.5).tolist() == 2.5
    assert run.why[0] == "argument 1: 2 became 0"


@pytest.mark.parametrize(("first", "second"), [(1, True), (1, 1.0), (0.0, -0.0), ((1,), (True,))])
def test_python_values_that_are_equal_but_not_the_same_are_told_apart(first: Any, second: Any):
    run = pe.jit(lambda x, n: str(n), static=1)
    assert run(ONE, first) == str(first)
    assert run(ONE, second) == str(second)
    loose = pe.jit(lambda x, n: str(n))
    assert loose(ONE, first) == str(first)
    assert loose(ONE, second) == str(second)


def test_static_arguments_by_position_and_by_name():
    @pe.jit(static=(1, "mode"))
    def run(x: pe.Tensor, sizes: tuple[int, ...], mode: str = "sum") -> pe.Tensor:
        y = pe.reshape(x, sizes)
        return y.sum() if mode == "sum" else y.max()

    x = pe.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert float(run(x, (4,))) == 10.0
    assert float(run(x, (4,), mode="max")) == 4.0


def test_an_argument_that_cannot_be_compared_is_a_named_error():
    with pytest.raises(
        pe.TraceError, match=r"neither an array nor hashable.*\n.*closes? over|tuple"
    ):
        pe.jit(lambda x: x, static=0)([1, 2])


def test_keyword_arguments():
    run = pe.jit(lambda x, *, y: x - y)
    assert float(run(ONE, y=pe.asarray(3.0))) == -2.0
    assert float(run(x=ONE, y=ONE)) == 0.0


class Pair(NamedTuple):
    """A branch of a tree."""

    first: Any
    second: Any


@dataclass
class Batch:
    """Another one."""

    x: Any
    rest: dict[str, Any]


def test_trees_of_arrays_go_in_and_come_out():
    @pe.jit
    def run(batch: Batch, pair: Pair) -> Any:
        total = batch.x + batch.rest["y"][0]
        return {"sum": total, "pair": Pair(pair.second, [pair.first, None]), "batch": batch}

    for turn in (1.0, 2.0):
        given = Batch(pe.asarray(turn), {"y": (pe.asarray(10.0),)})
        found = run(given, Pair(ONE, pe.asarray(5.0)))
        assert float(found["sum"]) == turn + 10.0
        assert isinstance(found["pair"], Pair)
        assert float(found["pair"].first) == 5.0
        assert found["pair"].second[1] is None
        assert isinstance(found["batch"], Batch)
        assert float(found["batch"].rest["y"][0]) == 10.0
    assert not run.why


def test_results_that_are_no_arrays_come_out_as_they_are():
    run = pe.jit(lambda x: (x, "text", 3, None, x.shape))
    for _ in range(2):
        _, text, number, nothing, shape = run(pe.ones((2,)))
        assert (text, number, nothing, shape) == ("text", 3, None, (2,))


def test_an_argument_may_be_the_result():
    run = pe.jit(lambda x: (x, x))
    x = pe.asarray([1.0, 2.0])
    for _ in range(2):
        assert_same_bits(run(x)[1], x)


def test_numpy_arguments_are_arrays():
    run = pe.jit(lambda x: x + 1.0)
    for value in (1.0, 2.0):
        found = run(np.full((2,), value, np.float32))
        assert isinstance(found, pe.Tensor)
        assert found.tolist() == [value + 1.0] * 2
    assert not run.why


def test_transposed_and_stretched_arguments():
    x = np.arange(6.0).reshape(2, 3)
    run = pe.jit(lambda t: t + 1.0)
    np.testing.assert_array_equal(run(pe.asarray(x).T), x.T + 1.0)
    np.testing.assert_array_equal(run(pe.asarray(np.ones((3, 2)))), np.full((3, 2), 2.0))
    stretched = pe.broadcast_to(pe.asarray([1.0, 2.0]), (3, 2))
    np.testing.assert_array_equal(run(stretched), np.asarray(stretched) + 1.0)
    np.testing.assert_array_equal(run(stretched), np.asarray(stretched) + 1.0)


def test_empty_and_scalar_arguments():
    run = pe.jit(lambda x: (x * 2.0, x.sum()))
    doubled, total = run(pe.zeros((0, 3)))
    assert doubled.shape == (0, 3)
    assert float(total) == 0.0
    assert float(run(ONE)[0]) == 2.0


def test_a_variable_as_an_argument_is_state():
    run = pe.jit(lambda v: v.assign(v + 1.0))
    first, second = pe.Variable(1.0), pe.Variable(10.0)
    for _ in range(2):
        run(first)
        run(second)
    assert (float(first), float(second)) == (3.0, 12.0)


def test_a_module_as_an_argument():
    run = pe.jit(lambda model, x: model(x))
    models = [nn.Dense(2, kernel_initializer="ones"), nn.Dense(2, kernel_initializer="zeros")]
    x = pe.ones((1, 3))
    for _ in range(2):
        assert run(models[0], x).tolist() == [[3.0, 3.0]]
        assert run(models[1], x).tolist() == [[0.0, 0.0]]


def test_a_global_bound_to_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch):
    run = pe.jit(lambda x: scaled(x))
    assert float(run(ONE)) == 2.0
    monkeypatch.setitem(globals(), "FACTOR", 5.0)
    assert float(run(ONE)) == 5.0
    assert run.why == ["FACTOR is not what it was: 2.0 became 5.0"]


def test_a_function_bound_to_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch):
    run = pe.jit(lambda x: scaled(x))
    run(ONE)
    monkeypatch.setitem(globals(), "scaled", lambda x: x - 1.0)
    assert float(run(ONE)) == 0.0


def test_a_plain_list_that_changes_is_noticed():
    run = pe.jit(lambda x: x * TABLE[0])
    assert float(run(ONE)) == 1.0
    TABLE[0] = 4.0
    try:
        assert float(run(ONE)) == 4.0
    finally:
        TABLE[0] = 1.0


def test_a_closure_bound_to_something_else_is_noticed():
    factor, model = 2.0, nn.Sequential([lambda x: x + 1.0])

    def run(x: pe.Tensor) -> pe.Tensor:
        return model(x) * factor

    compiled = pe.jit(run)
    assert float(compiled(ONE)) == 4.0
    factor = 3.0
    assert float(compiled(ONE)) == 6.0
    model = nn.Sequential([lambda x: x - 1.0])
    assert float(compiled(ONE)) == 0.0
    assert [reason.split(" ")[0] for reason in compiled.why] == ["factor", "model"]


def test_a_default_argument_is_state_too():
    model = nn.Sequential([lambda x: x + 1.0])

    def run(x: pe.Tensor, model: nn.Module = model) -> pe.Tensor:
        return model(x)

    compiled = pe.jit(run)
    assert float(compiled(ONE)) == 2.0
    model.append(lambda x: x * 10.0)
    assert float(compiled(ONE)) == 20.0


class Trainer:
    """A plain object of the user's, with state in it."""

    def __init__(self) -> None:
        self.model: Any = nn.Sequential([lambda x: x + 1.0])
        self.config = SimpleNamespace(scale=2.0)
        self.unrelated = 0

    @pe.jit
    def run(self, x: pe.Tensor) -> pe.Tensor:
        return self.scaled(self.model(x))

    def scaled(self, x: pe.Tensor) -> pe.Tensor:
        return x * self.config.scale


def test_a_jitted_method_sees_its_own_object():
    first, second = Trainer(), Trainer()
    second.config.scale = 10.0
    for _ in range(2):
        assert float(first.run(ONE)) == 4.0
        assert float(second.run(ONE)) == 20.0


def test_attributes_of_a_plain_object_are_noticed():
    trainer = Trainer()
    trainer.run(ONE)
    count = len(Trainer.run.why)
    trainer.unrelated += 1
    trainer.run(ONE)
    assert len(Trainer.run.why) == count
    trainer.config.scale = 3.0
    assert float(trainer.run(ONE)) == 6.0
    trainer.model = nn.Sequential([lambda x: x - 1.0])
    assert float(trainer.run(ONE)) == 0.0


SHIFT = 1.0


class Shifting(nn.Module):
    """A module that reads a global."""

    def forward(self, x: Any) -> pe.Tensor:
        return x + SHIFT


def test_a_global_that_a_modules_forward_uses_is_noticed(monkeypatch: pytest.MonkeyPatch):
    model = nn.Sequential([Shifting()])
    run = pe.jit(lambda x: model(x))
    assert float(run(ONE)) == 2.0
    monkeypatch.setitem(globals(), "SHIFT", 9.0)
    assert float(run(ONE)) == 10.0


def test_a_global_with_the_name_of_an_attribute_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "shape", 1)
    run = pe.jit(lambda x: x * x.shape[0])
    run(pe.ones((2,)))
    monkeypatch.setitem(globals(), "shape", 2)
    run(pe.ones((2,)))
    assert not run.why


def test_jit_inside_jit_is_part_of_it():
    inner = pe.jit(lambda x: x * 2.0)
    outer = pe.jit(lambda x: inner(x) + inner(x))
    assert float(outer(ONE)) == 4.0
    assert not inner.entries


def test_compile_ahead_of_time():
    run = pe.jit(lambda x, scale: x * scale)
    made = run.compile(pe.spec((2, 3), pe.float32), 2.0)
    assert [str(type) for type in (*made.inputs, *made.outputs)] == ["float32[2, 3]"] * 2
    assert run(pe.ones((2, 3)), 2.0).tolist() == [[2.0] * 3] * 2
    assert sum(map(len, run.entries.values())) == 1


def test_compiling_ahead_of_time_draws_for_new_parameters_once():
    pe.random.seed(4)
    model = nn.Sequential([nn.Dense(3), nn.Dropout(0.5), nn.Dense(2)])
    run = pe.jit(lambda x: model(x))
    run.compile(pe.spec((1, 4), pe.float32))
    kernels = [np.array(p) for p in model.parameters()]
    first = np.asarray(run(pe.ones((1, 4))))
    second = np.asarray(run(pe.ones((1, 4))))
    assert sum(map(len, run.entries.values())) == 1
    for kernel, parameter in zip(kernels, model.parameters(), strict=True):
        assert_same_bits(parameter, kernel)
    assert first.shape == second.shape == (1, 2)


def test_a_traced_function_that_raises_can_be_called_again():
    calls: list[int] = []

    @pe.jit
    def run(x: pe.Tensor) -> pe.Tensor:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("first")
        return x

    with pytest.raises(ValueError, match="first"):
        run(ONE)
    assert float(run(ONE)) == 1.0


def test_the_gradient_mode_is_part_of_what_is_compiled():
    w = pe.Parameter(2.0)
    run = pe.jit(lambda x: w * x)
    assert run(ONE).requires_grad
    with pe.no_grad():
        assert not run(ONE).requires_grad
    assert run(ONE).requires_grad


def test_a_captured_tensor_is_an_input_not_a_copy_in_the_code():
    big = pe.asarray(np.arange(5000.0))
    run = pe.jit(lambda x: x + big)
    made = run.compile(pe.spec((5000,), pe.float64))
    assert len(made.inputs) == 2
    np.testing.assert_array_equal(run(big), 2 * np.arange(5000.0))


def test_borrowed_memory_is_read_at_each_call():
    array = np.ones(3)
    borrowed = pe.asarray(array, copy=False)
    run = pe.jit(lambda x: x + borrowed)
    assert run(pe.zeros((3,), dtype="float64")).tolist() == [1.0] * 3
    array[:] = 5.0
    assert run(pe.zeros((3,), dtype="float64")).tolist() == [5.0] * 3


def test_the_function_keeps_its_name_and_text():
    def named() -> None:
        """What it does."""

    assert pe.jit(named).__name__ == "named"
    assert pe.jit(named).__doc__ == "What it does."


def test_a_partial_and_a_callable_object_can_be_jitted():
    import functools

    run = pe.jit(functools.partial(lambda scale, x: x * scale, 3.0))
    assert float(run(ONE)) == 3.0
    model = nn.Sequential([lambda x: x + 1.0])
    called = pe.jit(model)
    assert float(called(ONE)) == 2.0
    model.append(lambda x: x * 5.0)
    assert float(called(ONE)) == 10.0


def test_the_loop_over_python_values_is_unrolled():
    @pe.jit
    def run(x: pe.Tensor) -> pe.Tensor:
        for power in range(3):
            x = x * float(power + 1)
        return x

    assert float(run(ONE)) == 6.0
