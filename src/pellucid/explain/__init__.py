"""What happened on the way down, for a person's eyes? Recorded stages, read, abridged and drawn.

    with pe.recording() as record:
        step(x, y)
    for change in changes(record): print(change)

It looks at everything and is imported by nothing below the command line.
"""

from __future__ import annotations

from pellucid.explain.abridge import abridge
from pellucid.explain.changes import Change, changes, graph_of
from pellucid.explain.kernels import KernelSummary, summaries

__all__ = ["Change", "KernelSummary", "abridge", "changes", "graph_of", "summaries"]
