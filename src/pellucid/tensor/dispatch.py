"""What happens when an op meets Tensors? It runs at once, or it becomes a node of the open trace.

    apply(op, (x, y), attrs)  ->  Tensor

One way in for both, so eager and traced programs say the same ops in the same order. An op that was
seen before with these layouts is a dict look-up and one native call.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy as copy_of
from functools import lru_cache
from typing import Any

from pellucid.core.error import OpError, OpShapeError
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import Launch, Layout, Storage, layout
from pellucid.ir.graph import Attrs, Graph, Node, TensorType, Value
from pellucid.ops import movement, parts
from pellucid.ops.define import Op, lookup
from pellucid.ops.elementwise import stop_gradient
from pellucid.tensor.context import context, current_engine
from pellucid.tensor.tape import TapeNode
from pellucid.tensor.tensor import Tensor, escaped_error
from pellucid.tensor.trace import Trace


class Plan:
    """An op made ready for operands of some layouts.

    `run` is called with the addresses of operands and result, and `take` gives memory for that.
    Where `run` is None the result is the first operand's memory, from `offset` bytes on. `taped`:
    a gradient can flow through here. One that is not `direct` also repeats operands to one shape,
    which a tape has to know of.
    """

    __slots__ = ("direct", "offset", "result", "run", "take", "taped")

    def __init__(self, op: Op, result: Layout, launch: Launch | None, offset: int = 0) -> None:
        self.result = result
        self.run: Callable[..., object] | None = None if launch is None else launch.run
        self.take: Callable[[], Storage] = current_engine().allocator(result.nbytes)
        self.offset = offset
        self.taped = _can_be_taped(op, result)
        self.direct = True

    def indirect(self) -> Plan:
        """The same one for operands that are first repeated to one shape."""
        made = copy_of(self)
        made.direct = False
        return made


def apply(op: Op, operands: tuple[Tensor, ...], attrs: Attrs = ()) -> Tensor:
    """The only result of `op`; attributes are sorted pairs. Raises OpError with the user's line."""
    key = (op, attrs, *[tensor._layout for tensor in operands])
    plan: Plan | None = context.mode.plans.get(key)
    if plan is None:
        if context.trace is not None:
            return _trace(op, operands, attrs)
        _refuse_traced(operands)
        plan = _make_plan(op, key[2:], attrs, key)
    addresses = [tensor._address for tensor in operands]
    if 0 in addresses:
        _refuse_traced(operands)
    if plan.run is None:
        storage, address = operands[0]._storage, addresses[0] + plan.offset
    else:
        storage = plan.take()
        address = storage.address
        plan.run(*addresses, address)
    out = Tensor(plan.result, storage, address)
    for tensor in operands:
        if tensor._tape is not None:
            if plan.taped and context.mode.gradients:
                out._tape = TapeNode(op, attrs, operands, out)
            break
    return out


def unary(op: Op, x: Tensor) -> Tensor:
    """As `apply` of an op that has one operand and no attributes."""
    plan: Plan | None = context.mode.plans.get((op, (), x._layout))
    if plan is None or plan.run is None or x._tape is not None or not x._address:
        return apply(op, (x,))
    storage = plan.take()
    address = storage.address
    plan.run(x._address, address)
    return Tensor(plan.result, storage, address)


def known_binary(op: Op, x: Tensor, y: Tensor) -> Tensor | None:
    """`op` of two operands, if it is known how operands of these layouts meet; else None."""
    mode = context.mode
    plan: Plan | None = mode.plans.get((op, x._layout, y._layout))
    if plan is None or plan.run is None or not (x._address and y._address):
        return None
    is_taped = plan.taped and mode.gradients and (x._tape is not None or y._tape is not None)
    if is_taped and not plan.direct:
        return None
    storage = plan.take()
    address = storage.address
    plan.run(x._address, y._address, address)
    out = Tensor(plan.result, storage, address)
    if is_taped:
        out._tape = TapeNode(op, (), (x, y), out)
    return out


def binary_of(op: Op, operands: tuple[Tensor, Tensor], met: tuple[Tensor, Tensor]) -> Tensor:
    """`op` of what the operands became when they met; `known_binary` will know how, from now on."""
    out = apply(op, met)
    x, y = operands
    lhs, rhs = met
    plans = context.mode.plans
    key = (op, x._layout, y._layout)
    plan: Plan | None = plans.get((op, (), lhs._layout, rhs._layout))
    kept = lhs.dtype is x.dtype and rhs.dtype is y.dtype
    if plan is not None and kept and key not in plans:
        # Repeated operands begin where they did.
        plans[key] = plan if lhs is x and rhs is y else plan.indirect()
    return out


def known_view(key: tuple[Any, ...], x: Tensor) -> Tensor | None:
    """The part of x's memory that `note_view` saw under this key; None where a tape has to know.

    The key says which function, of x in which layout, with which other arguments.
    """
    found: tuple[Layout, int] | None = context.mode.plans.get(key)
    if found is None or x._tape is not None or not x._address:
        return None
    place, offset = found
    return Tensor(place, x._storage, x._address + offset)


def note_view(key: tuple[Any, ...], x: Tensor, view: Tensor) -> Tensor:
    """The view itself; what it is of x is remembered, if it is of x's memory."""
    if context.trace is None and x._address and view._storage is x._storage:
        context.mode.plans[key] = (view._layout, view._address - x._address)
    return view


def evaluate(graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Apply a graph's nodes one by one to Tensors; gives the outputs."""
    types = [tensor._layout.type for tensor in inputs]
    if context.trace is not None and types == [value.type for value in graph.inputs]:
        return _copied(graph, inputs, context.trace)
    env = dict(zip(graph.inputs, inputs, strict=True))
    for node, results in zip(graph.nodes, graph.results, strict=True):
        operands = tuple(env[value] for value in node.operands)
        env[results[0]] = apply(lookup(node.op.name), operands, node.attrs)
    return [env[value] for value in graph.outputs]


def _copied(graph: Graph, inputs: Sequence[Tensor], trace: Trace) -> list[Tensor]:
    """As tracing it node by node, but for the types of results, which are known."""
    source = user_source()
    pairs = zip(graph.inputs, inputs, strict=True)
    used = {value: tensor for value, tensor in pairs if graph.uses[value]}
    env = {value: trace.lift(tensor) for value, tensor in used.items()}
    is_taped = context.gradients and any(tensor._tape is not None for tensor in used.values())
    tensors: dict[Value, Tensor] = used if is_taped else {}
    for node, results in zip(graph.nodes, graph.results, strict=True):
        operands = tuple([env[value] for value in node.operands])
        copy = Node(node.op, operands, node.attrs, node.types, source)
        (env[results[0]],) = made = trace.builder.append(copy)
        if is_taped:
            given = tuple([tensors[value] for value in node.operands])
            out = tensors[results[0]] = trace.tensor(made[0])
            op = lookup(node.op.name)
            if _can_be_taped(op, out._layout) and any(one._tape is not None for one in given):
                out._tape = TapeNode(op, node.attrs, given, out, source)
    return [
        tensors[value] if value in tensors else trace.tensor(env[value]) for value in graph.outputs
    ]


def dense(tensor: Tensor) -> Tensor:
    """The same value with its numbers in row-major order."""
    if tensor._layout.dense:
        return tensor
    # Reshaping to its own shape is what copies: `_view` has no dense view of it to offer.
    return apply(movement.reshape, (tensor,), (("shape", tensor.shape),))


def _trace(op: Op, operands: tuple[Tensor, ...], attrs: Attrs) -> Tensor:
    trace = context.trace
    assert trace is not None, "the caller saw one"
    source = user_source()
    values = [trace.lift(tensor) for tensor in operands]
    trace.builder.source = source
    try:
        place = _inferred(op, attrs, tuple([tensor._layout for tensor in operands]))
    except OpError as error:
        raise type(error)(f"{error}{at_line(source)}") from None
    (value,) = trace.builder.append(Node(op, tuple(values), attrs, (place.type,), source))
    out = Tensor(place, None, 0, value, trace)
    is_taped = context.gradients and _can_be_taped(op, place)
    if is_taped and any(tensor._tape is not None for tensor in operands):
        out._tape = TapeNode(op, attrs, operands, out, source)
    return out


@lru_cache(maxsize=4096)
def _inferred(op: Op, attrs: Attrs, operands: tuple[Layout, ...]) -> Layout:
    """The layout of the only result of a traced op; equal layers ask for the same ones."""
    (type,) = op.result_types(tuple(one.type for one in operands), dict(attrs))
    return layout(type)


def _can_be_taped(op: Op, result: Layout) -> bool:
    """Whether a gradient can flow through here."""
    return result.dtype.kind == "float" and op is not stop_gradient


def plan_of(op: Op, operands: tuple[Layout, ...], attrs: Attrs) -> Plan:
    """What `apply` does with operands that lie so, while ops run at once."""
    key = (op, attrs, *operands)
    found: Plan | None = context.mode.plans.get(key)
    return _make_plan(op, operands, attrs, key) if found is None else found


def _make_plan(op: Op, layouts: tuple[Layout, ...], attrs: Attrs, key: tuple[Any, ...]) -> Plan:
    engine = current_engine()
    try:
        types = op.result_types(tuple(one.type for one in layouts), dict(attrs))
    except OpError as error:
        raise type(error)(f"{error}{at_line(user_source())}") from None
    view = _view(op, layouts, types[0], dict(attrs))
    if view is None:
        launch = engine.launcher(op, dict(attrs), layouts)
        plan = Plan(op, launch.result, launch)
    else:
        plan = Plan(op, view[0], None, view[1])
    context.mode.plans[key] = plan
    return plan


def _refuse_traced(operands: tuple[Tensor, ...]) -> None:
    for tensor in operands:
        if tensor._value is not None:
            raise escaped_error(tensor)


def _view(
    op: Op, operands: tuple[Layout, ...], result: TensorType, attrs: dict[str, Any]
) -> tuple[Layout, int] | None:
    """How the operand's memory already is the result, where it is, and from which byte on."""
    shape = layout(result).shape
    if op is stop_gradient:
        return operands[0], 0
    if op is parts.slice:
        return _sliced(operands[0], result, attrs["start"], attrs["strides"])
    if op is movement.transpose:
        permutation: tuple[int, ...] = attrs["permutation"]
        return _strided(result, [operands[0].strides[axis] for axis in permutation]), 0
    if op is movement.broadcast:
        strides = [0] * len(shape)
        sizes = zip(operands[0].shape, operands[0].strides, attrs["axes"], strict=True)
        for size, stride, axis in sizes:
            strides[axis] = stride if size == shape[axis] else 0
        return _strided(result, strides), 0
    if op is movement.reshape:
        found = _reshaped(operands[0], result)
        return None if found is None else (found, 0)
    return None


def _sliced(
    operand: Layout, result: TensorType, start: tuple[int, ...], steps: tuple[int, ...]
) -> tuple[Layout, int]:
    first = sum(at * stride for at, stride in zip(start, operand.strides, strict=True))
    strides = [a * b for a, b in zip(operand.strides, steps, strict=True)]
    return _strided(result, strides), first * result.dtype.bytes


def _strided(result: TensorType, strides: Sequence[int]) -> Layout:
    """The layout with these strides; the dense one where only axes of size 1 say otherwise."""
    plain = layout(result)
    triples = zip(plain.shape, strides, plain.strides, strict=True)
    if all(size == 1 or stride == other for size, stride, other in triples):
        return plain
    return layout(result, tuple(strides))


def _reshaped(operand: Layout, result: TensorType) -> Layout | None:
    if operand.dense:
        return layout(result)
    kept = [(n, s) for n, s in zip(operand.shape, operand.strides, strict=True) if n != 1]
    shape = layout(result).shape
    if [n for n in shape if n != 1] != [n for n, _ in kept] or shape == operand.shape:
        return None
    # Only axes of size 1 come or go: their strides do not matter.
    rest = iter([s for _, s in kept])
    return layout(result, tuple(1 if n == 1 else next(rest) for n in shape))


def shapes_error(name: str, message: str) -> OpShapeError:
    """A shape error of a function, with the user's line."""
    return OpShapeError(f"{name}: {message}{at_line(user_source())}")
