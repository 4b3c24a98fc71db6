"""Do recurrent layers follow their papers' equations, forwards and backwards, to the same bits?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.core import tree
from pellucid.tensor.traced import trace_function
from tests.tensor.training import assert_same_bits, numbers_of

RNG = np.random.default_rng(6)
X = RNG.normal(size=(2, 5, 3))
H, C = RNG.normal(size=(2, 2, 4))
Array = np.ndarray[Any, Any]

LAYERS: dict[str, Any] = {
    "lstm": lambda **options: nn.LSTM(4, **options),
    "gru": lambda **options: nn.GRU(4, **options),
    "gru of the paper": lambda **options: nn.GRU(4, reset_after=False, **options),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    pe.random.seed(4)


def made(name: str, **options: Any) -> Any:
    """A float64 layer whose biases are not 0."""
    layer = LAYERS[name](dtype="float64", bias_initializer="glorot_normal", **options)
    layer(X)
    return layer


def sigmoid(x: Array) -> Array:
    """The usual form."""
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(p: dict[str, Array], x: Array, state: Any) -> tuple[Array, Any]:
    """One step, with a matrix for each gate."""
    h, c = state
    w, u, b = (np.split(p[k], 4, -1) for k in ("kernel", "recurrent_kernel", "bias"))
    i, f, g, o = (x @ w[k] + h @ u[k] + b[k] for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, (h, c)


def gru_by_hand(p: dict[str, Array], x: Array, h: Array) -> tuple[Array, Array]:
    """One step; the reset gate acts before the product where there is no bias behind it."""
    w, u, b = (np.split(p[k], 3, -1) for k in ("kernel", "recurrent_kernel", "bias"))
    r, z = (sigmoid(x @ w[k] + h @ u[k] + b[k]) for k in range(2))
    if "recurrent_bias" in p:
        inner = r * (h @ u[2] + p["recurrent_bias"])
    else:
        inner = (r * h) @ u[2]
    h = z * h + (1 - z) * np.tanh(x @ w[2] + b[2] + inner)
    return h, h


def by_hand(layer: Any, x: Array, state: Any) -> tuple[Array, Any]:
    """All steps of a layer in NumPy: the outputs (batch, steps, units) and the last state."""
    parameters = {path: np.asarray(cell) for path, cell in layer.cell.variables().items()}
    step: Any = lstm_by_hand if isinstance(layer, nn.LSTM) else gru_by_hand
    outputs = []
    for t in range(x.shape[1]):
        output, state = step(parameters, x[:, t], state)
        outputs.append(output)
    return np.stack(outputs, 1), state


@EVERY_LAYER
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_a_layer_follows_its_equations_from_a_given_state(name: str, compiled: bool):
    layer = made(name, return_sequences=True, return_state=True)
    state = (H, C) if name == "lstm" else H
    run = pe.jit(lambda x, s: layer(x, s)) if compiled else layer
    found, after = run(X, state)
    expected, expected_after = by_hand(layer, X, state)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12)
    for one, other in zip(tree.flatten(after)[0], tree.flatten(expected_after)[0], strict=True):
        np.testing.assert_allclose(np.asarray(one), other, rtol=1e-12)


@EVERY_LAYER
def test_the_state_is_zero_if_not_given_and_only_the_last_output_comes(name: str):
    layer = made(name)
    zero = np.zeros((2, 4))
    outputs, _ = by_hand(layer, X, (zero, zero) if name == "lstm" else zero)
    np.testing.assert_allclose(np.asarray(layer(X)), outputs[:, -1], rtol=1e-12)


@EVERY_LAYER
def test_the_gradient_is_the_difference_along_any_direction(name: str):
    layer = made(name, return_sequences=True)
    cells = layer.named_parameters()
    weights = RNG.normal(size=(2, 3, 4))

    def loss(values: Any) -> pe.Tensor:
        model = nn.merge(layer, {path: values[path] for path in cells})
        return pe.sum(model(values["x"]) * weights)

    at = {path: np.asarray(cell) for path, cell in cells.items()} | {"x": X[:, :3]}
    gradient = pe.grad(loss)(at)
    for part in at:
        way = RNG.normal(size=at[part].shape)
        high, low = ({**at, part: at[part] + sign * 1e-6 * way} for sign in (1, -1))
        expected = (float(loss(high)) - float(loss(low))) / 2e-6
        found = (np.asarray(gradient[part]) * way).sum()
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-7), part


@EVERY_LAYER
def test_a_training_step_has_the_same_bits_eager_and_compiled(name: str):
    def trained(compiled: bool) -> Any:
        pe.random.seed(2)
        model = nn.Sequential([LAYERS[name](bidirectional=True), nn.Dense(3)])
        opt = optim.Adam(model, 0.01)

        def step(x: Any, y: Any) -> pe.Tensor:
            loss = nn.losses.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        run = pe.jit(step) if compiled else step
        x = X[:, :3].astype(np.float32)
        losses = [float(run(x, np.array([0, 2]))) for _ in range(3)]
        return numbers_of(model) | {"losses": np.asarray(losses)}

    assert_same_bits(trained(True), trained(False))


@EVERY_LAYER
def test_a_sequence_can_be_walked_in_two_parts(name: str):
    layer = made(name, return_sequences=True, return_state=True)
    whole, last = layer(X)
    first, between = layer(X[:, :2])
    second, after = layer(X[:, 2:], between)
    assert_same_bits(np.concatenate([first, second], 1), whole)
    for one, other in zip(tree.flatten(after)[0], tree.flatten(last)[0], strict=True):
        assert_same_bits(one, other)


@EVERY_LAYER
def test_a_cell_is_one_step_of_its_layer(name: str):
    layer = made(name, return_sequences=True)
    output, state = layer.cell(X[:, 0])
    next_output, _ = layer.cell(X[:, 1], state)
    found = layer(X[:, :2])
    np.testing.assert_allclose(np.asarray(found[:, 0]), np.asarray(output), rtol=1e-14)
    np.testing.assert_allclose(np.asarray(found[:, 1]), np.asarray(next_output), rtol=1e-14)


@EVERY_LAYER
def test_backwards_is_forwards_over_the_turned_sequence(name: str):
    layer = made(name, return_sequences=True)
    turned = layer(X[:, ::-1])
    layer.go_backwards = True
    assert_same_bits(layer(X), turned)


@EVERY_LAYER
def test_two_directions_stand_side_by_side(name: str):
    layer = made(name, bidirectional=True, return_sequences=True, return_state=True)
    both, (ahead_state, back_state) = layer(X)
    one = made(name, return_sequences=True, return_state=True)
    one.cell = layer.cell
    ahead, state = one(X)
    assert_same_bits(both[..., :4], ahead)
    assert_same_bits(tree.flatten(ahead_state)[0][0], tree.flatten(state)[0][0])
    one.cell = layer.backward_cell
    back, state = one(X[:, ::-1])
    assert_same_bits(both[..., 4:], np.asarray(back)[:, ::-1])
    assert_same_bits(tree.flatten(back_state)[0][0], tree.flatten(state)[0][0])
    layer.return_sequences = layer.return_state = False
    last = np.concatenate([np.asarray(ahead)[:, -1], np.asarray(back)[:, -1]], -1)
    assert_same_bits(layer(X), last)


@EVERY_LAYER
def test_the_inputs_of_all_steps_are_one_product(name: str):
    layer, x = made(name), pe.asarray(X)
    graph = trace_function(layer, [x], [x]).graph
    products = sum(node.op.name == "dot_general" for node in graph.nodes)
    each = 2 if name == "gru of the paper" else 1
    assert products == 1 + each * X.shape[1]


def test_the_gradient_of_many_steps_moves_few_numbers():
    """Steps cut one by one out of the whole would pad each to the whole: quadratic work."""
    layer = nn.LSTM(4)
    x = pe.zeros((2, 64, 3))
    layer(x)
    graph = trace_function(pe.grad(lambda x: pe.sum(layer(x))), [x], [x]).graph
    padded = [
        int(np.prod(kind.shape))
        for node in graph.nodes
        if node.op.name == "pad"
        for kind in node.types
        if kind.shape[0] != 2
    ]
    whole = 64 * 2 * 16
    assert sum(padded) <= 7 * 2 * whole


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@EVERY_LAYER
def test_a_layer_keeps_its_dtype_whatever_it_is_given(name: str, dtype: str):
    layer = LAYERS[name](dtype=dtype, return_state=True)
    state = (H, C) if name == "lstm" else H
    found, after = layer(X, state)
    assert found.dtype.name == dtype
    assert {leaf.dtype.name for leaf in tree.flatten(after)[0]} == {dtype}


def test_gates_start_apart_and_the_forget_gate_open():
    layer = nn.LSTM(6)
    layer(X.astype(np.float32))
    blocks = np.split(np.asarray(layer.cell.recurrent_kernel), 4, -1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(6), atol=1e-6)
    assert not np.allclose(blocks[0], blocks[1])
    np.testing.assert_array_equal(np.asarray(layer.cell.bias), np.repeat([0, 1, 0, 0], 6))
    plain = nn.LSTM(6, unit_forget_bias=False, use_bias=True)
    plain(X.astype(np.float32))
    assert not np.asarray(plain.cell.bias).any()


def test_layers_without_a_bias_have_none():
    for name in LAYERS:
        layer = LAYERS[name](use_bias=False)
        layer(X)
        assert set(layer.variables()) == {"cell.kernel", "cell.recurrent_kernel"}


def test_bad_input_is_named():
    layer = nn.LSTM(4)
    layer(X)
    with pytest.raises(pe.OpShapeError, match=r"LSTM: expected \(batch, steps, features\).*\(2, 3"):
        layer(X[:, 0])
    with pytest.raises(pe.OpShapeError, match="with a step at least"):
        layer(X[:, :0])
    with pytest.raises(pe.OpShapeError, match="LSTMCell: expected 3 features"):
        layer(X[..., :2])
    with pytest.raises(pe.OpShapeError, match=r"state as a pair \(h, c\), got ndarray"):
        layer(X, H)
    with pytest.raises(pe.OpShapeError, match=r"GRUCell: expected the hidden state as \(2, 4\)"):
        nn.GRU(4)(X, H[:1])
    with pytest.raises(pe.OpShapeError, match="expected a pair of states, got ndarray"):
        nn.GRU(4, bidirectional=True)(X, H)
    with pytest.raises(pe.OpShapeError, match=r"GRUCell: expected \(batch, features\)"):
        nn.GRUCell(4)(X)
    with pytest.raises(pe.StateError, match="GRUCell: expected at least 1 unit, got 0"):
        nn.GRU(0)
    with pytest.raises(pe.StateError, match="leave out go_backwards"):
        nn.LSTM(4, bidirectional=True, go_backwards=True)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_torch_computes_the_same_with_the_same_weights(name: str, bidirectional: bool):
    torch = pytest.importorskip("torch")
    layer = made(name, bidirectional=bidirectional, return_sequences=True)
    kind = torch.nn.LSTM if name == "lstm" else torch.nn.GRU
    other = kind(3, 4, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    cells = [layer.cell, layer.backward_cell][: 1 + bidirectional]
    with torch.no_grad():
        for cell, end in zip(cells, ["", "_reverse"], strict=False):
            hidden_bias = np.zeros(cell.bias.size)
            if name == "gru":
                hidden_bias[8:] = np.asarray(cell.recurrent_bias)
            for there, value in {
                "weight_ih": np.asarray(cell.kernel).T,
                "weight_hh": np.asarray(cell.recurrent_kernel).T,
                "bias_ih": np.asarray(cell.bias),
                "bias_hh": hidden_bias,
            }.items():
                getattr(other, f"{there}_l0{end}").copy_(torch.from_numpy(value.copy()))
    x = torch.tensor(X, requires_grad=True)
    output, _ = other(x)
    np.testing.assert_allclose(np.asarray(layer(X)), output.detach().numpy(), rtol=1e-11)
    (output * output).sum().backward()
    gradient = pe.grad(lambda x: pe.sum(pe.square(layer(x))))(pe.asarray(X))
    np.testing.assert_allclose(np.asarray(gradient), x.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_longer_sequence_takes_no_more_kernels(name: str) -> None:
    def kernels(steps: int) -> int:
        layer = LAYERS[name]()
        adam = optim.Adam(layer)

        @pe.jit
        def step(x: Any) -> Any:
            loss = pe.mean(layer(x) ** 2)
            loss.backward()
            adam.step()
            return loss

        x = np.zeros((4, steps, 3), np.float32)
        step(x)
        return step.traffic(x).kernels

    assert kernels(12) == kernels(6)
