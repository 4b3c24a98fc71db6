"""Does `fit` teach: the same bits eager and compiled, and every example once an epoch?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn, optim, train
from tests.tensor.training import assert_same_bits, numbers_of


def spiral(rows: int = 50) -> tuple[Any, Any]:
    """Small float64 inputs of three classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, rows)
    return rng.normal(size=(rows, 4)) + labels[:, None], labels


def taught_on_digits(jit: bool) -> tuple[Any, train.History, float]:
    """The Keras example on the digits; its numbers, its history, its accuracy on test images."""
    pe.random.seed(0)
    digits = pe.data.digits()
    model = nn.Sequential([nn.Dense(64, activation="relu"), nn.Dense(10, activation="softmax")])
    images, test_images = (part.reshape(-1, 64) for part in (digits[0], digits[2]))
    history = pe.fit(
        model,
        (images, digits.train_labels),
        loss="cross_entropy",
        optimizer="adam",
        metrics=["accuracy"],
        epochs=12,
        validation=(test_images, digits.test_labels),
        seed=1,
        jit=jit,
        verbose=False,
    )
    assert history.notes == [
        "the model ends in softmax: the loss and the metrics are given its logits"
    ]
    chances = model(test_images).numpy()
    np.testing.assert_allclose(chances.sum(-1), 1.0, rtol=1e-5)
    accuracy = float((chances.argmax(-1) == digits.test_labels).mean())
    assert history["val_accuracy"][-1] == pytest.approx(accuracy)
    return numbers_of(model), history, accuracy


def test_the_keras_example_learns_the_digits_to_the_same_bits_eager_and_compiled():
    compiled, history, accuracy = taught_on_digits(jit=True)
    eager, other, _ = taught_on_digits(jit=False)
    assert_same_bits(compiled, eager)
    assert history.epochs == other.epochs
    assert accuracy > 0.93


def test_dropout_and_batch_norm_give_the_same_bits_eager_and_compiled():
    def taught(jit: bool) -> Any:
        pe.random.seed(3)
        model = nn.Sequential([nn.Dense(8), nn.BatchNorm(), nn.Dropout(0.3), nn.Dense(3)])
        rate = optim.schedules.Cosine(0.05, steps=20)
        history = pe.fit(
            model,
            spiral(),
            loss="cross_entropy",
            optimizer=optim.AdamW(model, rate),
            epochs=3,
            batch_size=16,
            validation=spiral(20),
            jit=jit,
            verbose=False,
        )
        return numbers_of(model), history.epochs

    numbers, epochs = taught(True)
    others, other_epochs = taught(False)
    assert_same_bits(numbers, others)
    assert epochs == other_epochs


class Seeing(nn.Module):
    """Keeps nothing but looks at each batch; only line by line."""

    def __init__(self) -> None:
        self.weight = pe.Parameter(1.0)
        self.seen: Any = []

    def forward(self, x: Any) -> pe.Tensor:
        if self.training:
            object.__getattribute__(self, "__dict__")["seen"].append(np.asarray(x)[:, 0].tolist())
        return x * self.weight


def batches_seen(seed: int, epochs: int = 2) -> list[list[float]]:
    model = Seeing()
    x = np.arange(10.0).reshape(10, 1)
    pe.fit(model, (x, x), loss="mse", optimizer="sgd", epochs=epochs, batch_size=4, seed=seed,
           jit=False, verbose=False)  # fmt: skip
    return list(model.seen)


def test_every_example_comes_once_an_epoch_in_an_order_of_its_own():
    seen = batches_seen(seed=5)
    assert [len(batch) for batch in seen] == [4, 4, 2, 4, 4, 2]
    first, second = np.concatenate(seen[:3]).tolist(), np.concatenate(seen[3:]).tolist()
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second != list(range(10))


def test_the_seed_decides_the_order():
    assert batches_seen(seed=5) == batches_seen(seed=5)
    assert batches_seen(seed=5) != batches_seen(seed=6)


def test_the_default_seed_comes_from_the_default_generator():
    def final(seed: int) -> Any:
        pe.random.seed(seed)
        model = nn.Dense(3)
        pe.fit(model, spiral(), loss="cross_entropy", verbose=False)
        return numbers_of(model)

    assert_same_bits(final(1), final(1))
    assert final(1)["kernel"].tobytes() != final(2)["kernel"].tobytes()


def test_the_means_weigh_a_smaller_last_batch_by_its_rows():
    x, y = spiral(21)
    model = nn.Dense(3)
    history = pe.fit(model, (x, y), loss="cross_entropy", metrics=["accuracy"], seed=0,
                     optimizer=optim.SGD(model, 0.0), batch_size=4, verbose=False)  # fmt: skip
    scores = model(x.astype(np.float32))
    expected = float(nn.losses.cross_entropy(scores, y))
    assert history["loss"] == pytest.approx([expected], rel=1e-6)
    hits = (np.asarray(scores).argmax(-1) == y).mean()
    assert history["accuracy"] == pytest.approx([hits])
    measured = train.evaluate(model, (x, y), loss="cross_entropy", metrics=["accuracy"])
    assert measured == pytest.approx({"loss": expected, "accuracy": hits})


def test_float64_arrays_do_not_widen_a_float32_model():
    class Raw(nn.Module):
        def __init__(self) -> None:
            self.weight = pe.Parameter(np.ones((4, 1), np.float32))

        def forward(self, x: Any) -> pe.Tensor:
            assert x.dtype is pe.float32
            return x @ self.weight

    x, _ = spiral()
    model = Raw()
    pe.fit(model, (x, x[:, :1]), loss="mse", optimizer="sgd", verbose=False)
    assert model.weight.dtype is pe.float32


def test_a_float64_model_keeps_float64_arrays():
    model = nn.Dense(1, dtype="float64")
    x, _ = spiral()
    pe.fit(model, (x, x[:, :1]), loss="mse", verbose=False)
    assert model.kernel is not None
    assert model.kernel.dtype is pe.float64


@pytest.mark.parametrize("last", ["activation", "function", "nested"])
def test_a_final_softmax_is_seen_and_said(last: str, capsys: pytest.CaptureFixture[str]):
    def ending(logits: bool) -> list[Any]:
        pe.random.seed(0)
        if logits:
            return [nn.Dense(3)]
        if last == "activation":
            return [nn.Dense(3, activation="softmax")]
        return [nn.Dense(3), nn.softmax] if last == "function" else [
            nn.Sequential([nn.Dense(3, activation="softmax")])
        ]  # fmt: skip

    models = nn.Sequential(ending(True)), nn.Sequential(ending(False))
    histories = []
    for model in models:
        pe.random.seed(0)
        histories.append(pe.fit(model, spiral(), loss="cross_entropy", seed=0))
    plain, seen = histories
    assert plain.epochs == seen.epochs
    assert not plain.notes
    assert "ends in softmax" in seen.notes[0]
    assert "ends in softmax" in capsys.readouterr().out


def test_a_final_sigmoid_is_seen_by_the_binary_loss():
    x, y = spiral()
    model = nn.Sequential([nn.Dense(1, activation="sigmoid")])
    history = pe.fit(model, (x, (y > 0)[:, None]), loss="binary_cross_entropy",
                     metrics=["accuracy"], epochs=2, verbose=False)  # fmt: skip
    assert "sigmoid" in history.notes[0]
    assert 0.0 <= history["accuracy"][-1] <= 1.0


def test_a_softmax_in_the_middle_is_left_alone():
    model = nn.Sequential([nn.Dense(3, activation="softmax"), nn.Dense(3)])
    assert not pe.fit(model, spiral(), loss="cross_entropy", verbose=False).notes


def test_lines_are_printed_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]):
    pe.fit(nn.Dense(3), spiral(), loss="cross_entropy", epochs=2, validation=spiral(9))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"epoch 2/2  loss [\d.]+  val_loss [\d.]+  [\d.]+ s", lines[1])


def test_nothing_is_printed_when_not_asked(capsys: pytest.CaptureFixture[str]):
    pe.fit(nn.Dense(3), spiral(), loss="cross_entropy", verbose=False)
    assert not capsys.readouterr().out


def test_a_terminal_gets_a_bar_and_is_given_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    history = pe.fit(nn.Dense(3), spiral(), loss="cross_entropy", epochs=2)
    assert len(history) == 2


def test_the_modes_of_the_modules_are_given_back():
    model = nn.Sequential([nn.Dropout(0.5), nn.Dense(3)])
    model.layers[0].eval()
    pe.fit(model, spiral(), loss="cross_entropy", validation=spiral(), verbose=False)
    assert model.training
    assert not model.layers[0].training


def test_the_step_is_compiled_once_for_each_size_of_batch(monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []
    monkeypatch.setattr(
        "pellucid.train.fitting.compiled", lambda f: made.append(pe.jit(f)) or made[-1]
    )
    pe.fit(nn.Sequential([nn.Dense(3), nn.Dropout(0.1)]), spiral(), loss="cross_entropy",
           metrics=["accuracy"], epochs=4, batch_size=16, validation=spiral(), seed=0,
           verbose=False)  # fmt: skip
    for one in made:
        assert all(reason.startswith("argument") for reason in one.why), one.why
        assert len(one.why) == 1


def test_a_loss_and_an_optimizer_of_ones_own_will_do():
    model = nn.Dense(4)
    x, _ = spiral()
    history = pe.fit(model, (x, x), loss=lambda found, y: pe.mean(pe.square(found - y)),
                     optimizer=optim.SGD(model, 0.1, momentum=0.9), epochs=30,
                     verbose=False)  # fmt: skip
    assert history["loss"][-1] < 0.1 * history["loss"][0]


def test_a_share_of_the_data_can_be_held_back_for_validation():
    x, y = spiral(50)

    def fitted(data: Any, **options: Any) -> train.History:
        pe.random.seed(1)
        return pe.fit(nn.Dense(3), data, loss="cross_entropy", epochs=2, seed=0, verbose=False,
                      jit=False, **options)  # fmt: skip

    first, last = (x[:40], y[:40]), (x[40:], y[40:])
    expected = fitted(first, validation=last)
    assert fitted((x, y), validation_split=0.2).epochs == expected.epochs
    assert fitted(first, validation_data=last).epochs == expected.epochs
    with pytest.raises(pe.StateError, match="got both"):
        fitted(first, validation=last, validation_split=0.2)
    for wrong in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(pe.StateError, match="validation_split between 0 and 1"):
            fitted(first, validation_split=wrong)
    with pytest.raises(pe.DataError, match="of 2 examples leaves 0 to learn from and 2 to"):
        fitted((x[:2], y[:2]), validation_split=0.9)


@pytest.mark.parametrize("make", ["SGD", optim.SGD, lambda model: optim.SGD(model, 0.01)])
def test_an_optimizer_is_a_name_a_class_or_a_function_of_the_model(make: Any):
    def final(optimizer: Any) -> Any:
        pe.random.seed(1)
        model = nn.Dense(3)
        pe.fit(model, spiral(), loss="cross_entropy", optimizer=optimizer, seed=0, jit=False,
               verbose=False)  # fmt: skip
        return numbers_of(model)

    assert_same_bits(final(make), final("sgd"))


def test_unknown_names_are_named():
    model = nn.Dense(3)
    with pytest.raises(pe.StateError, match="no loss is called 'crossentropy'; there are"):
        pe.fit(model, spiral(), loss="crossentropy")
    with pytest.raises(pe.StateError, match="no optimizer is called 'adma'; there are adam"):
        pe.fit(model, spiral(), loss="cross_entropy", optimizer="adma")
    with pytest.raises(pe.StateError, match="no optimizer is called 3"):
        pe.fit(model, spiral(), loss="cross_entropy", optimizer=3)  # type: ignore[arg-type]
    with pytest.raises(pe.StateError, match="no metric is called"):
        pe.fit(model, spiral(), loss="cross_entropy", metrics=["acc"])
    with pytest.raises(pe.OpTypeError, match="precision: expected 'bf16' or 'float32', got 'half'"):
        pe.fit(model, spiral(), loss="cross_entropy", precision="half")
    with pytest.raises(KeyError, match="'accuracy' was not measured; there is loss"):
        pe.fit(model, spiral(), loss="cross_entropy", verbose=False)["accuracy"]


def test_in_bfloat16_the_digits_are_learned_and_the_weights_stay_float32(tmp_path: Path):
    digits = pe.data.digits()
    images, test_images = (part.reshape(-1, 64) for part in (digits[0], digits[2]))

    def network() -> nn.Sequential:
        pe.random.seed(0)
        return nn.Sequential([nn.Dense(64, activation="relu"), nn.Dense(10)])

    def accuracy(model: nn.Module, **options: Any) -> float:
        pe.fit(model, (images, digits.train_labels), loss="cross_entropy", epochs=12, batch_size=64,
               seed=1, verbose=False, **options)  # fmt: skip
        test = test_images, digits.test_labels
        logs = train.evaluate(model, test, loss="cross_entropy", metrics=["accuracy"], **options)
        return logs["accuracy"]

    model = network()
    assert accuracy(model, precision="bf16") > accuracy(network()) - 0.01
    assert {held.dtype for held in numbers_of(model).values()} == {np.dtype(np.float32)}
    nn.save_weights(model, tmp_path / "weights")
    again = network()
    again(images[:1])
    nn.load_weights(again, tmp_path / "weights")
    assert_same_bits(numbers_of(again), numbers_of(model))


def test_the_precision_is_that_of_the_scope_unless_one_is_given():
    def taught(**options: Any) -> Any:
        pe.random.seed(1)
        model = nn.Dense(3)
        pe.fit(model, spiral(), loss="cross_entropy", seed=0, verbose=False, **options)
        return numbers_of(model)

    wide, narrow = taught(), taught(precision="bf16")
    assert_same_bits(taught(precision="bf16", jit=False), narrow)
    assert any((narrow[name] != wide[name]).any() for name in wide)
    with pe.precision("bf16"):
        assert_same_bits(taught(), narrow)
        assert_same_bits(taught(precision="float32"), wide)
