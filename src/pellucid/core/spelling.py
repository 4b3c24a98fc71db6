"""What is written here for what another framework calls otherwise? The error of a name not there.

A package's `__getattr__` raises it, with a table of what to write instead.
"""

from __future__ import annotations

from collections.abc import Mapping


def unknown_name(module: str, name: str, rewrites: Mapping[str, str]) -> AttributeError:
    """The error of a public name that a module does not have.

    >>> print(unknown_name("pellucid.nn", "Linear", {"Linear": "nn.Dense(units)"}))
    module 'pellucid.nn' has no attribute 'Linear'; write nn.Dense(units)
    """
    hint = f"; write {rewrites[name]}" if name in rewrites else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")
