"""Which functions are more than one op, and called again and again? Those that are `rehearsed`.

    @rehearsed
    def where(condition, x1, x2): ...

Such a function is traced once for each kind of arguments. After that its ops run in a row
(rehearsal.py), without the Python that decided on them; in another trace they become its nodes.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from types import FunctionType
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, cast

from pellucid.core.dtype import DType
from pellucid.ir.graph import Graph
from pellucid.ops.define import Op
from pellucid.tensor.context import context, tracing
from pellucid.tensor.dispatch import evaluate
from pellucid.tensor.rehearsal import Rehearsal, refuse_traced
from pellucid.tensor.state import Variable
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.trace import Trace

P = ParamSpec("P")
R = TypeVar("R")

KEPT: Final = 2048
"""So many kinds of calls are remembered."""


def rehearsed(function: Callable[P, R]) -> Callable[P, R]:
    """A function of Tensors and settings whose ops run in a row, or are traced in a row.

    It gives a Tensor, or a tuple of them, and does nothing else: for each kind of arguments it is
    traced once. Settings are numbers, dtypes, ops, names, None, and tuples of ints. With other
    arguments it is called as it is.
    """
    run = _run

    def rehearsing(*args: Any, **kwargs: Any) -> Any:
        return run(function, args, kwargs)

    # Whoever looks for the text of a function asks for its globals: those of the wrapped one.
    code, cells = rehearsing.__code__, rehearsing.__closure__
    found = FunctionType(code, function.__globals__, function.__name__, None, cells)
    return cast("Callable[P, R]", update_wrapper(found, function))


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call it, by its rehearsal if these arguments have one."""
    if context.engine is None:
        return function(*args, **kwargs)
    mode = context.mode
    key: list[object] = [function, mode]
    tensors: list[Tensor] = []
    taped = False
    for arg in args:
        kind = cast("type[object]", type(arg))
        if kind is Tensor:
            key.append(arg._layout)
            tensors.append(arg)
            if arg._tape is not None:
                taped = True
        elif kind in _SETTINGS or (kind is tuple and _INT.issuperset(map(type, arg))):
            # 0.0 and -0.0 are equal, and so are 1 and True.
            key += (kind, arg or repr(arg))
        elif isinstance(arg, Variable):
            values = tuple([a.value if isinstance(a, Variable) else a for a in args])
            return _run(function, values, kwargs)
        else:
            return function(*args, **kwargs)
    for name, arg in kwargs.items():
        kind = cast("type[object]", type(arg))
        if kind not in _SETTINGS and not (kind is tuple and _INT.issuperset(map(type, arg))):
            return function(*args, **kwargs)
        key += (name, kind, arg or repr(arg))
    if not tensors:
        return function(*args, **kwargs)
    known = tuple(key)
    ready = _known.get(known)
    if ready is None and known not in _known:
        ready = _rehearse(partial(function, **kwargs), args, tensors, known)
    if ready is None:
        return function(*args, **kwargs)
    outputs = ready.run_taped(tensors) if taped and mode.gradients else ready.run(tensors)
    return outputs[0] if ready.is_single else tuple(outputs)


class _Drawn(NamedTuple):
    """What a function does, as it becomes part of a trace."""

    graph: Graph
    is_single: bool

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, as nodes of the open trace."""
        return evaluate(self.graph, inputs)

    run_taped = run


_SETTINGS: Final = frozenset((bool, int, float, str, type(None), DType, Op))
_INT: Final = frozenset((int,))
_known: dict[tuple[object, ...], Rehearsal | _Drawn | None] = {}


def _rehearse(
    function: Callable[..., Any], args: Sequence[Any], tensors: list[Tensor], kind: tuple[Any, ...]
) -> Rehearsal | _Drawn | None:
    """What a function does with arguments of this kind; None where it makes Tensors of others."""
    outer = context.trace
    if outer is None:
        refuse_traced(tensors)
    trace = Trace(outer)
    layouts = [tensor._layout for tensor in tensors]
    with tracing(trace):
        stand_ins = iter([trace.input(place.type) for place in layouts])
        result = function(*[next(stand_ins) if type(arg) is Tensor else arg for arg in args])
        is_single = isinstance(result, Tensor)
        outputs: tuple[Tensor, ...] = (result,) if is_single else result
        graph = trace.builder.graph([trace.lift(one) for one in outputs])
    made: Rehearsal | _Drawn | None = None
    if not trace.captured:
        drawn = _Drawn(graph, is_single)
        made = Rehearsal(graph, layouts, is_single) if outer is None else drawn
    if len(_known) >= KEPT:
        _known.clear()
    _known[kind] = made
    return made
