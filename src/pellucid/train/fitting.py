"""How is a model taught in one line? `fit`: steps over shuffled batches, epoch after epoch.

    history = pe.fit(model, (x, y), loss="cross_entropy", optimizer="adam", epochs=5)

Everything that can be wrong with the data is found before the first step. A step is one compiled
graph, or with `jit=False` the same function line by line, to the same bits.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any

from pellucid.core.dtype import as_dtype
from pellucid.core.error import DataError, StateError
from pellucid.core.source import at_line, user_source
from pellucid.ir.graph import TensorType
from pellucid.metrics.classification import Metric
from pellucid.nn import losses
from pellucid.nn.module import Module, in_mode
from pellucid.optim.optimizer import Optimizer
from pellucid.tensor import random
from pellucid.tensor.context import no_grad
from pellucid.tensor.creation import asarray
from pellucid.tensor.jit import jit as compiled
from pellucid.tensor.precision import find_precision
from pellucid.tensor.precision import precision as in_precision
from pellucid.tensor.traced import trace_function
from pellucid.train.callbacks import Callback
from pellucid.train.checkpoint import restore_run
from pellucid.train.examples import (
    Examples,
    float_dtype,
    read_examples,
    require_labels,
    require_unit,
)
from pellucid.train.loop import Step, measured, measuring_step, teach, teaching_step
from pellucid.train.objective import Loss, Objective, find_objective, find_optimizer
from pellucid.train.progress import progress
from pellucid.train.run import History, Logs, Run


def fit(
    model: Module,
    data: Any,
    *,
    loss: str | Loss,
    optimizer: str | Optimizer | Callable[[Module], Optimizer] = "adam",
    metrics: Sequence[str | Metric] = (),
    epochs: int = 1,
    batch_size: int = 32,
    validation: Any = None,
    validation_split: float | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int | None = None,
    jit: bool = True,
    verbose: bool = True,
    resume: str | os.PathLike[str] | None = None,
    validation_data: Any = None,
    precision: str | None = None,
) -> History:
    """Teach a model the examples `data`, a pair (inputs, targets) of arrays; gives the history.

    `loss`, `optimizer` and `metrics` are names or the things themselves. Each epoch goes through
    all examples in an order of its own, which `seed` decides (drawn from `pe.random` by default);
    the last batch may be smaller. After it `validation`, a pair like `data`, is measured as
    `val_loss` and so on; `validation_split` holds back that share of the data instead, the last of
    it as it stands. `resume` goes on from a file that the callback `Checkpoint` wrote, up to
    `epochs` in all, with the file's seed. `validation_data` is accepted for `validation`. With
    `precision="bf16"` the factors of products are rounded to bfloat16 (see `pe.precision`); the
    weights that are taught, and saved, stay what they are. Without one, that of the scope counts.

    Losses of classes take logits: if the model ends in softmax, its logits are used, and the
    history's notes say so. Arrays of float64 are cast to float32 for a model that is not float64.

    Raises DataError on examples that nothing can be learned from, CheckpointError on a file that
    does not fit, StateError on unknown names, OpTypeError on an unknown precision.

    >>> import numpy as np
    >>> from pellucid import nn
    >>> x = np.linspace(-1, 1, 64).reshape(64, 1)
    >>> history = fit(nn.Dense(1), (x, 3 * x), loss="mse", epochs=20, seed=0, verbose=False)
    >>> history["loss"][-1] < history["loss"][0]
    True
    """
    _require_count("epochs", epochs, 0)
    _require_count("batch_size", batch_size, 1)
    if precision is not None:
        find_precision(precision)
    objective = find_objective(model, loss, metrics)
    given = validation_data if validation is None else validation
    held = given if validation_split is None else _held_back(given, validation_split)
    sets = _checked(model, objective, data, held, batch_size)
    begun = int(random.integers(0, 2**32)) if seed is None else operator.index(seed)
    run = Run(model, find_optimizer(optimizer, model), epochs, len(sets[0]), batch_size, begun,
              objective.measures)  # fmt: skip
    run.history.notes += objective.notes
    if resume is not None:
        restore_run(run, resume)
    step, measure = (
        _in_precision(one, precision, jit)
        for one in (teaching_step(run, objective), measuring_step(objective))
    )
    with in_mode(model, training=True), progress(verbose) as shown:
        teach(run, *sets, step, measure, [shown, *callbacks])
    return run.history


def evaluate(
    model: Module,
    data: Any,
    *,
    loss: str | Loss,
    metrics: Sequence[str | Metric] = (),
    batch_size: int = 256,
    jit: bool = True,
    precision: str | None = None,
) -> Logs:
    """The loss and the metrics of a model, set to evaluation, over all examples.

    `precision` as in `fit`.

    >>> from pellucid import nn, ones
    >>> evaluate(nn.Sequential([nn.identity]), (ones((4, 2)), ones((4, 2))), loss="mse")
    {'loss': 0.0}
    """
    _require_count("batch_size", batch_size, 1)
    objective = find_objective(model, loss, metrics)
    examples, _ = _checked(model, objective, data, None, batch_size)
    measure = _in_precision(measuring_step(objective), precision, jit)
    return measured(model, objective.measures, measure, examples, batch_size)


def _in_precision(step: Step, name: str | None, jit: bool) -> Step:
    if name is None:
        return compiled(step) if jit else step
    return compiled(step, precision=name) if jit else in_precision(name)(step)


def _held_back(validation: Any, share: float) -> float:
    """The share of the data that is held back; raises StateError where that is none."""
    if validation is not None:
        raise StateError("fit: expected validation or validation_split, got both")
    if not 0.0 < share < 1.0:
        raise StateError(f"fit: expected a validation_split between 0 and 1, got {share}")
    return share


def _checked(
    model: Module, objective: Objective, data: Any, validation: Any, batch_size: int
) -> tuple[Examples, Examples | None]:
    """Both sets of examples, found to be fit for this model, whose Parameters are there now.

    `validation` is a pair like `data`, the share of it that is held back, or None.
    """
    floats = float_dtype(model)
    examples, held = read_examples("the data", data, floats), None
    if isinstance(validation, float):
        examples, held = examples.cut(validation)
    elif validation is not None:
        held = read_examples("the validation data", validation, floats)
    output = _output(model, objective, examples, batch_size)
    for name, one in (("the data", examples), ("the validation data", held)):
        if one is not None:
            _require_targets(name, objective, one, output)
    return examples, held


def _output(model: Module, objective: Objective, examples: Examples, batch_size: int) -> TensorType:
    """The type of what the loss is given; the model's Parameters are made where they are not."""
    first, _ = next(examples.batches(min(batch_size, len(examples))))
    inputs = asarray(first)
    with in_mode(model, training=False), no_grad():
        traced = trace_function(objective.scores, [inputs], [inputs])
    return traced.graph.outputs[0].tensor


def _require_targets(name: str, objective: Objective, one: Examples, output: TensorType) -> None:
    dtype = as_dtype(one.targets.dtype)
    if objective.loss is losses.cross_entropy and dtype.is_integer and output.shape:
        classes = output.shape[-1]
        assert isinstance(classes, int), "sizes are known here"
        require_labels(name, one.targets, classes)
    if objective.loss is losses.binary_cross_entropy and dtype.kind != "bool":
        require_unit(name, one.targets)


def _require_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StateError(f"fit: expected {name} as a whole number, got {value!r}")
    if value < least:
        kind = DataError if name == "batch_size" else StateError
        raise kind(f"fit: expected {name} of at least {least}, got {value}{at_line(user_source())}")
