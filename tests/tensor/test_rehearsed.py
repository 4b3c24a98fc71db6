"""Do the ops of a function in a row give what they give one by one, whatever it is called with?"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.core.error import EscapedTraceError, OpShapeError
from pellucid.engines.cpu.storage import live_bytes, metered
from pellucid.ir.text import print_graph
from pellucid.tensor import rehearsed as home
from pellucid.tensor.rehearsed import rehearsed

NUMBERS = np.linspace(-2.0, 3.0, 24, dtype=np.float32).reshape(4, 6)
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": nn.gelu,
    "softmax": nn.softmax,
    "log_softmax": lambda x: nn.log_softmax(x, axis=0),
    "var": lambda x: pe.var(x, axis=1, keepdims=True),
    "argmax": lambda x: pe.argmax(x, axis=1),
    "all": pe.all,
    "where": lambda x: pe.where(x > 0.5, x, -1),
    "clip": lambda x: pe.clip(x, -1.0, 2),
    "stack": lambda x: pe.stack([x, x * 2.0], axis=1),
    "concat": lambda x: pe.concat([x, pe.astype(x, "float64")], axis=-1),
    "matmul": lambda x: x @ x.T,
    "cumulative_sum": lambda x: pe.cumulative_sum(x, axis=1),
    "pow": lambda x: x**-3,
    "cross_entropy": lambda x: nn.losses.cross_entropy(x, np.array([0, 5, 2, 1])),
}


def one_by_one(call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a call gives where nothing is rehearsed."""
    with monkeypatch.context() as patch:
        patch.setattr(home, "_known", dict[Any, Any]())
        patch.setattr(home, "_rehearse", lambda *given: None)
        return call()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ops_in_a_row_give_the_bits_of_ops_one_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, tensor = FUNCTIONS[name], pe.asarray(NUMBERS)
    turned = pe.asarray(np.ascontiguousarray(NUMBERS.T)).T
    for x in (tensor, turned, tensor[:, ::1], pe.Parameter(NUMBERS).value):
        expected = one_by_one(lambda x=x: function(x), monkeypatch)
        for _ in range(2):
            found = function(x)
            assert found.dtype is expected.dtype
            np.testing.assert_array_equal(found.numpy(), expected.numpy(), strict=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_trace_has_the_nodes_of_ops_one_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = FUNCTIONS[name]

    def graph() -> Any:
        # Twice: the second time each function is known.
        return pe.jit(lambda x: (function(x), function(x * 2.0))).compile(pe.asarray(NUMBERS)).graph

    expected = one_by_one(graph, monkeypatch)
    assert print_graph(graph()) == print_graph(expected)


def test_a_traced_step_has_the_graph_of_ops_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def graph() -> Any:
        pe.random.seed(0)
        model = nn.Sequential([nn.Dense(6, activation="gelu"), nn.LayerNorm(), nn.Dense(6)])
        adam = optim.AdamW(model)

        @pe.jit
        def step(x: Any, y: Any) -> Any:
            loss = nn.losses.cross_entropy(model(x), y)
            loss.backward()
            adam.step()
            return loss

        given = pe.asarray(NUMBERS), pe.asarray(np.array([0, 5, 2, 1]))
        step(*given)
        return step.compile(*given).graph

    expected = one_by_one(graph, monkeypatch)
    assert print_graph(graph()) == print_graph(expected)


def test_nodes_of_a_known_function_have_the_line_that_calls_it_now() -> None:
    jitted = pe.jit(lambda x: (nn.gelu(x), nn.gelu(x * 2.0)))
    lines = {node.source for node in jitted.compile(pe.asarray(NUMBERS)).graph.nodes}
    (line,) = lines
    assert line is not None
    assert line.file == __file__
    assert "nn.gelu" in line.code


@pytest.mark.parametrize("name", ["gelu", "softmax", "var", "where", "matmul", "cross_entropy"])
def test_the_tape_of_ops_in_a_row_is_that_of_ops_one_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = FUNCTIONS[name]

    def gradient() -> Any:
        w = pe.Parameter(NUMBERS)
        result = function(w * 1.5)
        (result if result.shape == () else pe.sum(result * result)).backward()
        assert w.grad is not None
        return w.grad.numpy()

    expected = one_by_one(gradient, monkeypatch)
    for _ in range(2):
        np.testing.assert_array_equal(gradient(), expected, strict=True)


def test_a_rehearsed_function_is_one_like_any_other() -> None:
    for function in (pe.where, nn.gelu):
        assert inspect.isfunction(function)
        assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301
        assert copy.deepcopy(function) is function


def test_numbers_of_a_tuple_are_told_apart() -> None:
    x, mask = pe.asarray([5, 6]), pe.asarray([True, False])
    for other in ((0.0, 1.0), (-0.0, 1.0), (0, 1), (False, True), (0, 1)):
        found = pe.where(mask, other, x).numpy(), pe.where(mask, x, other).numpy()
        for one, pair in zip(found, ((other, x), (x, other)), strict=True):
            expected = pe.where(mask, *map(pe.asarray, pair)).numpy()
            assert one.dtype == expected.dtype
            np.testing.assert_array_equal(one, expected)
            np.testing.assert_array_equal(np.signbit(one), np.signbit(expected))


def test_numbers_that_are_equal_but_differ_are_told_apart() -> None:
    x, none = pe.asarray([1, 2]), pe.asarray([True, False])
    assert [pe.where(none, x, other).dtype for other in (1, 1.0, True, 1)] == [
        pe.int64, pe.float32, pe.int64, pe.int64,
    ]  # fmt: skip
    zeros = pe.asarray([1.0, 1.0])
    signs = [np.signbit(pe.where(none, zeros, zero).numpy()[1]) for zero in (0.0, -0.0, 0.0)]
    assert signs == [False, True, False]


def test_another_engine_runs_the_ops_itself() -> None:
    x = pe.asarray(NUMBERS)
    nn.softmax(x)
    with pe.device("reference"):
        found = nn.softmax(x)
        gradient = pe.Parameter(NUMBERS)
        pe.sum(nn.softmax(gradient)[0, :1]).backward()
    np.testing.assert_allclose(found.numpy(), nn.softmax(x).numpy(), rtol=1e-6)
    again = pe.Parameter(NUMBERS)
    pe.sum(nn.softmax(again)[0, :1]).backward()
    assert gradient.grad is not None
    assert again.grad is not None
    np.testing.assert_allclose(gradient.grad.numpy(), again.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_a_scope_of_precision_is_heeded_after_a_call_without() -> None:
    x = pe.asarray([[1.0 + 2**-9]])
    wide = (x @ x).item()
    with pe.precision("bf16"):
        assert (x @ x).item() == 1.0
    assert (x @ x).item() == wide != 1.0


def test_a_gradient_is_made_ready_anew_where_its_operands_lie_otherwise() -> None:
    w = pe.Parameter(NUMBERS)
    ones = np.arange(24, dtype=np.float32).reshape(6, 4)
    found: list[Any] = []
    for weights in (pe.asarray(ones).T, pe.asarray(np.ascontiguousarray(ones.T))):
        for _ in range(2):
            (w * 2.0).backward(gradient=weights)
            assert w.grad is not None
            found.append(w.grad.numpy())
            w.grad = None
    for one in found:
        np.testing.assert_array_equal(one, 2.0 * ones.T)


def test_a_tape_under_no_grad_is_none() -> None:
    w = pe.Parameter(NUMBERS)
    value = w.value
    assert nn.gelu(value).requires_grad
    with pe.no_grad():
        assert not nn.gelu(value).requires_grad
    assert nn.gelu(value).requires_grad


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "KEPT", 3)
    monkeypatch.setattr(home, "_known", {})
    for size in range(1, 9):
        assert pe.var(pe.ones((size,))).item() == 0.0
        assert len(home._known) <= 3


def test_constants_are_kept_as_one_number() -> None:
    x = pe.ones((300, 1000))
    before = live_bytes()
    nn.gelu(x)
    assert live_bytes() - before < x.size


def test_large_results_are_let_go_of_when_nothing_needs_them() -> None:
    x = pe.ones((300, 1000))
    nn.gelu_tanh(x)
    with metered() as meter:
        before = live_bytes()
        nn.gelu_tanh(x)
    # It has ten results; three at once are needed, in blocks that may be an eighth larger.
    assert meter.peak - before < 3 * 1.125 * 4 * x.size + 4096


def test_an_error_names_the_function_and_leaves_nothing_behind() -> None:
    x, y = pe.ones((2, 3)), pe.ones((2, 4))
    for _ in range(2):
        with pytest.raises(OpShapeError, match=r"operand shapes .* do not broadcast(.|\n)*where\("):
            pe.where(x > 0.0, x, y)
    assert (x + x).numpy().sum() == 12.0


def test_a_traced_tensor_that_escaped_is_refused() -> None:
    kept: list[Any] = []
    pe.jit(lambda x: [kept.append(x), x + 1.0][1])(pe.ones((3,)))
    pe.var(pe.ones((3,)))
    with pytest.raises(EscapedTraceError):
        pe.var(kept[0])


def test_an_output_that_is_an_input_is_that_tensor() -> None:
    @rehearsed
    def pair(x: pe.Tensor, y: pe.Tensor) -> tuple[pe.Tensor, pe.Tensor, pe.Tensor]:
        return y, x.T, x + y

    x, y = pe.asarray(NUMBERS), pe.ones((4, 6))
    for _ in range(2):
        first, turned, added = pair(x, y)
        assert first is y
        np.testing.assert_array_equal(turned.numpy(), NUMBERS.T)
        assert np.shares_memory(turned.numpy(), x.numpy())
        np.testing.assert_array_equal(added.numpy(), NUMBERS + 1)


def test_an_optimizer_heeds_settings_that_are_changed_between_steps() -> None:
    quick, slow = pe.Parameter(1.0), pe.Parameter(1.0)
    first, second = optim.AdamW(quick), optim.AdamW(slow, weight_decay=0.5)
    for number in range(4):
        if number == 2:
            first.weight_decay = 0.5
            slow.assign(quick.value)
            assert first.betas == second.betas
        for p, o in ((quick, first), (slow, second)):
            (p * 3.0).backward()
            o.step()
    np.testing.assert_array_equal(quick.numpy(), slow.numpy())
