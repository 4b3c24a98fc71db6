"""The cache's files: object code beside a header that says whose it is and that it is whole.

A file is believed only if its directory is its owner's alone and its header names the very key
asked for and the checksum of what follows; else it is dropped, never run. It is written beside its
place and renamed, so that a reader sees all of it or none; of two processes that write the same
entry either is right. Trouble (no permission, a full disk, a directory that others can write) is
remembered in words and turns the disk off; it is never raised.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# Raise the number when the layout below changes: magic, key, checksum of the code, code.
_MAGIC = b"pellucid object 1\n"
_HEADER = len(_MAGIC) + 32 + 32
_STALE_SECONDS = 3600.0


@dataclass(frozen=True)
class Found:
    """What a look-up met: code, or none, perhaps because the entry was damaged and is dropped."""

    code: bytes | None
    damaged: bool = False


class Disk:
    """Entries in `place`, about `limit` bytes at most; the least recently used go first."""

    def __init__(self, place: Path, limit: int) -> None:
        self.trouble = ""
        self._place = place
        self._limit = limit
        self._ready = False
        self._bytes: int | None = None
        self._writes = 0
        self._lock = threading.Lock()

    def read(self, key: str) -> Found:
        """The code stored under `key`, if it is there and whole."""
        if not self._usable():
            return Found(None)
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return Found(None)
        except OSError as error:
            self._give_up(f"cannot read {path}: {error.strerror}")
            return Found(None)
        code = _unsealed(key, content)
        with contextlib.suppress(OSError):
            # Best effort: another process may have removed it in between.
            path.unlink() if code is None else os.utime(path)
        return Found(code, damaged=code is None)

    def write(self, key: str, code: bytes) -> None:
        """Store `code` under `key`, if the disk can be used."""
        if not self._usable():
            return
        content = _sealed(key, code)
        try:
            self._place_file(self._path(key), content)
            self._evict_beyond_limit(len(content))
        except OSError as error:
            self._give_up(f"cannot write in {self._place}: {error.strerror}")

    def renew_after_fork(self) -> None:
        """In a forked child: whoever held the lock is not here any more."""
        self._lock = threading.Lock()

    def _usable(self) -> bool:
        with self._lock:
            if not self._ready and not self.trouble:
                self._prepare()
            return self._ready and not self.trouble

    def _prepare(self) -> None:
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self._place.mkdir(mode=0o700)
            found = self._place.stat()
        except OSError as error:
            self._give_up(f"cannot make {self._place}: {error.strerror}")
            return
        objection = _objection(found)
        if objection:
            self._give_up(f"{self._place} {objection}: code from it will not be run")
        else:
            self._ready = True

    def _give_up(self, reason: str) -> None:
        self.trouble = (
            f"machine code cache: {reason}; compiling without the disk. "
            "Set PELLUCID_CACHE_DIR to a directory of your own, or PELLUCID_CACHE=0"
        )

    def _path(self, key: str) -> Path:
        return self._place / f"{key}.o"

    def _place_file(self, path: Path, content: bytes) -> None:
        self._place.mkdir(mode=0o700, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=".writing-", dir=self._place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(beside).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(beside).unlink()
            raise

    def _evict_beyond_limit(self, added: int) -> None:
        with self._lock:
            # Other processes write too, so the sum is taken anew now and then.
            self._writes += 1
            if self._bytes is None or self._writes % 64 == 0:
                self._bytes = sum(size for _, size, _ in self._entries())
            else:
                self._bytes += added
            if self._bytes > self._limit:
                self._bytes = self._evict()

    def _evict(self) -> int:
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        # Down to nine tenths, so that not every write evicts.
        for _, size, path in entries:
            if total <= self._limit * 9 // 10:
                break
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            total -= size
        return total

    def _entries(self) -> list[tuple[float, int, str]]:
        """(last use, bytes, path) of each entry; what a killed writer left behind is removed."""
        entries: list[tuple[float, int, str]] = []
        with os.scandir(self._place) as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    found = file.stat(follow_symlinks=False)
                    if file.name.endswith(".o"):
                        entries.append((found.st_mtime, found.st_size, file.path))
                    elif file.name.startswith(".writing-") and _stale(found):
                        Path(file.path).unlink()
        return entries


def _sealed(key: str, code: bytes) -> bytes:
    return _MAGIC + bytes.fromhex(key) + hashlib.sha256(code).digest() + code


def _unsealed(key: str, content: bytes) -> bytes | None:
    code = content[_HEADER:]
    return code if code and content == _sealed(key, code) else None


def _objection(found: os.stat_result) -> str:
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others"
    return ""


def _stale(found: os.stat_result) -> bool:
    return time.time() - found.st_mtime > _STALE_SECONDS
