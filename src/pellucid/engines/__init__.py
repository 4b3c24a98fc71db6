"""Where a graph becomes something that runs. Engines are looked up by name, here, and load then."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Final

from pellucid.core.error import DeviceError
from pellucid.engines.base import Engine

_MODULES: Final = {
    "cpu": "pellucid.engines.cpu.pipeline",
    "reference": "pellucid.engines.reference.pipeline",
}
_engines: dict[str, Engine] = {}


def engine_names() -> tuple[str, ...]:
    """The engines there are; the first is the default."""
    return tuple(_MODULES)


def find_engine(name: str) -> Engine:
    """The engine called `name`, loaded at its first use; raises DeviceError where there is none."""
    if name not in _engines:
        if name not in _MODULES:
            raise DeviceError(f"no engine is called {name!r}; there are {', '.join(_MODULES)}")
        make: Callable[[], Engine] = importlib.import_module(_MODULES[name]).make_engine
        _engines.setdefault(name, make())
    return _engines[name]
