"""Do grad, jvp, vjp, vmap, jacobian and hessian compose, over trees, Modules and state?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.tensor.training import assert_same_bits, data, small_model


def smooth(x: Any) -> pe.Tensor:
    return pe.sum(pe.tanh(x) * pe.exp(x * 0.5))


def difference(function: Callable[[Any], Any], x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The gradient of a scalar function by central differences, in float64."""
    step = 1e-5
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        found[place] = (float(function(up)) - float(function(down))) / (2 * step)
    return found


X = np.array([[0.3, -0.7], [1.1, 0.2]])


def test_a_gradient_is_the_finite_difference():
    np.testing.assert_allclose(pe.grad(smooth)(X), difference(smooth, X), rtol=1e-6)


def test_a_second_derivative_is_the_difference_of_the_first():
    def directional(x: Any) -> pe.Tensor:
        return pe.sum(pe.grad(smooth)(x) * pe.asarray(X))

    np.testing.assert_allclose(pe.grad(directional)(X), difference(directional, X), rtol=1e-6)


def test_a_third_derivative():
    third = pe.grad(pe.grad(pe.grad(lambda x: x**4)))
    assert float(third(2.0)) == 48.0


def test_they_compose_as_in_the_design():
    f = lambda x: pe.tanh(x) * x  # noqa: E731
    inner = pe.jit(pe.grad(f))
    outer = pe.grad(lambda xs: pe.sum(pe.vmap(inner)(xs)))
    xs = np.array([0.1, -0.5, 2.0])
    expected = np.array([float(pe.grad(pe.grad(f))(x)) for x in xs])
    np.testing.assert_allclose(outer(xs), expected, rtol=1e-12)
    np.testing.assert_allclose(pe.jit(outer)(xs), expected, rtol=1e-12)


def test_grad_of_jit_is_jit_of_grad():
    x = pe.asarray(X)
    assert_same_bits(pe.grad(pe.jit(smooth))(x), pe.jit(pe.grad(smooth))(x))


def test_grad_inside_a_compiled_function():
    run = pe.jit(lambda x: pe.grad(smooth)(x) * 2.0)
    for scale in (1.0, 2.0):
        expected = 2.0 * np.asarray(pe.grad(smooth)(X * scale))
        np.testing.assert_allclose(run(X * scale), expected, rtol=1e-12)
    assert not run.why


def test_jit_inside_grad():
    inner = pe.jit(lambda x: pe.sum(x * x))
    assert pe.grad(inner)(pe.asarray([1.0, 3.0])).tolist() == [2.0, 6.0]


def test_forward_over_reverse_is_reverse_over_forward():
    v = np.array([[1.0, 2.0], [0.5, -1.0]])
    _, forward = pe.jvp(pe.grad(smooth), (X,), (v,))
    reverse = pe.grad(lambda x: pe.jvp(smooth, (x,), (v,))[1])(X)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10)


def test_jvp_is_the_difference_along_a_direction():
    v = np.array([[1.0, 2.0], [0.5, -1.0]])
    value, moved = pe.jvp(smooth, (X,), (v,))
    assert float(value) == float(smooth(X))
    step = 1e-6
    slope = (float(smooth(X + step * v)) - float(smooth(X - step * v))) / (2 * step)
    assert float(moved) == pytest.approx(slope, rel=1e-6)


def test_jvp_and_vjp_are_each_others_transpose():
    def f(x: Any, y: Any) -> Any:
        return {"a": pe.tanh(x) * y, "b": pe.matmul(x, y)}

    rng = np.random.default_rng(0)
    x, y, dx, dy, ga, gb = (rng.normal(size=(2, 2)) for _ in range(6))
    _, moved = pe.jvp(f, (x, y), (dx, dy))
    _, pull = pe.vjp(f, x, y)
    gx, gy = pull({"a": ga, "b": gb})
    left = np.sum(np.asarray(moved["a"]) * ga) + np.sum(np.asarray(moved["b"]) * gb)
    right = np.sum(np.asarray(gx) * dx) + np.sum(np.asarray(gy) * dy)
    assert left == pytest.approx(right, rel=1e-10)


class Point(NamedTuple):
    """A branch of a tree."""

    x: Any
    y: Any


@dataclass
class Weights:
    """Another one."""

    scale: Any
    shift: Any


def test_gradients_are_trees_like_the_argument():
    def f(tree: Any) -> pe.Tensor:
        pair, rest = tree["pair"], tree["rest"]
        return pair.x * pair.y + pe.sum(rest[0]) * 2.0 + rest[1].scale * rest[1].shift

    given = {"pair": Point(2.0, 3.0), "rest": [np.ones(2, np.float32), Weights(4.0, 5.0)]}
    found = pe.grad(f)(given)
    assert isinstance(found["pair"], Point)
    assert [float(v) for v in found["pair"]] == [3.0, 2.0]
    assert found["rest"][0].tolist() == [2.0, 2.0]
    assert isinstance(found["rest"][1], Weights)
    assert (float(found["rest"][1].scale), float(found["rest"][1].shift)) == (5.0, 4.0)


def test_argnums_choose_arguments():
    f = lambda x, y, z: x * y * z  # noqa: E731
    assert float(pe.grad(f, argnums=1)(2.0, 3.0, 5.0)) == 10.0
    assert [float(g) for g in pe.grad(f, argnums=(0, 2))(2.0, 3.0, 5.0)] == [15.0, 6.0]
    assert float(pe.grad(f, argnums=-1)(2.0, 3.0, 5.0)) == 6.0
    with pytest.raises(pe.DerivativeError, match="there is no argument 3, only 3"):
        pe.grad(f, argnums=3)(2.0, 3.0, 5.0)


def test_the_same_tensor_as_two_arguments_is_two_arguments():
    x = pe.asarray(3.0)
    left, right = pe.grad(lambda a, b: a * a * b, argnums=(0, 1))(x, x)
    assert (float(left), float(right)) == (18.0, 9.0)


def test_aux_values_come_along():
    f = lambda x: (x * x, {"twice": x * 2.0})  # noqa: E731
    (value, aux), slope = pe.value_and_grad(f, has_aux=True)(3.0)
    assert (float(value), float(aux["twice"]), float(slope)) == (9.0, 6.0, 6.0)
    slope, aux = pe.grad(f, has_aux=True)(3.0)
    assert (float(slope), float(aux["twice"])) == (6.0, 6.0)


def test_keyword_arguments_are_handed_on():
    assert float(pe.grad(lambda x, *, n: x**n)(3.0, n=2)) == 6.0


def test_a_gradient_by_a_module_is_that_module_with_gradients():
    x, y = data()
    model = small_model()
    found = pe.grad(lambda m: nn.losses.cross_entropy(m(x), y))(model)
    assert isinstance(found, nn.Sequential)
    assert found is not model
    assert isinstance(found.layers[0], nn.Dense)
    kernel = found.layers[0].kernel
    assert isinstance(kernel, pe.Tensor)
    assert kernel.shape == model.layers[0].kernel.shape
    assert isinstance(model.layers[0].kernel, pe.Parameter)


def test_a_parameter_is_an_argument_too():
    w = pe.Parameter([1.0, 2.0])
    assert pe.grad(lambda p: pe.sum(p * p))(w).tolist() == [2.0, 4.0]
    assert w.grad is None


def test_a_parameter_that_is_not_used_has_a_zero_gradient():
    w, v = pe.Parameter([1.0, 2.0]), pe.Parameter(3.0)
    found = pe.grad(lambda tree: tree[1] * 2.0)([w, v])
    assert found[0].tolist() == [0.0, 0.0]
    assert float(found[1]) == 2.0


def test_forward_mode_over_a_module():
    x, _ = data()
    model = small_model()
    model(x)
    loss = lambda m: pe.sum(pe.tanh(m(x)))  # noqa: E731
    direction = pe.grad(loss)(model)
    value, moved = pe.jvp(loss, (model,), (direction,))
    size = sum(
        float(pe.sum(pe.square(t))) for t in
        (p for layer in direction.layers for p in (layer.kernel, layer.bias))
    )  # fmt: skip
    assert float(moved) == pytest.approx(size, rel=1e-5)
    assert float(value) == float(loss(model))


def test_reverse_mode_over_a_module_and_an_input():
    dense = nn.Dense(2, kernel_initializer="ones")
    x = pe.asarray([[1.0, 2.0, 3.0]])
    y, pull = pe.vjp(lambda m, x: m(x), dense, x)
    assert y.tolist() == [[6.0, 6.0]]
    by_model, by_x = pull(pe.asarray([[1.0, 10.0]]))
    assert by_model.kernel.tolist() == [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]
    assert by_model.bias.tolist() == [1.0, 10.0]
    assert by_x.tolist() == [[11.0, 11.0, 11.0]]


def test_cells_assigned_inside_grad_keep_the_value():
    calls = pe.Buffer(0)

    def f(x: Any) -> pe.Tensor:
        calls.assign(calls + 1)
        return x * x

    assert float(pe.grad(f)(3.0)) == 6.0
    assert int(calls) == 1
    run = pe.jit(pe.grad(f))
    run(3.0)
    run(3.0)
    assert int(calls) == 3


def test_modules_build_themselves_inside_grad_with_the_same_draws():
    def build(inside: bool) -> dict[str, Any]:
        pe.random.seed(2)
        model = nn.Sequential([nn.Dense(3), nn.Dropout(0.5), nn.Dense(1)])
        loss = lambda x: pe.sum(model(x))  # noqa: E731
        x = pe.ones((2, 4))
        pe.grad(loss)(x) if inside else loss(x)
        after = pe.random.uniform((2,))
        return {**{k: np.array(v) for k, v in nn.split(model)[1].items()}, "after": np.array(after)}

    assert_same_bits(build(True), build(False))


def test_an_exception_inside_grad_takes_cells_back():
    calls = pe.Buffer(0)

    def f(x: Any) -> pe.Tensor:
        calls.assign(calls + 1)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        pe.grad(f)(1.0)
    assert int(calls) == 0


def test_parameters_of_the_outside_keep_their_tape_through_grad():
    w = pe.Parameter(3.0)
    slope = pe.grad(lambda x: w * x * x)(2.0)
    slope.backward()
    assert float(w.grad) == 4.0


def test_what_grad_cannot_take_is_a_named_error():
    with pytest.raises(pe.DerivativeError, match=r"argument is int64.*no derivative") as caught:
        pe.grad(lambda x: x * 1.0)(3)
    assert "give floats, such as 3.0" in str(caught.value)
    with pytest.raises(pe.OpShapeError, match=r"expected a floating scalar.*float32 \(2,\)"):
        pe.grad(lambda x: x)(pe.ones((2,)))
    with pytest.raises(pe.DerivativeError, match=r"returned 2 values(.|\n)*has_aux=True"):
        pe.grad(lambda x: (x, x))(1.0)
    with pytest.raises(pe.DerivativeError, match="returned 0 values"):
        pe.grad(lambda x: None)(1.0)


def test_what_jvp_and_vjp_cannot_take_is_a_named_error():
    with pytest.raises(pe.TreeError, match="structure of the primals"):
        pe.jvp(lambda x: x, ([1.0],), (1.0,))
    with pytest.raises(pe.OpShapeError, match="expected a tangent of float32"):
        pe.jvp(lambda x: x, (1.0,), (np.ones(2, np.float32),))
    _, pull = pe.vjp(lambda x: x * 2.0, pe.ones((2,)))
    with pytest.raises(pe.OpShapeError, match=r"expected a cotangent of float32\[2\]"):
        pull(pe.ones((3,)))
    with pytest.raises(pe.TreeError, match="structure of the results"):
        pull([pe.ones((2,))])


def test_numbers_take_the_dtype_of_what_they_stand_beside():
    _, pull = pe.vjp(lambda x: x * 2.0, np.float64(3.0))
    (found,) = pull(1.0)
    assert found.dtype is pe.float64
    _, moved = pe.jvp(lambda x: x * 2.0, (np.float64(3.0),), (1.0,))
    assert moved.dtype is pe.float64


def test_whole_numbers_have_no_derivative_beside_floats():
    _, pull = pe.vjp(lambda x, n: x * n, 3.0, 2)
    by_x, by_n = pull(1.0)
    assert float(by_x) == 2.0
    assert by_n is None
    _, moved = pe.jvp(lambda x: (x, x > 1.0), (3.0,), (1.0,))
    assert moved[1] is None


MAPPED: dict[str, Callable[..., Any]] = {
    "elementwise": lambda x: pe.tanh(x) * 2.0,
    "reduction": lambda x: pe.sum(x, axis=0),
    "product": lambda x: x @ pe.ones((3, 2)),
    "products": lambda x: x @ pe.transpose(x),
    "shape": lambda x: pe.reshape(pe.transpose(x), (6,)),
    "choice": lambda x: pe.where(x > 0.0, x, -1.0),
    "constant": lambda x: pe.ones((2,)),
    "places": lambda x: pe.argmax(x, axis=1),
    "gradient": lambda x: pe.grad(lambda y: pe.sum(y * y * y))(x),
}


@pytest.mark.parametrize("name", MAPPED)
def test_vmap_is_a_loop(name: str):
    function = MAPPED[name]
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    found = pe.vmap(function)(x)
    for i in range(4):
        np.testing.assert_allclose(np.asarray(found)[i], function(pe.asarray(x[i])), rtol=1e-6)


def test_vmap_over_other_axes_and_some_arguments():
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    f = lambda a, b: a * b  # noqa: E731
    assert_same_bits(pe.vmap(f, in_axes=(1, None), out_axes=1)(x, 2.0), x * np.float32(2.0))
    assert_same_bits(pe.vmap(f, in_axes=(1, 0))(x, np.arange(3, dtype=np.float32)),
                     (x * np.arange(3, dtype=np.float32)).T)  # fmt: skip


def test_vmap_of_vmap_and_trees():
    x = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    f = lambda tree: {"sum": pe.sum(tree["x"]), "pair": (tree["x"], 1.0)}  # noqa: E731
    found = pe.vmap(pe.vmap(f))({"x": x})
    assert_same_bits(found["sum"], x.sum(2))
    assert found["pair"][1].shape == (2, 3)


def test_vmap_with_a_module_inside():
    model = nn.Dense(2)
    x = np.ones((5, 3), np.float32)
    np.testing.assert_allclose(pe.vmap(lambda row: model(row))(x), model(x), rtol=1e-6)


def test_what_vmap_cannot_take_is_a_named_error():
    with pytest.raises(pe.OpShapeError, match=r"one size along the mapped axes, got \[2, 3\]"):
        pe.vmap(lambda a, b: a)(np.ones(2), np.ones(3))
    with pytest.raises(pe.OpAxisError, match="axis 1 is out of range"):
        pe.vmap(lambda a: a, in_axes=1)(np.ones(2))
    with pytest.raises(pe.TreeError, match="1 in_axes for 2 arguments"):
        pe.vmap(lambda a, b: a, in_axes=(0,))(np.ones(2), np.ones(2))
    with pytest.raises(pe.TreeError, match="which cannot be mapped"):
        pe.vmap(lambda v: v)(pe.Variable([1.0]))
    calls = pe.Buffer(0.0)

    def assigns(x: Any) -> Any:
        calls.assign(x)
        return x

    with pytest.raises(pe.DerivativeError, match="assigned inside"):
        pe.vmap(assigns)(np.ones(2, np.float32))
    with pytest.raises(pe.DerivativeError, match="assigned inside"):
        pe.vmap(lambda x: x + pe.random.uniform())(np.ones(2, np.float32))


def test_a_jacobian_is_every_derivative():
    f = lambda x: pe.tanh(x @ pe.asarray(X))  # noqa: E731
    x = np.array([0.2, -0.4])
    found = np.asarray(pe.jacobian(f)(x))
    for i in range(2):
        row = difference(lambda v, i=i: np.asarray(f(pe.asarray(v)))[i], x)
        np.testing.assert_allclose(found[i], row, rtol=1e-6)
    assert pe.jacobian(lambda x, y: x * y, argnums=1)(X, X).shape == (2, 2, 2, 2)


def test_a_hessian_is_symmetric_and_right():
    x = np.array([0.2, -0.4, 0.9])
    f = lambda v: pe.sum(pe.tanh(v) * v) * pe.sum(v)  # noqa: E731
    found = np.asarray(pe.hessian(f)(x))
    np.testing.assert_allclose(found, found.T, rtol=1e-10)
    for i in range(3):
        row = difference(lambda v, i=i: np.asarray(pe.grad(f)(v))[i], x)
        np.testing.assert_allclose(found[i], row, rtol=1e-5)
    np.testing.assert_allclose(pe.jit(pe.hessian(f))(x), found, rtol=1e-12)
