"""Which errors can pellucid raise? Every one of them, drawn as one tree.

    PellucidError
    ├── OpError              an op was given what it cannot take
    │   ├── OpTypeError          a dtype (also a TypeError)
    │   ├── OpShapeError         shapes that do not fit (also a ValueError)
    │   ├── OpAxisError          an axis out of range or named twice (also a ValueError, IndexError)
    │   └── OpIndexError         a place that is not there (also an IndexError)
    ├── UnsupportedOpError   an engine has no rule for an op; it never falls back in silence
    ├── DerivativeError      a derivative was asked of something that has none
    ├── GraphError           a graph breaks a rule of the IR
    │   └── ParseError           a text is not a graph
    ├── TraceError           Python did what a graph cannot
    │   ├── TracedBoolError      `if` or `while` on a traced value (also a TypeError)
    │   └── EscapedTraceError    a traced value outlived its trace
    ├── StateError           a Variable, Module or optimizer is not in the state asked for
    ├── DataError            examples that nothing can be learned from: empty, NaN, a wrong label
    ├── CheckpointError      a file that cannot be written, or is no checkpoint of this model
    ├── RandomError          a generator was misused
    ├── TreeError            a tree of values does not have the structure asked for
    ├── CompileError         code could not be made
    ├── DeviceError          no such engine, or not on this machine
    ├── ExchangeError        memory cannot be shared as asked (also a BufferError)
    ├── ConfigError          a setting cannot be read
    └── MissingExtraError    an optional dependency is not installed (also an ImportError)

A message gives the op, what was expected, what came, the user's line and the way out.
"""

from __future__ import annotations


class PellucidError(Exception):
    """The root of every error that pellucid raises on purpose."""


class OpError(PellucidError):
    """An op was given operands or attributes that it cannot take."""


class OpTypeError(OpError, TypeError):
    """The dtype of an operand does not suit the op."""


class OpShapeError(OpError, ValueError):
    """The shapes of the operands do not fit each other or the op."""


class OpAxisError(OpError, ValueError, IndexError):
    """An axis is out of range or named twice."""


class OpIndexError(OpError, IndexError):
    """An index points outside of its axis, or there are more of them than axes."""


class UnsupportedOpError(PellucidError, NotImplementedError):
    """The engine has no rule for this op."""


class DerivativeError(PellucidError, TypeError):
    """A derivative was asked of an op or a value that has none."""


class GraphError(PellucidError):
    """A graph breaks a rule of the IR."""


class ParseError(GraphError, ValueError):
    """A text is not the text of a graph."""


class TraceError(PellucidError):
    """Python did, while a function was traced, what a graph cannot do."""


class TracedBoolError(TraceError, TypeError):
    """A Python `if`, `while` or conversion needs the number behind a traced value."""


class EscapedTraceError(TraceError):
    """A traced value was kept beyond the trace that made it."""


class StateError(PellucidError, ValueError):
    """A Variable, Module or optimizer is not in the state that was asked for."""


class DataError(PellucidError, ValueError):
    """Examples are missing, do not match, are not finite, or have labels out of range."""


class CheckpointError(PellucidError, OSError):
    """A file of weights cannot be written or read, is damaged, or belongs to something else."""


class RandomError(PellucidError, ValueError):
    """A random generator was misused."""


class TreeError(PellucidError, ValueError):
    """A tree of values does not have the structure that was asked for."""


class CompileError(PellucidError, RuntimeError):
    """Code could not be made for a graph."""


class DeviceError(PellucidError, RuntimeError):
    """No such engine, or this machine cannot run it."""


class ExchangeError(PellucidError, BufferError):
    """Memory cannot be shared with another library in the way that was asked for."""


class ConfigError(PellucidError, ValueError):
    """A setting cannot be read."""


class MissingExtraError(PellucidError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


class CacheWarning(UserWarning):
    """The on-disk cache cannot be used; work goes on without it."""
