"""Do whole training steps under `jit` do just what they do line by line? State goes in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim
from pellucid.tensor.context import current_engine
from tests.tensor.training import (
    assert_same_bits,
    counting_traces,
    data,
    numbers_of,
    small_model,
    training_step,
)


def make_adam(model: Any) -> optim.Optimizer:
    return optim.Adam(model, learning_rate=0.05)


def make_sgd(model: Any) -> optim.Optimizer:
    return optim.SGD(model, learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)


def train(compiled: bool, make: Any, steps: int = 4) -> tuple[list[Any], dict[str, Any]]:
    model = small_model()
    opt = make(model)
    step = training_step(model, opt)
    run = pe.jit(step) if compiled else step
    x, y = data()
    losses = [np.asarray(run(x, y)) for _ in range(steps)]
    return losses, {**numbers_of(model), **numbers_of(opt)}


@pytest.mark.parametrize("make", [make_adam, make_sgd])
def test_a_compiled_step_is_the_eager_step_bit_for_bit(make: Any):
    eager_losses, eager = train(False, make)
    losses, compiled = train(True, make)
    for found, expected in zip(losses, eager_losses, strict=True):
        assert_same_bits(found, expected)
    assert_same_bits(compiled, eager)


def test_a_compiled_step_learns():
    losses, _ = train(True, make_adam, 40)
    assert losses[-1] < 0.2 * losses[0]


def test_a_step_is_one_executable_for_all_calls():
    model = small_model()
    step = pe.jit(training_step(model, optim.Adam(model)))
    x, y = data()
    for _ in range(4):
        step(x, y)
    assert not step.why
    assert len({id(e.executable) for found in step.entries.values() for e in found}) == 1


def test_eager_and_compiled_calls_may_alternate():
    x, y = data()
    model, other = small_model(), small_model()
    for one in (model, other):
        pe.random.seed(1)
        one(x)
    step = training_step(model, make_adam(model))
    line_by_line = training_step(other, make_adam(other))
    compiled = pe.jit(step)
    for turn in range(6):
        expected = line_by_line(x, y)
        assert_same_bits((step if turn % 2 else compiled)(x, y), expected)
    assert_same_bits(numbers_of(model), numbers_of(other))


def test_an_optimizer_may_be_made_before_the_shapes_are_known():
    model = small_model()
    opt = optim.Adam(model)
    assert not opt.parameters()
    x, y = data()
    pe.jit(training_step(model, opt))(x, y)
    assert len(opt.parameters()) == 4
    assert int(opt.step_count) == 1


def test_a_shared_parameter_is_one_input():
    w = pe.Parameter([[1.0, 2.0], [3.0, 4.0]])

    class Tied(nn.Module):
        def __init__(self) -> None:
            self.encoder, self.decoder = w, w

        def forward(self, x: Any) -> pe.Tensor:
            return pe.tanh(x @ self.encoder) @ self.decoder.T

    model = Tied()
    assert model.parameters() == [w]
    step = pe.jit(lambda x: model(x).sum())
    (entry,) = [step.compile(pe.spec((1, 2), pe.float32))]
    assert len(entry.inputs) == 2


def test_a_shared_parameter_gets_the_gradients_of_all_its_uses():
    w = pe.Parameter(3.0)
    (w * w * w).backward()
    assert float(w.grad) == 27.0


def test_the_learning_rate_changes_without_a_new_trace():
    w = pe.Parameter(1.0)
    opt = optim.SGD(w, learning_rate=0.5)

    @pe.jit
    def step() -> pe.Tensor:
        loss = w * 1.0
        loss.backward()
        opt.step()
        return loss

    step()
    step()
    with counting_traces(step) as reasons:
        opt.learning_rate.assign(0.25)
        step()
    assert float(w) == 1.0 - 0.5 - 0.5 - 0.25
    assert not reasons


def test_eval_after_compiling_is_noticed():
    model = nn.Sequential([nn.Dropout(0.5)])
    run = pe.jit(lambda x: model(x))
    x = pe.ones((100,))
    run(x)
    assert bool((run(x) == 0.0).any())
    model.eval()
    assert_same_bits(run(x), np.ones(100, np.float32))
    model.train()
    assert bool((run(x) == 0.0).any())
    assert any("training" in reason for reason in run.why)


def test_an_appended_layer_is_noticed():
    model = nn.Sequential([nn.Dense(3)])
    run = pe.jit(lambda x: model(x))
    x = pe.ones((2, 4))
    assert run(x).shape == (2, 3)
    run(x)
    model.append(nn.Dense(7))
    assert run(x).shape == (2, 7)
    assert "model.layers" in run.why[-1]


def test_a_changed_list_is_noticed():
    model = nn.Sequential([lambda x: x + 1.0, lambda x: x * 3.0])
    run = pe.jit(lambda x: model(x))
    assert float(run(pe.asarray(1.0))) == 6.0
    model.layers.reverse()
    assert float(run(pe.asarray(1.0))) == 4.0
    del model.layers[0]
    assert float(run(pe.asarray(1.0))) == 2.0


class Scaled(nn.Module):
    """A module with plain values in it."""

    def __init__(self) -> None:
        self.factor = 2.0
        self.table = {"shift": [1.0]}

    def forward(self, x: Any) -> pe.Tensor:
        return x * self.factor + self.table["shift"][0]


def test_a_set_attribute_is_noticed():
    model = Scaled()
    run = pe.jit(lambda x: model(x))
    assert float(run(pe.asarray(1.0))) == 3.0
    model.factor = 5.0
    assert float(run(pe.asarray(1.0))) == 6.0
    assert "factor changed: 2.0 became 5.0" in run.why[-1]


def test_a_list_inside_a_dict_inside_a_module_is_noticed():
    model = Scaled()
    run = pe.jit(lambda x: model(x))
    assert float(run(pe.asarray(1.0))) == 3.0
    model.table["shift"][0] = 7.0
    assert float(run(pe.asarray(1.0))) == 9.0


def test_an_attribute_set_to_what_it_was_needs_no_new_trace():
    model = Scaled()
    run = pe.jit(lambda x: model(x))
    run(pe.asarray(1.0))
    model.factor = 4.0
    model.factor = 2.0
    run(pe.asarray(1.0))
    assert not run.why


def test_a_replaced_parameter_is_noticed():
    model = nn.Dense(1, use_bias=False)
    run = pe.jit(lambda x: model(x))
    run(pe.ones((1, 1)))
    model.kernel = pe.Parameter([[3.0]])
    assert float(run(pe.ones((1, 1)))) == 3.0


def test_a_frozen_parameter_is_noticed():
    w = pe.Parameter(1.0)
    v = pe.Parameter(1.0)
    opt = optim.SGD([w, v], learning_rate=1.0)

    @pe.jit
    def step() -> None:
        (w + v).backward()
        opt.step()

    step()
    w.trainable = False
    step()
    assert (float(w), float(v)) == (0.0, -1.0)
    w.trainable = True
    step()
    assert (float(w), float(v)) == (-1.0, -2.0)


def test_a_parameter_found_after_the_first_step_gets_slots():
    first, second = pe.Parameter(1.0), pe.Parameter(1.0)
    opt = optim.Adam([first], learning_rate=0.5)
    (first * 1.0).backward()
    opt.step()
    opt.target.append(second)
    (first + second).backward()
    opt.step()
    assert set(opt.slots["mean"]) == {first, second}
    assert float(second) < 1.0


def test_two_losses_and_two_optimizers_as_in_a_gan():
    def run(compiled: bool) -> dict[str, Any]:
        pe.random.seed(3)
        maker, judge = nn.Dense(2), nn.Dense(1)
        judge_opt, maker_opt = optim.SGD(judge, 0.1), optim.SGD(maker, 0.1)
        x = pe.ones((4, 3))

        def step(real: pe.Tensor, noise: pe.Tensor) -> tuple[pe.Tensor, pe.Tensor]:
            fake = maker(noise)
            judge_loss = judge(fake.detach()).mean() - judge(real).mean()
            judge_loss.backward()
            judge_opt.step()
            maker_loss = -judge(maker(noise)).mean()
            # Gives the judge a gradient, too, which the next backward drops.
            maker_loss.backward()
            maker_opt.step()
            return judge_loss, maker_loss

        step_ = pe.jit(step) if compiled else step
        for _ in range(4):
            step_(pe.ones((4, 2)), x)
        return {**numbers_of(maker), **{f"judge {k}": v for k, v in numbers_of(judge).items()}}

    assert_same_bits(run(True), run(False))


def test_leftovers_of_the_other_network_are_dropped_by_the_first_backward_after_a_step():
    mine, other = pe.Parameter(1.0), pe.Parameter(1.0)
    opt = optim.SGD(mine, 0.1)
    (mine * other).backward()
    opt.step()
    assert mine.grad is None
    assert float(other.grad) == 1.0, "readable until the next backward"
    (mine * 2.0).backward()
    assert other.grad is None


def test_two_backwards_add_up_before_a_step():
    w = pe.Parameter(1.0)
    (w * 2.0).backward()
    (w * 3.0).backward()
    assert float(w.grad) == 5.0


@pytest.mark.parametrize("where", ["eager", "in one call", "over two calls"])
def test_accumulation_over_two_backwards_and_one_step(where: str):
    w = pe.Parameter(10.0)
    opt = optim.SGD(w, 1.0)

    def add(x: pe.Tensor) -> None:
        (w * x).backward()

    def both(x: pe.Tensor) -> None:
        add(x)
        add(x * 2.0)
        opt.step()

    adding, stepping = add, opt.step
    if where == "over two calls":
        adding, stepping = pe.jit(add), pe.jit(lambda: opt.step())
    whole = pe.jit(both) if where == "in one call" else both
    for turn in range(3):
        if where == "over two calls":
            adding(pe.asarray(1.0))
            assert float(w.grad) == 1.0, turn
            adding(pe.asarray(2.0))
            stepping()
        else:
            whole(pe.asarray(1.0))
        assert w.grad is None
        assert float(w) == 10.0 - 3.0 * (turn + 1)


def test_a_gradient_that_is_not_consumed_leaves_jit_as_state():
    w = pe.Parameter(2.0)
    run = pe.jit(lambda x: (w * x).backward())
    run(pe.asarray(3.0))
    assert float(w.grad) == 3.0
    run(pe.asarray(4.0))
    assert float(w.grad) == 7.0
    (w * 1.0).backward()
    assert float(w.grad) == 8.0


def test_reading_a_gradient_in_jit_leaves_it():
    w = pe.Parameter(2.0)
    (w * 5.0).backward()
    read = pe.jit(lambda: w.grad * 2.0)
    assert float(read()) == 10.0
    assert float(read()) == 10.0
    assert float(w.grad) == 5.0


def test_zero_grad_in_jit_drops_what_was_outside():
    w = pe.Parameter(2.0)
    opt = optim.SGD(w, 1.0)
    (w * 5.0).backward()
    pe.jit(lambda: opt.zero_grad())()
    assert w.grad is None


def test_a_gradient_in_a_strange_layout_enters_jit():
    w = pe.Parameter(np.zeros((3, 2), np.float32))
    # The gradient of a sum is one number seen everywhere.
    (w.sum() * 2.0).backward()
    read = pe.jit(lambda: w.grad + 1.0)
    for _ in range(3):
        assert_same_bits(read(), np.full((3, 2), 3.0, np.float32))


@pytest.mark.parametrize("compiled", [False, True])
def test_clipping_through_the_gradient(compiled: bool):
    w = pe.Parameter([3.0, 4.0])
    opt = optim.SGD(w, learning_rate=1.0)

    def step(x: pe.Tensor) -> pe.Tensor:
        (w * x).sum().backward()
        norm = pe.sqrt(pe.sum(w.grad * w.grad))
        w.grad = w.grad * pe.minimum(1.0 / norm, 1.0)
        opt.step()
        assert w.grad is None
        return norm

    run = pe.jit(step) if compiled else step
    norm = run(pe.asarray([3.0, 4.0]))
    assert float(norm) == 5.0
    np.testing.assert_allclose(w, [3.0 - 0.6, 4.0 - 0.8], rtol=1e-6)


def test_a_gradient_assigned_after_a_step_is_added_to():
    def run(compiled: bool) -> float:
        w = pe.Parameter(1.0)
        opt = optim.SGD(w, 0.0)
        step = lambda: ((w * 2.0).backward(), None)[1]  # noqa: E731
        stepped = pe.jit(step) if compiled else step
        (w * 1.0).backward()
        opt.step()
        w.grad = 10.0
        stepped()
        return float(w.grad)

    assert run(False) == run(True) == 12.0


def test_assigning_a_gradient_of_another_shape_is_an_error():
    w = pe.Parameter([1.0, 2.0])
    with pytest.raises(pe.OpShapeError, match=r"shape \(2,\) cannot hold \(3,\)"):
        w.grad = pe.zeros((3,))


def test_a_step_without_gradients_is_an_error():
    w = pe.Parameter(1.0)
    with pytest.raises(pe.StateError, match="no Parameter has a gradient"):
        optim.SGD(w).step()


def test_the_step_count_is_a_variable():
    w = pe.Parameter(1.0)
    opt = optim.Adam(w)
    step = pe.jit(lambda: ((w * 1.0).backward(), opt.step())[1])
    for _ in range(3):
        step()
    assert int(opt.step_count) == 3


def test_an_exception_in_a_traced_step_takes_everything_back():
    model = nn.Sequential([nn.Dense(4), nn.Dropout(0.5), nn.Dense(3)])
    opt = optim.Adam(model)
    model.note = "before"
    fail = [True]

    @pe.jit
    def step(x: pe.Tensor, y: pe.Tensor) -> pe.Tensor:
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        model.note = "after"
        model.layers.append(nn.Dropout(0.1))
        if fail:
            raise RuntimeError("in the middle")
        return loss

    pe.random.seed(5)
    generator = pe.random.default_generator
    x, y = data()
    with pytest.raises(RuntimeError, match="in the middle"):
        step(x, y)
    assert model.note == "before"
    assert len(model.layers) == 3
    assert not model.parameters()
    assert not opt.slots
    assert int(opt.step_count) == 0
    assert int(generator.draws) == 0
    fail.clear()
    assert np.isfinite(float(step(x, y)))
    assert model.note == "after"


def test_an_exception_in_an_eager_step_leaves_what_was_done():
    v = pe.Variable(1.0)

    def step() -> None:
        v.assign(2.0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        step()
    assert float(v) == 2.0


def test_a_traced_tensor_left_in_an_attribute_is_an_error():
    model = nn.Dense(2)

    @pe.jit
    def run(x: pe.Tensor) -> pe.Tensor:
        model.last = model(x)
        return model.last

    with pytest.raises(pe.EscapedTraceError, match=r"Dense\.last: a traced") as caught:
        run(pe.ones((1, 1)))
    assert "last.assign(value)" in str(caught.value)
    assert not hasattr(model, "last")


def test_a_traced_tensor_used_after_its_trace_is_an_error():
    kept: list[pe.Tensor] = []
    run = pe.jit(lambda x: (kept.append(x * 2.0), x)[1])
    run(pe.ones((2,)))
    with pytest.raises(pe.EscapedTraceError, match="used after its trace ended"):
        _ = kept[0] + 1.0
    with pytest.raises(pe.EscapedTraceError, match=r"test_training.py:\d+"):
        np.asarray(kept[0])
    with pytest.raises(pe.EscapedTraceError):
        pe.jit(lambda x: x + kept[0])(pe.ones((2,)))


def test_a_variable_made_while_tracing_starts_as_it_does_line_by_line():
    class Noise(nn.Module):
        level: pe.Variable | None = None

        def forward(self, x: Any) -> pe.Tensor:
            if self.level is None:
                self.level = pe.Parameter(pe.random.normal((2,)) * 0.1)
            return x + self.level * pe.random.uniform((2,))

    def run(compiled: bool) -> list[Any]:
        pe.random.seed(11)
        model = Noise()
        call = pe.jit(lambda x: model(x)) if compiled else model
        found = [np.asarray(call(pe.zeros((2,)))) for _ in range(3)]
        return [*found, np.asarray(pe.random.uniform((1,)))]

    for found, expected in zip(run(True), run(False), strict=True):
        assert_same_bits(found, expected)


def test_a_variable_that_starts_with_an_argument_is_an_error():
    model = nn.Module()

    @pe.jit
    def run(x: pe.Tensor) -> None:
        model.state = pe.Buffer(x)

    with pytest.raises(pe.StateError, match="depends on an argument"):
        run(pe.ones((2,)))


def test_a_buffer_counts_calls():
    class Counter(nn.Module):
        def __init__(self) -> None:
            self.calls = pe.Buffer(0)

        def forward(self, x: Any) -> pe.Tensor:
            self.calls += 1
            return x * 1.0

    model = Counter()
    run = pe.jit(lambda x: model(x))
    for _ in range(3):
        run(pe.asarray(1.0))
    assert int(model.calls) == 3
    assert isinstance(model.calls, pe.Buffer)


def test_a_cell_that_is_assigned_without_being_read():
    v = pe.Variable([0.0, 0.0])
    run = pe.jit(lambda x: v.assign(x))
    for number in (1.0, 2.0, 3.0):
        run(pe.asarray([number, number]))
        assert v.tolist() == [number, number]


def test_values_swapped_between_cells():
    a, b = pe.Variable([1.0, 2.0]), pe.Variable([3.0, 4.0])

    @pe.jit
    def swap() -> None:
        first, second = a.value, b.value
        a.assign(second)
        b.assign(first)

    for _ in range(3):
        swap()
    assert a.tolist() == [3.0, 4.0]
    assert b.tolist() == [1.0, 2.0]


def test_an_interrupt_while_compiling_takes_everything_back(monkeypatch: pytest.MonkeyPatch):
    pe.random.seed(0)
    model = small_model()
    opt = optim.Adam(model)
    step = pe.jit(training_step(model, opt))
    x, y = data()
    engine = current_engine()

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(engine), "build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step(x, y)
    assert not model.parameters()
    assert not opt.slots
    losses, _ = train(False, lambda model: optim.Adam(model), 1)
    pe.random.seed(7)
    assert_same_bits(step(x, y), losses[0])
