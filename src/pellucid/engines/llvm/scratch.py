"""How does a kernel get memory for its own use? It asks the call's context."""

from __future__ import annotations

from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import PTR, Value


def take_scratch(f: Function, context: Value, bytes: Value) -> Value:
    """Memory of the running thread, aligned to a cache line, through the call's context."""
    return f.call_pointer(f.load(PTR, context), PTR, (context, bytes))
