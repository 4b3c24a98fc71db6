"""When may a function run as one compiled graph, and which one? `jit` decides call by call.

    @pe.jit
    def step(x, y): ...

The first call traces the function; its graph takes the arguments, the cells that were read and the
Tensors that were found outside, and gives the results and what the cells hold afterwards. A later
call uses it again if the arguments have the same types, and what the function reaches by name
still is what it was. `why` says what did not fit when a function was traced again.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import gc
import threading
import time
import types
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

from pellucid.core import tree
from pellucid.core.dtype import as_dtype
from pellucid.core.error import ConfigError, TraceError
from pellucid.core.forking import Turn, held_across_forks
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import layout
from pellucid.ir.graph import TensorType
from pellucid.ir.record import add_stage
from pellucid.ir.text import print_graph
from pellucid.passes.traffic import Traffic
from pellucid.tensor import interrupt
from pellucid.tensor.binding import Binding, bind
from pellucid.tensor.cell import Cell
from pellucid.tensor.compiled import Compiled
from pellucid.tensor.context import context, current_engine, tracing
from pellucid.tensor.creation import asarray
from pellucid.tensor.dispatch import dense
from pellucid.tensor.draws import count_outside
from pellucid.tensor.footprint import Footprint
from pellucid.tensor.precision import precision as precision_scope
from pellucid.tensor.reach import Reach
from pellucid.tensor.state import Variable
from pellucid.tensor.steady import Program, build_program, steady_inputs
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.trace import Trace

Function = Callable[..., Any]
Key = tuple[Any, ...]

# One thread traces at a time: tracing makes cells and sets attributes.
_tracing = held_across_forks(threading.RLock(), Turn.TRACE)


class Spec:
    """An array argument of which only the type is known, for `compile`."""

    __slots__ = ("type",)

    def __init__(self, type: TensorType) -> None:
        self.type = type


class Jit:
    """A function that runs as one compiled graph for each kind of call; made by `jit`.

    `why` says, call by call, why the function was traced again.
    """

    def __init__(
        self,
        function: Function,
        static: tuple[int | str, ...],
        fast: bool = False,
        precision: Any = None,
    ) -> None:
        if not isinstance(fast, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            where = at_line(user_source())
            raise ConfigError(f"jit: expected fast=True or fast=False, got fast={fast!r}{where}")
        functools.update_wrapper(self, function)
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self.function = function
        self.static = static
        self.fast = fast
        # A name that is none is found out here, not at the first call.
        self._scope = (
            nullcontext if precision is None else functools.partial(precision_scope, precision)
        )
        with self._scope():
            pass
        self.entries: dict[Key, list[Compiled]] = {}
        self.why: list[str] = []
        self._last: Compiled | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the compiled graph that suits these arguments, compiling it if there is none."""
        last = self._last
        if last is not None and not kwargs and last.takes(args) and last.is_current():
            return last.run(args)
        if context.trace is not None:
            with self._scope():
                return self.function(*args, **kwargs)
        leaves, key, treedef = self._signature(args, kwargs)
        entry = self._find(key) or self._compile(leaves, treedef, key)
        return entry.run([leaf for leaf in leaves if isinstance(leaf, Tensor)])

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def compile(self, *args: Any, **kwargs: Any) -> Compiled:
        """Trace and compile for these arguments without running; a `pe.spec` stands for an array.

        >>> import pellucid as pe
        >>> double = pe.jit(lambda x: x + x)
        >>> print(*double.compile(pe.spec((2,), pe.float32)).inputs)
        float32[2]
        """
        leaves, key, treedef = self._signature(args, kwargs)
        entry = self._find(key) or self._compile(leaves, treedef, key)
        if entry.binding.once:
            # Tracing made new state. It is there now, and what later calls do is traced at once;
            # the numbers of all its draws are used up.
            count_outside(entry.binding.draws_inside)
            entry.spent = True
            entry = self._compile(leaves, treedef, key)
        return entry

    def renew(self) -> None:
        """Have all that is compiled made anew by its engine, as by new schedules; no retracing."""
        with _tracing:
            for key, entries in self.entries.items():
                self.entries[key] = [entry.renewed() for entry in entries]
            self._last = None

    def memory(self, *args: Any, **kwargs: Any) -> Footprint:
        """What a call with these arguments holds in memory; compiles, but does not run it.

        >>> import pellucid as pe
        >>> double = pe.jit(lambda x: x + x)
        >>> print(double.memory(pe.spec((1024,), pe.float32)))
        <lambda>: 8,192 bytes at most
          arguments 4,096, state 0, results 4,096, arena 0, constants 0
          and 0 bytes of scratch for each thread
        """
        return self.compile(*args, **kwargs).memory

    def traffic(self, *args: Any, **kwargs: Any) -> Traffic:
        """What a call with these arguments launches, moves and computes; it does not run.

        >>> import pellucid as pe
        >>> double = pe.jit(lambda x: x + x)
        >>> print(double.traffic(pe.spec((1000,), pe.float32)))
        1 launches of 1 kernels, 1,000 flops, 8,000 bytes moved, 1.00 times the fewest
        """
        return self.compile(*args, **kwargs).traffic

    def _signature(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Any], Key, tree.TreeDef]:
        """The leaves (arrays made dense Tensors), what the call specialises on, the structure."""
        marked = [_Static(a) if i in self.static else a for i, a in enumerate(args)]
        named = {n: _Static(v) if n in self.static else v for n, v in kwargs.items()}
        raw, treedef = tree.flatten((tuple(marked), named))
        leaves = [_as_input(leaf) for leaf in raw]
        kinds = tuple(_kind(leaf) for leaf in leaves)
        surroundings = current_engine().name, context.gradients, context.precision
        return leaves, (treedef, kinds, *surroundings), treedef

    def _find(self, key: Key) -> Compiled | None:
        try:
            known = self.entries.get(key, [])
        except TypeError:
            raise TraceError(
                f"jit: an argument of {self.name} is neither an array nor hashable"
                f"{at_line(user_source())}\n  give it as a tuple, or let the function close over it"
            ) from None
        for entry in reversed(known):
            if entry.is_current():
                self._last = entry
                return entry
        return None

    def _compile(self, leaves: list[Any], treedef: tree.TreeDef, key: Key) -> Compiled:
        with _tracing:
            # Another thread may have been here first.
            entry = self._find(key)
            if entry is not None:
                return entry
            interrupt.prepare()
            trace = Trace(None, is_program=True, fast=self.fast)
            try:
                with _without_collections():
                    entry = self._traced(trace, leaves, treedef, key)
            except BaseException:
                trace.restore()
                raise
            kept = [one for one in self.entries.get(key, []) if not one.spent]
            self.entries[key] = [*kept[1 - ENTRIES_KEPT :], entry]
            self._last = entry
            count_outside(entry.binding.draws)
            return entry

    def _traced(self, trace: Trace, leaves: list[Any], treedef: tree.TreeDef, key: Key) -> Compiled:
        start = time.perf_counter()
        reason = self._reason(key)
        with tracing(trace):
            stand_ins = [
                trace.input(one._layout.type) if isinstance(one, Tensor) else one for one in leaves
            ]
            args, kwargs = tree.unflatten(treedef, [_plain(one) for one in stand_ins])
            with self._scope():
                results, resultdef = tree.flatten(self.function(*args, **kwargs))
            binding = bind(trace, [_as_output(leaf) for leaf in results])
        reach = Reach(self.function, map(_plain, leaves))
        program = self._same_program(key, binding)
        if program is None:
            seconds = time.perf_counter() - start
            add_stage("trace", lambda: print_graph(binding.graph), "tensor/jit", seconds)
            program = build_program(current_engine(), binding)
            self.why += reason
        plain = [_plain(leaf) for leaf in leaves]
        return Compiled(self.name, program, binding, reach, treedef, plain, resultdef)

    def _same_program(self, key: Key, binding: Binding) -> Program | None:
        """The program of a call whose graph came out the same as this one."""
        for entry in self.entries.get(key, []):
            same = entry.binding.donate == binding.donate and entry.graph == binding.graph
            if same and steady_inputs(entry.binding) == steady_inputs(binding):
                return entry.program.bound(binding)
        return None

    def _reason(self, key: Key) -> list[str]:
        """Why what was compiled before does not serve; nothing at the first call."""
        if not self.entries:
            return []
        if self.entries.get(key):
            return [self.entries[key][-1].reason()]
        return [_key_difference(next(reversed(self.entries)), key)]


@contextmanager
def _without_collections() -> Generator[None]:
    """Collect no garbage inside: a trace makes many objects, all of which stay.

    Afterwards they count as old, so that the next collection of what is young does not begin with
    them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():
                # All that there is becomes permanent, and then old, without being looked at.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


ENTRIES_KEPT = 16
"""Compiled graphs that are kept for calls of one kind; the latest ones."""


def jit(
    function: Function | None = None,
    *,
    static: Any = (),
    fast: bool = False,
    precision: Any = None,
) -> Any:
    """Compile a function: the same results as line by line, bit for bit, as one graph.

    Arrays among the arguments may change; everything else (and the arguments named in `static` by
    position or name) is part of what is compiled, and so is what the function reaches outside:
    Variables, Modules and optimizers keep their identity and structure, and what is read or
    assigned in their cells goes in and out of the graph. `precision` is the scope of that name
    (`pe.precision`) around the function. Works as a decorator.

    A first call that makes new state (Parameters, an optimizer's slots) is traced once more at the
    second call, which finds it there; nothing is compiled again if the graph is the same.

    `fast` allows rewrites that change rounding. Results are then not those of line by line but
    within the errors that `compile(...).rewrites` states, for each kind that took place; they still
    are the same in every run and for any number of threads. A function that is called while another
    one is traced is part of that one, and follows its `fast`.

    >>> import pellucid as pe
    >>> count = pe.Variable(0)
    >>> @jit
    ... def add(x):
    ...     count.assign(count + 1)
    ...     return x + count
    >>> print(add(10), add(10))
    11 12
    >>> third = jit(lambda x: x / 3.0, fast=True).compile(pe.ones((2,)))
    >>> print(*third.rewrites)
    divide_by_numbers x 1: at most 1.5 units in the last place a quotient
    """
    if function is None:
        return functools.partial(jit, static=static, fast=fast, precision=precision)
    names = cast("list[Any]", static) if isinstance(static, tuple | list) else [static]
    return Jit(function, tuple(names), fast, precision)


def spec(shape: tuple[int, ...], dtype: Any) -> Spec:
    """The type of an array argument, for `jit(f).compile(...)`."""
    return Spec(TensorType(as_dtype(dtype), tuple(shape)))


class _Static:
    """An argument that is not looked into; equal ones have one type and are equal throughout."""

    __slots__ = ("key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = _distinct(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return repr(self.value)


def _distinct(value: Any) -> Any:
    """A key that tells 1, 1.0 and True apart, and 0.0 from -0.0, also inside tuples."""
    if isinstance(value, float):
        return float, repr(value)
    if isinstance(value, Cell):
        return type(value), id(value)
    if isinstance(value, tuple):
        return type(value), tuple(map(_distinct, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return type(value), value


def _plain(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, _Static) else leaf


def _as_input(leaf: Any) -> Any:
    if isinstance(leaf, Spec):
        # Only its layout is looked at: compile never runs.
        return Tensor(layout(leaf.type), None, 0)
    if isinstance(leaf, Tensor):
        return dense(leaf)
    if hasattr(leaf, "__array__") and not isinstance(leaf, Variable):
        return asarray(leaf)
    return leaf


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf._layout
    return leaf if isinstance(leaf, _Static) else _Static(leaf)


def _as_output(leaf: Any) -> Any:
    """A result as a Tensor of the trace; what is no array is given back as it is."""
    return leaf.value if isinstance(leaf, Variable) else leaf


def _key_difference(before: Key, after: Key) -> str:
    if before[0] != after[0]:
        return "the structure of the arguments differs"
    for number, (old, new) in enumerate(zip(before[1], after[1], strict=False)):
        if old != new:
            return f"argument {number}: {_kind_text(old)} became {_kind_text(new)}"
    return "the engine, the gradient mode or the precision differs"


def _kind_text(kind: Any) -> str:
    return repr(kind) if isinstance(kind, _Static) else str(kind.type)
