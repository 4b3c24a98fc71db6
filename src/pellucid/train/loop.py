"""What happens while a model is taught? A step for each batch, and after an epoch its validation.

Callbacks are told between. Everything that moves is in the run: who has it can go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pellucid.metrics.mean import Mean
from pellucid.nn.module import Module, in_mode
from pellucid.tensor.context import no_grad
from pellucid.train.callbacks import Callback
from pellucid.train.examples import Examples, shuffled
from pellucid.train.objective import Objective
from pellucid.train.run import Logs, Run

Step = Callable[[Any, Any], tuple[Any, ...]]
"""A batch of inputs and one of targets to the measures."""


def teach(
    run: Run,
    examples: Examples,
    held: Examples | None,
    step: Step,
    measure: Step,
    watching: Sequence[Callback],
) -> None:
    """Every epoch that is left of a run, or those until a callback stops it."""
    for callback in watching:
        callback.on_train_begin(run)
    while run.epoch < run.epochs and not run.stop:
        _teach_epoch(run, examples, step, watching)
        if run.batch:
            break  # stopped in the middle
        logs = {name: mean.value for name, mean in run.means.items()}
        if held is not None:
            means = measured(run.model, run.measures, measure, held, run.batch_size)
            logs |= {f"val_{name}": value for name, value in means.items()}
        run.epoch, run.means = run.epoch + 1, {}
        run.history.epochs.append(logs)
        for callback in watching:
            callback.on_epoch_end(run, logs)
    for callback in watching:
        callback.on_train_end(run)


def _teach_epoch(run: Run, examples: Examples, step: Step, watching: Sequence[Callback]) -> None:
    """Every batch of one epoch, or those that are left of it; `run.batch` is 0 at its end."""
    if not run.batch:
        run.means = {name: Mean() for name in run.measures}
    for callback in watching:
        callback.on_epoch_begin(run)
    order = shuffled(run.seed, run.epoch, run.rows)[run.batch * run.batch_size :]
    batches = -(-run.rows // run.batch_size)
    for x, y in examples.batches(run.batch_size, order):
        values = [float(value) for value in step(x, y)]
        logs = dict(zip(run.measures, values, strict=True))
        for name, value in logs.items():
            run.means[name].add(value, len(x))
        run.batch = (run.batch + 1) % batches
        for callback in watching:
            callback.on_batch_end(run, logs)
        if run.stop and run.batch:
            return


def measured(
    model: Module, measures: Sequence[str], measure: Step, examples: Examples, batch_size: int
) -> Logs:
    """The means of all measures over examples, of a model set to evaluation."""
    means = {name: Mean() for name in measures}
    with in_mode(model, training=False), no_grad():
        for x, y in examples.batches(batch_size):
            for mean, value in zip(means.values(), measure(x, y), strict=True):
                mean.add(float(value), len(x))
    return {name: mean.value for name, mean in means.items()}


def teaching_step(run: Run, objective: Objective) -> Step:
    """The step that teaches one batch, and gives the loss and the metrics."""
    scores, loss, optimizer = objective.scores, objective.loss, run.optimizer
    metrics = tuple(metric for _, metric in objective.metrics)

    def step(x: Any, y: Any) -> tuple[Any, ...]:
        found = scores(x)
        value = loss(found, y)
        value.backward()
        optimizer.step()
        with no_grad():
            return value, *(metric(found, y) for metric in metrics)

    return step


def measuring_step(objective: Objective) -> Step:
    """The loss and the metrics of one batch."""
    scores, loss = objective.scores, objective.loss
    metrics = tuple(metric for _, metric in objective.metrics)

    def measure(x: Any, y: Any) -> tuple[Any, ...]:
        found = scores(x)
        return loss(found, y), *(metric(found, y) for metric in metrics)

    return measure
