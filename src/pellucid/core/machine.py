"""What is this machine, as far as a program may use it?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores() -> int:
    """The cores this process may use: its affinity mask, cut down to its cgroups' limits."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = cgroup_limit(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return cores if limit is None else max(1, min(cores, limit))


def cgroup_limit(root: Path, membership: Path) -> int | None:
    """Whole cores that the process's cgroup and those around it allow, rounded up; None: any.

    `root` is where cgroups are mounted, version 1 or 2, and `membership` the file that says in
    which of them the process is (cgroups(7)).
    """
    limits = [_quota(group) for group in _groups(root, membership)]
    return min((limit for limit in limits if limit is not None), default=None)


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """The process's cgroups and all around them, the mounted roots among them."""
    yield from (root, root / "cpu")
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        # "0::/user.slice/job" in version 2, "4:cpu,cpuacct:/docker/1f" in version 1.
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = root / "cpu" if controllers else root
        for name in path.strip("/").split("/"):
            # Seen from inside a container the path may begin with "..": not ours to look at.
            if name in ("", ".."):
                break
            group = group / name
            yield group


def _quota(group: Path) -> int | None:
    try:
        # Version 2: "max 100000" or "150000 100000"; 1 has a file for each number, -1 for none.
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        # Not a cgroup, or not one that says anything: no limit.
        return None
