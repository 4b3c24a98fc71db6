"""What happened on the way down, for a person's eyes? Recorded stages, read, abridged and drawn.

    with pe.recording() as record:
        step(x, y)
    for change in changes(record): print(change)

    with pe.recording(timed=True) as record:
        step(x, y)
    print(*profiles(record))               # time, flops and bytes of each kernel

It looks at everything and is imported by nothing below the command line.
"""

from __future__ import annotations

from pellucid.explain.abridge import abridge
from pellucid.explain.changes import Change, changes, graph_of
from pellucid.explain.kernels import KernelSummary, summaries
from pellucid.explain.profile import KernelTime, Profile, profiles

__all__ = [
    "Change",
    "KernelSummary",
    "KernelTime",
    "Profile",
    "abridge",
    "changes",
    "graph_of",
    "profiles",
    "summaries",
]
