"""Does `backward` find the gradients, and say clearly when it cannot?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.tensor.training import assert_same_bits, data, small_model


def test_gradients_are_those_of_grad():
    x, y = data()
    model = small_model()
    loss = lambda m: nn.losses.cross_entropy(m(x), y)  # noqa: E731
    loss(model).backward()
    by_grad = pe.grad(loss)(model)
    for path, parameter in model.variables().items():
        left, name = path.rsplit(".", 1)
        layer = by_grad.layers[int(left.rsplit(".", 1)[1])]
        np.testing.assert_allclose(parameter.grad, getattr(layer, name), rtol=1e-6)


def test_backward_needs_a_scalar_or_a_gradient():
    w = pe.Parameter([1.0, 2.0])
    with pytest.raises(
        pe.OpShapeError, match=r"expected a scalar, got float32\[2\]; pass `grad"
    ) as e:
        (w * 2.0).backward()
    assert "test_backward.py:" in str(e.value)
    (w * 2.0).backward(gradient=pe.asarray([1.0, 10.0]))
    assert w.grad.tolist() == [2.0, 20.0]
    with pytest.raises(pe.OpShapeError, match="expected a gradient of type"):
        (w * 2.0).backward(gradient=pe.asarray([1.0]))


def test_backward_without_a_parameter_behind_is_an_error():
    with pytest.raises(pe.DerivativeError, match=r"no Parameter is behind.*pe.grad|no_grad"):
        (pe.asarray(1.0) * 2.0).backward()
    w = pe.Parameter(1.0)
    with pe.no_grad():
        y = w * 2.0
    with pytest.raises(pe.DerivativeError, match="no Parameter is behind"):
        y.backward()


def test_a_second_backward_over_a_freed_tape_is_an_error():
    w = pe.Parameter(2.0)
    y = w * w
    y.backward()
    with pytest.raises(
        pe.StateError, match=r"freed by an earlier backward(.|\n)*retain_graph=True"
    ):
        y.backward()


def test_retain_graph_lets_backward_come_again():
    w = pe.Parameter(2.0)
    y = w * w
    y.backward(retain_graph=True)
    y.backward()
    assert float(w.grad) == 8.0


def test_shared_parts_of_a_tape_need_retain_graph():
    w = pe.Parameter(2.0)
    shared = pe.exp(w)
    (shared * 2.0).backward()
    with pytest.raises(pe.StateError, match="freed"):
        (shared * 3.0).backward()


def test_detach_and_stop_gradient_cut_the_tape():
    w = pe.Parameter(3.0)
    (w * w.value.detach()).backward()
    assert float(w.grad) == 3.0
    w.grad = None
    (w * pe.stop_gradient(w)).backward()
    assert float(w.grad) == 3.0
    assert not w.value.detach().requires_grad


def test_integer_results_have_no_tape():
    w = pe.Parameter([1.0, 2.0])
    assert not w.astype("int32").requires_grad
    assert not (w > 1.0).requires_grad


def test_a_frozen_parameter_gets_no_gradient():
    w, v = pe.Parameter(2.0), pe.Parameter(3.0)
    w.trainable = False
    (w * v).backward()
    assert w.grad is None
    assert float(v.grad) == 2.0
    assert not (w * 2.0).requires_grad


def test_a_buffer_gets_no_gradient():
    b, v = pe.Buffer(2.0), pe.Parameter(3.0)
    (b * v).backward()
    assert b.grad is None
    with pytest.raises(pe.StateError, match="only floating values have gradients"):
        pe.Buffer(1).trainable = True


def test_a_parameter_of_integers_is_an_error():
    with pytest.raises(pe.StateError, match=r"only floating values have gradients, this is int64"):
        pe.Parameter([1, 2])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_gradients_have_the_parameters_dtype(dtype: str):
    w = pe.Parameter([1.0, 2.0], dtype=dtype)
    (w.astype("float32") * 3.0).sum().backward()
    assert w.grad.dtype is w.dtype


def test_a_deep_tape_is_no_deep_recursion():
    w = pe.Parameter(1.0)
    y = w * 1.0
    for _ in range(3000):
        y = y + 0.0
    y.backward()
    assert float(w.grad) == 1.0


def test_backward_inside_grad_is_an_error():
    w = pe.Parameter(1.0)

    def f(x: pe.Tensor) -> pe.Tensor:
        (w * x).backward()
        return x

    with pytest.raises(pe.DerivativeError, match=r"inside grad(.|\n)*pe.value_and_grad"):
        pe.grad(f)(1.0)


def test_backward_comes_through_a_compiled_call():
    w = pe.Parameter([1.0, 2.0])
    run = pe.jit(lambda x: pe.tanh(w * x))
    x = pe.asarray([0.5, 0.25])
    for _ in range(2):
        run(x).sum().backward()
    expected = 2 * (1 - np.tanh(np.asarray(w) * np.asarray(x)) ** 2) * np.asarray(x)
    np.testing.assert_allclose(w.grad, expected, rtol=1e-6)


def test_backward_comes_through_a_compiled_call_to_what_came_before():
    w, v = pe.Parameter(3.0), pe.Parameter(5.0)
    square = pe.jit(lambda x: (x * x, x * v))
    first, second = square(w * 2.0)
    (first + second).backward()
    assert float(w.grad) == 2 * 6.0 * 2.0 + 5.0 * 2.0
    assert float(v.grad) == 6.0


def test_backward_through_a_compiled_call_after_cells_changed_is_an_error():
    w = pe.Parameter([1.0, 2.0])
    run = pe.jit(lambda x: w * x)
    y = run(pe.asarray([1.0, 1.0])).sum()
    w.assign([5.0, 5.0])
    with pytest.raises(
        pe.StateError, match=r"Variables changed since the compiled call of <lambda>"
    ):
        y.backward()


def test_what_changes_elsewhere_does_not_bar_the_way_through_a_compiled_call():
    w = pe.Parameter(1.0)
    run = pe.jit(lambda x: w * x)
    y = run(pe.asarray(2.0))
    pe.random.uniform((3,))
    pe.Variable(1.0).assign(2.0)
    y.backward()
    assert float(w.grad) == 2.0


def test_backward_through_a_compiled_call_that_assigned_is_an_error():
    w, calls = pe.Parameter(1.0), pe.Buffer(0)

    @pe.jit
    def run(x: pe.Tensor) -> pe.Tensor:
        calls.assign(calls + 1)
        return w * x

    with pytest.raises(pe.StateError, match="call backward inside the compiled function"):
        run(pe.asarray(2.0)).backward()


def test_results_of_a_compiled_step_hold_no_tape():
    w = pe.Parameter(1.0)

    @pe.jit
    def step(x: pe.Tensor) -> pe.Tensor:
        loss = w * x
        loss.backward()
        return loss

    assert not step(pe.asarray(1.0)).requires_grad


def test_nothing_is_recorded_without_gradients_through_compiled_calls():
    w = pe.Parameter(1.0)
    run = pe.jit(lambda x: x * 2.0)
    y = w * 1.0
    with pe.no_grad():
        assert not run(y).requires_grad
    assert run(y).requires_grad


@pytest.mark.parametrize("compiled", [False, True])
def test_equal_graphs_with_different_parameters_do_not_mix(compiled: bool):
    a, b, c = pe.Parameter(2.0), pe.Parameter(3.0), pe.Variable(5.0)

    def run() -> None:
        (a * c).backward()
        (a * b).backward()

    (pe.jit(run) if compiled else run)()
    assert (float(a.grad), float(b.grad)) == (8.0, 2.0)


def test_gradients_of_a_parameter_used_in_every_way():
    w = pe.Parameter(np.arange(6.0, dtype=np.float32).reshape(2, 3) / 10)

    def f(v: Any) -> pe.Tensor:
        a = pe.matmul(v, pe.transpose(v)).sum() + pe.max(v) + pe.mean(pe.exp(v), axis=0).sum()
        return a + pe.where(v > 0.25, v, v * v).sum() + (v / (1.0 + v)).reshape(6).sum()

    f(w).backward()
    found = np.asarray(w.grad)
    x = np.asarray(w).astype(np.float64)
    step = 1e-5
    for place in np.ndindex(2, 3):
        moved = [x.copy(), x.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (float(f(pe.asarray(m))) for m in moved)
        assert found[place] == pytest.approx((up - down) / (2 * step), rel=1e-4)


def test_a_tape_over_views_and_stretched_values():
    w = pe.Parameter([1.0, 2.0])
    wide = pe.broadcast_to(w, (3, 2)).T
    (wide * pe.asarray([1.0, 2.0, 3.0])).sum().backward()
    assert_same_bits(w.grad, np.array([6.0, 6.0], np.float32))
