"""From a kernel to LLVM IR, whatever its kind: the one door from the loops IR to the emitter."""

from __future__ import annotations

from pellucid.engines.llvm.blocks import define_blocked
from pellucid.engines.llvm.contract import define_contraction
from pellucid.engines.llvm.loop import define_loops
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.loops.blocks import Blocked
from pellucid.engines.loops.ir import Kernel
from pellucid.engines.loops.roles import has_contraction


def lower(kernel: Kernel | Blocked, isa: Isa) -> str:
    """The LLVM IR of a module with the function of a scheduled kernel, under its name."""
    module = Module(isa)
    if isinstance(kernel, Blocked):
        define_blocked(module, kernel)
    elif has_contraction(kernel):
        define_contraction(module, kernel)
    else:
        define_loops(module, kernel)
    return module.text()
