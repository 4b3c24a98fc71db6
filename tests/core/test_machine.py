"""How many cores does a process count on?"""

from __future__ import annotations

from pathlib import Path

from pellucid.core.machine import cgroup_limit, usable_cores


def test_a_cgroup_quota_limits_the_cores(tmp_path: Path) -> None:
    assert cgroup_limit(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cgroup_limit(tmp_path) == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_limit(tmp_path) is None


def test_there_is_a_core_to_run_on() -> None:
    assert usable_cores() >= 1
