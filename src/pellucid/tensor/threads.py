"""On how many threads do kernels run? On as many cores as the process may use, or as told."""

from __future__ import annotations

from pellucid.engines.cpu import pool


def set_threads(count: int) -> None:
    """Let kernels run on up to `count` threads; results do not depend on it, bit for bit.

    The variable PELLUCID_THREADS sets it from outside. Raises ConfigError unless it is 1 to 1024.
    """
    pool.set_threads(count)


def get_threads() -> int:
    """On how many threads kernels run at most."""
    return pool.pool().threads
