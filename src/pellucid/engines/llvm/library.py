"""Where does llvmlite come in? Here, and when something is first compiled or loaded.

Importing it takes 0.1 s, which a program that only builds graphs need not pay. It has no stubs,
so it is `Any` to those who use it.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def llvm() -> Any:
    """The module `llvmlite.binding`, with LLVM's code generators made known to it."""
    import llvmlite.binding as binding

    module: Any = binding
    module.initialize_all_targets()
    module.initialize_all_asmprinters()
    return module


@cache
def llvm_version() -> str:
    """LLVM's version and llvmlite's, part of every cache key."""
    import llvmlite

    package: Any = llvmlite
    return f"{'.'.join(map(str, llvm().llvm_version_info))}/{package.__version__}"
