"""Does `pellucid cache` count and remove the cache's own files, and nothing else?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.cli import storage
from pellucid.core.error import ConfigError

ENTRY = f"{'0a' * 32}.o"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(tmp_path / "kernels"))
    (tmp_path / "kernels").mkdir()
    return tmp_path / "kernels"


def test_entries_are_counted(folder: Path):
    (folder / ENTRY).write_bytes(b"x" * 2_000_000)
    assert storage.describe() == f"{folder}\n1 entry, 2.0 MB"


def test_clearing_removes_entries_and_what_a_killed_writer_left(folder: Path):
    (folder / ENTRY).touch()
    (folder / ".writing-abc").touch()
    assert storage.clear() == "removed 2 entries"
    assert list(folder.iterdir()) == []


def test_clearing_leaves_everything_else(folder: Path):
    for name in ("thesis.txt", "main.o", f"{'0a' * 32}.o.bak"):
        (folder / name).touch()
    assert storage.clear() == "removed 0 entries"
    assert len(list(folder.iterdir())) == 3


def test_a_cache_that_is_not_there_yet_is_empty(folder: Path):
    folder.rmdir()
    assert "0 entries" in storage.describe()


def test_a_cache_that_is_turned_off_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PELLUCID_CACHE", "0")
    assert "turned off" in storage.describe()


def test_a_cache_that_is_no_directory_is_an_error_that_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "file").touch()
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(folder / "file"))
    with pytest.raises(ConfigError, match="file"):
        storage.describe()
