"""How does a run go on in another process as if nothing had happened? Its whole state is in a file.

Cells (Parameters, Buffers, the optimizer's slots and counts, the default random generator) are
tensors of a safetensors file; where in the data the run is, and what it has measured, are in the
header.
"""

from __future__ import annotations

import os
from typing import Any, cast

from pellucid.core.error import CheckpointError
from pellucid.metrics.mean import Mean
from pellucid.nn.state import (
    WEIGHTS,
    Arrays,
    Header,
    assign_all,
    read_tensors,
    require_same,
    structure,
    write_tensors,
)
from pellucid.tensor.random import default_generator
from pellucid.tensor.state import Variable
from pellucid.train.run import History, Logs, Run

KIND = "training"


def save_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Write the whole training state; raises CheckpointError, and then the old file is unharmed."""
    header = {
        "kind": KIND,
        WEIGHTS: "model/",
        "modules": structure(run.model),
        "optimizer": type(run.optimizer).__name__,
        "rows": run.rows,
        "batch_size": run.batch_size,
        "seed": run.seed,
        "epoch": run.epoch,
        "batch": run.batch,
        "means": {name: [mean.total, mean.rows] for name, mean in run.means.items()},
        "history": run.history.epochs,
    }
    write_tensors(path, {name: cell.numpy() for name, cell in _cells(run).items()}, header)


def restore_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Put a run where a saved one was; raises CheckpointError, and then nothing has changed.

    The model must have its Parameters already; the optimizer gets the slots of the file.
    """
    arrays, header = read_tensors(path)
    if header.get("kind") != KIND:
        raise CheckpointError(
            f"{path}: expected a training state, got {header.get('kind', 'foreign weights')!r}\n"
            "  weights alone are read by nn.load_weights"
        )
    progress = _Progress(path, header)
    progress.require_fitting(run)
    own = {f"model/{name}" for name in run.model.variables()}
    model = {name: array for name, array in arrays.items() if name.startswith("model/")}
    require_same(path, {name: c for name, c in _cells(run).items() if name in own}, model)
    _make_slots(path, run, arrays)
    assign_all(path, _cells(run), arrays)
    progress.put_into(run)


class _Progress:
    """What a header says about where the run is; every value is checked to be what it should."""

    def __init__(self, path: object, header: Header) -> None:
        self.path = path
        self.header = header
        self.optimizer: str = self._read("optimizer", str)
        self.rows, self.batch_size, self.seed, self.epoch, self.batch = (
            self._count(name) for name in ("rows", "batch_size", "seed", "epoch", "batch")
        )
        self.epochs = [_logs(path, one) for one in self._read("history", list)]
        pairs = self._read("means", dict)
        self.means = {name: _mean(path, pair) for name, pair in pairs.items()}

    def require_fitting(self, run: Run) -> None:
        """Raise CheckpointError where the file is of another model, optimizer or middle."""
        if self.header.get("modules") != structure(run.model):
            saved = ", ".join(map(str, self._read("modules", dict).values()))
            raise CheckpointError(
                f"{self.path}: the file is of another model: it has {saved}; this one has "
                f"{', '.join(structure(run.model).values())}"
            )
        if self.optimizer != type(run.optimizer).__name__:
            raise CheckpointError(
                f"{self.path}: saved with the optimizer {self.optimizer}, this is "
                f"{type(run.optimizer).__name__}"
            )
        if self.batch and set(self.means) != set(run.measures):
            raise CheckpointError(
                f"{self.path}: saved in the middle of an epoch that measures "
                f"{', '.join(self.means)}; this run measures {', '.join(run.measures)}"
            )
        if self.batch and (self.rows, self.batch_size) != (run.rows, run.batch_size):
            raise CheckpointError(
                f"{self.path}: saved in the middle of an epoch of {self.rows} examples in batches "
                f"of {self.batch_size}, now {run.rows} in batches of {run.batch_size}"
            )

    def put_into(self, run: Run) -> None:
        """Let the run be as far as the file."""
        run.seed, run.epoch, run.batch = self.seed, self.epoch, self.batch
        run.history = History(self.epochs, run.history.notes)
        run.means = self.means

    def _read(self, name: str, kind: type[Any]) -> Any:
        value = self.header.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise _wrong(self.path, name, value)
        return value

    def _count(self, name: str) -> int:
        value: int = self._read(name, int)
        if not 0 <= value < 2**64:
            raise _wrong(self.path, name, value)
        return value


def _cells(run: Run) -> dict[str, Variable]:
    """Everything that a step reads or changes, by a name that is the same in another process."""
    parts = {
        "model": run.model.variables(),
        "optimizer": run.optimizer.variables(),
        "random": {"seed": default_generator.key, "draws": default_generator.draws},
    }
    return {f"{part}/{name}": cell for part, cells in parts.items() for name, cell in cells.items()}


def _make_slots(path: object, run: Run, arrays: Arrays) -> None:
    """Make the optimizer's slots that the file has; they are otherwise made at the first step."""
    owners = run.optimizer.named_parameters()
    for name in arrays:
        part, _, rest = name.partition("/")
        slot, separator, owner = rest.partition("/")
        if part == "optimizer" and separator:
            if owner not in owners:
                raise CheckpointError(f"{path}: the slot {rest} is of an unknown Parameter")
            run.optimizer.slot(slot, owners[owner])


def _logs(path: object, value: Any) -> Logs:
    if not isinstance(value, dict):
        raise _wrong(path, "history", value)
    pairs = cast("dict[str, Any]", value)
    if not all(isinstance(number, int | float) for number in pairs.values()):
        raise _wrong(path, "history", pairs)
    return {name: float(number) for name, number in pairs.items()}


def _mean(path: object, value: Any) -> Mean:
    match value:
        case [int() | float() as total, int(rows)] if rows >= 0:
            return Mean(float(total), rows)
        case _:
            raise _wrong(path, "means", value)


def _wrong(path: object, name: str, value: object) -> CheckpointError:
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    return CheckpointError(f"{path}: the header's {name!r} cannot be {shown}")
