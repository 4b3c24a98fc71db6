"""How do the ops of a whole graph run at once, in a row? Each is made ready before, once.

An op alone is looked up by itself and its operands' layouts. For a graph whose inputs lie in known
ways that is done beforehand: what is left of an op is to call its kernel. The ops are those of the
graph, in its order: so are the bits, and with a tape each op is on it.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from pellucid.engines.base import ALIGNMENT, Layout, Storage
from pellucid.ir.graph import Attrs, Graph
from pellucid.ops import movement
from pellucid.ops.define import Op, lookup
from pellucid.tensor.context import context, current_engine
from pellucid.tensor.dispatch import Plan, apply, plan_of
from pellucid.tensor.tape import TapeNode
from pellucid.tensor.tensor import Tensor, escaped_error

Given = Tensor | TapeNode
"""What has a layout, and memory in which its numbers are."""

COMMON: Final = 1 << 16
"""Results of at most so many bytes share one block, which is taken for all of them."""


class _Step(NamedTuple):
    """An op made ready: its operands and its result by slot."""

    op: Op
    attrs: Attrs
    operands: tuple[int, ...]
    at: int
    plan: Plan


class _Move(NamedTuple):
    """What a step is without a tape: memory is taken for its result, if it needs its own, and run.

    `pick` takes the addresses out of a list. The slots `done` are not needed after it. Where `run`
    is None the result is the memory of the slot `source`, from `offset` bytes on.
    """

    run: Callable[..., object] | None
    pick: Callable[[list[int]], Any]
    at: int
    take: Callable[[], Storage] | None
    done: tuple[int, ...] = ()
    source: int = 0
    offset: int = 0


class _Output(NamedTuple):
    """An output: how it lies, its slot, and the slot in whose memory that is."""

    layout: Layout
    slot: int
    holder: int


class Rehearsal:
    """A graph made ready for inputs of some layouts on one engine.

    Each input, constant and result has a slot, in this order. `is_single` says that its outputs
    stand for one Tensor, not for a tuple.
    """

    __slots__ = ("_alone", "_constants", "_layouts", "_memory", "_mode", "_steps", "is_single")

    def __init__(self, graph: Graph, layouts: Sequence[Layout], is_single: bool = False) -> None:
        self.is_single = is_single
        self._layouts = list(layouts)
        self._mode = context.mode
        self._constants: list[Tensor] = []
        self._steps: list[_Step] = []
        slots = {value: slot for slot, value in enumerate(graph.inputs)}
        found = list(layouts)
        pairs = [(node, made[0]) for node, made in zip(graph.nodes, graph.results, strict=True)]
        for node, value in pairs:
            if node.op.name == "constant":
                self._constants.append(_repeated(dict(node.attrs)))
                slots[value] = len(found)
                found.append(self._constants[-1]._layout)
        first = len(found)
        for node, value in pairs:
            if node.op.name != "constant":
                op = lookup(node.op.name)
                operands = tuple([slots[one] for one in node.operands])
                plan = plan_of(op, tuple([found[slot] for slot in operands]), node.attrs)
                self._steps.append(_Step(op, node.attrs, operands, len(found), plan))
                slots[value] = len(found)
                found.append(plan.result)
        outputs = [slots[value] for value in graph.outputs]
        is_alone = len(self._steps) == 1 == len(outputs) and not self._constants
        step = self._steps[0] if is_alone and outputs == [first] else None
        # One kernel that takes the inputs as they come needs no list of what lies where.
        is_plain = step is not None and step.operands == tuple(range(first))
        self._alone = step.plan if step is not None and is_plain and step.plan.run else None
        self._memory = _Memory(self._steps, found, first, outputs)

    def suits(self, inputs: Sequence[Given]) -> bool:
        """Whether it was made ready for inputs that lie so, and for what runs ops now."""
        return context.mode is self._mode and [one._layout for one in inputs] == self._layouts

    def run(self, inputs: Sequence[Given]) -> list[Tensor]:
        """The outputs for suitable inputs; one that is an input is that, others have no tape."""
        if self._alone is not None:
            return [_run_alone(self._alone, inputs)]
        given: list[Given] = [*inputs, *self._constants]
        addresses = [one._address for one in given]
        if 0 in addresses:
            refuse_traced(inputs)
        memory = self._memory
        block = memory.take()
        base = block.address
        addresses += [base + place for place in memory.places]
        taken: dict[int, Storage] = {}
        for run, pick, at, take, done, source, offset in memory.moves:
            if run is None:
                addresses[at] = addresses[source] + offset
                continue
            if take is not None:
                storage = taken[at] = take()
                addresses[at] = storage.address
            run(*pick(addresses))
            for slot in done:
                del taken[slot]
        first = len(given)
        outputs: list[Tensor] = []
        for place, slot, holder in memory.outputs:
            if slot < first:
                outputs.append(_as_tensor(given[slot]))
            else:
                storage = given[holder]._storage if holder < first else taken[holder]
                outputs.append(Tensor(place, storage, addresses[slot]))
        return outputs

    def run_taped(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """As `run`, each op on the tape of its operands."""
        refuse_traced(inputs)
        found = [*inputs, *self._constants]
        for op, attrs, operands, _, plan in self._steps:
            given = tuple([found[slot] for slot in operands])
            storage: Storage | None
            if plan.run is None:
                storage, address = given[0]._storage, given[0]._address + plan.offset
            else:
                storage = plan.take()
                address = storage.address
                plan.run(*[one._address for one in given], address)
            out = Tensor(plan.result, storage, address)
            if plan.taped:
                for one in given:
                    if one._tape is not None:
                        out._tape = TapeNode(op, attrs, given, out)
                        break
            found.append(out)
        return [found[slot] for _, slot, _ in self._memory.outputs]


class _Memory:
    """Where each result lies without a tape: in a block of its own, in the common one, in another.

    `take` gives the common block, and `places` are offsets in there, by slot from the `first`
    result on. `holders[slot]` is the slot in whose memory a result is. A result that is given out
    has a block of its own.
    """

    __slots__ = ("moves", "outputs", "places", "take")

    def __init__(
        self, steps: Sequence[_Step], found: Sequence[Layout], first: int, outputs: list[int]
    ) -> None:
        holders = list(range(first))
        for step in steps:
            holders.append(step.at if step.plan.run is not None else holders[step.operands[0]])
        kept = {*range(first), *(holders[slot] for slot in outputs)}
        last = {holders[slot]: step.at for step in steps for slot in (*step.operands, step.at)}
        common, offsets = _Places(), [0] * len(found)
        self.moves: list[_Move] = []
        for _, _, operands, at, plan in steps:
            over = [slot for slot, end in last.items() if end == at and slot not in kept]
            source = operands[0] if operands else at
            own = holders[at] in kept or found[holders[at]].nbytes > COMMON
            if not own and plan.run is None:
                offsets[at] = offsets[source] + plan.offset
            else:
                if not own:
                    offsets[at] = common.take(found[at].nbytes)
                done = tuple([slot for slot in over if found[slot].nbytes > COMMON])
                # A slice picks a list also where there is no operand.
                pick = itemgetter(*operands, at) if operands else itemgetter(slice(at, at + 1))
                take = plan.take if own and plan.run is not None else None
                self.moves.append(_Move(plan.run, pick, at, take, done, source, plan.offset))
            for slot in over:
                if found[slot].nbytes <= COMMON:
                    common.give_back(offsets[slot], found[slot].nbytes)
        self.take = current_engine().allocator(common.size)
        self.places = offsets[first:]
        self.outputs = [_Output(found[slot], slot, holders[slot]) for slot in outputs]


class _Places:
    """Places in a block by offset; those of one size are used again."""

    def __init__(self) -> None:
        self.size = 0
        self._free: dict[int, list[int]] = {}

    def take(self, nbytes: int) -> int:
        """The offset of so many bytes."""
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        free = self._free.get(size)
        if free:
            return free.pop()
        self.size += size
        return self.size - size

    def give_back(self, offset: int, nbytes: int) -> None:
        """They are not needed any more."""
        self._free.setdefault(-(-nbytes // ALIGNMENT) * ALIGNMENT, []).append(offset)


def _repeated(attrs: dict[str, Any]) -> Tensor:
    """A constant; of one number everywhere that is in memory once."""
    if isinstance(attrs["value"], bytes):
        return apply(movement.constant, (), tuple(sorted(attrs.items())))
    single = apply(movement.constant, (), tuple(sorted((attrs | {"shape": ()}).items())))
    if not attrs["shape"]:
        return single
    return apply(movement.broadcast, (single,), (("axes", ()), ("shape", attrs["shape"])))


def _run_alone(plan: Plan, inputs: Sequence[Given]) -> Tensor:
    addresses = [one._address for one in inputs]
    if 0 in addresses:
        refuse_traced(inputs)
    storage = plan.take()
    address = storage.address
    assert plan.run is not None, "a view is not run"
    plan.run(*addresses, address)
    return Tensor(plan.result, storage, address)


def _as_tensor(one: Given) -> Tensor:
    return one if isinstance(one, Tensor) else one.result


def refuse_traced(inputs: Sequence[Given]) -> None:
    """Raise EscapedTraceError where one was traced."""
    for one in inputs:
        if one._value is not None:
            raise escaped_error(_as_tensor(one))
