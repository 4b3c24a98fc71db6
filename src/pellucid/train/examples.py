"""Can these examples be learned from, and in which order do they come? Checked arrays, batches.

Everything is checked before the first step: that there are examples, that inputs and targets match
in number, that floats are finite and labels are classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import DType, as_dtype, float32, float64
from pellucid.core.error import DataError, OpTypeError
from pellucid.nn.module import Module, modules_of
from pellucid.tensor.memory import host_array
from pellucid.tensor.random import Generator

Array = NDArray[Any]


@dataclass(frozen=True)
class Examples:
    """Inputs and targets as NumPy arrays of the same length, at least 1."""

    inputs: Array
    targets: Array

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, size: int, order: Array | None = None) -> Iterator[tuple[Array, Array]]:
        """Batch after batch of the rows in `order` (all by default); the last may be smaller."""
        for start in range(0, len(self) if order is None else len(order), size):
            part = slice(start, start + size)
            chosen: Any = part if order is None else order[part]
            yield _own(self.inputs[chosen]), _own(self.targets[chosen])

    def cut(self, share: float) -> tuple[Examples, Examples]:
        """All but the last `share` of the examples, and these; raises DataError where one is empty.

        >>> first, last = Examples(np.arange(5), np.arange(5)).cut(0.4)
        >>> first.inputs, last.inputs
        (array([0, 1, 2]), array([3, 4]))
        """
        at = int(len(self) * (1.0 - share))
        if not 0 < at < len(self):
            raise DataError(
                f"fit: validation_split={share} of {len(self):,} examples leaves {at:,} to learn "
                f"from and {len(self) - at:,} to validate with"
            )
        return (
            Examples(self.inputs[:at], self.targets[:at]),
            Examples(self.inputs[at:], self.targets[at:]),
        )


def read_examples(name: str, data: Any, floats: DType) -> Examples:
    """Check (inputs, targets); float64 arrays become `floats`. Raises DataError.

    `name` says in messages which data is meant.
    """
    match data:
        case [first, second]:
            inputs = _array(f"inputs of {name}", first, floats)
            targets = _array(f"targets of {name}", second, floats)
        case _:
            kind = type(data).__name__
            raise DataError(f"fit: expected {name} as a pair (inputs, targets), got {kind}")
    if len(inputs) != len(targets):
        raise DataError(
            f"fit: {name} has {len(inputs):,} inputs but {len(targets):,} targets\n"
            "  each input needs its target, along the first axis"
        )
    if not len(inputs):
        raise DataError(f"fit: {name} is empty: there is nothing to learn from")
    return Examples(inputs, targets)


def require_labels(name: str, labels: Array, classes: int) -> None:
    """Raise DataError where an integer label is no class from 0 to classes - 1."""
    wrong = np.argwhere((labels < 0) | (labels >= classes))
    if len(wrong):
        place = tuple(int(i) for i in wrong[0])
        raise DataError(
            f"fit: {name} has the label {labels[place]} at {_place(place)}, but the model has "
            f"{classes} classes, 0 to {classes - 1}\n  {len(wrong):,} of {labels.size:,} labels "
            "are out of range; does the last layer have one unit for each class?"
        )


def require_unit(name: str, targets: Array) -> None:
    """Raise DataError where a target of binary cross-entropy lies outside 0 to 1."""
    wrong = np.argwhere((targets < 0) | (targets > 1))
    if len(wrong):
        place = tuple(int(i) for i in wrong[0])
        raise DataError(
            f"fit: {name} has the target {targets[place]} at {_place(place)}; binary_cross_entropy "
            "expects 0 to 1"
        )


def float_dtype(model: Module) -> DType:
    """What float64 examples become: float32, unless the model computes in float64."""
    cells = model.parameters()
    layers = [getattr(module, "dtype", None) for module in modules_of(model)]
    wide = float64 in [cell.dtype for cell in cells] if cells else float64 in layers
    return float64 if wide else float32


def shuffled(seed: int, epoch: int, rows: int) -> Array:
    """The order of the rows in this epoch: the places of sorted random bits.

    A function of its arguments alone, so that a run can go on in the middle of any epoch.
    """
    generator = Generator(seed)
    generator.draws.assign(np.uint64(epoch))
    return np.argsort(generator.bits((rows,)).numpy(), kind="stable")


def _array(name: str, value: Any, floats: DType) -> Array:
    try:
        array = host_array(value)
    except (OpTypeError, ValueError) as error:
        raise DataError(f"fit: the {name} are no array of numbers: {error}") from None
    if array.ndim == 0:
        raise DataError(f"fit: the {name} have no axis of examples, got a single number")
    if as_dtype(array.dtype).is_floating:
        _require_finite(name, array)
    return array.astype(floats.numpy) if array.dtype == np.float64 else array


def _require_finite(name: str, array: Array) -> None:
    wrong = ~np.isfinite(array)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DataError(
            f"fit: the {name} have {array[place]} at {_place(place)}; {int(wrong.sum()):,} of "
            f"{array.size:,} numbers are not finite\n  drop or replace them first"
        )


def _place(place: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, place))}]"


def _own(array: Array) -> Array:
    """A batch that nobody will write to, so that a Tensor may share its memory."""
    owned = array if array.base is None else array.copy()
    owned.flags.writeable = False
    return owned
