"""What is this machine, as far as a program may use it?"""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores() -> int:
    """The cores this process may use: its affinity mask, cut down to its cgroup's limit."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = cgroup_limit(Path("/sys/fs/cgroup"))
    return cores if limit is None else max(1, min(cores, limit))


def cgroup_limit(root: Path) -> int | None:
    """Whole cores that the container's quota allows, rounded up; None without a quota."""
    try:
        # cgroup v2: "max 100000" or "150000 100000"; v1 has a file for each number, -1 for none.
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        # No cgroups here: no limit.
        return None
    return None if quota in ("max", "-1") else -(-int(quota) // int(period))
