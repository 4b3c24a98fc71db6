"""What did the user set from outside? Each setting is an environment variable `PELLUCID_<NAME>`.

PELLUCID_THREADS      threads of the CPU engine (default: the cores this process may use)
PELLUCID_ISA          avx512bf16, avx512vnni, avx512, avx2 or sse2: emit no newer instructions;
                      amx: these too, which are never chosen by themselves
PELLUCID_CACHE        0 turns the on-disk cache of machine code off
PELLUCID_CACHE_DIR    where that cache lives
PELLUCID_CACHE_BYTES  how large it may grow
PELLUCID_DEVICE       the engine that runs a program by default
PELLUCID_CHECK        1 checks the graph before and after each pass
"""

from __future__ import annotations

import os

from pellucid.core.error import ConfigError


def setting(name: str, default: str = "") -> str:
    """The text of `PELLUCID_<name>`, or `default` where it is unset or empty."""
    return os.environ.get(f"PELLUCID_{name}", "") or default


def integer_setting(name: str, default: int, at_least: int = 0, at_most: int | None = None) -> int:
    """The whole number in `PELLUCID_<name>`; raises ConfigError where it is none or out of range.

    >>> integer_setting("NUMBER_THAT_NOBODY_SET", 3)
    3
    """
    text = setting(name, str(default))
    try:
        value = int(text)
    except ValueError:
        raise ConfigError(f"PELLUCID_{name}: expected a whole number, got {text!r}") from None
    if value < at_least:
        raise ConfigError(f"PELLUCID_{name}: expected at least {at_least}, got {value}")
    if at_most is not None and value > at_most:
        raise ConfigError(f"PELLUCID_{name}: expected at most {at_most}, got {value}")
    return value
