"""How is a sequence walked? By a recurrent cell, step by step, in one direction or in both."""

from __future__ import annotations

from typing import Any, Unpack

from pellucid.core.error import OpShapeError, StateError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.nn.module import Module
from pellucid.nn.recurrent_cells import Cell, CellOptions, GRUCell, LSTMCell, State, pair_of
from pellucid.tensor.joining import concat, stack, unstack
from pellucid.tensor.shaping import permute_dims
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


class Recurrent(Module):
    """What LSTM and GRU share: a cell that walks over a sequence, or two in opposite directions.

    Input (batch, steps, features); the output is that of the last step, (batch, units), or with
    `return_sequences` of all, (batch, steps, units). With `return_state` the state after the last
    step comes with it: (output, state). `go_backwards` begins at the last step, and gives outputs
    in the order of the walk. Two directions have a cell each: their outputs stand side by side,
    (..., 2 * units), each beside the other's for the same step, and the state is a pair of states.
    """

    def __init__(
        self,
        cells: list[Cell],
        return_sequences: bool,
        return_state: bool,
        go_backwards: bool,
    ) -> None:
        name = type(self).__name__
        if go_backwards and len(cells) > 1:
            raise StateError(f"{name}: bidirectional goes both ways; leave out go_backwards")
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.cell = cells[0]
        self.backward_cell = cells[1] if len(cells) > 1 else None

    def forward(self, x: Operand, state: State = None) -> Any:
        """x (batch, steps, features), and the state before the first step, zeros by default."""
        tensor = as_tensor(x)
        if tensor.ndim != 3 or not tensor.shape[1]:
            raise OpShapeError(
                f"{type(self).__name__}: expected (batch, steps, features) with a step at least, "
                f"got {shape_text(tensor.shape)}{at_line(user_source())}"
            )
        walk = self._one_way if self.backward_cell is None else self._both_ways
        found, after = walk(tensor, state)
        return (found, after) if self.return_state else found

    def _one_way(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, after = _walk(self.cell, x, state, self.go_backwards)
        return stack(outputs, axis=1) if self.return_sequences else outputs[-1], after

    def _both_ways(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert self.backward_cell is not None, "there are two directions"
        first, second = pair_of("bidirectional: expected a pair of states", state)
        ahead, after_ahead = _walk(self.cell, x, first, False)
        back, after_back = _walk(self.backward_cell, x, second, True)
        if self.return_sequences:
            # What walked backwards is turned round, to stand beside the same steps.
            ends = [stack(ahead, axis=1), stack(back[::-1], axis=1)]
        else:
            ends = [ahead[-1], back[-1]]
        return concat(ends, axis=-1), (after_ahead, after_back)


class LSTM(Recurrent):
    """Long short-term memory over sequences; a step is `LSTMCell`, which has the equations.

    `bidirectional` walks both ways; all other settings are those of the cell. For what comes in
    and out see `Recurrent`.

    >>> from pellucid import zeros
    >>> LSTM(4)(zeros((2, 7, 3))).shape
    (2, 4)
    >>> y, (h, c) = LSTM(4, return_sequences=True, return_state=True)(zeros((2, 7, 3)))
    >>> y.shape, h.shape
    ((2, 7, 4), (2, 4))
    """

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        bidirectional: bool = False,
        unit_forget_bias: bool = True,
        **options: Unpack[CellOptions],
    ) -> None:
        cells: list[Cell] = [
            LSTMCell(units, unit_forget_bias=unit_forget_bias, **options)
            for _ in range(1 + bidirectional)
        ]
        super().__init__(cells, return_sequences, return_state, go_backwards)


class GRU(Recurrent):
    """Gated recurrent units over sequences; a step is `GRUCell`, which has the equations.

    `bidirectional` walks both ways; all other settings are those of the cell. For what comes in
    and out see `Recurrent`.

    >>> from pellucid import zeros
    >>> GRU(4, return_sequences=True, bidirectional=True)(zeros((2, 7, 3))).shape
    (2, 7, 8)
    """

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        bidirectional: bool = False,
        reset_after: bool = True,
        **options: Unpack[CellOptions],
    ) -> None:
        cells: list[Cell] = [
            GRUCell(units, reset_after=reset_after, **options) for _ in range(1 + bidirectional)
        ]
        super().__init__(cells, return_sequences, return_state, go_backwards)


def _walk(cell: Cell, x: Tensor, state: State, backwards: bool) -> tuple[list[Tensor], State]:
    """A cell over (batch, steps, features): its outputs in the order of the walk, and its state."""
    projected = cell.project(permute_dims(x, (1, 0, 2)))
    steps = unstack(projected)
    state, outputs = cell.begin(x.shape[0], state), list[Tensor]()
    for one in reversed(steps) if backwards else steps:
        output, state = cell.advance(one, state)
        outputs.append(output)
    return outputs, state
