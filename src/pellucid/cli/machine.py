"""On what does a program run here? The instruction set and the threads, in words."""

from __future__ import annotations

import pellucid as pe
from pellucid.engines.llvm.target import host_isa


def count_threads() -> str:
    """On how many threads the CPU engine runs at most, in words."""
    threads = pe.get_threads()
    return f"{threads} thread{'s' * (threads > 1)}"


def describe_engine(name: str) -> str:
    """What an engine of this machine runs on; nothing for one of which there is nothing to say."""
    details = {
        "cpu": f"{host_isa().name}, {count_threads()}",
        "reference": "NumPy, op by op: slow, and right by definition",
    }
    return details.get(name, "")
