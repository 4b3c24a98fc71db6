"""With which numbers does a cell start that is made while a function is traced? They are computed.

A cell made inside a trace lives on outside it, so its first value is worked out at once: from
constants, from what cells held before, and from random draws, which get the numbers that they have
when the program runs line by line. Only the function's own arguments are not known.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from pellucid.core.error import StateError
from pellucid.core.source import at_line, user_source
from pellucid.ir.graph import Value
from pellucid.ops.define import lookup
from pellucid.tensor.cell import Cell
from pellucid.tensor.context import outside_traces
from pellucid.tensor.dispatch import apply
from pellucid.tensor.tensor import Tensor, escaped_error
from pellucid.tensor.trace import Trace


def concrete(tensor: Tensor) -> Tensor:
    """The numbers of a traced Tensor; raises StateError where it depends on an argument.

    A Tensor with numbers is given back as it is.
    """
    trace = tensor._trace
    if tensor._value is None:
        return tensor
    if not isinstance(trace, Trace) or not trace.is_open:
        raise escaped_error(tensor)
    with outside_traces():
        return _Known(trace).value(tensor._value)


class _Known:
    """The values of a trace whose numbers are known, or can be found."""

    def __init__(self, trace: Trace) -> None:
        self.parent = trace.parent
        self.values: dict[Value, Tensor] = {}
        self.outer = {value: tensor for tensor, value in trace.captured.values()}
        self.cells = {s.entry: cell for cell, s in trace.cells.items() if s.entry is not None}

    def value(self, target: Value) -> Tensor:
        """The numbers behind a value; operands first, without recursion: graphs are deep."""
        stack = [target]
        while stack:
            value = stack[-1]
            if value in self.values:
                stack.pop()
            elif value.node is None:
                self.values[value] = self.input(value)
            elif missing := [one for one in value.node.operands if one not in self.values]:
                stack.extend(missing)
            else:
                operands = tuple(self.values[one] for one in value.node.operands)
                self.values[value] = apply(lookup(value.node.op.name), operands, value.node.attrs)
        return self.values[target]

    def input(self, value: Value) -> Tensor:
        """The numbers that an input of the trace stands for."""
        if value in self.outer:
            return concrete(self.outer[value])
        if value in self.cells:
            return self.held(self.cells[value])
        raise StateError(
            "a Variable's first value depends on an argument of the traced function"
            f"{at_line(user_source())}\n  make the Variable outside the function, or start it with "
            "a constant and assign to it"
        )

    def held(self, cell: Cell) -> Tensor:
        """What a cell held when the trace began."""
        outer, known = self.parent, None
        while outer is not None and known is None:
            known, outer = outer.cells.get(cell), outer.parent
        if known is None or self.parent is None:
            return cell.take()
        return concrete(self.parent.read(cell, taped=False))
