"""How does a compiled function get faster than the cost model makes it? By trying: `tune`."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

from pellucid.core.error import ConfigError, TraceError
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import Tuned
from pellucid.tensor.context import context, current_engine
from pellucid.tensor.jit import Jit, jit


def tune(function: Callable[..., Any], *args: Any, seconds: float = 20.0, **kwargs: Any) -> Tuned:
    """Find faster schedules for the kernels of a function, called with these arguments.

    The function is compiled for them, as `jit(function).compile` does (so a `pe.spec` stands for an
    array), but not run. Each kernel that takes at least a hundredth of its time is tried with other
    schedules, on memory of its own and for about so many `seconds` in all: products and
    convolutions first. One that is clearly faster than the default is remembered beside the cached
    machine code, and whatever is compiled from then on, in this or another process on this machine,
    uses it; so does `function` at once, if it is jitted. With PELLUCID_CACHE=0 it is remembered
    until the process ends; `pellucid cache --clear` forgets it.

    Results stay the same, bit for bit, and no Variable changes. Best on a quiet machine, with the
    number of threads that will be used. Gives a report of what was tried and what it brought.
    Raises ConfigError unless `seconds` is a number above 0, DeviceError on an engine that has no
    schedules, TraceError inside a function that is being traced.

    >>> import pellucid as pe
    >>> product = pe.jit(lambda x, y: x @ y)
    >>> with pe.device("cpu"):
    ...     report = tune(product, pe.ones((64, 64)), pe.ones((64, 64)), seconds=0.2)
    >>> [kernel.name for kernel in report.kernels]
    ['dot_general']
    """
    if isinstance(seconds, bool) or not 0 < seconds < math.inf:
        raise ConfigError(f"tune: expected a number of seconds above 0, got {seconds!r}")
    if context.trace is not None:
        where = at_line(user_source())
        raise TraceError(f"tune: a function is being traced{where}\n  call it outside of jit")
    jitted, given = _jitted(function, args)
    compiled = jitted.compile(*given, **kwargs)
    graph, donate = compiled.program.graph, compiled.binding.donate
    report = current_engine().tune(graph, donate, seconds, jitted.fast)
    jitted.renew()
    return report


def _jitted(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Jit, tuple[Any, ...]]:
    """The jitted function behind `function`, and what it is called with."""
    if isinstance(function, types.MethodType) and isinstance(function.__func__, Jit):
        return function.__func__, (function.__self__, *args)
    return (function if isinstance(function, Jit) else jit(function)), args
