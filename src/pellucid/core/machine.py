"""What is this machine, as far as a program may use it?"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

USUAL_CACHES: Final = {1: 32 << 10, 2: 1 << 20, 3: 16 << 20}
"""The bytes of data that caches hold, by level, where the system does not say: a server core's."""


def usable_cores() -> int:
    """The cores this process may use: its affinity mask, cut down to its cgroups' limits."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = cgroup_limit(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return cores if limit is None else max(1, min(cores, limit))


@cache
def cache_bytes(level: int) -> int:
    """The data that the cache of a level holds, in bytes; USUAL_CACHES where nobody says.

    >>> cache_bytes(1) <= cache_bytes(2)
    True
    """
    known = cache_sizes(Path("/sys/devices/system/cpu/cpu0/cache"))
    return known.get(level, USUAL_CACHES[level])


def cache_sizes(root: Path) -> dict[int, int]:
    """The bytes of each level's cache for data, as the folder `root` of sysfs tells them."""
    found: dict[int, int] = {}
    for index in sorted(root.glob("index*")):
        try:
            level, kind, size = ((index / n).read_text().strip() for n in ("level", "type", "size"))
            if kind != "Instruction":
                # "1024K", "32M".
                found[int(level)] = int(size[:-1]) * _UNITS[size[-1]]
        except (OSError, ValueError, LookupError):
            # A level that does not say its size, as in some virtual machines.
            continue
    return {level: size for level, size in found.items() if size > 0}


_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@cache
def may_use_tiles() -> bool:
    """Whether this process may use the tiles of AMX: Linux is asked for it, once.

    Their registers are large, so a process has to ask before a thread of it uses them
    (Documentation/arch/x86/xstate.rst); the leave holds for all its threads. Other systems, and a
    Linux that knows no such question, give none.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return False
    system = ctypes.CDLL(None, use_errno=True)
    return system.syscall(_ARCH_PRCTL, _ASK_FOR_STATE, _TILE_DATA) == 0


_ARCH_PRCTL: Final = 158
"""The number of the system call arch_prctl(2) on x86-64."""

_ASK_FOR_STATE: Final = 0x1023
"""ARCH_REQ_XCOMP_PERM."""

_TILE_DATA: Final = 18
"""XFEATURE_XTILE_DATA."""


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
