"""How many cores does a process count on, and what caches?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pellucid.core import machine
from pellucid.core.machine import USUAL_CACHES, cache_bytes, cache_sizes, cgroup_limit, usable_cores


def limit_of(root: Path, membership: str = "0::/\n") -> int | None:
    (root / "membership").write_text(membership)
    return cgroup_limit(root, root / "membership")


def quota_1(group: Path, quota: int, period: int = 100_000) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (group / "cpu.cfs_period_us").write_text(f"{period}\n")


def quota_2(group: Path, text: str) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.max").write_text(f"{text}\n")


def test_a_cgroup_quota_limits_the_cores(tmp_path: Path) -> None:
    assert limit_of(tmp_path) is None
    quota_2(tmp_path, "150000 100000")
    assert limit_of(tmp_path) == 2
    quota_2(tmp_path, "max 100000")
    assert limit_of(tmp_path) is None


def test_the_smallest_quota_around_the_process_counts(tmp_path: Path) -> None:
    quota_2(tmp_path / "user.slice", "300000 100000")
    quota_2(tmp_path / "user.slice/job", "max 100000")
    quota_2(tmp_path / "other", "100000 100000")
    assert limit_of(tmp_path, "0::/user.slice/job\n") == 3
    quota_2(tmp_path / "user.slice/job", "200000 100000")
    assert limit_of(tmp_path, "0::/user.slice/job\n") == 2


def test_a_quota_of_version_1_is_found(tmp_path: Path) -> None:
    quota_1(tmp_path / "cpu", -1)
    assert limit_of(tmp_path, "4:cpu,cpuacct:/box\n3:cpuset:/two\n") is None
    quota_1(tmp_path / "cpu/box", 250_000)
    quota_1(tmp_path / "cpu/two", 100_000)
    assert limit_of(tmp_path, "4:cpu,cpuacct:/box\n3:cpuset:/two\n") == 3
    quota_1(tmp_path / "cpu", 100_000)
    assert limit_of(tmp_path, "1:name=systemd:/box\n") == 1


@pytest.mark.parametrize("membership", ["", "nonsense", "0::/../../elsewhere\n", "0::/gone\n"])
def test_what_says_nothing_limits_nothing(tmp_path: Path, membership: str) -> None:
    quota_2(tmp_path, "much 100000")
    assert limit_of(tmp_path, membership) is None
    assert cgroup_limit(tmp_path, tmp_path / "none") is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_affinity_and_quota_both_limit_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, quota, usable in ((8, None, 8), (8, 3, 3), (2, 3, 2), (4, 0, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        monkeypatch.setattr(machine, "cgroup_limit", lambda *_, q=quota: q)
        assert usable_cores() == usable


def says(root: Path, number: int, **words: str) -> None:
    index = root / f"index{number}"
    index.mkdir(parents=True)
    for name, word in words.items():
        (index / name).write_text(f"{word}\n")


def test_caches_are_as_large_as_the_system_says(tmp_path: Path) -> None:
    says(tmp_path, 0, level="1", type="Data", size="48K")
    says(tmp_path, 1, level="1", type="Instruction", size="32K")
    says(tmp_path, 2, level="2", type="Unified", size="2048K")
    says(tmp_path, 3, level="3", type="Unified", size="36M")
    assert cache_sizes(tmp_path) == {1: 48 << 10, 2: 2 << 20, 3: 36 << 20}


def test_a_cache_that_says_no_size_is_as_large_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(tmp_path, 0, level="1", type="Data")
    says(tmp_path, 1, level="2", type="Unified", size="large")
    assert cache_sizes(tmp_path) == {}
    assert cache_sizes(tmp_path / "none") == {}
    monkeypatch.setattr(machine, "cache_sizes", lambda root: {1: 48 << 10})
    cache_bytes.cache_clear()
    assert (cache_bytes(1), cache_bytes(2)) == (48 << 10, USUAL_CACHES[2])
    cache_bytes.cache_clear()
