"""Which number does a random draw get? The next one, as if the program ran line by line.

A draw that is traced counts inside the graph. One that runs at once while a trace waits (the first
numbers of a new Parameter) is counted ahead; a traced draw after it skips its number, and if
there is none, the counter is moved on once, outside the graph.
"""

from __future__ import annotations

from pellucid.core.dtype import uint64
from pellucid.tensor.arithmetic import add, constant
from pellucid.tensor.context import context
from pellucid.tensor.state import Variable
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.trace import Trace


def take_number(counter: Variable) -> Tensor:
    """The number of the next draw of the generator that counts with `counter`."""
    outermost = context.outermost
    if outermost is None:
        number = counter.value
        counter.assign(_plus(number, 1))
        return number
    ahead = outermost.draws.get(counter, 0)
    outermost.draws[counter] = ahead + 1
    if context.trace is None:
        skipped = outermost.draws_at_once
        skipped[counter] = skipped.get(counter, 0) + 1
        return _plus(counter.value, ahead)
    number = _plus(counter.value, outermost.draws_at_once.pop(counter, 0))
    counter.assign(_plus(number, 1))
    return number


def finish_draws(trace: Trace) -> dict[Variable, int]:
    """Count, inside an open outermost trace, what ran at once; gives what is to be counted outside.

    That are the draws of generators which the graph does not draw from.
    """
    outside: dict[Variable, int] = {}
    for counter, count in trace.draws_at_once.items():
        assert isinstance(counter, Variable), "generators count with Variables"
        if count == trace.draws[counter]:
            outside[counter] = count
        else:
            counter.assign(_plus(counter.value, count))
    return outside


def count_outside(draws: dict[Variable, int]) -> None:
    """Move counters on by so many draws."""
    for counter, count in draws.items():
        counter.assign(_plus(counter.value, count))


def _plus(number: Tensor, count: int) -> Tensor:
    return add(number, constant(count, uint64)) if count else number
