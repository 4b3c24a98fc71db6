"""What does a model consist of, and what does it cost? Its layers, shapes, Parameters and flops.

The model is traced once on an input, without computing anything. What a layer adds to the graph is
what it costs, by the cost that each op states on its card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from pellucid.core.error import StateError
from pellucid.core.source import at_line, user_source
from pellucid.nn.module import Call, Module, in_mode, named_modules, watching_calls
from pellucid.passes.traffic import flops_of
from pellucid.tensor.creation import asarray, zeros
from pellucid.tensor.state import Parameter, Variable
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.traced import trace_function


@dataclass(frozen=True)
class Row:
    """One call of one module: where it lies, what it gives, holds (with all in it) and computes."""

    path: str
    layer: str
    depth: int
    output: str
    parameters: int
    flops: int


@dataclass(frozen=True)
class Summary:
    """A model's layers in the order of their calls, and the sums; its text is a table.

    `parameters` and `buffers` count numbers, each once; `flops` are those of one forward pass.
    """

    rows: tuple[Row, ...]
    parameters: int
    buffers: int
    flops: int

    def __str__(self) -> str:
        head = ("layer", "output", "parameters", "flops")
        lines = [
            (
                f"{'  ' * row.depth}{_name(row)}",
                row.output,
                f"{row.parameters:,}",
                f"{row.flops:,}",
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        rule = "-" * (sum(widths) + 6)
        table = [_line(line, widths) for line in (head, *lines)]
        count = f"{self.parameters:,} parameters, {self.buffers:,} numbers in buffers"
        return "\n".join([table[0], rule, *table[1:], rule, f"{count}, {self.flops:,} flops"])

    __repr__ = __str__


def summary(model: Module, example: Any) -> Summary:
    """Trace `model` on an example, or on float32 zeros of the shape given, and count.

    Parameters that do not exist yet are made, as at the first call; nothing else changes.

    >>> from pellucid import nn
    >>> print(summary(nn.Sequential([nn.Dense(4), nn.relu]), (8, 3)))
    layer              output         parameters  flops
    ---------------------------------------------------
    Sequential         float32[8, 4]          16    288
      layers.0: Dense  float32[8, 4]          16    224
    ---------------------------------------------------
    16 parameters, 0 numbers in buffers, 288 flops
    """
    if not isinstance(model, Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StateError(f"summary: expected a Module, got {model!r}{at_line(user_source())}")
    shape = _as_shape(example)
    inputs = asarray(example) if shape is None else zeros(shape)
    calls = traced_calls(model, inputs)
    paths = {id(module): path for path, module in named_modules(model).items()}
    rows = tuple(
        Row(
            paths.get(id(call.module), ""),
            type(call.module).__name__,
            call.depth,
            call.output,
            _count(call.module, Parameter),
            flops_of(call.nodes),
        )
        for call in calls
    )
    held = sum(cell.size for cell in model.variables().values())
    parameters = _count(model, Parameter)
    return Summary(rows, parameters, held - parameters, rows[0].flops)


def traced_calls(model: Module, inputs: Tensor) -> list[Call]:
    """Every call of a module while `model`, set to evaluation, is traced on the inputs."""
    with in_mode(model, training=False), watching_calls() as calls:
        trace_function(model, [inputs], [inputs])
    return calls


def _count(module: Module, kind: type[Variable]) -> int:
    return sum(cell.size for cell in module.variables().values() if isinstance(cell, kind))


def _as_shape(example: Any) -> tuple[int, ...] | None:
    """The example, if it is a tuple of sizes."""
    if not isinstance(example, tuple):
        return None
    sizes = cast("tuple[Any, ...]", example)
    return sizes if all(isinstance(size, int) for size in sizes) else None


def _name(row: Row) -> str:
    return f"{row.path}: {row.layer}" if row.path else row.layer


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    texts = [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(texts)
